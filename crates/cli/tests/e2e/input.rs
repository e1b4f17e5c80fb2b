//! Bad input: every mistake gets an answer that says what and where, and changes nothing.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, mkfifoat};
use rustix::process::Signal;

use crate::faults::ONE_KEPT;
use crate::support::{Fleet, Program, directory, run, signal, until};

/// The complaint of a program that must not start.
fn refused(directory: &Path, code: i32, arguments: &[&str]) -> String {
    let (status, output) = Program::ends(directory, &[], arguments);
    assert_eq!(status, Some(code), "{arguments:?}: {output}");
    output
}

#[test]
fn a_port_in_use_is_named_with_what_to_do() {
    let place = directory();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound");
    let listen = format!("--listen={address}");
    std::fs::write(place.path().join("c.yaml"), ONE_KEPT).expect("a file");
    for arguments in [
        &["dev", &listen, "--data-dir=data"][..],
        &["server", "--config=c.yaml", &listen, "--data-dir=data"],
        &["fake-cloud", &listen, "--data-dir=cloud"],
    ] {
        let complaint = refused(place.path(), 1, arguments);
        for data in ["data", "cloud"] {
            assert!(
                !place.path().join(data).exists(),
                "{arguments:?} made {data}"
            );
        }
        assert!(
            complaint.contains(&format!(
                "Error: cannot listen on {address}: the port is in use; stop what listens there, \
                 or choose another with --listen\n"
            )),
            "{complaint}"
        );
    }
}

#[test]
fn a_second_server_on_the_same_data_names_the_first() {
    let mut fleet = Fleet::server(ONE_KEPT);
    fleet.until_active(1);
    let arguments = [
        "server",
        "--config=navarch.yaml",
        "--listen=127.0.0.1:0",
        "--data-dir=data",
    ];
    let complaint = refused(fleet.path(), 1, &arguments);
    let first = format!("Error: another server (process {})", fleet.server.pid());
    assert!(complaint.contains(&first), "{complaint}");
    assert!(complaint.contains("stop it first"), "{complaint}");
    let complaint = refused(
        fleet.path(),
        1,
        &["dev", "--listen=127.0.0.1:0", "--data-dir=data"],
    );
    assert!(complaint.contains(&first), "{complaint}");
    // The first one goes on.
    let nodes = fleet.until_active(1);
    assert_eq!(fleet.server.terminate().0, Some(0));
    fleet.restart();
    assert_eq!(fleet.until_active(1), nodes);
}

#[test]
fn a_dev_that_does_not_start_leaves_the_configuration_of_the_one_that_runs() {
    let mut fleet = Fleet::dev(&["--nodes=1"]);
    fleet.until_active(1);
    let file = fleet.path().join("data/dev.yaml");
    let written = std::fs::read_to_string(&file).expect("its configuration");
    let taken = format!("--listen={}", fleet.server.address());
    for listen in [taken.as_str(), "--listen=127.0.0.1:0"] {
        let arguments = ["dev", listen, "--data-dir=data", "--nodes=3"];
        refused(fleet.path(), 1, &arguments);
        let now = std::fs::read_to_string(&file).expect("its configuration");
        assert_eq!(now, written, "{listen}");
    }
    // An edited file is the user's; only --nodes asks for another.
    assert_eq!(fleet.server.terminate().0, Some(0));
    let edited = written.replace("max_nodes: 5", "max_nodes: 4");
    assert_ne!(edited, written);
    std::fs::write(&file, &edited).expect("a file");
    for (nodes, kept) in [(&[][..], true), (&["--nodes=1"], false)] {
        let mut arguments = vec!["dev", "--listen=127.0.0.1:0", "--data-dir=data"];
        arguments.extend(nodes);
        let mut dev = Program::start(fleet.path(), &[], &arguments);
        assert_eq!(dev.terminate().0, Some(0));
        let now = std::fs::read_to_string(&file).expect("its configuration");
        assert_eq!(now, if kept { &edited } else { &written }.as_str());
    }
}

/// Signals wait for the start to be over, and nothing of it is left half done.
#[test]
fn what_is_told_to_end_while_it_starts_ends_in_order() {
    let place = directory();
    std::fs::write(place.path().join("c.yaml"), ONE_KEPT).expect("a file");
    let log = place.path().join("dev/server.log");
    for (arguments, log) in [
        (&["server", "--config=c.yaml", "--data-dir=data"][..], None),
        (&["fake-cloud", "--data-dir=cloud"], None),
        (&["dev", "--nodes=1", "--data-dir=dev"], Some(&log)),
    ] {
        let mut arguments = arguments.to_vec();
        arguments.push("--listen=127.0.0.1:0");
        let mut program = Program::launch(place.path(), &[], &arguments);
        until("it says something", || {
            let logged = log.and_then(|log| std::fs::read_to_string(log).ok());
            let said = program.output() + &logged.unwrap_or_default();
            (!said.is_empty()).then_some(()).ok_or(said)
        });
        let code = program.terminate().0;
        assert_eq!(code, Some(0), "{arguments:?}: {}", program.output());
    }
}

/// The files are read again once the start is over, for it or for their change, and nothing ends.
#[test]
fn a_hang_up_while_a_server_starts_ends_nothing() {
    let place = directory();
    let file = place.path().join("policy.yaml");
    let policy = |name: &str| {
        format!("rules:\n  - name: {name}\n    condition: \"true\"\n    result: healthy\n")
    };
    let named = format!("server:\n  health_policy: {}", file.display());
    let config = ONE_KEPT.replace("server:", &named);
    std::fs::write(place.path().join("c.yaml"), config).expect("a file");
    // The start waits in the middle for what nobody writes yet.
    mkfifoat(CWD, &file, Mode::RUSR | Mode::WUSR).expect("a pipe");
    let arguments = [
        "server",
        "--config=c.yaml",
        "--data-dir=data",
        "--listen=127.0.0.1:0",
    ];
    let mut server = Program::launch(place.path(), &[], &arguments);
    let waits = OFlags::NONBLOCK.bits().cast_signed();
    let mut pipe = until("it reads its policy", || {
        let mut options = OpenOptions::new();
        let pipe = options.write(true).custom_flags(waits).open(&file);
        pipe.map_err(|error| format!("{error}: {}", server.output()))
    });
    let later = place.path().join("later.yaml");
    std::fs::write(&later, policy("second")).expect("a file");
    std::fs::rename(&later, &file).expect("it takes the place");
    signal(server.pid(), Signal::HUP);
    pipe.write_all(policy("first").as_bytes())
        .expect("it is read");
    drop(pipe);
    server.until_it_listens();
    until("the other policy is in force", || {
        let asked = ["policy", "show", "--server", server.url.as_str()];
        let shown = run(place.path(), &[], &asked).fine();
        shown.contains("second").then_some(()).ok_or(shown)
    });
    assert_eq!(server.terminate().0, Some(0), "{}", server.output());
}

#[test]
fn a_damaged_database_is_refused_and_left_as_it_is() {
    let mut fleet = Fleet::server(ONE_KEPT);
    fleet.until_active(1);
    assert_eq!(fleet.server.terminate().0, Some(0));
    let whole = std::fs::read(fleet.path().join("data/navarch.db")).expect("a database");
    let garbled = |from: usize, to: usize| {
        let mut bytes = whole.clone();
        for (at, byte) in bytes[from..to].iter_mut().enumerate() {
            *byte = (at * 37 + 11) as u8;
        }
        bytes
    };
    for (what, bytes) in [
        ("cut in half", whole[..whole.len() / 2].to_vec()),
        ("cut to nothing", Vec::new()),
        ("another header", garbled(0, 100)),
        ("another schema", garbled(100, 4096)),
        ("garbled pages", garbled(4096, whole.len())),
        (
            "another program's file",
            b"#!/bin/sh\necho hello\n".to_vec(),
        ),
    ] {
        let place = directory();
        let data = place.path().join("data");
        std::fs::create_dir(&data).expect("a directory");
        std::fs::write(data.join("navarch.db"), &bytes).expect("a file");
        std::fs::write(place.path().join("c.yaml"), ONE_KEPT).expect("a file");
        let arguments = [
            "server",
            "--config=c.yaml",
            "--listen=127.0.0.1:0",
            "--data-dir=data",
        ];
        let complaint = refused(place.path(), 1, &arguments);
        let error = complaint.lines().last().unwrap_or_default();
        assert!(
            error.starts_with("Error: data/navarch.db is "),
            "{what}: {complaint}"
        );
        assert!(error.contains("in its place"), "{what}: {complaint}");
        let after = std::fs::read(data.join("navarch.db")).expect("the file");
        assert!(after == bytes, "{what}: the file was changed");
    }
}

#[test]
fn mistakes_on_the_command_line_say_what_to_write() {
    let place = directory();
    let path = place.path();
    std::fs::write(
        path.join("broken.yaml"),
        "version: v1\nrules:\n  - name: a\n    condition: event.nope == 1\n    result: healthy\n",
    )
    .expect("a file");
    std::fs::write(path.join("config.yaml"), "server:\n  adress: x\n").expect("a file");
    for (arguments, code, complaints) in [
        (
            &["dev", "--nodes=3", "--config=x.yaml"][..],
            2,
            &["'--nodes <N>' cannot be used with '--config <FILE>'"][..],
        ),
        (&["dev", "--nodes=0"], 2, &["0 is not in 1..=999"]),
        (
            &["dev", "--config=missing.yaml"],
            1,
            &["missing.yaml", "cannot read the configuration"],
        ),
        (
            &["dev", "--config=config.yaml"],
            1,
            &["config.yaml:2:3: unknown key \"adress\" in server: did you mean address?"],
        ),
        (
            &["config", "check", "config.yaml"],
            1,
            &["config.yaml:2:3: unknown key \"adress\" in server: did you mean address?"],
        ),
        (
            &["policy", "check", "broken.yaml"],
            1,
            &[
                "broken.yaml:4:",
                "rule \"a\"",
                "event has no field \"nope\"",
            ],
        ),
        (
            &["policy", "check", "missing.yaml"],
            1,
            &["missing.yaml", "No such file"],
        ),
        (
            &["policy", "test", "built-in", "--event", "xid_code"],
            2,
            &["write KEY=VALUE"],
        ),
        (
            &[
                "--server=https://localhost:1",
                "--ca-file=missing.pem",
                "list",
            ],
            1,
            &["certificate authorities in missing.pem", "No such file"],
        ),
        (&["--timeout=0", "list"], 2, &["longer than nothing"]),
        (&["events", "--limit=1001"], 2, &["not in 1..=1000"]),
        (
            &["events", "--follow", "--before=5"],
            2,
            &["cannot be used with"],
        ),
        (
            &["--server=localhost:1", "list"],
            1,
            &["has no scheme; write http://localhost:1"],
        ),
        (
            &["--server=ftp://localhost:1", "list"],
            1,
            &["has the scheme \"ftp\"; use http"],
        ),
        (
            &["--server=http://u:secret@localhost:1", "list"],
            1,
            &["user name or password"],
        ),
        (
            &["--server=http://127.0.0.1:9", "list"],
            1,
            &["nothing listens at http://127.0.0.1:9; is the control plane running there?"],
        ),
        (
            &["list", "--status=broken"],
            2,
            &["invalid status: broken (valid: active, cordoned, draining, unhealthy, terminated)"],
        ),
        (&["list", "--label=x"], 2, &["write KEY=VALUE"]),
        (
            &["list", "--timeout=5"],
            2,
            &["the unit is missing: write 5s"],
        ),
        (
            &["automation", "maybe"],
            2,
            &["use on, observe, off or inherit"],
        ),
        (&["frobnicate"], 2, &["frobnicate"]),
        (
            &["list", "--log-level=loud"],
            2,
            &["--log-level", "use error, warn"],
        ),
        (
            &["dev", "--listen=0.0.0.0:0"],
            1,
            &["pass --insecure-no-auth"],
        ),
        (
            &["dev", "--listen=foo"],
            2,
            &["write HOST:PORT, for example 127.0.0.1:50051"],
        ),
        (
            &["fake-cloud", "--data-dir=cloud", "--listen=0.0.0.0:0"],
            1,
            &["is not a loopback address"],
        ),
        (
            &["dev", "--data-dir=config.yaml", "--listen=127.0.0.1:0"],
            1,
            &["cannot make the data directory config.yaml", "--data-dir"],
        ),
        (&["agent", "--frob"], 2, &["Usage: navarch agent"]),
        (
            &["dev", "--output=json"],
            2,
            &["`navarch dev` has nothing to show as json; leave --output away"],
        ),
        (
            &["server", "--config=config.yaml", "-oyaml"],
            2,
            &["`navarch server` has nothing to show as yaml"],
        ),
        (
            &["fake-cloud", "--data-dir=cloud", "-ojson"],
            2,
            &["`navarch fake-cloud` has nothing to show as json"],
        ),
        (
            &["completion", "bash", "-ojson"],
            2,
            &["`navarch completion` has nothing to show as json"],
        ),
        (&["agent", "--fake-gpus=many"], 2, &["--fake-gpus"]),
    ] {
        let said = run(path, &[], arguments);
        let complaint = said.refused(code);
        for words in complaints {
            assert!(complaint.contains(words), "{arguments:?}: {complaint}");
        }
        assert!(!complaint.contains("secret"), "{complaint}");
    }
    let left: Vec<_> = std::fs::read_dir(path)
        .expect("a directory")
        .flatten()
        .map(|entry| entry.file_name())
        .filter(|name| name != "broken.yaml" && name != "config.yaml")
        .collect();
    assert!(left.is_empty(), "something was made: {left:?}");
}

#[test]
fn something_that_never_answers_is_given_up() {
    let place = directory();
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", silent.local_addr().expect("it is bound"));
    let complaint = run(
        place.path(),
        &[],
        &["list", "--server", &url, "--timeout=300ms"],
    )
    .refused(1);
    assert!(
        complaint.contains(&format!("no answer from {url} within 300ms")),
        "{complaint}"
    );
}

#[test]
fn an_unknown_node_is_answered_with_the_nearest_names() {
    let fleet = Fleet::server(ONE_KEPT);
    let node = fleet.until_active(1).remove(0);
    // No id ends in a letter outside the alphabet of ids.
    let mistyped = format!("{}u", &node[..node.len() - 1]);
    for arguments in [
        &["get", &mistyped][..],
        &["cordon", &mistyped],
        &["drain", &mistyped],
        &["uncordon", &mistyped],
        &["terminate", &mistyped],
        &["explain", "node", &mistyped],
        &["dev", "inject", &mistyped, "xid", "--code=79"],
        &["dev", "clear", &mistyped],
        &["node", "confirm-dead", &mistyped],
    ] {
        let complaint = fleet.ask(arguments).refused(1);
        assert!(
            complaint.contains("not_found"),
            "{arguments:?}: {complaint}"
        );
        assert!(
            complaint.ends_with(&format!("\nThe nearest known nodes: {node}\n")),
            "{arguments:?}: {complaint}"
        );
    }
    let long = "x".repeat(10_000);
    for odd in [long.as_str(), "a\u{1b}[31mb", "", " "] {
        for command in ["get", "cordon"] {
            let complaint = fleet.ask(&[command, odd]).refused(1);
            assert!(
                complaint.contains("invalid_argument"),
                "{odd:.20?}: {complaint:.300}"
            );
            assert!(complaint.len() < 1000, "{}", complaint.len());
            assert!(!complaint.contains('\u{1b}'), "{complaint:?}");
        }
    }
    for arguments in [
        &["instance", "get", "nope"][..],
        &["incident", "get", "nope"],
        &["incident", "close", "nope"],
        &["automation", "off", "--pool=nope"],
        &["breaker", "reset", "nope"],
        &["pool", "explain", "nope"],
    ] {
        let complaint = fleet.ask(arguments).refused(1);
        assert!(complaint.contains("nope"), "{arguments:?}: {complaint}");
    }
    assert_eq!(fleet.until_active(1), [node]);
}

const TOLERANT: &str = "version: v1
rules:
  - name: hot-is-fine
    condition: event.event_type == \"thermal\" || has(event.metrics.temperature)
    result: healthy
  - name: rest
    condition: \"true\"
    result: healthy
";

#[test]
fn a_policy_changes_under_a_running_server_and_a_broken_one_does_not() {
    let place = directory();
    let file = place.path().join("policy.yaml");
    std::fs::write(&file, TOLERANT).expect("a file");
    let config = ONE_KEPT.replace("server:", "server:\n  health_policy: policy.yaml");
    let fleet = Fleet::server_in(place, &config, None);
    let node = fleet.until_active(1).remove(0);
    let shown = || {
        let said = fleet.ask(&["policy", "show"]);
        assert_eq!(said.code, Some(0), "{said:?}");
        (said.out, said.err)
    };
    assert_eq!(
        shown(),
        (TOLERANT.to_owned(), "# policy.yaml (2 rules)\n".to_owned())
    );
    fleet
        .ask(&["dev", "inject", &node, "thermal", "--temperature=97"])
        .fine();

    let strict = TOLERANT
        .replace("hot-is-fine", "hot")
        .replacen("result: healthy", "result: unhealthy", 1)
        .replace(
            "event.event_type == \"thermal\" || has(event.metrics.temperature)",
            "has(event.metrics.temperature) && event.metrics.temperature > 90",
        );
    assert_eq!(fleet.open_incidents().len(), 0);
    std::fs::write(&file, &strict).expect("a file");
    fleet.until_status(&node, "UNHEALTHY");
    assert_eq!(
        shown(),
        (strict.clone(), "# policy.yaml (2 rules)\n".to_owned())
    );
    assert_eq!(fleet.open_incidents()[0]["rule"], "hot");

    std::fs::write(&file, strict.replace("> 90", "> \"ninety\" +")).expect("a file");
    let refusal = until("the broken policy is refused", || {
        let (text, remarks) = shown();
        assert_eq!(text, strict, "the old policy stays");
        remarks
            .contains("refused")
            .then(|| remarks.clone())
            .ok_or(remarks)
    });
    assert!(
        refusal.contains("# A newer text was refused: policy.yaml:4:"),
        "{refusal}"
    );
    assert!(refusal.contains("rule \"hot\""), "{refusal}");
    fleet.until_status(&node, "UNHEALTHY");

    std::fs::write(&file, TOLERANT).expect("a file");
    fleet.until_status(&node, "ACTIVE");
    assert_eq!(
        shown(),
        (TOLERANT.to_owned(), "# policy.yaml (2 rules)\n".to_owned())
    );
}
