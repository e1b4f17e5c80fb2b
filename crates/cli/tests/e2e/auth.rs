//! Tokens: who has none gets nothing, and no token shows where others can read it.

use crate::faults::ONE_KEPT;
use crate::support::{Fleet, Said, directory, raw_http, run, runs, split};

const TOKEN: &str = "hunter2-secret-token-of-the-tests";

fn guarded() -> Fleet {
    let fleet = Fleet::server_in(directory(), ONE_KEPT, Some(TOKEN));
    fleet.until_active(1);
    fleet
}

/// Asks with another token, or none.
fn with(fleet: &Fleet, token: Option<&str>, arguments: &[&str]) -> Said {
    let mut environment = vec![("NAVARCH_SERVER", fleet.server.url.as_str())];
    environment.extend(token.map(|token| ("NAVARCH_AUTH_TOKEN", token)));
    run(fleet.path(), &environment, arguments)
}

#[test]
fn commands_need_the_token() {
    let fleet = guarded();
    for (arguments, doing) in [
        (&["list"][..], "list nodes"),
        (&["events"], "list events"),
        (&["events", "--follow"], "list events"),
        (&["list", "--watch"], "watch events"),
        (&["automation", "off"], "set the automation switch"),
        (&["dev", "clear", "x"], "clear the fault"),
    ] {
        for (token, complaint) in [
            (
                None,
                "401 Unauthorized: the control plane asks for a token; set NAVARCH_AUTH_TOKEN",
            ),
            (
                Some("wrong"),
                "401 Unauthorized: the control plane does not accept this token",
            ),
            (
                Some("hunter2-secret-token-of-the-test"),
                "401 Unauthorized: the control plane does not accept this token",
            ),
        ] {
            let said = with(&fleet, token, arguments).refused(1);
            assert_eq!(
                said,
                format!("Error: failed to {doing}: unauthenticated: {complaint}\n"),
                "{arguments:?}"
            );
        }
    }
    for arguments in [&["list"][..], &["events"], &["pool", "list"]] {
        with(&fleet, Some(TOKEN), arguments).fine();
        let url = fleet.server.url.as_str();
        let flags = ["--server", url, "--token", TOKEN];
        let both: Vec<&str> = arguments.iter().chain(&flags).copied().collect();
        run(fleet.path(), &[], &both).fine();
    }
    assert_eq!(fleet.nodes().len(), 1);
}

#[test]
fn a_token_that_no_header_carries_is_refused_before_anything_is_sent() {
    let fleet = guarded();
    let said = with(&fleet, Some("two words\n"), &["list"]).refused(1);
    assert!(said.contains("the token has"), "{said}");
    assert!(!said.contains("two words"), "{said}");
}

#[test]
fn calls_without_the_token_get_401_in_every_protocol() {
    let fleet = guarded();
    let address = fleet.server.address();
    let unary = "/navarch.ControlPlaneService/ListNodes";
    let stream = "/navarch.v1.FleetService/WatchEvents";
    for (path, kind, body) in [
        (unary, "application/json", "{}"),
        (unary, "application/proto", ""),
        (unary, "application/grpc-web+proto", "\0\0\0\0\0"),
        (stream, "application/connect+json", "\0\0\0\0\u{2}{}"),
        ("/no/such/path", "application/json", "{}"),
        ("/", "text/plain", ""),
    ] {
        for token in [
            "".to_owned(),
            "Authorization: Bearer wrong\r\n".to_owned(),
            "Authorization: Bearer \r\n".to_owned(),
            format!("Authorization: Basic {TOKEN}\r\n"),
            format!("Authorization: bearer {TOKEN}\r\n"),
            format!("Authorization: Bearer {TOKEN}x\r\n"),
        ] {
            let request = format!(
                "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: {kind}\r\n{token}\
                 Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            let answer = raw_http(address, &request);
            let (head, body) = split(&answer);
            let mut lines = head.lines();
            assert_eq!(
                lines.next(),
                Some("HTTP/1.1 401 Unauthorized"),
                "{request}\n{answer}"
            );
            let headers: Vec<String> = lines.map(str::to_ascii_lowercase).collect();
            for header in [
                "www-authenticate: bearer realm=\"navarch\"",
                "content-type: text/plain; charset=utf-8",
                "x-content-type-options: nosniff",
            ] {
                assert!(headers.iter().any(|line| line == header), "{answer}");
            }
            assert_eq!(body, "unauthorized\n", "{request}");
        }
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        let answer = raw_http(address, &request);
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{path}: {answer}");
        assert!(!answer.contains(TOKEN), "{path}");
    }
}

#[test]
fn the_token_shows_in_no_log_and_no_command_line() {
    let mut fleet = guarded();
    let node = fleet.until_active(1).remove(0);
    fleet.ask(&["cordon", &node]).fine();
    with(&fleet, Some("wrong"), &["list"]).refused(1);
    let agents = fleet.agents();
    assert_eq!(agents.len(), 1, "{agents:?}");
    let mut pids: Vec<u32> = agents.iter().map(|(_, pid)| *pid).collect();
    pids.push(fleet.server.pid());
    for pid in pids {
        assert!(runs(pid));
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).expect("its command line");
        let line = String::from_utf8_lossy(&line);
        assert!(line.contains("navarch"), "{line}");
        assert!(!line.contains(TOKEN), "{line}");
    }
    assert_eq!(fleet.server.terminate().0, Some(0));
    let mut seen = 0;
    let mut directories = vec![fleet.path().to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).expect("a directory").flatten() {
            let path = entry.path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let bytes = std::fs::read(&path).expect("a file");
            seen += usize::from(!bytes.is_empty());
            let shows = bytes
                .windows(TOKEN.len())
                .any(|part| part == TOKEN.as_bytes());
            assert!(!shows, "the token is in {}", path.display());
        }
    }
    assert!(seen > 3, "logs, a database and the machines' files");
}
