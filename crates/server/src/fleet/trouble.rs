//! What goes on failing is told at once, then less and less often, and once when it is over.

use std::time::Duration;

use navarch_model::Time;

/// How long after the first word comes the second. Lower fills the log of a full disk, with the
/// disk that it fills; higher leaves a person without a sign that it goes on.
const FIRST_GAP: Duration = Duration::from_secs(60);
/// Each wait is twice the last, and never longer than this.
const LONGEST_GAP: Duration = Duration::from_secs(3600);

/// Something that fails since a while.
#[derive(Debug)]
pub(super) struct Trouble {
    since: Time,
    /// When it is told again.
    next: Time,
    gap: Duration,
    failures: u64,
}

impl Trouble {
    /// Counts one failure more, and answers whether it should be told.
    pub(super) fn is_news(trouble: &mut Option<Self>, now: Time) -> bool {
        let Some(known) = trouble else {
            *trouble = Some(Self {
                since: now,
                next: now + FIRST_GAP,
                gap: FIRST_GAP,
                failures: 1,
            });
            return true;
        };
        known.failures += 1;
        if now < known.next {
            return false;
        }
        known.gap = (known.gap * 2).min(LONGEST_GAP);
        known.next = now + known.gap;
        true
    }

    /// How often it failed, and for how long.
    pub(super) fn summary(&self, now: Time) -> (u64, Duration) {
        (self.failures, now.since(self.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_less_and_less_often() {
        let mut trouble = None;
        let mut told = Vec::new();
        for second in 0..20_000 {
            if Trouble::is_news(&mut trouble, Time(second * 1_000_000)) {
                told.push(second);
            }
        }
        let gaps: Vec<_> = told.windows(2).map(|two| two[1] - two[0]).collect();
        assert_eq!(gaps, [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600, 3600]);
        let trouble = trouble.expect("it goes on");
        let (failures, time) = trouble.summary(Time(20_000 * 1_000_000));
        assert_eq!((failures, time.as_secs()), (20_000, 20_000));
    }
}
