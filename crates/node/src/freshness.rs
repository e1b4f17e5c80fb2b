//! Whether a reading still says how things are.
//!
//! A process that was stopped and a machine that was suspended wake with readings of before. The
//! monotonic clock stands still while a machine is suspended; the boot-time clock does not.

use std::sync::Arc;
use std::time::Duration;

use navarch_time::Clock;

/// Reads the time since the machine booted, suspension included.
pub(crate) type BootTime = Arc<dyn Fn() -> Duration + Send + Sync>;

/// How much later than its limit a call may end before the process counts as paused. Too low takes
/// a loaded machine for a paused one; too high takes a paused one for a hung driver.
const PAUSED: Duration = Duration::from_secs(5);

/// The operating system's boot-time clock; where there is none, a clock that never moves.
pub(crate) fn system_boot_time() -> BootTime {
    Arc::new(|| {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        {
            let since_boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
            Duration::try_from(since_boot).unwrap_or_default()
        }
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        Duration::ZERO
    })
}

/// A moment on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    monotonic: Duration,
    boot_time: Duration,
}

impl Moment {
    /// The present one.
    pub(crate) fn now(clock: &dyn Clock, boot_time: &BootTime) -> Self {
        Self {
            monotonic: clock.monotonic(),
            boot_time: boot_time(),
        }
    }

    /// How much time passed since an earlier one: the most that either clock says.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        let monotonic = self.monotonic.saturating_sub(earlier.monotonic);
        monotonic.max(self.boot_time.saturating_sub(earlier.boot_time))
    }
}

/// When a reading was made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Made {
    /// Just before the driver was asked.
    pub(crate) began: Moment,
    /// Just after it answered.
    pub(crate) ended: Moment,
}

impl Made {
    /// Whether the reading is older than a health interval. A driver may take its time to answer,
    /// `limit` at most: only what was read before a pause counts as old for that.
    pub(crate) fn is_old(self, now: Moment, interval: Duration, limit: Duration) -> bool {
        now.since(self.ended) > interval
            || now.since(self.began) > interval.saturating_add(limit).saturating_add(PAUSED)
    }

    /// Whether the driver got no chance to answer within `limit`: the process was paused, and it is
    /// the pause that took so long.
    pub(crate) fn was_paused(self, limit: Duration) -> bool {
        self.ended.since(self.began) > limit.saturating_add(PAUSED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(monotonic: u64, boot_time: u64) -> Moment {
        Moment {
            monotonic: Duration::from_secs(monotonic),
            boot_time: Duration::from_secs(boot_time),
        }
    }

    #[test]
    fn a_reading_is_old_by_either_clock() {
        let (interval, limit) = (Duration::from_secs(60), Duration::from_secs(10));
        // (began, ended, now, whether it is old)
        for (began, ended, now, old) in [
            (at(100, 500), at(101, 501), at(101, 501), false),
            (at(100, 500), at(101, 501), at(161, 561), false),
            // Stopped.
            (at(100, 500), at(101, 501), at(162, 562), true),
            // Suspended: the monotonic clock stood still.
            (at(100, 500), at(101, 501), at(101, 4000), true),
            // A machine whose boot-time clock cannot be read.
            (at(100, 0), at(101, 0), at(162, 0), true),
            // A slow driver, and a pause in the middle of its answer.
            (at(100, 500), at(110, 510), at(170, 570), false),
            (at(100, 500), at(100, 4000), at(100, 4000), true),
        ] {
            let made = Made { began, ended };
            assert_eq!(made.is_old(now, interval, limit), old, "{made:?} {now:?}");
        }
    }

    #[test]
    fn a_pause_is_no_hung_driver() {
        let limit = Duration::from_secs(10);
        for (ended, paused) in [
            (at(110, 510), false),
            (at(115, 515), false),
            (at(116, 516), true),
            (at(100, 516), true),
        ] {
            let began = at(100, 500);
            assert_eq!(Made { began, ended }.was_paused(limit), paused, "{ended:?}");
        }
    }

    #[test]
    fn the_systems_boot_time_runs() {
        let clock = navarch_time::RealClock::new();
        let boot_time = system_boot_time();
        let before = Moment::now(&clock, &boot_time);
        let after = Moment::now(&clock, &boot_time);
        assert!(after.boot_time >= before.boot_time);
        if cfg!(target_os = "linux") {
            assert!(before.boot_time > Duration::ZERO);
        }
    }
}
