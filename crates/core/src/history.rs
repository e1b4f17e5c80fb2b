//! What nodes measured lately, minute by minute: soft state with a bound, and questions about it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use navarch_model::Time;

use crate::liveness::Sample;

/// Minutes that are kept for each node.
const KEPT: usize = 60;

/// The longest window that can be asked for.
pub const LONGEST: Duration = Duration::from_secs(60 * KEPT as u64);

/// Something that agents measure, as one number for a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Metric {
    /// Use of the GPUs in percent, their mean.
    GpuUtilization,
    /// The hottest GPU, in degrees Celsius.
    GpuTemperature,
    /// Power of all GPUs, in watts.
    GpuPower,
    /// Memory in use on all GPUs, in bytes.
    GpuMemoryUsed,
    /// Use of the CPU in percent.
    CpuUtilization,
    /// Use of the main memory in percent.
    MemoryUtilization,
}

impl Metric {
    /// Every metric.
    pub const ALL: [Self; 6] = [
        Self::GpuUtilization,
        Self::GpuTemperature,
        Self::GpuPower,
        Self::GpuMemoryUsed,
        Self::CpuUtilization,
        Self::MemoryUtilization,
    ];

    /// The unit, as a word.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::GpuUtilization | Self::CpuUtilization | Self::MemoryUtilization => "percent",
            Self::GpuTemperature => "celsius",
            Self::GpuPower => "watts",
            Self::GpuMemoryUsed => "bytes",
        }
    }

    /// The number of one sample; none where the node has no GPU or sent no number.
    pub fn of(self, sample: &Sample) -> Option<f64> {
        let gpus = &sample.gpus;
        let value = match self {
            Self::CpuUtilization => sample.cpu,
            Self::MemoryUtilization => sample.memory,
            _ if gpus.is_empty() => return None,
            Self::GpuUtilization => {
                gpus.iter().map(|gpu| gpu.utilization).sum::<f64>() / gpus.len() as f64
            }
            Self::GpuTemperature => {
                f64::from(gpus.iter().map(|gpu| gpu.temperature).max().unwrap_or(0))
            }
            Self::GpuPower => gpus.iter().map(|gpu| f64::from(gpu.power)).sum(),
            Self::GpuMemoryUsed => gpus.iter().map(|gpu| gpu.memory_used as f64).sum(),
        };
        value.is_finite().then_some(value)
    }

    /// The number of several nodes, from that of each.
    pub fn of_nodes(self, values: &[f64]) -> f64 {
        let sum = values.iter().sum::<f64>();
        match self {
            Self::GpuTemperature => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            Self::GpuPower | Self::GpuMemoryUsed => sum,
            Self::GpuUtilization | Self::CpuUtilization | Self::MemoryUtilization => {
                sum / values.len() as f64
            }
        }
    }

    /// Whether a minute keeps its highest value. What is hot or full for a moment is what matters;
    /// of the others it keeps the mean.
    const fn peaks(self) -> bool {
        matches!(self, Self::GpuTemperature | Self::GpuMemoryUsed)
    }
}

/// How many values become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Aggregation {
    /// The mean.
    #[default]
    Mean,
    /// The lowest.
    Min,
    /// The highest.
    Max,
    /// The sum over nodes. Over a window, the mean of the sums of its minutes.
    Sum,
    /// So many percent of the values are at most this one.
    Percentile(u8),
}

impl Aggregation {
    /// One number of many; none of none.
    fn of(self, values: &mut [f64]) -> Option<f64> {
        let count = values.len();
        if count == 0 {
            return None;
        }
        let sum = || values.iter().sum::<f64>();
        Some(match self {
            Self::Mean => sum() / count as f64,
            Self::Sum => sum(),
            Self::Min => values.iter().copied().fold(f64::INFINITY, f64::min),
            Self::Max => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            Self::Percentile(percent) => {
                let rank = (count * usize::from(percent.min(100))).div_ceil(100).max(1) - 1;
                *values.select_nth_unstable_by(rank, f64::total_cmp).1
            }
        })
    }
}

/// One minute of one node.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Minute {
    /// Minutes of fleet time.
    at: u32,
    /// How many samples each value stands for: what is not measured does not weigh.
    samples: [u16; Metric::ALL.len()],
    /// In the order of [`Metric::ALL`]; NaN where nothing was measured. Half the size of `f64`,
    /// and good to one part in ten million.
    values: [f32; Metric::ALL.len()],
}

/// What one node measured in the last hour.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    minutes: VecDeque<Minute>,
}

impl History {
    /// A sample came.
    pub fn add(&mut self, sample: &Sample, now: Time) {
        let at = minute_of(now);
        if self.minutes.back().is_none_or(|last| last.at != at) {
            if self.minutes.len() == KEPT {
                self.minutes.pop_front();
            }
            self.minutes.push_back(Minute {
                at,
                samples: [0; Metric::ALL.len()],
                values: [f32::NAN; Metric::ALL.len()],
            });
        }
        let Some(minute) = self.minutes.back_mut() else {
            return;
        };
        let kept = minute.values.iter_mut().zip(&mut minute.samples);
        for (metric, (kept, samples)) in Metric::ALL.into_iter().zip(kept) {
            let Some(value) = metric.of(sample).map(|value| value as f32) else {
                continue;
            };
            *samples = samples.saturating_add(1);
            *kept = if kept.is_nan() {
                value
            } else if metric.peaks() {
                kept.max(value)
            } else {
                *kept + (value - *kept) / f32::from(*samples)
            };
        }
    }

    /// The minutes since `from` in which `metric` was measured, the oldest first, each with its
    /// value.
    pub fn since(&self, metric: Metric, from: Time) -> impl Iterator<Item = (u32, f64)> + '_ {
        let from = minute_of(from);
        let place = metric as usize;
        self.minutes
            .iter()
            .filter(move |minute| minute.at >= from && !minute.values[place].is_nan())
            .map(move |minute| (minute.at, f64::from(minute.values[place])))
    }
}

fn minute_of(time: Time) -> u32 {
    u32::try_from(time.0.max(0) / 60_000_000).unwrap_or(u32::MAX)
}

/// One minute of many nodes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// When the minute began, in fleet time.
    pub at: Time,
    /// The number.
    pub value: f64,
    /// How many nodes it stands for.
    pub nodes: usize,
}

/// The answer to a question about a metric.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Series {
    /// The whole window as one number.
    pub value: Option<f64>,
    /// Its minutes, the oldest first.
    pub points: Vec<Point>,
    /// How many nodes measured anything.
    pub nodes: usize,
}

/// The values of several nodes, gathered minute by minute.
#[derive(Debug, Default)]
pub struct Gathered {
    minutes: BTreeMap<u32, Vec<f64>>,
    nodes: usize,
}

impl Gathered {
    /// Adds what one node measured.
    pub fn add(&mut self, values: impl Iterator<Item = (u32, f64)>) {
        let mut any = false;
        for (minute, value) in values {
            any = true;
            self.minutes.entry(minute).or_default().push(value);
        }
        self.nodes += usize::from(any);
    }

    /// Makes one number of each minute, and one of all.
    pub fn series(self, aggregation: Aggregation) -> Series {
        let mut all = Vec::new();
        let mut points = Vec::with_capacity(self.minutes.len());
        for (minute, mut values) in self.minutes {
            let nodes = values.len();
            if let Some(value) = aggregation.of(&mut values) {
                let at = Time(i64::from(minute) * 60_000_000);
                points.push(Point { at, value, nodes });
            }
            all.append(&mut values);
        }
        let value = match aggregation {
            Aggregation::Sum => {
                let mut sums: Vec<f64> = points.iter().map(|point| point.value).collect();
                Aggregation::Mean.of(&mut sums)
            }
            other => other.of(&mut all),
        };
        Series {
            value,
            points,
            nodes: self.nodes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::liveness::GpuSample;

    fn sample(utilization: &[f64], temperature: i32) -> Sample {
        let gpu = |utilization: &f64| GpuSample {
            utilization: *utilization,
            temperature,
            power: 300,
            memory_used: 1 << 30,
            ..GpuSample::default()
        };
        Sample {
            cpu: 12.5,
            memory: 50.0,
            gpus: utilization.iter().map(gpu).collect(),
        }
    }

    fn second(second: i64) -> Time {
        Time(second * 1_000_000)
    }

    fn of(history: &History, metric: Metric) -> Vec<(u32, f64)> {
        history.since(metric, second(0)).collect()
    }

    #[test]
    fn a_minute_keeps_the_mean_of_loads_and_the_peak_of_heat() {
        let mut history = History::default();
        history.add(&sample(&[0.0, 50.0], 60), second(61));
        history.add(&sample(&[100.0, 50.0], 90), second(90));
        history.add(&sample(&[100.0, 100.0], 70), second(119));
        history.add(&sample(&[10.0, 10.0], 40), second(120));
        for (metric, expected) in [
            (Metric::GpuUtilization, [200.0 / 3.0, 10.0]),
            (Metric::GpuTemperature, [90.0, 40.0]),
            (Metric::GpuPower, [600.0, 600.0]),
            (Metric::GpuMemoryUsed, [2_147_483_648.0; 2]),
            (Metric::CpuUtilization, [12.5; 2]),
            (Metric::MemoryUtilization, [50.0; 2]),
        ] {
            let found = of(&history, metric);
            assert_eq!(found.len(), 2, "{metric:?}");
            for ((minute, value), (at, expected)) in found.into_iter().zip((1..).zip(expected)) {
                assert_eq!(minute, at, "{metric:?}");
                assert!((value - expected).abs() < 1e-3, "{metric:?}: {value}");
            }
        }
    }

    #[test]
    fn what_is_no_number_and_what_is_not_there_is_not_measured() {
        let mut history = History::default();
        history.add(&sample(&[f64::NAN, 1.0], 60), second(0));
        history.add(&sample(&[], 0), second(60));
        assert_eq!(of(&history, Metric::GpuUtilization), []);
        assert_eq!(of(&history, Metric::GpuTemperature), [(0, 60.0)]);
        assert_eq!(of(&history, Metric::CpuUtilization).len(), 2);
        // Nor does it weigh in the mean of a minute.
        history.add(&sample(&[f64::NAN], 60), second(121));
        history.add(&sample(&[10.0], 60), second(122));
        history.add(&sample(&[20.0], 60), second(123));
        assert_eq!(of(&history, Metric::GpuUtilization), [(2, 15.0)]);
    }

    #[test]
    fn an_hour_is_kept_and_no_more() {
        let mut history = History::default();
        for minute in 0..1000 {
            history.add(&sample(&[1.0], 1), second(minute * 60));
        }
        let kept = of(&history, Metric::GpuUtilization);
        assert_eq!((kept.len(), kept[0].0, kept[59].0), (KEPT, 940, 999));
        let last = history.since(Metric::GpuUtilization, second(998 * 60));
        assert_eq!(last.count(), 2);
    }

    #[test]
    fn every_aggregation_of_two_nodes_over_two_minutes() {
        // Node a measured 10 and 30, node b 20 in the second minute only, node c nothing.
        for (aggregation, points, value) in [
            (Aggregation::Mean, [10.0, 25.0], 20.0),
            (Aggregation::Min, [10.0, 20.0], 10.0),
            (Aggregation::Max, [10.0, 30.0], 30.0),
            (Aggregation::Sum, [10.0, 50.0], 30.0),
            (Aggregation::Percentile(50), [10.0, 20.0], 20.0),
            (Aggregation::Percentile(99), [10.0, 30.0], 30.0),
            (Aggregation::Percentile(0), [10.0, 20.0], 10.0),
        ] {
            let mut gathered = Gathered::default();
            gathered.add([(7, 10.0), (8, 30.0)].into_iter());
            gathered.add([(8, 20.0)].into_iter());
            gathered.add(std::iter::empty());
            let series = gathered.series(aggregation);
            let point = |minute: i64, value: f64, nodes| Point {
                at: second(minute * 60),
                value,
                nodes,
            };
            let expected = Series {
                value: Some(value),
                points: vec![point(7, points[0], 1), point(8, points[1], 2)],
                nodes: 2,
            };
            assert_eq!(series, expected, "{aggregation:?}");
        }
        let none = Gathered::default().series(Aggregation::Mean);
        assert_eq!(none, Series::default());
    }
}
