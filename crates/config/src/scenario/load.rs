//! The work that a simulated fleet has: what autoscalers hear of, and how drains end.

use std::f64::consts::TAU;
use std::time::Duration;

/// The work of one pool.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Load {
    /// Work for GPUs, in whole machines: three keep three machines at 100 %, or six at 50 %.
    pub work: Curve,
    /// Jobs that wait and run, as the source of the pool's queue says.
    pub jobs: Curve,
}

/// A number over time: a level that moves in steps, and a daily wave on top.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Curve {
    /// The level before the first step.
    pub level: f64,
    /// The level from a moment on, by time.
    pub steps: Vec<(Duration, f64)>,
    /// What is added, day by day.
    pub daily: Option<Daily>,
    /// By which share each measurement differs at most, from 0 to 1.
    pub noise: f64,
}

/// A wave with a period of a day.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Daily {
    /// The least.
    pub low: f64,
    /// The most.
    pub high: f64,
    /// When it is reached, from the start of the run.
    pub peak_at: Duration,
}

const DAY_SECONDS: f64 = 86_400.0;

impl Curve {
    /// The number at a time from the start of the run, without its noise.
    #[must_use]
    pub fn at(&self, time: Duration) -> f64 {
        let step = self.steps.iter().rev().find(|(from, _)| *from <= time);
        let level = step.map_or(self.level, |(_, level)| *level);
        let wave = self.daily.map_or(0.0, |daily| {
            let days = (time.as_secs_f64() - daily.peak_at.as_secs_f64()) / DAY_SECONDS;
            daily.low + (daily.high - daily.low) * (1.0 + (TAU * days).cos()) / 2.0
        });
        level + wave
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn steps_hold_from_their_moment_on() {
        let curve = Curve {
            level: 1.0,
            steps: vec![(HOUR, 5.0), (2 * HOUR, 0.0)],
            ..Curve::default()
        };
        let before = Duration::from_millis(1);
        let levels = [
            Duration::ZERO,
            HOUR - before,
            HOUR,
            2 * HOUR - before,
            2 * HOUR,
        ];
        assert_eq!(levels.map(|at| curve.at(at)), [1.0, 1.0, 5.0, 5.0, 0.0]);
    }

    #[test]
    fn a_wave_peaks_once_a_day_and_stands_on_the_level() {
        let curve = Curve {
            level: 10.0,
            daily: Some(Daily {
                low: 2.0,
                high: 6.0,
                peak_at: 14 * HOUR,
            }),
            ..Curve::default()
        };
        for (hours, expected) in [(2, 12.0), (8, 14.0), (14, 16.0), (20, 14.0), (38, 16.0)] {
            let found = curve.at(hours * HOUR);
            assert!((found - expected).abs() < 1e-9, "{hours}: {found}");
        }
    }
}
