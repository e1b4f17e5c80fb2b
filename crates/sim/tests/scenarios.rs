//! Scenarios: a script in, a golden trace out.
//!
//! `UPDATE_GOLDEN=1` writes the golden traces anew.

use std::path::Path;

use navarch_sim::{Config, script};

/// Plays a script and compares the trace with the golden one.
#[track_caller]
fn golden(name: &str, config: Config, script: &str) -> String {
    let trace = script::play(7, config, script).expect("the script is sound");
    blessed(name, &trace);
    trace
}

/// Compares a text with the golden one.
#[track_caller]
fn blessed(name: &str, trace: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, trace).expect("the golden trace is written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        trace == expected,
        "{name} differs; bless it if it is right:\n{trace}"
    );
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

/// The trace from the first line with a text on.
#[track_caller]
fn from<'a>(trace: &'a str, text: &str) -> &'a str {
    let at = trace.find(text).unwrap_or_else(|| panic!("no {text:?}"));
    &trace[at..]
}

/// The lines of the first minutes of an hour-long trace: those before a time such as `01:02`.
fn before<'a>(trace: &'a str, time: &str) -> impl Iterator<Item = &'a str> {
    trace
        .lines()
        .take_while(move |line| line.get(1..6).is_none_or(|at| at < time))
}

/// A fleet of `nodes` machines of which a tenth may be disrupted at once.
fn large(nodes: u32) -> Config {
    let mut config = Config::calm(nodes, nodes + 20);
    config.yaml = config
        .yaml
        .replace("budget: 1\n", "budget: 10%\n")
        .replace("max_launches_per_hour: 60", "max_launches_per_hour: 1000");
    config
}

#[test]
fn two_hundred_nodes_that_report_one_rule_cost_the_budget_and_trip_its_breaker() {
    let script = "run 6m\nstorm 79 1m\nrun 7m\n";
    let trace = script::play(7, large(200), script).expect("the script is sound");
    assert_eq!(count(&trace, "CHECK"), 0);
    let storm = from(&trace, "XID 79");
    assert_eq!(count(storm, "XID 79 on GPU 0"), 200);
    // Once the replacement of a probe stayed ACTIVE, the others follow within the budget.
    let (storm, _) = storm
        .split_once("breaker.closed")
        .expect("a probe proves the repair");
    let kinds = ["breaker.", "drain.started", "server."];
    let mut digest: String = storm
        .lines()
        .filter(|line| kinds.iter().any(|kind| line.contains(kind)))
        .flat_map(|line| [line, "\n"])
        .collect();
    for what in ["cloud made", "is terminating", "ACTIVE to UNHEALTHY"] {
        digest.push_str(&format!("{} {what}\n", count(storm, what)));
    }
    blessed("storm_of_one_rule.txt", &digest);
    // A tenth of 200 machines: one more node opens the breaker.
    assert_eq!(count(storm, "breaker.opened"), 1);
    let named = storm.lines().find(|line| line.contains("breaker.opened"));
    let named = named.unwrap_or_default();
    assert!(named.contains("xid-reboot"), "{named}");
    let (touched, probes) = storm.split_once("breaker.opened").expect("it opens");
    let first = count(touched, "drain.started");
    assert_eq!(first, 20, "machines were touched before the breaker opened");
    // After that, one probe passes, two minutes after the last hit.
    assert_eq!(count(probes, "drain.started"), 1);
}

#[test]
fn an_image_that_never_registers_costs_three_machines_and_no_healthy_node() {
    let script = "run 5m\nduds 8h\nxid 79 gpu 1\nrun 40m\n";
    let trace = golden("duds_beside_healthy.txt", Config::calm(5, 6), script);
    assert_eq!(count(&trace, "CHECK"), 0);
    let after = from(&trace, "XID 79");
    let (paid, probes) = after
        .split_once("breaker.opened")
        .expect("the breaker opens");
    assert_eq!(count(paid, "cloud made"), 3, "{trace}");
    assert!(count(probes, "cloud made") <= 4, "{trace}");
    // One node is sick; the four others stay as they are.
    assert_eq!(count(after, "drain.started"), 1);
    assert_eq!(count(after, "ACTIVE to"), 1, "{trace}");
    assert_eq!(count(after, "running to terminating"), 0);
}

#[test]
fn an_hour_of_pause_touches_nothing() {
    let trace = golden(
        "pause_1h.txt",
        Config::calm(5, 6),
        "run 5m\npause 1h\nrun 1h30m\n",
    );
    assert_eq!(count(&trace, "CHECK"), 0);
    let after = from(&trace, "fault Pause");
    assert_eq!(count(after, "server.paused"), 1, "{after}");
    for what in [
        "node.silent",
        "drain.started",
        "made",
        "terminating",
        "incident.opened",
    ] {
        assert_eq!(count(after, what), 0, "{what}:\n{after}");
    }
}

#[test]
fn when_more_than_half_goes_silent_nobody_is_a_witness() {
    // Of ten, six hang: four of nine others are fresh, and five are needed.
    let script = "run 10m\ndark 6\nrun 1h\n";
    let trace = golden("half_silent.txt", large(10), script);
    let after = from(&trace, "fault Hang");
    assert_eq!(count(&trace, "CHECK"), 0);
    assert_eq!(count(after, "node.silent"), 6);
    assert_eq!(count(after, "drain.started"), 0, "{after}");
    assert_eq!(count(after, "is terminating"), 0);
}

#[test]
fn one_dead_machine_that_the_cloud_says_runs_is_replaced_with_witnesses() {
    let trace = golden(
        "dead_but_running.txt",
        Config::calm(5, 6),
        "run 5m\nhang 0\nrun 20m\n",
    );
    let after = from(&trace, "fault Hang");
    assert_eq!(count(&trace, "CHECK"), 0);
    assert_eq!(count(after, "drain.started"), 1, "{after}");
    assert_eq!(count(after, "cloud made"), 1);
    assert_eq!(count(after, "is gone"), 1);
    assert!(
        after.contains("silent while 4 of 4 nodes stayed fresh"),
        "{after}"
    );
    // Three minutes of silence come first.
    let drained = after.lines().find(|line| line.contains("drain.started"));
    let drained = drained.unwrap_or_default();
    assert!(drained > "[00:07:45" && drained < "[00:08:05", "{drained}");
}

#[test]
fn a_cloud_that_cannot_be_asked_for_hours_loses_and_doubles_nothing() {
    let script = "run 5m\noutage 3h\nrun 10m\nhang 0\nrun 2h30m\nrun 1h20m\n";
    let trace = golden("cloud_api_down.txt", Config::calm(5, 6), script);
    assert_eq!(count(&trace, "CHECK"), 0);
    let after = from(&trace, "fault Outage");
    let during: Vec<&str> = before(after, "03:05").collect();
    let gone = |line: &&&str| line.contains("is gone") || line.contains("to terminated");
    assert_eq!(
        during.iter().filter(gone).count(),
        0,
        "nothing is proven gone"
    );
    assert_eq!(count(after, "cloud made"), 1, "one replacement:\n{after}");
    assert_eq!(count(after, "is gone"), 1, "one machine goes:\n{after}");
    assert_eq!(count(after, "drain.started"), 1);
}

#[test]
fn a_fleet_of_two_waits_for_a_person_when_one_is_silent() {
    let script = "run 5m\nhang 0\nrun 30m\nconfirm 0\nrun 15m\n";
    let trace = golden("two_with_one_silent.txt", Config::calm(2, 3), script);
    assert_eq!(count(&trace, "CHECK"), 0);
    let after = from(&trace, "fault Hang");
    let (waits, goes) = after.split_once("human").expect("a person confirms");
    assert_eq!(count(waits, "drain.started"), 0, "{after}");
    assert_eq!(count(goes, "drain.started"), 1, "{after}");
    assert_eq!(count(goes, "is gone"), 1);
    assert_eq!(count(goes, "CORDONED to ACTIVE"), 1);
}

#[test]
fn more_than_half_of_a_fleet_cut_off_for_ten_minutes_costs_nothing() {
    // Of ten, six are cut off: four of nine others are fresh, and five are needed.
    let script = "run 10m\napart 6 10m\nrun 40m\n";
    let trace = golden("half_cut_off.txt", large(10), script);
    assert_eq!(count(&trace, "CHECK"), 0);
    let after = from(&trace, "6 cut off");
    assert_eq!(count(after, "node.silent"), 6);
    assert_eq!(count(after, "node.back"), 6);
    assert_eq!(count(after, "UNHEALTHY to ACTIVE"), 6);
    for what in ["drain.started", "cloud made", "is terminating"] {
        assert_eq!(count(after, what), 0, "{what}:\n{after}");
    }
}

#[test]
fn an_hour_without_a_control_plane_touches_nothing() {
    let trace = golden(
        "away_1h.txt",
        Config::calm(5, 6),
        "run 5m\naway 1h\nrun 1h30m\n",
    );
    assert_eq!(count(&trace, "CHECK"), 0);
    let after = from(&trace, "stays away");
    assert_eq!(count(after, "plane starts"), 1);
    for what in ["node.silent", "drain.started", "made", "terminating"] {
        assert_eq!(count(after, what), 0, "{what}:\n{after}");
    }
}

#[test]
fn a_restored_store_finds_what_was_bought_and_ended_since_and_waits_for_a_person() {
    // Of three machines one is ended and another bought after the copy.
    let script = "run 5m\ncopy\nrun 1m\nterminate 0\nrun 4m\nrestore\nrun 15m\n\
                  automation on\nrun 15m\n";
    let trace = golden("restored.txt", Config::calm(3, 4), script);
    assert_eq!(count(&trace, "CHECK"), 0);
    let (before, after) = trace
        .split_once("restores the store")
        .expect("it is restored");
    assert_eq!(count(before, "cloud made"), 4);
    let (waits, goes) = after.split_once("human automation on").expect("it goes on");
    for what in ["cloud made", "is terminating", "drain.started"] {
        assert_eq!(count(waits, what), 0, "{what}:\n{waits}");
    }
    assert_eq!(count(waits, "instance.unclaimed"), 1, "{waits}");
    assert_eq!(count(waits, "adopted m-4"), 1, "{waits}");
    assert!(
        goes.contains("running to terminating: the machine vanished"),
        "{goes}"
    );
    // The adopted machine fills the place of the one that is gone.
    assert_eq!(count(goes, "cloud made"), 0, "{goes}");
    assert_eq!(count(goes, "is terminating"), 0, "{goes}");
}

#[test]
fn a_machine_bought_after_the_copy_that_nobody_hears_stays_visible_until_a_person_ends_it() {
    let script = "run 5m\ncopy\nrun 1m\nterminate 0\nrun 4m\nhang 2\nrestore\nrun 15m\n\
                  automation on\nrun 1h\nend-orphans\nrun 10m\n";
    let trace = golden("restored_orphan.txt", Config::calm(3, 4), script);
    assert_eq!(count(&trace, "CHECK"), 0);
    let after = from(&trace, "restores the store");
    let (waits, ends) = after
        .split_once("which nobody claims")
        .expect("a person ends it");
    assert_eq!(count(waits, "instance.unclaimed"), 1, "{waits}");
    assert_eq!(count(waits, "m-4 is terminating"), 0, "{waits}");
    assert_eq!(count(ends, "m-4 is terminating"), 1, "{ends}");
    assert_eq!(count(ends, "m-4 is gone"), 1, "{ends}");
}

#[test]
fn two_control_planes_at_one_cloud_leave_each_other_alone() {
    let mut config = Config::calm(3, 4);
    config.neighbour = true;
    // Each loses a machine, and one of them its control plane.
    let script = "run 10m\nxid 79 gpu 0\nrun 5m\nother hang 0\nrun 15m\ncrash\nother pause 5m\n\
                  run 30m\n";
    let trace = golden("two_control_planes.txt", config, script);
    assert_eq!(count(&trace, "CHECK"), 0);
    assert_eq!(count(&trace, "instance.unclaimed"), 0, "{trace}");
    assert_eq!(count(&trace, "listing.suspect"), 0, "{trace}");
    let (other, own): (Vec<&str>, Vec<&str>) =
        trace.lines().partition(|line| line.contains("] other "));
    for lines in [own, other] {
        let count = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
        assert_eq!(count("cloud made"), 4, "{lines:#?}");
        assert_eq!(count("is gone"), 1, "{lines:#?}");
    }
}

#[test]
fn a_named_hold_keeps_a_machine_and_ends_by_itself() {
    let script = "run 5m\nhold 0 upgrade 1h\nrun 1m\nxid 79 gpu 0\nuncordon 0\nrun 50m\n\
                  run 30m\n";
    let trace = golden("named_hold.txt", Config::calm(5, 6), script);
    assert_eq!(count(&trace, "CHECK"), 0);
    let held = from(&trace, "ops holds");
    let (stands, over) = held.split_once("its time is over").expect("the hold ends");
    assert_eq!(count(stands, "drain.started"), 0, "{stands}");
    assert_eq!(count(over, "drain.started"), 1, "{over}");
}

#[test]
fn a_diagnostic_is_carried_out_once_though_its_agent_starts_again() {
    let script = "run 5m\ndiagnose 0\nrun 10s\ncrash\nrun 10m\ndiagnose 1\nhang 1\nrun 2h\n";
    let trace = golden("diagnostic.txt", Config::calm(2, 3), script);
    assert_eq!(count(&trace, "CHECK"), 0);
    assert_eq!(count(&trace, "run_diagnostic succeeded"), 1, "{trace}");
    assert_eq!(count(&trace, "run_diagnostic expired"), 1, "{trace}");
}

#[test]
fn a_spot_machine_that_is_taken_back_is_replaced_where_there_is_some() {
    let mut config = Config::calm(2, 4);
    let one = "    provider: fake\n    instance_type: gpu\n    region: here\n";
    assert!(config.yaml.contains(one));
    config.yaml = config.yaml.replace(
        one,
        "    instance_type: gpu
    providers:
      - {name: fake, regions: [here]}
      - {name: fake, capacity: spot, priority: -1, regions: [there]}
",
    );
    let script = "run 5m\nsold-out 1 15m\ninterrupt\nrun 10m\nsold-out 0 10m\nvanish\nrun 40m\n";
    let trace = golden("spot_and_sold_out.txt", config, script);
    let (_, taken) = trace.split_once("Interruption on").unwrap();
    let (first, both) = taken.split_once("fake/here/gpu is sold out").unwrap();
    assert_eq!(
        count(first, "requested at fake/there/gpu/spot"),
        1,
        "{trace}"
    );
    assert_eq!(count(first, "requested at fake/here/gpu:"), 1, "{trace}");
    assert_eq!(count(first, "CORDONED to ACTIVE"), 1, "{trace}");
    // It is drained as soon as a listing shows that it goes.
    let (noticed, _) = first.split_once("is gone (terminated)").unwrap();
    assert_eq!(count(noticed, "instance.interruption"), 1, "{trace}");
    assert_eq!(count(noticed, "drain.started"), 1, "{trace}");
    // Everything is sold out for a while, and the first that has machines again is bought.
    assert!(count(both, "none of 2 offerings is open") > 0, "{trace}");
    assert_eq!(count(both, "CORDONED to ACTIVE"), 1, "{trace}");
}

#[test]
fn a_line_that_is_no_step_is_refused_by_number() {
    let error = script::play(7, Config::calm(1, 1), "run 1m\nexplode\n").unwrap_err();
    assert_eq!((error.line, error.text.as_str()), (2, "explode"));
    for line in [
        "run",
        "run x",
        "xid many",
        "automation maybe",
        "hang 9999999999",
        "storm 79",
        "dark many",
        "confirm 7",
        "apart 3",
        "away",
        "hold 0",
        "hold 9 upgrade",
        "other hang 0",
        "other nothing",
    ] {
        assert!(script::play(7, Config::calm(1, 1), line).is_err(), "{line}");
    }
}

#[test]
fn a_pool_follows_its_queue_through_a_crash_and_a_source_that_is_away() {
    let keys = "cooldown: {up: 0s, down: 2m}
autoscaling:
  type: queue
  jobs_per_node: 10
  stabilization: {up: 0s, down: 2m}
  source: {http: {url: 'http://queue'}}";
    let trace = golden(
        "follows_a_queue.txt",
        Config::calm(0, 4).with_keys(keys),
        "run 1m\njobs 25\nrun 5m\njobs away\nrun 5m\ncrash\nrun 5m\njobs 5\nrun 20m\njobs 0\nrun 20m\n",
    );
    assert_eq!(count(&trace, "pool.resized"), 3, "{trace}");
    assert_eq!(count(&trace, "requested at"), 3, "{trace}");
}

#[test]
fn a_pool_follows_the_work_of_its_gpus_without_swinging() {
    let keys = "cooldown: 1m
autoscaling: {type: reactive, stabilization: {up: 0s, down: 2m}}";
    let trace = golden(
        "follows_the_work.txt",
        Config::calm(1, 6).with_keys(keys),
        "run 3m\nwork 2.6\nrun 30m\nwork 0.3\nrun 60m\n",
    );
    // Up to four machines of 65 %, then down to the last one.
    assert_eq!(count(&trace, "pool.resized"), 6, "{trace}");
}
