//! Growth ahead of a rising utilisation.

use navarch_model::Time;

use super::signals::utilization;
use super::{Facts, Recommendation, Wish};

/// The share of the scatter that a line has to explain before it is called a trend. Lower takes
/// noise for a trend, higher misses a real rise that is a little uneven.
const LEAST_FIT: f64 = 0.5;

/// Utilisation at a moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Fleet time.
    pub at: Time,
    /// Percent.
    pub percent: f64,
}

/// A line through samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trend {
    /// How much it rises from the first sample to the last; negative if it falls.
    pub rise: f64,
    /// The share of the scatter that it explains, from 0 to 1.
    pub fit: f64,
}

/// The line of least squares through samples; none if there is none.
pub fn trend(samples: &[Sample]) -> Option<Trend> {
    let (first, last) = (samples.first()?, samples.last()?);
    let count = samples.len() as f64;
    let seconds = |sample: &Sample| (sample.at.0 - first.at.0) as f64 / 1e6;
    let mean_x = samples.iter().map(seconds).sum::<f64>() / count;
    let mean_y = samples.iter().map(|sample| sample.percent).sum::<f64>() / count;
    let sum = |of: &dyn Fn(f64, f64) -> f64| -> f64 {
        samples
            .iter()
            .map(|sample| of(seconds(sample) - mean_x, sample.percent - mean_y))
            .sum()
    };
    let (xx, xy, yy) = (sum(&|x, _| x * x), sum(&|x, y| x * y), sum(&|_, y| y * y));
    if samples.len() < 2 || xx <= 0.0 {
        return None;
    }
    let slope = xy / xx;
    let fit = if yy > 0.0 { xy * xy / (xx * yy) } else { 1.0 };
    let line = Trend {
        rise: slope * seconds(last),
        fit,
    };
    (line.rise.is_finite() && line.fit.is_finite()).then_some(line)
}

/// What a prediction aims at.
pub(super) struct Aims {
    /// Samples that the trend is drawn through.
    pub lookback: usize,
    /// How much of its rise is expected to follow.
    pub growth: f64,
    /// Above this predicted percentage the pool grows.
    pub above: u32,
    /// To this percentage.
    pub target: u32,
}

/// Machines for the utilisation that a trend leads to, or why no trend asks for more.
pub(super) fn predictive(aims: &Aims, facts: &Facts<'_>) -> Result<Recommendation, String> {
    let known = facts.history.len();
    if aims.lookback < 2 || known < aims.lookback {
        return Err(format!(
            "insufficient history: {known} of {} measurements",
            aims.lookback
        ));
    }
    let percent = utilization(facts)?;
    let samples = &facts.history[known - aims.lookback..];
    let Some(line) = trend(samples).filter(|_| aims.growth.is_finite()) else {
        return Err("the measurements have no trend".to_owned());
    };
    if line.rise <= 0.0 {
        return Err(format!("the utilization does not rise ({:+.1})", line.rise));
    }
    if line.fit < LEAST_FIT {
        return Err(format!(
            "the rise of {:.1} explains {:.0} % of the scatter only: it is noise",
            line.rise,
            line.fit * 100.0
        ));
    }
    let predicted = percent + line.rise * aims.growth;
    let load = predicted * f64::from(facts.serving);
    // The conversion saturates.
    let needed = (load / f64::from(aims.target.max(1))).ceil() as u32;
    if predicted <= f64::from(aims.above) || needed <= facts.current {
        return Err(format!(
            "utilization {percent:.1} % rises to {predicted:.1} %, which needs no more machines"
        ));
    }
    let reason = format!(
        "utilization {percent:.1} % rises by {:.1} to {predicted:.1} %, above {} %: {needed} \
         machines bring it to {} %",
        line.rise, aims.above, aims.target
    );
    Ok(Recommendation::new(facts, Wish::Size(needed), reason)
        .with("utilization", format!("{percent:.1}"))
        .with("rise", format!("{:.1}", line.rise))
        .with("predicted", format!("{predicted:.1}"))
        .with("serving", facts.serving))
}
