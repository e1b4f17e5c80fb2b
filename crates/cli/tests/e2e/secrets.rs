//! Secrets: whatever goes wrong, no token and no key shows in a log, an answer, a process list, a
//! page or a copy.

use std::path::Path;

use rustix::process::Signal;

use crate::support::{Fleet, Program, Said, directory, raw_http, run, runs, signal, until};

/// Every secret of these tests has this in it, whole or cut short.
const MARK: &str = "Xq7secret";

const ADMIN: &str = "Xq7secret-of-the-administrator";
const AGENT: &str = "Xq7secret-of-the-machines";
const VIEWER: &str = "Xq7secret-of-the-viewer";
const OLD: &str = "Xq7secret-of-last-week";

const CONFIG: &str = "
server:
  heartbeat_interval: 1s
  heartbeat_timeout: 20s
  health_check_interval: 1s
  auth:
    tokens:
      people: {role: admin, token_env: NAVARCH_AUTH_TOKEN}
      machines: {role: agent, token_file: agent.token}
      pages: {role: viewer, token_file: viewer.token}
providers:
  fake: {}
pools:
  p: {provider: fake, instance_type: fake-8x, min_nodes: 1, max_nodes: 2}
";

#[track_caller]
fn is_clean(what: &str, text: &str) {
    assert!(!text.contains(MARK), "{what} shows a secret: {text}");
}

#[track_caller]
fn said_clean(what: &str, said: &Said) {
    is_clean(what, &said.out);
    is_clean(what, &said.err);
}

/// Every file below a directory but those that are there to hold a secret.
fn files_are_clean(directory: &Path, holders: &[&str]) -> usize {
    let mut seen = 0;
    for entry in std::fs::read_dir(directory).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            seen += files_are_clean(&path, holders);
            continue;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        if holders.contains(&name.as_str()) {
            continue;
        }
        let Ok(bytes) = std::fs::read(&path) else {
            continue;
        };
        seen += usize::from(!bytes.is_empty());
        let shows = bytes
            .windows(MARK.len())
            .any(|part| part == MARK.as_bytes());
        assert!(!shows, "a secret is in {}", path.display());
    }
    seen
}

#[test]
fn no_secret_shows_whatever_goes_wrong_with_a_running_server() {
    let home = directory();
    let path = home.path().to_owned();
    let write = |name: &str, text: &str| std::fs::write(path.join(name), text).expect("a file");
    write("agent.token", AGENT);
    write("viewer.token", VIEWER);
    let mut fleet = Fleet::server_in(home, CONFIG, Some(ADMIN));
    let node = fleet.until_active(1).remove(0);

    // People who are right, wrong, and wrong about their role.
    for (token, arguments) in [
        (ADMIN, &["cordon", node.as_str()][..]),
        (ADMIN, &["explain", &node]),
        (ADMIN, &["events", "--output=json"]),
        (ADMIN, &["get", "no-such-node"]),
        (ADMIN, &["policy", "show"]),
        (VIEWER, &["cordon", &node]),
        (AGENT, &["list"]),
        (OLD, &["list"]),
        (OLD, &["list", "--watch"]),
        ("Xq7secret with blanks", &["list"]),
        ("Xq7secret\n", &["list"]),
    ] {
        let url = fleet.server.url.as_str();
        let by_environment = [("NAVARCH_SERVER", url), ("NAVARCH_AUTH_TOKEN", token)];
        said_clean("a command", &run(&path, &by_environment, arguments));
        let flags = ["--server", url, "--token", token, "--log-level", "debug"];
        let all: Vec<&str> = arguments.iter().chain(&flags).copied().collect();
        said_clean("a command with flags", &run(&path, &[], &all));
    }

    // Programs that show tokens in every wrong place.
    let address = fleet.server.address().to_owned();
    let list = "/navarch.ControlPlaneService/ListNodes";
    for (verb, target) in [
        ("POST", list),
        ("GET", list),
        ("GET", "/metrics"),
        ("GET", "/healthz"),
        ("GET", "/readyz"),
        ("GET", "/"),
        ("POST", "/navarch.v1.FleetService/SetAutomation"),
        ("POST", "/no/such/service"),
    ] {
        for header in [
            format!("Authorization: Bearer {VIEWER}"),
            format!("Authorization: Bearer {AGENT}"),
            format!("Authorization: Bearer {OLD}"),
            format!("Authorization: Basic {OLD}"),
            format!("Cookie: token={OLD}"),
            format!("Connect-Protocol-Version: {OLD}"),
            format!("Connect-Timeout-Ms: {OLD}"),
        ] {
            for body in ["{}", "{\"nodeId\": 7", ""] {
                let request = format!(
                    "{verb} {target} HTTP/1.1\r\nHost: {address}\r\n{header}\r\n\
                     Content-Type: application/json\r\nContent-Length: {}\r\n\
                     Connection: close\r\n\r\n{body}",
                    body.len()
                );
                is_clean(&request.replace(MARK, "…"), &raw_http(&address, &request));
            }
        }
    }

    // Good files, twice another configuration: once the second is in force, all that was read
    // before has been told of.
    let mut seconds = 20;
    let mut mend = || {
        write("viewer.token", VIEWER);
        write("agent.token", AGENT);
        for _ in 0..2 {
            let change = format!("heartbeat_timeout: {seconds}s -> {}s", seconds + 1);
            seconds += 1;
            write(
                "navarch.yaml",
                &CONFIG.replace("timeout: 20s", &format!("timeout: {seconds}s")),
            );
            signal(fleet.server.pid(), Signal::HUP);
            until("the files are mended", || {
                let output = fleet.server.output();
                output.contains(&change).then_some(()).ok_or(output)
            });
        }
    };

    // Files that break under a running server.
    for (name, text) in [
        ("viewer.token", ""),
        ("viewer.token", "Xq7sec"),
        ("viewer.token", AGENT),
        ("viewer.token", OLD),
        ("agent.token", "\u{0}Xq7secret\u{0}"),
        (
            "navarch.yaml",
            &CONFIG.replace("token_file: viewer.token", "token: Xq7secret-inline"),
        ),
        (
            "navarch.yaml",
            &CONFIG.replace("NAVARCH_AUTH_TOKEN", "Xq7secret-as-a-name"),
        ),
        (
            "navarch.yaml",
            &CONFIG.replace("fake: {}", "fake: {url: \"http://me:Xq7secret@h:1\"}"),
        ),
        (
            "navarch.yaml",
            &CONFIG.replace("fake: {}", "fake: {url: \"http://me:Xq7secret@h:1/?#\"}"),
        ),
        ("navarch.yaml", "server: {auth: {token: \"Xq7secret"),
        (
            "navarch.yaml",
            "server:\n  auth:\n    token: Xq7secret\n   broken",
        ),
        ("navarch.yaml", "server:\n  auth: Bearer Xq7secret\n"),
        ("navarch.yaml", "server:\n  auth: [Xq7secret]\n"),
    ] {
        mend();
        // The server looks at its files by itself too, and may be faster than the signal.
        let before = fleet.server.output().len();
        write(name, text);
        if name == "navarch.yaml" {
            said_clean(text, &run(&path, &[], &["config", "check", "navarch.yaml"]));
        }
        signal(fleet.server.pid(), Signal::HUP);
        until("it says something", || {
            let output = fleet.server.output();
            (output.len() > before).then_some(()).ok_or(output)
        });
    }
    mend();

    // What runs, and what is kept.
    let agents = fleet.agents();
    assert!(!agents.is_empty());
    let pids = agents.iter().map(|(_, pid)| *pid);
    for pid in pids.chain([fleet.server.pid()]) {
        assert!(runs(pid));
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).expect("its command line");
        is_clean("a process list", &String::from_utf8_lossy(&line));
    }
    let copied = run(
        &path,
        &[],
        &["server", "backup", "--data-dir=data", "copy.db"],
    );
    said_clean("a backup", &copied);
    copied.fine();
    is_clean("the log", &fleet.server.output());
    assert_eq!(fleet.server.terminate().0, Some(0));
    is_clean("the log", &fleet.server.output());
    let holders = ["agent.token", "viewer.token", "navarch.yaml"];
    let seen = files_are_clean(&path, &holders);
    assert!(
        seen > 3,
        "a log, a database, a copy and the machines' files"
    );
}

#[test]
fn no_secret_shows_when_a_server_does_not_start() {
    for (file, environment, config) in [
        ("Xq7sec", ADMIN, CONFIG.to_owned()),
        (ADMIN, ADMIN, CONFIG.to_owned()),
        (VIEWER, "", CONFIG.to_owned()),
        (
            VIEWER,
            ADMIN,
            CONFIG.replace(
                "  auth:",
                "  tls: {cert_file: viewer.token, key_file: viewer.token}\n  auth:",
            ),
        ),
        (
            VIEWER,
            ADMIN,
            CONFIG.replace("  auth:", "  health_policy: viewer.token\n  auth:"),
        ),
        (
            VIEWER,
            ADMIN,
            CONFIG.replace("viewer.token", "no-such.token"),
        ),
    ] {
        let home = directory();
        let path = home.path();
        std::fs::write(path.join("agent.token"), AGENT).expect("a file");
        std::fs::write(path.join("viewer.token"), file).expect("a file");
        std::fs::write(path.join("navarch.yaml"), &config).expect("a file");
        let (code, output) = Program::ends(
            path,
            &[("NAVARCH_AUTH_TOKEN", environment)],
            &[
                "server",
                "--config=navarch.yaml",
                "--listen=127.0.0.1:0",
                "--log-level=debug",
            ],
        );
        assert_eq!(code, Some(1), "{output}");
        is_clean(&config, &output);
    }
}
