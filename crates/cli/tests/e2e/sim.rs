//! `navarch sim` as users run it: scenarios, their runs on disk, fuzzing.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::support::{Fleet, Program, Watch, directory, raw_http, run, text, until};

fn scenarios() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/scenarios")
}

fn file(name: &str) -> String {
    scenarios().join(name).display().to_string()
}

/// Runs an example into `out`; answers what it said.
#[track_caller]
fn play(place: &Path, name: &str, out: &str) -> String {
    run(place, &[], &["sim", "run", &file(name), "--out", out]).fine()
}

#[test]
fn every_example_is_valid() {
    let place = directory();
    let mut found = 0;
    for entry in fs::read_dir(scenarios()).expect("the examples") {
        let path = entry.expect("an entry").path().display().to_string();
        let said = run(place.path(), &[], &["sim", "validate", &path]).fine();
        assert!(said.contains(", valid"), "{said}");
        found += 1;
    }
    assert!(found >= 12, "{found}");
}

/// Without cascading-failures and 5000-node-extreme, which take a minute and more in a debug build:
/// the tests of the simulator play them with a tenth of their machines.
#[test]
fn small_examples_find_what_they_expect() {
    let place = directory();
    let small = [
        "basic-fleet.yaml",
        "gpu-failure.yaml",
        "cordon-drain.yaml",
        "xid-classification.yaml",
        "quick-stress.yaml",
        "pools-stock-outs.yaml",
        "spot-reclaim.yaml",
        "zone-outage.yaml",
        "control-plane-crashes.yaml",
        "day-of-load.yaml",
        "1000-node-chaos.yaml",
        "xid-comprehensive.yaml",
    ];
    for name in small {
        let said = play(place.path(), name, name);
        assert!(said.contains("every promise is kept"), "{name}: {said}");
        let report = fs::read_to_string(place.path().join(name).join("report.json"));
        let report: Value = serde_json::from_str(&report.expect("a report")).expect("JSON");
        assert_eq!(report["violations"], serde_json::json!([]), "{name}");
    }
}

/// Every file of a run by its path, without the one that tells of this machine.
fn files(run: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![run.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.ends_with("timing.json") {
                let name = path.strip_prefix(run).expect("below").display().to_string();
                found.push((name, fs::read(&path).expect("a file")));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn two_runs_write_the_same_bytes_and_another_seed_writes_others() {
    let place = directory();
    play(place.path(), "quick-stress.yaml", "one");
    play(place.path(), "quick-stress.yaml", "two");
    let other = file("quick-stress.yaml");
    let seeded = ["sim", "run", &other, "--out", "three", "--seed", "8"];
    run(place.path(), &[], &seeded).fine();
    let [one, three] = ["one", "three"].map(|name| files(&place.path().join(name)));
    assert!(one.len() > 50, "{} files", one.len());
    are_equal(&place.path().join("one"), &place.path().join("two"));
    let trace = |files: &[(String, Vec<u8>)]| {
        let trace = files.iter().find(|(name, _)| name == "trace.jsonl");
        trace.map(|(_, bytes)| bytes.clone())
    };
    assert!(trace(&one).is_some_and(|bytes| !bytes.is_empty()));
    assert_ne!(trace(&one), trace(&three));
}

/// Asserts that two runs are equal, but for what tells of the machine.
#[track_caller]
fn are_equal(one: &Path, two: &Path) {
    let (one, two) = (files(one), files(two));
    for ((name, one), (other, two)) in one.iter().zip(&two) {
        assert_eq!(name, other);
        assert!(one == two, "{name} differs");
    }
    assert_eq!(one.len(), two.len());
}

#[test]
fn a_run_with_a_policy_is_repeated_from_its_directory_alone() {
    let place = directory();
    let policy = fs::read_to_string(scenarios().join("../policies/catalogue.yaml"));
    let policy = policy.expect("the policy");
    let scenario = "name: strict
server: {health_policy: policies/strict.yaml}
fleet:
  - {id: a, gpu_count: 8}
events:
  - {at: 30s, action: inject_failure, target: a, params: {failure_type: xid_error, xid_code: 79}}
  - {at: 60s, action: wait}
assertions:
  - {type: node_status, target: a, expected: unhealthy}
";
    fs::create_dir(place.path().join("policies")).expect("a folder");
    let strict = place.path().join("policies/strict.yaml");
    fs::write(&strict, &policy).expect("a file");
    fs::write(place.path().join("strict.yaml"), scenario).expect("a file");
    let run_it = |from: &str, out: &str| {
        run(
            place.path(),
            &[],
            &["sim", "run", from, "--out", out, "--seed=3"],
        )
    };
    run_it("strict.yaml", "one").fine();
    let kept = fs::read_to_string(place.path().join("one/policy.yaml"));
    assert_eq!(kept.expect("the policy of the run"), policy);
    fs::remove_file(&strict).expect("it is there");
    let said = run_it("strict.yaml", "none").refused(1);
    assert!(said.contains("policies/strict.yaml"), "{said}");
    run_it("one/scenario.yaml", "two").fine();
    are_equal(&place.path().join("one"), &place.path().join("two"));
    // What has the name of the file by chance is another policy.
    fs::create_dir(place.path().join("two/policies")).expect("a folder");
    let other = place.path().join("two/policies/strict.yaml");
    fs::write(&other, "version: v1\nrules: []\n").expect("a file");
    run_it("two/scenario.yaml", "three").fine();
    are_equal(&place.path().join("one"), &place.path().join("three"));
}

#[test]
fn an_assertion_about_a_rule_that_does_not_exist_is_refused_with_its_place() {
    let place = directory();
    let scenario = |rule: &str| {
        format!(
            "name: rules\nfleet:\n  - {{id: a, gpu_count: 8}}\nevents:\n  - at: 9s\n    action: assert\n    \
             params: {{assertion: {{type: incidents, rule: {rule}, at_most: 0}}}}\nassertions:\n  \
             - {{type: incidents, rule: {rule}, at_most: 0}}\n"
        )
    };
    let file = place.path().join("rules.yaml");
    for known in ["silence", "stale-reports", "xid-replace"] {
        fs::write(&file, scenario(known)).expect("a file");
        run(place.path(), &[], &["sim", "validate", "rules.yaml"]).fine();
    }
    for (wrong, hint) in [
        ("silense", "did you mean silence?"),
        ("no-such-rule", "name a rule of the health policy"),
    ] {
        fs::write(&file, scenario(wrong)).expect("a file");
        for arguments in [
            &["sim", "validate", "rules.yaml"][..],
            &["sim", "run", "rules.yaml", "--out=out"],
            &[
                "sim",
                "interactive",
                "rules.yaml",
                "--listen=127.0.0.1:0",
                "--out=out",
            ],
        ] {
            let said = run(place.path(), &[], arguments).refused(1);
            for (line, path) in [(7, "events[0].params.assertion"), (9, "assertions[0]")] {
                let start = format!("rules.yaml:{line}:");
                let told = format!("{path}.rule: unknown rule \"{wrong}\": {hint}");
                let found = said
                    .lines()
                    .any(|one| one.contains(&start) && one.contains(&told));
                assert!(found, "{arguments:?}: {told}\n{said}");
            }
        }
    }
    assert!(!place.path().join("out").exists());
}

#[test]
fn real_time_is_as_long_as_simulated_time() {
    let place = directory();
    let scenario = "name: short
fleet:
  - {id: a, gpu_count: 8}
events:
  - {at: 1500ms, action: wait}
";
    fs::write(place.path().join("short.yaml"), scenario).expect("a file");
    let watch = Watch::start();
    let arguments = ["sim", "run", "short.yaml", "--out=out", "--real-time"];
    run(place.path(), &[], &arguments).fine();
    assert!(
        watch.took() >= Duration::from_millis(1500),
        "{:?}",
        watch.took()
    );
}

#[test]
fn a_directory_that_holds_something_is_refused_and_stays_as_it_is() {
    let place = directory();
    fs::create_dir(place.path().join("mine")).expect("a folder");
    fs::write(place.path().join("mine/thesis.txt"), "precious").expect("a file");
    let path = file("basic-fleet.yaml");
    let said = run(place.path(), &[], &["sim", "run", &path, "--out", "mine"]).refused(1);
    assert!(said.contains("mine is not empty"), "{said}");
    assert_eq!(files(&place.path().join("mine")).len(), 1);
}

#[test]
fn what_is_wrong_in_a_scenario_is_told_with_its_place_before_anything_runs() {
    let place = directory();
    fs::write(
        place.path().join("bad.yaml"),
        "name: bad\nfleet:\n  - {id: a, gpu_count: 8}\nevents:\n  - {at: -1s, action: explode}\n  - {at: 1s, action: inject_failure, target: b, params: {failure_type: xid_error}}\n",
    )
    .expect("a file");
    let said = run(
        place.path(),
        &[],
        &["sim", "run", "bad.yaml", "--out", "out"],
    )
    .refused(1);
    for wanted in ["bad.yaml:5:", "bad.yaml:6:", "explode"] {
        assert!(said.contains(wanted), "{wanted} is missing in {said}");
    }
    assert!(!place.path().join("out").exists());
}

#[test]
fn an_assertion_that_does_not_hold_fails_the_run_and_the_report_is_written() {
    let place = directory();
    fs::write(
        place.path().join("hopeful.yaml"),
        "name: hopeful\nfleet:\n  - {id: a, gpu_count: 8}\nevents:\n  - {at: 0s, action: start_fleet}\n  - {at: 30s, action: inject_failure, target: a, params: {failure_type: xid_error, xid_code: 79}}\n  - {at: 60s, action: wait}\nassertions:\n  - {type: node_status, target: a, expected: active}\n",
    )
    .expect("a file");
    let arguments = ["sim", "run", "hopeful.yaml", "--out", "out"];
    let said = run(place.path(), &[], &arguments);
    assert_eq!(said.code, Some(1), "{said:?}");
    for text in [&said.err, &said.out] {
        let wrong = "NODE_STATUS_UNHEALTHY, expected NODE_STATUS_ACTIVE";
        assert!(text.contains(wrong), "{text}");
    }
    assert!(place.path().join("out/report.json").exists());
}

#[test]
fn an_interrupted_run_still_writes_its_report() {
    let place = directory();
    let path = file("quick-stress.yaml");
    let arguments = ["sim", "run", &path, "--out", "out", "--real-time"];
    let watch = Watch::start();
    let mut program = Program::launch(place.path(), &[], &arguments);
    until("the run has begun", || {
        let trace = fs::metadata(place.path().join("out/trace.jsonl"));
        trace.map(drop).map_err(|error| error.to_string())
    });
    assert_eq!(program.terminate().0, Some(1), "{}", program.output());
    let took = watch.took().as_secs_f64();
    assert!(place.path().join("out/report.html").exists());
    // It was never ahead of the clock.
    let timing = fs::read_to_string(place.path().join("out/timing.json")).expect("its timing");
    let timing: Value = serde_json::from_str(&timing).expect("JSON");
    let simulated = timing["simulated_seconds"].as_f64().expect("a number");
    assert!(simulated <= took, "{simulated} s in {took} s");
}

#[test]
fn fuzzing_says_in_its_last_line_what_it_did() {
    let place = directory();
    let said = run(
        place.path(),
        &[],
        &["sim", "fuzz", "--seeds", "3", "--minutes", "10"],
    )
    .fine();
    let last = said.lines().last().unwrap_or_default();
    assert!(last.starts_with("3 seeds, 0 failures, "), "{said}");
    assert!(last.ends_with(" steps"), "{said}");
}

/// A fleet of two machines and a pool, to which nothing happens by itself.
const QUIET: &str = "name: quiet
guards: {small_fleet_wait: 10s}
fleet:
  - {id: lab-1, gpu_count: 8}
  - {id: lab-2, gpu_count: 8}
providers:
  cloud: {type: fake, gpu_count: 8}
pools:
  main: {provider: cloud, instance_type: fake-8x, min_nodes: 1, max_nodes: 3}
cloud: {boot: {min: 5s, max: 5s}}
events:
  - {at: 1h, action: wait}
";

/// Plays a scenario at the desk of whoever asks.
#[track_caller]
fn played(scenario: &str, more: &[&str]) -> Fleet {
    let place = directory();
    fs::write(place.path().join("fleet.yaml"), scenario).expect("a file");
    let mut arguments = vec!["fleet.yaml"];
    arguments.extend(more);
    Fleet::simulated(place, &arguments)
}

/// What is written of a run, once it was told to end.
#[track_caller]
fn ended(fleet: &mut Fleet, code: i32) -> (Value, String) {
    let status = fleet.server.terminate().0;
    assert_eq!(status, Some(code), "{}", fleet.server.output());
    let out = fleet.path().join("out");
    let report = fs::read_to_string(out.join("report.json")).expect("a report");
    let trace = fs::read_to_string(out.join("trace.jsonl")).expect("a trace");
    (serde_json::from_str(&report).expect("JSON"), trace)
}

#[test]
fn a_played_fleet_is_asked_and_ordered_like_any_other() {
    let mut fleet = played(QUIET, &["--speed=20"]);
    let active = fleet.until_active(3);
    assert_eq!(active[..2], ["lab-1", "lab-2"]);
    assert_eq!(text(&fleet.node(&active[2]), "pool"), "main");

    fleet
        .ask(&["cordon", "lab-1", "--reason=I look at it"])
        .fine();
    fleet.until_status("lab-1", "CORDONED");
    let told = fleet.ask(&["explain", "node", "lab-1"]).fine();
    assert!(told.contains("by anybody from 127.0.0.1"), "{told}");
    // Ages are told by the clock of the fleet, which began in the year 2000.
    let listed = fleet.ask(&["list"]).fine();
    assert!(!listed.contains("d ago"), "{listed}");
    let warned = fleet.ask(&["uncordon", "lab-1"]);
    assert!(!warned.err.contains("heartbeat"), "{warned:?}");

    fleet.ask(&["pool", "scale", "main", "--nodes=3"]).fine();
    fleet.until_active(5);
    let said = fleet.ask(&["cordon", "lab-3"]).refused(1);
    assert!(said.contains("node not found: lab-3"), "{said}");
    let said = fleet
        .ask(&["pool", "scale", "main", "--nodes=9"])
        .refused(1);
    assert!(said.contains("9"), "{said}");

    let get = |path: &str| {
        let request = format!("GET {path} HTTP/1.0\r\nHost: fleet\r\n\r\n");
        raw_http(fleet.server.address(), &request)
    };
    assert!(get("/healthz").ends_with("\r\n\r\nok"));
    assert!(get("/readyz").ends_with("\r\n\r\nready"));
    let metrics = get("/metrics");
    assert!(
        metrics.contains("navarch_invariant_violations 0"),
        "{metrics}"
    );
    assert!(
        metrics.contains("navarch_nodes_total{status=\"active\"} 5"),
        "{metrics}"
    );
    let kinds: Vec<String> = fleet
        .events()
        .iter()
        .map(|event| text(event, "kind"))
        .collect();
    assert!(kinds.iter().any(|kind| kind == "pool.resized"), "{kinds:?}");

    let (report, trace) = ended(&mut fleet, 0);
    assert_eq!(report["outcome"]["result"], "interrupted", "{report}");
    for wanted in [
        "anybody at 127.0.0.1: cordon lab-1",
        "anybody at 127.0.0.1: scale main to 3",
        "node.status lab-1: ACTIVE to CORDONED",
    ] {
        assert!(trace.contains(wanted), "{wanted} is missing in {trace}");
    }
}

#[test]
fn a_machine_of_a_played_fleet_is_broken_and_repaired_by_hand() {
    let mut fleet = played(QUIET, &["--speed=10"]);
    let active = fleet.until_active(3);
    let inject = |more: &[&str]| {
        let mut arguments = vec!["dev", "inject", "lab-1"];
        arguments.extend(more);
        fleet.ask(&arguments)
    };
    let said = inject(&["xid", "--code=79", "--gpu=3"]).fine();
    assert_eq!(said.trim(), "xid 79 injected into lab-1 on GPU 3");
    fleet.until_status("lab-1", "UNHEALTHY");
    let said = fleet.ask(&["dev", "clear", "lab-1"]).fine();
    assert!(said.contains("lab-1 repaired"), "{said}");
    fleet.until_status("lab-1", "ACTIVE");
    // The control plane replaces what it bought, whoever broke it.
    let bought = active[2].as_str();
    let said = fleet.ask(&["dev", "inject", bought, "device-error", "--gpu=1"]);
    said.fine();
    fleet.until_status(bought, "TERMINATED");
    assert_ne!(fleet.until_active(3)[2], bought);
    for (wrong, expected) in [
        (&["thermal", "--gpu=8"][..], "there is no GPU 8"),
        (&["thermal", "--temperature=99"], "unimplemented"),
        (&["recovery-action"], "unimplemented"),
        (&["gremlins"], "gremlins"),
    ] {
        let said = inject(wrong).refused(1);
        assert!(said.contains(expected), "{wrong:?}: {said}");
    }
    let said = fleet.ask(&["dev", "inject", "lab-7", "thermal"]).refused(1);
    assert!(said.contains("node not found: lab-7"), "{said}");
    let gone = fleet.ask(&["dev", "clear", bought]).refused(1);
    assert!(gone.contains("there is no machine"), "{gone}");
    let (report, _) = ended(&mut fleet, 0);
    let injections = report["injections"].as_array().expect("a list").clone();
    let causes: Vec<&Value> = injections.iter().map(|one| &one["cause"]).collect();
    assert_eq!(causes, ["person", "person"]);
}

#[test]
fn no_agent_joins_a_played_fleet() {
    let fleet = played(QUIET, &[]);
    let body = r#"{"nodeId":"lab-9","provider":"mine"}"#;
    let request = format!(
        "POST /navarch.ControlPlaneService/RegisterNode HTTP/1.0\r\nHost: fleet\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = raw_http(fleet.server.address(), &request);
    assert!(answer.contains("failed_precondition"), "{answer}");
    assert!(answer.contains("are simulated"), "{answer}");
}

/// Who only looks changes nothing: what is played is what `navarch sim run` runs.
#[test]
fn a_played_scenario_takes_its_course_and_then_time_goes_on() {
    let scenario = "name: short
fleet:
  - {id: a, gpu_count: 8}
  - {id: b, gpu_count: 8}
providers:
  cloud: {type: fake, gpu_count: 8}
pools:
  main: {provider: cloud, instance_type: fake-8x, min_nodes: 2, max_nodes: 3}
events:
  - {at: 0s, action: start_fleet}
  - {at: 1s, action: wait_for_status, target: a, params: {expected_status: active, timeout: 20s}}
  - {at: 20s, action: crash, params: {down: 10s}}
  - {at: 90s, action: inject_failure, target: pool/main/0, params: {failure_type: gpu_lost}}
  - {at: 5m, action: wait}
assertions:
  - {type: node_status, target: a, expected: active}
";
    let mut fleet = played(scenario, &["--speed=100", "--seed=5"]);
    until("the scenario is over", || {
        fleet.nodes();
        let said = fleet.server.output();
        let over = said.contains("The scenario is over");
        over.then_some(()).ok_or(said)
    });
    // It goes on to take orders.
    fleet.ask(&["cordon", "a"]).fine();
    fleet.until_status("a", "CORDONED");
    let (report, played) = ended(&mut fleet, 0);
    assert_eq!(report["outcome"]["result"], "passed", "{report}");
    let arguments = ["sim", "run", "fleet.yaml", "--seed=5", "--out=again"];
    run(fleet.path(), &[], &arguments).fine();
    let again = fs::read_to_string(fleet.path().join("again/trace.jsonl")).expect("a trace");
    let mut lines = played.lines();
    for line in again.lines() {
        assert_eq!(lines.next(), Some(line));
    }
    assert!(lines.next().is_some_and(|line| line.contains("is over")));
}

#[test]
fn a_played_scenario_that_fails_says_so_and_fails_in_the_end() {
    let hopeful = QUIET.replace("at: 1h", "at: 10s")
        + "assertions:\n  - {type: node_count, status: active, expected: 7}\n";
    let mut fleet = played(&hopeful, &["--speed=20"]);
    until("it is told", || {
        let said = fleet.server.output();
        let told = said.contains("The scenario ended here, and failed");
        told.then_some(()).ok_or(said)
    });
    fleet.nodes();
    let (report, _) = ended(&mut fleet, 1);
    assert_eq!(report["outcome"]["result"], "failed", "{report}");
    let said = fleet.server.output();
    assert!(said.contains("the assertion in line 14 failed"), "{said}");
}

#[test]
fn while_the_control_plane_of_a_scenario_is_away_nothing_can_be_changed() {
    let away = QUIET.replace(
        "{at: 1h, action: wait}",
        "{at: 30s, action: crash, params: {down: 10h}}",
    );
    let fleet = played(&away, &["--speed=20"]);
    fleet.until_active(3);
    let said = until("it crashed", || {
        let said = fleet.ask(&["cordon", "lab-1"]);
        (said.code == Some(1)).then_some(said.err).ok_or(said.out)
    });
    assert!(said.contains("unavailable"), "{said}");
    assert!(said.contains("the control plane does not run"), "{said}");
    let ready = raw_http(
        fleet.server.address(),
        "GET /readyz HTTP/1.0\r\nHost: fleet\r\n\r\n",
    );
    assert!(ready.starts_with("HTTP/1.0 503"), "{ready}");
    // What it last said can be read.
    assert_eq!(fleet.nodes().len(), 3);
}

#[test]
fn without_a_file_there_is_a_fleet_to_try_things_on() {
    let fleet = Fleet::simulated(directory(), &["--speed=20", "--seed=1"]);
    until("the pool has what it asks for", || {
        let nodes = fleet.nodes();
        let bought = nodes.iter().filter(|node| node["pool"] == "training");
        let active = bought.filter(|node| node["status"] == "NODE_STATUS_ACTIVE");
        (active.count() == 4)
            .then_some(())
            .ok_or(format!("{nodes:?}"))
    });
    assert!(fleet.nodes().len() >= 14);
    let said = fleet.server.output();
    for wanted in [
        "Scenario: interactive, seed 1; 20 seconds pass in each second",
        "dev inject lab-01 xid --code 79",
        "pool scale training --nodes 8",
        "events --follow",
        "Ctrl-C ends the run",
    ] {
        assert!(said.contains(wanted), "{wanted} is missing in {said}");
    }
}

#[test]
fn what_is_wrong_with_a_played_fleet_is_told_and_leaves_nothing_behind() {
    let place = directory();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = format!("--listen={}", listener.local_addr().expect("it is bound"));
    let wrong = |more: &[&str], code: i32| {
        let mut arguments = vec!["sim", "interactive", "--out=out"];
        arguments.extend(more);
        run(place.path(), &[], &arguments).refused(code)
    };
    let said = wrong(&[&taken], 1);
    assert!(said.contains("the port is in use"), "{said}");
    assert!(said.contains("--listen"), "{said}");
    for speed in ["0", "-1", "nan", "inf", "1e300", "1e-300", "fast", ""] {
        let said = wrong(&["--speed", speed], 2);
        let what = "write how many seconds pass in one second, from 0.01 to 1000000";
        assert!(said.contains(what), "{speed}: {said}");
    }
    let said = wrong(&["--listen=0.0.0.0:0"], 1);
    assert!(said.contains("is reachable from other machines"), "{said}");
    fs::write(place.path().join("bad.yaml"), "name: bad\nfleet: 7\n").expect("a file");
    let said = wrong(&["bad.yaml"], 1);
    assert!(said.contains("bad.yaml:2:"), "{said}");
    let said = wrong(&["missing.yaml"], 1);
    assert!(said.contains("missing.yaml"), "{said}");
    assert!(!place.path().join("out").exists());
    fs::create_dir(place.path().join("mine")).expect("a folder");
    fs::write(place.path().join("mine/thesis.txt"), "precious").expect("a file");
    let full = ["sim", "interactive", "--listen=127.0.0.1:0", "--out=mine"];
    let said = run(place.path(), &[], &full).refused(1);
    assert!(said.contains("mine is not empty"), "{said}");
}
