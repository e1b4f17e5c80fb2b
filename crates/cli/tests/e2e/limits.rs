//! What the server takes of the system that it runs on.

use std::process::{Command, Stdio};

use crate::support::{directory, until};

const NO_MACHINE: &str = "providers:
  fake:
    type: fake
pools:
  p:
    provider: fake
    instance_type: gpu
    region: here
    min_nodes: 0
    max_nodes: 1
";

#[test]
fn the_server_takes_all_the_open_files_that_it_may_have() {
    let place = directory();
    std::fs::write(place.path().join("c.yaml"), NO_MACHINE).expect("a file");
    let mut child = Command::new("sh")
        .arg("-c")
        .arg("ulimit -Sn 200; exec \"$0\" server --config=c.yaml --listen=127.0.0.1:0 --data-dir=d")
        .arg(env!("CARGO_BIN_EXE_navarch"))
        .current_dir(place.path())
        .env_remove("NAVARCH_AUTH_TOKEN")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let limits = format!("/proc/{}/limits", child.id());
    until("it takes them", || {
        let ended = child.try_wait().expect("it is a child");
        assert!(ended.is_none(), "it ended with {ended:?}");
        let limits = std::fs::read_to_string(&limits).expect("its limits");
        let line = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max open files"));
        let mut numbers = line.expect("the line").split_whitespace();
        let (soft, hard) = (numbers.next(), numbers.next());
        if soft == hard && soft != Some("200") {
            Ok(())
        } else {
            Err(limits)
        }
    });
    // It may not listen to signals yet.
    child.kill().expect("it is a child");
    child.wait().expect("it is a child");
}
