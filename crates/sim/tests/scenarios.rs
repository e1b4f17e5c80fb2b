//! Scenarios: a script in, a golden trace out.
//!
//! `NAVARCH_BLESS=1` writes the golden traces anew.

use std::path::Path;

use navarch_sim::{Config, scenario};

/// Plays a script and compares the trace with the golden one.
#[track_caller]
fn golden(name: &str, config: Config, script: &str) -> String {
    let trace = scenario::play(7, config, script).expect("the script is sound");
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("NAVARCH_BLESS").is_some() {
        std::fs::write(&path, &trace).expect("the golden trace is written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        trace == expected,
        "{name} differs; bless it if it is right:\n{trace}"
    );
    trace
}

/// The lines that contain a text.
fn count(trace: &str, text: &str) -> usize {
    trace.lines().filter(|line| line.contains(text)).count()
}

#[test]
fn a_gpu_that_falls_off_the_bus_is_replaced() {
    let trace = golden(
        "xid_79.txt",
        Config::calm(2, 4),
        "run 5m\nxid 79 gpu 1\nrun 20m\n",
    );
    let steps = [
        "XID 79 on GPU 1",
        "ACTIVE to UNHEALTHY",
        "drain.started",
        "requested to launching",
        "CORDONED to ACTIVE",
        "running to terminating",
        "UNHEALTHY to TERMINATED",
    ];
    let after = trace.split_once("XID 79").unwrap().1;
    let mut rest = &trace[trace.len() - after.len() - "XID 79".len()..];
    for step in steps {
        let at = rest
            .find(step)
            .unwrap_or_else(|| panic!("no {step:?} in order:\n{trace}"));
        rest = &rest[at + step.len()..];
    }
    assert_eq!(count(&trace, "cloud made"), 3);
}

#[test]
fn a_pause_of_the_control_plane_and_a_silent_machine_destroy_nothing_without_witnesses() {
    let script = "run 5m\npause 10m\nrun 15m\nhang\nrun 30m\n";
    let trace = golden("pause_and_silence.txt", Config::calm(2, 4), script);
    assert_eq!(count(&trace, "cloud made"), 2);
    assert_eq!(count(&trace, "is terminating"), 0);
    assert_eq!(count(&trace, "node.silent"), 1);
    assert_eq!(count(&trace, "server.paused"), 1);
}

#[test]
fn machines_that_never_register_are_bought_three_times_before_the_breaker_opens() {
    let trace = golden(
        "never_registers.txt",
        Config::calm(2, 4),
        "duds 8h\nrun 20m\n",
    );
    let (before, after) = trace.split_once("breaker.opened").unwrap();
    assert!(count(before, "cloud made") <= 3, "{trace}");
    assert!(count(after, "cloud made") <= 3, "{trace}");
    assert_eq!(count(&trace, "to ACTIVE"), 0);
}

#[test]
fn a_line_that_is_no_step_is_refused_by_number() {
    let error = scenario::play(7, Config::calm(1, 1), "run 1m\nexplode\n").unwrap_err();
    assert_eq!((error.line, error.text.as_str()), (2, "explode"));
    for line in [
        "run",
        "run x",
        "xid many",
        "automation maybe",
        "hang 9999999999",
    ] {
        assert!(
            scenario::play(7, Config::calm(1, 1), line).is_err(),
            "{line}"
        );
    }
}
