//! SIGHUP goes to a whole process: this test has one of its own.

#[path = "../wire/support/mod.rs"]
#[expect(dead_code, reason = "it is the support of all tests over the wire")]
mod support;

use std::time::Duration;

use navarch_time::{Clock as _, RealClock};
use rustix::process::{Signal, getpid, kill_process};
use serde_json::json;

use support::plane::{Plane, policy};

/// How long the test waits for what must come. Reached only when it fails.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_hang_up_reads_the_files_again_though_no_time_passed() {
    let plane = Plane::with(|config, home| {
        let file = home.path().join("policy.yaml");
        std::fs::write(&file, policy(90)).expect("a policy file");
        config.server.health_policy = Some(file);
    })
    .await;
    std::fs::write(plane.home.path().join("policy.yaml"), policy(70)).expect("a policy file");
    kill_process(getpid(), Signal::HUP).expect("a signal to oneself");
    let clock = RealClock::new();
    let end = clock.monotonic() + PATIENCE;
    while plane.ok("FleetService/GetPolicy", json!({})).await["text"] != policy(70) {
        assert!(clock.monotonic() < end, "the signal was not heard");
    }
}
