//! The shell on a virtual clock, against a double of the control plane's handlers, with backends
//! that hang and fail.

#[path = "../../tests/support/mod.rs"]
mod support;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use navarch_api::ApiError;
use navarch_api::wire::HeartbeatRequest;
use navarch_gpu::fake::{FakeOptions, Fault};
use navarch_gpu::{Device, FakeBackend, GpuError, GpuEvent, Readings, Wake};
use navarch_time::{Clock as _, RealClock, SeededRng, Tasks, VirtualClock};
use support::{Double, Mood, Recorded};

use super::*;
use crate::debug::Change;
use crate::worker::Make;

/// A gate that calls to the driver go through; closed, they hang in it.
#[derive(Debug, Default)]
struct Gate {
    closed: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn set(&self, closed: bool) {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner) = closed;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = self.opened.wait_while(closed, |closed| *closed);
        drop(passed.unwrap_or_else(PoisonError::into_inner));
    }
}

/// A fake backend whose calls to the driver hang while the gate is closed. Events still come.
struct Hanging {
    fake: FakeBackend,
    gate: Arc<Gate>,
}

impl GpuBackend for Hanging {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn device_count(&self) -> Result<u32, GpuError> {
        self.gate.pass();
        self.fake.device_count()
    }

    fn device(&self, index: u32) -> Result<Device, GpuError> {
        self.gate.pass();
        self.fake.device(index)
    }

    fn readings(&self, index: u32) -> Result<Readings, GpuError> {
        self.gate.pass();
        self.fake.readings(index)
    }

    fn take_events(&self) -> Vec<GpuEvent> {
        self.fake.take_events()
    }

    fn wait_events(&self, timeout: Duration) -> Vec<GpuEvent> {
        self.fake.wait_events(timeout)
    }

    fn wake_with(&self, wake: Wake) {
        self.fake.wake_with(wake);
    }

    fn boot_id(&self) -> Option<String> {
        self.fake.boot_id()
    }
}

/// An agent in this process, whose time a test moves.
struct Rig {
    double: Double,
    clock: VirtualClock,
    /// For how many seconds the machine was suspended.
    suspended: Arc<AtomicU64>,
    gate: Arc<Gate>,
    backend: Arc<Hanging>,
    stop: CancellationToken,
    tasks: Tasks,
    nudges: mpsc::Sender<Nudge>,
}

impl Rig {
    /// Starts an agent with two GPUs. A slow one's driver hangs from its very start.
    async fn start(hangs_at_start: bool) -> Self {
        let double = Double::start().await;
        let clock = VirtualClock::new();
        let suspended = Arc::new(AtomicU64::new(0));
        let gate = Arc::new(Gate::default());
        gate.set(hangs_at_start);
        let fake = FakeBackend::new(FakeOptions {
            gpu_count: 2,
            ..FakeOptions::new("n", clock.shared())
        });
        let backend = Arc::new(Hanging {
            fake: fake.expect("a good machine"),
            gate: Arc::clone(&gate),
        });
        let made = Arc::clone(&backend);
        let make: Make = Box::new(move || {
            made.gate.pass();
            Selected {
                backend: made,
                fake: None,
                notices: Vec::new(),
            }
        });
        let (worker, selected) = Worker::start(make).expect("a thread");
        let (nudges, nudged) = mpsc::channel(1);
        let identity = Identity {
            node: navarch_model::NodeId::new("n"),
            instance: None,
            provider: String::new(),
            region: String::new(),
            zone: String::new(),
            instance_type: String::new(),
            labels: BTreeMap::new(),
            hostname: "n".to_owned(),
            kernel_version: String::new(),
            machine_id: "m".to_owned(),
        };
        let (running, slept) = (clock.shared(), Arc::clone(&suspended));
        let shell = Shell::new(Parts {
            clock: clock.shared(),
            boot_time: Arc::new(move || {
                running.monotonic() + Duration::from_secs(slept.load(Ordering::Relaxed))
            }),
            ids: Ids(Box::new(SeededRng::named(7, "agent"))),
            client: Client::builder(double.url())
                .build()
                .expect("a good address"),
            identity,
            worker,
            selected,
            kernel_boot: "kernel-boot".to_owned(),
            state: None,
            spool_limits: SpoolLimits::default(),
            nudges: nudged,
        });
        let tasks = Tasks::new();
        let stop = CancellationToken::new();
        let shell = shell.expect("it needs no directory");
        tasks.spawn("agent", shell.run(stop.clone()));
        Self {
            double,
            clock,
            suspended,
            gate,
            backend,
            stop,
            tasks,
            nudges,
        }
    }

    /// Lets time pass, second by second, until what was recorded is as wanted. Answers how much
    /// passed. Between two seconds the network gets a moment.
    async fn pass_until<T>(
        &self,
        what: &str,
        look: impl Fn(&Recorded) -> Option<T>,
    ) -> (T, Duration) {
        let began = self.clock.monotonic();
        for _ in 0..1_200 {
            for _ in 0..3 {
                if let Some(found) = self.double.look(&look) {
                    return (found, self.clock.monotonic().saturating_sub(began));
                }
                self.moment().await;
            }
            self.clock.advance(Duration::from_secs(1));
        }
        panic!(
            "never: {what}; {:#?}",
            self.double.look(|recorded| format!("{recorded:?}"))
        );
    }

    /// Gives the network a moment of real time, or until something changes.
    async fn moment(&self) {
        let mut changes = self.double.changes();
        let changed = changes.changed();
        // Either is as good.
        let _either = timeout(&RealClock::new(), Duration::from_millis(5), changed).await;
    }

    /// Tells the agent of a change, and waits until it has heard.
    async fn nudge(&self, change: Change) {
        let (kept, heard) = oneshot::channel();
        let nudge = Nudge { change, kept };
        self.nudges.send(nudge).await.expect("the agent runs");
        heard.await.expect("the agent hears");
    }

    async fn settle(&self) {
        self.double
            .until("a heartbeat and a full report", |recorded| {
                let full = recorded.reports.iter().any(|report| report.full);
                (full && !recorded.beats.is_empty()).then_some(())
            })
            .await;
    }

    async fn end(self) {
        self.gate.set(false);
        self.stop.cancel();
        let late = self
            .tasks
            .shutdown(&RealClock::new(), support::PATIENCE)
            .await;
        assert!(late.is_empty(), "the agent ends when it is told to");
    }
}

fn beats(recorded: &Recorded) -> usize {
    recorded.beats.len()
}

fn gpus_of(beat: &HeartbeatRequest) -> usize {
    beat.metrics
        .as_option()
        .map_or(0, |metrics| metrics.gpu_metrics.len())
}

/// The last reading of the driver as a whole, in a full report: its event type and message.
fn driver(recorded: &Recorded) -> Option<(i32, String)> {
    let report = recorded.reports.iter().rfind(|report| report.full)?;
    let mut events = report.events.iter();
    let event = events.find(|event| event.watch == "driver" && event.gpu_index == -1)?;
    Some((event.event_type.to_i32(), event.message.clone()))
}

const DRIVER_ERROR: i32 = 7;

/// What passes on the virtual clock while a busy machine keeps the agent or the network from going
/// on: a second of it lasts for some milliseconds.
const LATE: Duration = Duration::from_secs(20);

/// What comes with the next heartbeat, and does not wait for the next full report: one is due after
/// 33 seconds at most, the other after 54 at least.
const SOON: Duration = Duration::from_secs(53);

#[tokio::test]
async fn a_hung_driver_is_a_finding_while_heartbeats_go_on() {
    let rig = Rig::start(false).await;
    rig.settle().await;
    rig.double
        .look(|recorded| assert_eq!(driver(recorded), Some((0, String::new()))));
    rig.gate.set(true);
    let hung = |recorded: &Recorded| driver(recorded).filter(|(kind, _)| *kind == DRIVER_ERROR);
    let ((_, message), took) = rig.pass_until("the finding", hung).await;
    assert_eq!(message, "the GPU driver did not answer within 10 s");
    // The next heartbeat notices, and does not leave it to the next full report.
    assert!(took <= SOON, "{took:?}");
    let before = rig.double.look(beats);
    let (_, took) = rig
        .pass_until("ten more heartbeats", |recorded| {
            (beats(recorded) >= before + 10).then_some(())
        })
        .await;
    // Each would be ten seconds later if it waited for the driver.
    assert!(
        took <= Duration::from_secs(10 * 33) + LATE,
        "heartbeats come in time: {took:?}"
    );
    rig.double
        .look(|recorded| assert_eq!(gpus_of(&recorded.beats[before + 5]), 0));
    // Events do not go through the driver's calls.
    let fault: Fault = serde_json::from_str(r#"{"kind":"xid","code":119}"#).expect("a fault");
    rig.backend.fake.inject(&fault).expect("it can be");
    rig.double
        .until("the XID", |recorded| {
            (recorded.xids() == ["119"]).then_some(())
        })
        .await;
    // When the driver is back, the next full report says so, and heartbeats tell numbers again.
    rig.gate.set(false);
    rig.pass_until("a quiet driver", |recorded| {
        driver(recorded).filter(|(kind, _)| *kind == 0)
    })
    .await;
    let before = rig.double.look(beats);
    rig.pass_until("numbers", |recorded| {
        recorded.beats[before..]
            .iter()
            .any(|beat| gpus_of(beat) == 2)
            .then_some(())
    })
    .await;
    rig.end().await;
}

#[tokio::test]
async fn a_driver_that_hangs_at_the_start_does_not_keep_the_agent_away() {
    let rig = Rig::start(true).await;
    let registered = |recorded: &Recorded| recorded.registrations.first().cloned();
    let (registration, took) = rig.pass_until("a registration", registered).await;
    assert!(took <= START_LIMIT + IDENTIFY_LIMIT + LATE, "{took:?}");
    assert_eq!(
        (registration.gpus.len(), registration.boot_id.as_str()),
        (0, "kernel-boot")
    );
    let hung = |recorded: &Recorded| driver(recorded).filter(|(kind, _)| *kind == DRIVER_ERROR);
    rig.pass_until("the finding", hung).await;
    rig.double.look(|recorded| assert!(beats(recorded) > 0));
    rig.gate.set(false);
    rig.pass_until("a quiet driver", |recorded| {
        driver(recorded).filter(|(kind, _)| *kind == 0)
    })
    .await;
    rig.end().await;
}

#[tokio::test]
async fn a_hung_driver_does_not_hold_up_the_end() {
    let rig = Rig::start(false).await;
    rig.settle().await;
    rig.gate.set(true);
    let hung = |recorded: &Recorded| driver(recorded).filter(|(kind, _)| *kind == DRIVER_ERROR);
    rig.pass_until("the finding", hung).await;
    let Rig {
        gate, stop, tasks, ..
    } = rig;
    stop.cancel();
    let late = tasks.shutdown(&RealClock::new(), support::PATIENCE).await;
    assert!(late.is_empty());
    gate.set(false);
}

#[tokio::test]
async fn beats_and_full_reports_keep_their_intervals() {
    let rig = Rig::start(false).await;
    rig.settle().await;
    let full = |recorded: &Recorded| recorded.reports.iter().filter(|report| report.full).count();
    let (_, took) = rig
        .pass_until("ten full reports", |recorded| {
            (full(recorded) >= 11).then_some(())
        })
        .await;
    // Each is jittered by a tenth at most.
    assert!(
        (540..=660 + LATE.as_secs()).contains(&took.as_secs()),
        "{took:?}"
    );
    let beats = rig.double.look(beats);
    assert!((14..=26).contains(&beats), "{beats} beats in {took:?}");
    rig.end().await;
}

#[tokio::test]
async fn an_absent_control_plane_is_tried_again_with_patience() {
    let rig = Rig::start(false).await;
    rig.settle().await;
    rig.double.set(|recorded| recorded.mood = Mood::Away);
    let fault: Fault = serde_json::from_str(r#"{"kind":"xid","code":79}"#).expect("a fault");
    rig.backend.fake.inject(&fault).expect("it can be");
    for _ in 0..120 {
        rig.moment().await;
        rig.clock.advance(Duration::from_secs(1));
    }
    rig.double.set(|recorded| recorded.mood = Mood::Normal);
    let (_, took) = rig
        .pass_until("the XID", |recorded| {
            (recorded.xids() == ["79"]).then_some(())
        })
        .await;
    assert!(took <= SOON, "{took:?}");
    rig.double.look(|recorded| {
        assert_eq!(
            recorded.registrations.len(),
            1,
            "an absence is no reason to register again"
        );
        let sequences: Vec<_> = recorded
            .reports
            .iter()
            .map(|report| report.sequence)
            .collect();
        assert!(sequences.is_sorted_by(|a, b| a < b), "{sequences:?}");
    });
    rig.end().await;
}

#[tokio::test]
async fn who_is_unknown_or_superseded_registers_again() {
    let rig = Rig::start(false).await;
    rig.settle().await;
    let unknown: fn() -> ApiError = || ApiError::not_found("node not found: n");
    let superseded: fn() -> ApiError =
        || ApiError::failed_precondition("session superseded: another agent registered as n since");
    for (refusal, registrations) in [(unknown, 2), (superseded, 3)] {
        let before = rig.double.look(|recorded| recorded.reports.len());
        rig.double
            .set(|recorded| recorded.mood = Mood::Refusing(refusal));
        let again = |recorded: &Recorded| recorded.registrations.get(registrations - 1).cloned();
        let (registration, took) = rig.pass_until("another registration", again).await;
        assert!(took <= SOON, "the next heartbeat tells: {took:?}");
        // A registration again is no new start.
        let first = rig
            .double
            .look(|recorded| recorded.registrations[0].clone());
        assert_eq!(registration, first);
        let full = |recorded: &Recorded| {
            recorded.reports[before..]
                .iter()
                .any(|report| report.full)
                .then_some(())
        };
        rig.double.until("a full report at once", full).await;
    }
    rig.end().await;
}

#[tokio::test]
async fn a_change_during_a_reading_is_read_again() {
    let rig = Rig::start(false).await;
    rig.settle().await;
    let full = |recorded: &Recorded| recorded.reports.iter().filter(|report| report.full).count();
    let before = rig.double.look(full);
    rig.gate.set(true);
    // The first nudge begins a reading, which waits at the gate; the second comes meanwhile.
    for _ in 0..2 {
        rig.nudge(Change::Reading).await;
    }
    rig.gate.set(false);
    rig.double
        .until("two full reports", |recorded| {
            (full(recorded) >= before + 2).then_some(())
        })
        .await;
    rig.end().await;
}

#[tokio::test]
async fn it_ends_while_the_driver_is_still_starting() {
    let rig = Rig::start(true).await;
    let Rig {
        gate, stop, tasks, ..
    } = rig;
    stop.cancel();
    let late = tasks.shutdown(&RealClock::new(), support::PATIENCE).await;
    assert!(late.is_empty());
    gate.set(false);
}

/// The temperature of GPU 0 in every full report.
fn temperatures(recorded: &Recorded) -> Vec<String> {
    let full = recorded.reports.iter().filter(|report| report.full);
    full.flat_map(|report| &report.events)
        .filter(|event| event.watch == "temperature" && event.gpu_index == 0)
        .map(|event| event.metrics["temperature"].clone())
        .collect()
}

#[tokio::test]
async fn a_reading_from_before_a_pause_is_not_sent() {
    for suspended in [false, true] {
        let rig = Rig::start(false).await;
        rig.settle().await;
        rig.double.set(|recorded| recorded.mood = Mood::Away);
        // A reading waits for the control plane; then nothing runs for an hour.
        let calls = rig.double.look(|recorded| recorded.refusals);
        rig.nudge(Change::Reading).await;
        let refused = |recorded: &Recorded| (recorded.refusals > calls).then_some(());
        rig.pass_until("a report that nobody takes", refused).await;
        let told = rig.double.look(temperatures).len();
        let hot: Fault = serde_json::from_str(r#"{"kind":"thermal"}"#).expect("a fault");
        rig.backend.fake.inject(&hot).expect("it can be");
        rig.double.set(|recorded| recorded.mood = Mood::Normal);
        if suspended {
            rig.suspended.store(3600, Ordering::Relaxed);
        } else {
            rig.clock.advance(Duration::from_secs(3600));
        }
        let (after, _) = rig
            .pass_until("a full report", |recorded| {
                Some(temperatures(recorded)).filter(|all| all.len() > told)
            })
            .await;
        let fresh = after[told..].iter().all(|celsius| celsius == "98");
        assert!(fresh, "suspended: {suspended}: {:?}", &after[told..]);
        rig.end().await;
    }
}

#[tokio::test]
async fn a_pause_in_the_middle_of_a_reading_is_no_hung_driver() {
    let rig = Rig::start(false).await;
    rig.settle().await;
    let full = |recorded: &Recorded| recorded.reports.iter().filter(|report| report.full).count();
    let before = rig.double.look(full);
    rig.gate.set(true);
    rig.nudge(Change::Reading).await;
    // Longer than the driver may take, and not so long that the reading is old.
    rig.clock.advance(Duration::from_secs(40));
    for _ in 0..10 {
        rig.moment().await;
    }
    rig.gate.set(false);
    let (found, _) = rig
        .pass_until("a full report", |recorded| {
            (full(recorded) > before).then(|| driver(recorded))
        })
        .await;
    assert_eq!(found, Some((0, String::new())));
    rig.end().await;
}
