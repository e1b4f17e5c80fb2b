//! A store on a real filesystem that fills up: launches stop first, then nothing is acknowledged
//! that is not stored, and all goes on once there is room.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use navarch_config::{Config, Size};
use serde_json::json;
use tempfile::TempDir;

use crate::support::agents::GoAgent;
use crate::support::plane::Plane;

/// The size of the filesystem.
const MIB: u64 = 1 << 20;
const SIZE: u64 = 12 * MIB;
/// Below this, nothing is bought.
const MIN_FREE: u64 = 4 * MIB;

/// A filesystem of a few MiB in memory, for as long as this lives.
struct Disk(TempDir);

impl Disk {
    /// Mounts it. Answers why not where this process may not mount.
    fn mount() -> Result<Self, String> {
        let home = tempfile::tempdir().expect("a folder");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={SIZE}"), "navarch-test"])
            .arg(home.path())
            .output()
            .map_err(|error| format!("mount: {error}"))?;
        if !mount.status.success() {
            return Err(String::from_utf8_lossy(&mount.stderr).trim().to_owned());
        }
        Ok(Self(home))
    }

    fn filler(&self) -> PathBuf {
        self.0.path().join("filler")
    }

    fn free(&self) -> u64 {
        let disk = rustix::fs::statvfs(self.0.path()).expect("it is mounted");
        disk.f_bavail * disk.f_frsize
    }

    /// Fills it until so many bytes are free.
    fn fill(&self, leave: u64) {
        let mut filler = File::options()
            .create(true)
            .append(true)
            .open(self.filler())
            .expect("a file");
        while self.free() > leave {
            let some = (self.free() - leave).min(64 * 1024);
            let some = usize::try_from(some).expect("it is little");
            if filler.write_all(&vec![0; some]).is_err() {
                return;
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whatever still has a file of it open keeps it until the process ends.
        drop(Command::new("umount").arg("-l").arg(self.0.path()).status());
    }
}

async fn plane_on(data: &Path) -> Plane {
    let text = "providers: {fake: {}}
pools: {p: {provider: fake, instance_type: fake-8x, min_nodes: 1, max_nodes: 1}}
";
    let (loaded, _) = Config::parse("f", text).expect("it is sound");
    let data = data.to_owned();
    Plane::with(move |config, _| {
        config.providers = loaded.providers;
        config.pools = loaded.pools;
        config.store.data_dir = data;
        config.store.min_free = Size(MIN_FREE);
    })
    .await
}

/// Whether the plan waits for room on the disk.
async fn waits_for_room(plane: &Plane) -> bool {
    let plan = plane.ok("FleetService/GetPlan", json!({})).await;
    plan.to_string().contains("store.min_free is 4 MiB")
}

#[tokio::test]
async fn a_disk_that_fills_up_stops_launches_and_then_loses_nothing_that_was_acknowledged() {
    let disk = match Disk::mount() {
        Ok(disk) => disk,
        Err(why) => {
            eprintln!("not tested: no small filesystem can be mounted here, run it as root: {why}");
            return;
        }
    };
    disk.fill(MIN_FREE - MIB);
    let plane = plane_on(&disk.0.path().join("data")).await;
    plane.try_pass(10).await;
    assert!(waits_for_room(&plane).await, "{} bytes free", disk.free());
    // What happens is still recorded.
    GoAgent("a").register(&plane).await;
    disk.fill(0);
    let command = |kind: u32| json!({"nodeId": "a", "commandType": kind});
    let mut holds = Vec::new();
    let mut told = None;
    // The files of the store have some room of their own. 1 is cordon, 5 uncordon.
    for at in 0..20_000 {
        let kind = if at % 2 == 0 { 1 } else { 5 };
        match plane.call("IssueCommand", command(kind)).await {
            Ok(_) => holds = plane.holds("a").await,
            Err((code, message)) => {
                told = Some(format!("{code}: {message}"));
                // A smaller commit may find room after a larger one found none.
                if plane.get("/readyz").await.status == 503 {
                    break;
                }
            }
        }
    }
    let told = told.expect("the disk is full at last");
    assert!(
        told.starts_with("unavailable: ") && told.contains("no space left to write"),
        "{told}"
    );
    assert_eq!(
        plane.holds("a").await,
        holds,
        "nothing that is not stored is seen"
    );
    plane.try_pass(5).await;
    fs::remove_file(disk.filler()).expect("it is there");
    // A failed commit is tried again after a second of quiet, and space is measured every five.
    plane.try_pass(10).await;
    assert_eq!(plane.get("/readyz").await.status, 200);
    assert_eq!(plane.holds("a").await, holds);
    assert!(!waits_for_room(&plane).await, "{} bytes free", disk.free());
    plane.ok("IssueCommand", command(2)).await;
    let holds = plane.holds("a").await;
    let plane = plane.restart().await;
    assert_eq!(plane.holds("a").await, holds, "as acknowledged");
    drop(plane.stop().await);
}
