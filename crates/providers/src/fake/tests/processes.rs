//! How machines live and end: as processes that follow the cloud's records.

use super::*;

/// A process that does not outlive a test that fails, nor hold the test's output open.
struct Child(std::process::Child);

impl Child {
    fn spawn(command: &mut Command) -> Self {
        let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
        Self(quiet.spawn().expect("a process"))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended, as it should.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[tokio::test]
async fn the_agent_is_told_who_it_is() {
    let directory = TempDir::new().expect("a directory");
    let provider = embedded(directory.path(), GOOD).await;
    let machine = provider.launch(&spec("nv-1")).await.expect("a machine");
    let home = home(&directory.path().canonicalize().expect("exists"), &machine);
    let clock = RealClock::shared();
    let mut said = String::new();
    let told = eventually(&clock, LONG, async || {
        said = std::fs::read_to_string(home.join("agent.log")).unwrap_or_default();
        said.contains("other=")
    });
    assert!(told.await, "{said}");
    let home = home.display();
    let expected = format!(
        "--server=http://127.0.0.1:9\n--node-id=nv-1\n--instance-id=nv-1\n--provider=local\n\
         --region=here\n--instance-type=gpu_8x_h100\n--pool=dev\n--fake-gpus=8\n\
         --debug-listen=127.0.0.1:0\n--label=rack=r1\n--state-dir={home}/state\n\
         --debug-address-file={home}/debug-address\n--exit-with-stdin\ntoken=s3cret\nca=/etc/ca.pem\nother=\n"
    );
    assert_eq!(said, expected);
    provider.shutdown().await;
}

#[tokio::test]
async fn machines_come_back_as_they_were() {
    let directory = TempDir::new().expect("a directory");
    let provider = embedded(directory.path(), GOOD).await;
    let (a, b) = (spec("nv-a"), spec("nv-b"));
    let kept = provider.launch(&a).await.expect("a machine");
    let ended = provider.launch(&b).await.expect("a machine");
    let first = process_of(directory.path(), &kept, None).await;
    let state = home(directory.path(), &kept).join("state/boot-id");
    std::fs::write(&state, "boot-1").expect("the state directory is there");
    provider
        .terminate(&ended.provider_id)
        .await
        .expect("accepted");
    provider.shutdown().await;
    assert!(first.is_gone(), "a shutdown waits for the agents");
    drop(provider);

    let provider = embedded(directory.path(), GOOD).await;
    let found = provider.find(&a.fleet, &a.instance).await;
    assert_eq!(found, Ok(Some(kept.clone())));
    assert_eq!(
        provider.launch(&a).await,
        Ok(kept.clone()),
        "the token is kept"
    );
    process_of(directory.path(), &kept, Some(first)).await;
    assert_eq!(
        std::fs::read_to_string(&state).ok().as_deref(),
        Some("boot-1")
    );
    let clock = RealClock::shared();
    let recorded = eventually(&clock, LONG, async || {
        let got = provider.get(&ended.provider_id).await.expect("an answer");
        got.is_some_and(|machine| machine.status == CloudStatus::Terminated)
    });
    assert!(
        recorded.await,
        "an end that was begun is brought to its end"
    );
    provider.shutdown().await;
}

#[tokio::test]
async fn a_start_waits_for_the_old_process_of_a_machine() {
    let directory = TempDir::new().expect("a directory");
    let provider = embedded(directory.path(), GOOD).await;
    let machine = provider.launch(&spec("nv-1")).await.expect("a machine");
    process_of(directory.path(), &machine, None).await;
    provider.shutdown().await;
    drop(provider);
    let home = home(&directory.path().canonicalize().expect("exists"), &machine);
    // A process that is known by its argument alone, as after a crash before the pid was saved.
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", GOOD, "agent"])
        .arg(format!("--state-dir={}", home.join("state").display()))
        .stdin(Stdio::piped());
    let mut old = Child::spawn(&mut command);
    std::fs::remove_file(home.join("pid")).expect("the pid file was there");
    let provider = embedded(directory.path(), GOOD).await;
    let listed = provider
        .list(&FleetId::new("fleet-1"))
        .await
        .expect("a listing");
    assert_eq!(listed.machines, std::slice::from_ref(&machine));
    assert!(
        !home.join("pid").exists(),
        "nothing starts while the old process runs"
    );
    drop(old.0.stdin.take());
    process_of(directory.path(), &machine, None).await;
    let ended = old.0.try_wait().expect("a child");
    assert!(
        ended.is_some(),
        "the new process started before the old one was gone"
    );
    provider.shutdown().await;
}

#[tokio::test]
async fn an_old_process_that_does_not_end_is_killed() {
    use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
    let directory = TempDir::new().expect("a directory");
    let provider = embedded(directory.path(), GOOD).await;
    let machine = provider.launch(&spec("nv-1")).await.expect("a machine");
    let first = process_of(directory.path(), &machine, None).await;
    provider.shutdown().await;
    drop(provider);
    let mut command = Command::new("/bin/sh");
    command.args(["-c", STUBBORN]).process_group(0);
    let mut old = Child::spawn(&mut command);
    let identity = Identity::of(old.0.id()).expect("it runs");
    identity
        .save(&home(directory.path(), &machine).join("pid"))
        .expect("written");
    let provider = embedded(directory.path(), GOOD).await;
    process_of(directory.path(), &machine, Some(identity).or(Some(first))).await;
    assert!(
        identity.is_gone(),
        "the machine started beside its old process"
    );
    assert!(is_gone_soon(identity, LONG).await);
    let status = old.0.wait().expect("a child");
    assert_eq!(status.signal(), Some(9), "{status}");
    provider.shutdown().await;
}

#[tokio::test]
async fn a_machine_that_is_terminated_takes_its_process_along() {
    for script in [GOOD, STUBBORN] {
        let directory = TempDir::new().expect("a directory");
        let provider = embedded(directory.path(), script).await;
        let machine = provider.launch(&spec("nv-1")).await.expect("a machine");
        let process = process_of(directory.path(), &machine, None).await;
        let answer = provider.terminate(&machine.provider_id).await;
        assert_eq!(answer, Ok(TerminateAnswer::Accepted));
        let got = provider.get(&machine.provider_id).await.expect("an answer");
        let status = got.expect("it is known").status;
        assert!(
            status == CloudStatus::Terminating || process.is_gone(),
            "{status:?} while the process runs"
        );
        let clock = RealClock::shared();
        let ended = eventually(&clock, LONG, async || {
            let got = provider.get(&machine.provider_id).await.expect("an answer");
            got.is_some_and(|machine| machine.status == CloudStatus::Terminated)
        });
        assert!(ended.await, "{script}");
        assert!(process.is_gone(), "{script}");
        provider.shutdown().await;
    }
}

#[tokio::test]
async fn an_agent_that_ends_is_started_again() {
    let directory = TempDir::new().expect("a directory");
    let provider = embedded(directory.path(), GOOD).await;
    let machine = provider.launch(&spec("nv-1")).await.expect("a machine");
    let first = process_of(directory.path(), &machine, None).await;
    first.signal(super::process::Signal::Kill);
    let second = process_of(directory.path(), &machine, Some(first)).await;
    assert!(first.is_gone() && !second.is_gone());
    let got = provider.get(&machine.provider_id).await;
    assert_eq!(got, Ok(Some(machine)), "the machine is what it was");
    provider.shutdown().await;
}

#[tokio::test]
async fn a_machine_hangs_and_goes_on() {
    let directory = TempDir::new().expect("a directory");
    let provider = embedded(directory.path(), SINGLE).await;
    let machine = provider.launch(&spec("nv-1")).await.expect("a machine");
    let process = process_of(directory.path(), &machine, None).await;
    let clock = RealClock::shared();
    let hang = || CloudFault::Hang {
        instance: "nv-1".to_owned(),
    };
    let order = provider.cloud().order(hang()).await.expect("ordered");
    let stands = eventually(&clock, LONG, async || state_of(process) == Some('T'));
    assert!(stands.await, "{:?}", state_of(process));
    assert_eq!(
        provider.get(&machine.provider_id).await,
        Ok(Some(machine.clone()))
    );
    provider
        .cloud()
        .clear_orders(Some(order.id))
        .await
        .expect("cleared");
    let goes = eventually(&clock, LONG, async || state_of(process) == Some('S'));
    assert!(goes.await, "{:?}", state_of(process));

    // It hangs over a restart, too, and can be terminated as it hangs.
    provider.cloud().order(hang()).await.expect("ordered");
    provider.shutdown().await;
    assert!(process.is_gone());
    drop(provider);
    let provider = embedded(directory.path(), SINGLE).await;
    assert_eq!(
        provider.get(&machine.provider_id).await,
        Ok(Some(machine.clone()))
    );
    provider.cloud().clear_orders(None).await.expect("cleared");
    let process = process_of(directory.path(), &machine, Some(process)).await;
    provider.cloud().order(hang()).await.expect("ordered");
    provider
        .terminate(&machine.provider_id)
        .await
        .expect("accepted");
    assert!(is_gone_soon(process, LONG).await);
    provider.shutdown().await;
}

#[tokio::test]
async fn a_machine_vanishes_and_one_never_boots() {
    let directory = TempDir::new().expect("a directory");
    let provider = embedded(directory.path(), GOOD).await;
    let vanish = CloudFault::Vanish {
        instance: "nv-1".to_owned(),
    };
    let early = provider
        .cloud()
        .order(vanish.clone())
        .await
        .expect_err("no such machine");
    assert_eq!(early.kind, ProviderErrorKind::NotFound);
    let machine = provider.launch(&spec("nv-1")).await.expect("a machine");
    let process = process_of(directory.path(), &machine, None).await;
    provider.cloud().order(vanish).await.expect("ordered");
    assert_eq!(provider.get(&machine.provider_id).await, Ok(None));
    let answer = provider.terminate(&machine.provider_id).await;
    assert_eq!(answer, Ok(TerminateAnswer::Gone));
    assert!(is_gone_soon(process, LONG).await);

    let fault = CloudFault::NeverBoots { count: Some(1) };
    provider.cloud().order(fault).await.expect("ordered");
    let dead = provider.launch(&spec("nv-2")).await.expect("a machine");
    let live = provider.launch(&spec("nv-3")).await.expect("a machine");
    assert_eq!(dead.status, CloudStatus::Running, "says the cloud");
    process_of(directory.path(), &live, None).await;
    assert!(
        !home(directory.path(), &dead).exists(),
        "no agent ever starts"
    );
    provider.shutdown().await;
}

#[tokio::test]
async fn the_whole_cloud_stops_in_time() {
    let directory = TempDir::new().expect("a directory");
    let provider = embedded(directory.path(), STUBBORN).await;
    let mut processes = Vec::new();
    for name in ["nv-1", "nv-2", "nv-3"] {
        let machine = provider.launch(&spec(name)).await.expect("a machine");
        processes.push(process_of(directory.path(), &machine, None).await);
    }
    let clock = RealClock::shared();
    let began = clock.monotonic();
    provider.shutdown().await;
    let took = clock.monotonic().saturating_sub(began);
    assert!(took < LONG, "{took:?}");
    assert!(processes.into_iter().all(Identity::is_gone));
}

/// The parent is this test again, in a process of its own that is killed.
#[tokio::test]
async fn machines_end_soon_after_their_parents_death() {
    const HOST: &str = "NAVARCH_TEST_HOST";
    const HOSTED: &str = "printf '%s' \"other=$NAVARCH_TEST_HOST.\"; exec cat >/dev/null";
    if let Some(directory) = std::env::var_os(HOST) {
        let directory = PathBuf::from(directory);
        let provider = embedded(&directory, HOSTED).await;
        for name in ["nv-1", "nv-2"] {
            let machine = provider.launch(&spec(name)).await.expect("a machine");
            let process = process_of(&directory, &machine, None).await;
            process.save(&directory.join(name)).expect("saved");
        }
        let hang = CloudFault::Hang {
            instance: "nv-2".to_owned(),
        };
        provider.cloud().order(hang).await.expect("ordered");
        return std::future::pending().await;
    }
    let directory = TempDir::new().expect("a directory");
    let this = std::env::current_exe().expect("a program");
    let name = "fake::tests::processes::machines_end_soon_after_their_parents_death";
    let mut command = Command::new(this);
    command
        .args(["--exact", name, "--nocapture"])
        .env(HOST, directory.path());
    let mut host = Child::spawn(&mut command);
    let clock = RealClock::shared();
    let load = |name: &str| Identity::load(&directory.path().join(name));
    let ready = eventually(&clock, LONG, async || {
        load("nv-1").is_some() && load("nv-2").is_some_and(|hung| state_of(hung) == Some('T'))
    });
    assert!(ready.await, "the host did not start its machines");
    let mut said = Vec::new();
    let told = eventually(&clock, LONG, async || {
        let homes = std::fs::read_dir(directory.path().join("machines")).expect("there");
        let homes = homes.map(|home| home.expect("an entry").path());
        let logs = homes.filter_map(|home| std::fs::read_to_string(home.join("agent.log")).ok());
        // The one that hangs may do so before it says a word.
        said = logs.filter(|log| !log.is_empty()).collect();
        !said.is_empty()
    });
    assert!(told.await, "no agent says a word");
    let clean = said.iter().all(|log| log == "other=.");
    assert!(
        clean,
        "what the parent was told is not for agents: {said:?}"
    );
    host.0.kill().expect("killed");
    host.0.wait().expect("a child");
    for name in ["nv-1", "nv-2"] {
        let process = load(name).expect("saved");
        let gone = is_gone_soon(process, LONG).await;
        assert!(gone, "{name} outlives its parent: {:?}", state_of(process));
    }
}

#[tokio::test]
async fn a_directory_that_cannot_be_used_is_refused() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path();
    let provider = embedded(path, GOOD).await;
    let second = Cloud::open(options(path, GOOD))
        .await
        .err()
        .expect("in use");
    let said = second.to_string();
    assert!(
        said.contains(&format!("process {}", std::process::id())),
        "{said}"
    );
    provider.shutdown().await;
    drop(provider);
    for (file, words) in [
        ("", "is damaged"),
        ("{\"version\":1", "is damaged"),
        ("{\"version\":1}", "missing field"),
        ("{\"version\":2}", "use a newer program"),
        (
            "{\"version\":0,\"next_serial\":1,\"next_order\":1,\"machines\":{},\"orders\":[]}",
            "version 0",
        ),
    ] {
        std::fs::write(path.join("cloud.json"), file).expect("written");
        let error = Cloud::open(options(path, GOOD)).await.err().expect(file);
        assert!(error.to_string().contains(words), "{file}: {error}");
        let after = std::fs::read_to_string(path.join("cloud.json")).expect("there");
        assert_eq!(after, file, "a file that is not understood is left alone");
    }
}

/// What a parent was starting as it died has the parent's open files for a moment longer.
#[tokio::test]
async fn a_lock_that_outlives_its_owner_is_waited_for() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("lock");
    let mut dead = Command::new("true");
    let dead = Child::spawn(&mut dead).0.id();
    std::fs::write(&path, format!("{dead}\n")).expect("written");
    let lock = std::fs::File::open(&path).expect("there");
    lock.lock().expect("free");
    let mut opening = std::pin::pin!(Cloud::open(options(directory.path(), GOOD)));
    tokio::select! {
        biased;
        opened = &mut opening => panic!("opened: {}", opened.is_ok()),
        () = tokio::task::yield_now() => {}
    }
    lock.unlock().expect("ours");
    let cloud = opening.await.expect("the lock is free");
    cloud.shutdown().await;
}

#[tokio::test]
async fn what_cannot_be_written_down_does_not_happen() {
    let directory = TempDir::new().expect("a directory");
    let provider = embedded(directory.path(), GOOD).await;
    // A directory where the new file goes makes every write fail.
    let blocked = directory.path().join("cloud.json.new");
    std::fs::create_dir(&blocked).expect("made");
    let error = provider
        .launch(&spec("nv-1"))
        .await
        .expect_err("not written");
    assert_eq!(error.kind, ProviderErrorKind::Transient, "{error}");
    let listing = provider
        .list(&FleetId::new("fleet-1"))
        .await
        .expect("a listing");
    assert_eq!(listing.machines, []);
    std::fs::remove_dir(&blocked).expect("removed");
    provider.launch(&spec("nv-1")).await.expect("a machine");
    provider.shutdown().await;
}

/// Calls of every kind, many at once, and agents that are killed: in the end each machine that
/// the cloud shows as live has one process, and no other process is left.
#[tokio::test]
async fn machines_follow_the_records_whatever_happens_at_once() {
    use navarch_time::{Rng as _, SeededRng};
    let directory = TempDir::new().expect("a directory");
    let provider = embedded(directory.path(), GOOD).await;
    let cloud = provider.cloud();
    let mut rng = SeededRng::named(7, "deeds");
    for _ in 0..8 {
        let tasks = Tasks::new();
        for _ in 0..12 {
            let cloud = cloud.clone();
            let name = format!("nv-{}", rng.below(8));
            let deed = rng.below(6);
            tasks.spawn("deed", async move {
                let spec = spec(&name);
                let request =
                    super::super::translate::request_for(&spec, 1, &AgentAccess::default());
                let query = super::super::translate::query_for(&spec.fleet, &spec.instance);
                let instance = name.clone();
                match deed {
                    0 | 1 => drop(cloud.launch(request).await),
                    2 => {
                        let page = cloud.page(query).await.expect("no fault is on order");
                        for view in page.instances {
                            cloud.terminate(&view.id).await.expect("accepted");
                        }
                    }
                    3 => drop(cloud.order(CloudFault::Vanish { instance }).await),
                    4 => drop(cloud.order(CloudFault::Hang { instance }).await),
                    _ => cloud.clear_orders(None).await.expect("cleared"),
                }
            });
        }
        let clock = RealClock::shared();
        let done = eventually(&clock, LONG, async || tasks.names().is_empty()).await;
        assert!(done, "{:?}", tasks.names());
    }
    cloud.clear_orders(None).await.expect("cleared");
    let clock = RealClock::shared();
    let mut seen = (Vec::new(), Vec::new());
    let settled = eventually(&clock, LONG, async || {
        let page = cloud.page(PageQuery::default()).await.expect("a page");
        let mut live: Vec<_> = page
            .instances
            .iter()
            .filter(|view| view.status != CloudStatus::Terminated)
            .map(|view| view.id.clone())
            .collect();
        live.sort();
        seen = (live, agents_of(directory.path()));
        seen.0 == seen.1
    });
    assert!(
        settled.await,
        "machines {:?}, processes {:?}",
        seen.0,
        seen.1
    );
    provider.shutdown().await;
    assert_eq!(agents_of(directory.path()), Vec::<String>::new());
}

/// The machines for which a process runs, once for each process.
fn agents_of(directory: &Path) -> Vec<String> {
    let machines = directory.canonicalize().expect("exists").join("machines");
    let running = super::super::process::with_argument(super::super::machine::STATE_FLAG);
    let mut ids: Vec<_> = running
        .into_iter()
        .filter_map(|(path, _)| {
            let id = path.strip_prefix(&machines).ok()?.iter().next()?;
            Some(id.to_string_lossy().into_owned())
        })
        .collect();
    ids.sort();
    ids
}
