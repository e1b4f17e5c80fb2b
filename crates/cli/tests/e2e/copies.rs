//! Backup of a server that runs, and the fleet that comes back from it.

use std::fs;

use crate::faults::ONE_KEPT;
use crate::support::{Fleet, text, until};

const BACKUP: [&str; 4] = ["server", "backup", "copy.db", "--data-dir=data"];
const RESTORE: [&str; 4] = ["server", "restore", "copy.db", "--data-dir=data"];

#[test]
fn a_fleet_comes_back_from_its_backup_with_automation_off() {
    let mut fleet = Fleet::server(ONE_KEPT);
    let node = fleet.until_active(1).remove(0);
    fleet
        .ask(&["cordon", &node, "--reason", "before the copy"])
        .fine();
    let said = fleet.ask(&BACKUP).fine();
    assert!(said.contains("1 nodes, 1 instances"), "{said}");
    // What the copy does not know.
    fleet.ask(&["uncordon", &node]).fine();

    let over = fleet.ask(&BACKUP).refused(1);
    assert!(over.contains("exists and is not overwritten"), "{over}");
    let running = fleet.ask(&RESTORE).refused(1);
    assert!(running.contains("another server"), "{running}");
    assert_eq!(fleet.server.terminate().0, Some(0));
    let over = fleet.ask(&RESTORE).refused(1);
    assert!(over.contains("exists and is not overwritten"), "{over}");

    let data = fleet.path().join("data");
    let lost = fleet.path().join("lost");
    fs::create_dir(&lost).expect("a folder");
    for entry in fs::read_dir(&data).expect("the data directory") {
        let name = entry.expect("a file").file_name();
        if name.to_string_lossy().starts_with("navarch.db") {
            fs::rename(data.join(&name), lost.join(&name)).expect("it is moved");
        }
    }
    let restored = fleet.data(&RESTORE);
    assert_eq!(
        (&restored["nodes"], &restored["instances"]),
        (&1.into(), &1.into())
    );

    fleet.restart();
    let back = fleet.until_status(&node, "CORDONED");
    assert_eq!(text(&back["holds"][0], "reason"), "before the copy");
    let automation = fleet.data(&["automation"]).to_string();
    for word in ["AUTOMATION_MODE_OFF", "restored from a backup"] {
        assert!(automation.contains(word), "{word} is not in {automation}");
    }
    until("the machine is heard again", || {
        let now = fleet.node(&node);
        (now["last_heartbeat"] != back["last_heartbeat"])
            .then_some(())
            .ok_or(now.to_string())
    });
}
