//! Lets real time pass between asynchronous steps that drive real processes.

use std::time::Duration;

use navarch_time::{Clock as _, RealClock};

/// Lets time pass while other futures run.
pub async fn rest(time: Duration) {
    RealClock::new().sleep(time).await;
}
