//! Presence: what a start or a pause of the control plane does to the waits that were under way.

use std::time::Duration;

use navarch_model::Time;

/// How long a control plane has been there, and how long those that it waits for take to come back.
///
/// Fleet time stands still while no control plane runs and goes on while one is paused. Every wait
/// that a start or a pause may cut short asks here when it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Presence {
    /// The last start or end of a pause.
    pub since: Time,
    /// The end of the last pause, under whichever control plane it was; none if there was none.
    pub resumed: Option<Time>,
    /// How long agents take at most to be heard again. Lower, and machines end whose agents are on
    /// their way back; higher, and what is long due waits for longer after each start.
    pub settle: Duration,
}

impl Presence {
    /// From when on something counts that is seen and not recorded: what was seen before the last
    /// start or pause is not known any more, or says nothing of now.
    pub fn fresh(&self, since: Time) -> Time {
        since.max(self.since)
    }

    /// When a wait of `period` is over that began at `since` and that the record would show to have
    /// ended: a drain, a registration, a call. It goes on over a start and a pause. Nothing is due
    /// before those that could end it had the time to be heard, and what was long due is due then.
    /// If each start began the wait anew, a control plane that restarts often would pay for a
    /// broken machine for ever.
    pub fn due(&self, since: Time, period: Duration) -> Time {
        (since + period).max(self.since + period.min(self.settle))
    }

    /// When a silence that began at `since` has lasted for `period`. Only time counts in which
    /// somebody listened: nothing before the end of a pause, for fleet time went on in it. What was
    /// listened to before a start counts; but then both who is silent and who speaks for the
    /// silence have the time to be heard by this control plane first.
    pub fn silence_due(&self, since: Time, period: Duration) -> Time {
        let listened = self.resumed.map_or(since, |resumed| since.max(resumed));
        let enough = listened + period;
        if since < self.since {
            enough.max(self.since + self.settle)
        } else {
            enough
        }
    }
}
