//! What a backend says happened.

use std::collections::BTreeMap;
use std::fmt;

use navarch_model::{HealthEventType, HealthWatchSystem, Time};

/// The names of the watches whose readings a full report holds. An event that says
/// the same as such a reading carries the watch's name, so that the reading can end
/// what the event began.
pub mod watch {
    /// How many GPUs the driver has, beside how many it had.
    pub const DEVICE_COUNT: &str = "device_count";
    /// Whether the driver answers.
    pub const DRIVER: &str = "driver";
    /// The die's temperature.
    pub const TEMPERATURE: &str = "temperature";
    /// Memory in use, ECC errors and remapped rows.
    pub const MEMORY: &str = "memory";
    /// NVLink links and their errors.
    pub const NVLINK: &str = "nvlink";
    /// The PCIe link and its replays.
    pub const PCIE: &str = "pcie";
    /// The power drawn.
    pub const POWER: &str = "power";
    /// The boot id.
    pub const BOOT: &str = "boot";
}

/// The longest message that an event carries, in characters.
pub const MAX_MESSAGE_CHARS: usize = 1024;

/// The value of a metric.
#[derive(Debug, Clone, PartialEq)]
pub enum MetricValue {
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number with a fraction.
    Float(f64),
    /// Anything else.
    Text(String),
}

impl fmt::Display for MetricValue {
    /// Writes the value as it goes over the wire.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value:.6}"),
            Self::Text(value) => f.write_str(value),
        }
    }
}

impl From<bool> for MetricValue {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i32> for MetricValue {
    fn from(value: i32) -> Self {
        Self::Int(value.into())
    }
}

impl From<u32> for MetricValue {
    fn from(value: u32) -> Self {
        Self::Int(value.into())
    }
}

impl From<u64> for MetricValue {
    fn from(value: u64) -> Self {
        Self::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<f64> for MetricValue {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<String> for MetricValue {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

/// Metrics by name.
pub type Metrics = BTreeMap<String, MetricValue>;

/// One raw fact: something happened on this machine.
#[derive(Debug, Clone, PartialEq)]
pub struct GpuEvent {
    /// The driver's index of the GPU, or `None` when it is about the machine or
    /// about a GPU that the driver no longer knows.
    pub gpu: Option<u32>,
    /// The GPU's UUID, if it is known.
    pub uuid: Option<String>,
    /// The part of the machine that it is about.
    pub system: HealthWatchSystem,
    /// What kind of fact it is.
    pub event_type: HealthEventType,
    /// The [`watch`] that reads the same fact, or `None` for what merely happens,
    /// such as an XID.
    pub watch: Option<&'static str>,
    /// What was measured, under the names that policies use.
    pub metrics: Metrics,
    /// The driver's or kernel's own words, at most [`MAX_MESSAGE_CHARS`].
    pub message: String,
    /// When it happened, in Unix time: when it was noticed, or by the
    /// kernel's clock where it was found in the log later.
    pub wall: Time,
    /// The kernel's clock when it said so, in microseconds since the boot, if it did.
    pub kernel_time_microseconds: Option<u64>,
    /// How many equal events this one stands for, at least 1.
    pub count: u32,
    /// When the last of them happened.
    pub last_wall: Time,
}

impl GpuEvent {
    /// A single event about the whole machine; the builder methods add to it.
    pub fn new(system: HealthWatchSystem, event_type: HealthEventType, wall: Time) -> Self {
        Self {
            gpu: None,
            uuid: None,
            system,
            event_type,
            watch: None,
            metrics: Metrics::new(),
            message: String::new(),
            wall,
            kernel_time_microseconds: None,
            count: 1,
            last_wall: wall,
        }
    }

    /// An XID: the driver's error `code`, as metric `xid_code`.
    pub fn xid(code: u32, wall: Time) -> Self {
        Self::new(HealthWatchSystem::Driver, HealthEventType::Xid, wall).metric("xid_code", code)
    }

    /// An NVSwitch error: `code`, as metric `sxid_code`.
    pub fn sxid(code: u32, wall: Time) -> Self {
        Self::new(HealthWatchSystem::Nvswitch, HealthEventType::Nvlink, wall)
            .metric("sxid_code", code)
    }

    /// The event, about this GPU.
    #[must_use]
    pub fn on(mut self, gpu: u32, uuid: &str) -> Self {
        self.gpu = Some(gpu);
        self.uuid = Some(uuid.to_owned());
        self
    }

    /// The event, as a fact that this [`watch`] reads too.
    #[must_use]
    pub fn watched_by(mut self, watch: &'static str) -> Self {
        self.watch = Some(watch);
        self
    }

    /// The event with one more metric.
    #[must_use]
    pub fn metric(mut self, name: &str, value: impl Into<MetricValue>) -> Self {
        self.metrics.insert(name.to_owned(), value.into());
        self
    }

    /// The event with these words. What cannot be shown becomes a space, and
    /// what is too long is cut.
    #[must_use]
    pub fn message(mut self, text: &str) -> Self {
        self.message = clean(text);
        self
    }

    /// Whether `other` says the same about the same GPU, words and time aside.
    pub fn is_repeat_of(&self, other: &Self) -> bool {
        self.signature() == other.signature()
    }

    fn signature(&self) -> impl PartialEq + '_ {
        (
            self.gpu,
            self.uuid.as_deref(),
            self.system,
            self.event_type,
            &self.metrics,
        )
    }
}

/// `text` without control characters and no longer than [`MAX_MESSAGE_CHARS`].
fn clean(text: &str) -> String {
    let shown = |c: char| if c.is_control() { ' ' } else { c };
    text.trim()
        .chars()
        .map(shown)
        .take(MAX_MESSAGE_CHARS)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{GpuEvent, MAX_MESSAGE_CHARS, MetricValue};
    use navarch_model::Time;

    #[test]
    fn metrics_have_the_wire_form_of_the_go_project() {
        let cases: [(MetricValue, &str); 5] = [
            (79_u32.into(), "79"),
            (u64::MAX.into(), "9223372036854775807"),
            (350.5.into(), "350.500000"),
            (true.into(), "true"),
            ("0000:3b:00.0".to_owned().into(), "0000:3b:00.0"),
        ];
        for (value, text) in cases {
            assert_eq!(value.to_string(), text);
        }
    }

    #[test]
    fn messages_are_short_and_printable() {
        let event =
            GpuEvent::xid(79, Time(0)).message(&format!(" a\u{1b}[31m\n{}", "é".repeat(9999)));
        assert!(event.message.starts_with("a [31m é"), "{}", event.message);
        assert_eq!(event.message.chars().count(), MAX_MESSAGE_CHARS);
    }

    #[test]
    fn repeats_differ_in_words_and_time_only() {
        let first = GpuEvent::xid(31, Time(1)).on(0, "GPU-a").message("pid=1");
        let again = GpuEvent::xid(31, Time(9)).on(0, "GPU-a").message("pid=2");
        let other_gpu = GpuEvent::xid(31, Time(1)).on(1, "GPU-b");
        let other_code = GpuEvent::xid(32, Time(1)).on(0, "GPU-a");
        assert!(again.is_repeat_of(&first));
        assert!(!other_gpu.is_repeat_of(&first));
        assert!(!other_code.is_repeat_of(&first));
    }
}
