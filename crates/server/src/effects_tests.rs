//! Tests of the queues of calls: what waits too long, what is purged, what is never dropped.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use navarch_config::{ProviderConfig, ProviderKind};
use navarch_core::{CallKey, Effect, Input};
use navarch_model::{
    CapacityKind, CloudStatus, FleetId, Idempotency, InstanceId, LaunchSpec, Machine, NodeId,
    Offer, Offering, PoolName, ProviderErrorKind, ProviderInstanceId, ProviderName, Stamp,
    TerminateAnswer, Time,
};
use navarch_providers::{Call, FaultInjection, Listing, Provider};
use navarch_time::{SharedClock, Tasks, VirtualClock};

use super::{Cloud, Effects};
use crate::fleet::{FleetClock, FleetHandle};
use crate::notifier::Notifiers;

/// A cloud that takes ten seconds for every call and remembers what it was asked.
struct Slow {
    clock: SharedClock,
    calls: Arc<Mutex<Vec<String>>>,
}

impl Slow {
    async fn takes_its_time(&self, what: String) {
        self.calls
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(what);
        self.clock.sleep(Duration::from_secs(10)).await;
    }
}

impl Provider for Slow {
    fn idempotency(&self) -> Idempotency {
        Idempotency::None
    }

    fn launch<'a>(&'a self, spec: &'a LaunchSpec) -> Call<'a, Machine> {
        Box::pin(async move {
            self.takes_its_time(format!("launch {}", spec.instance))
                .await;
            Ok(Machine {
                provider_id: ProviderInstanceId::new(format!("m-{}", spec.instance)),
                instance: Some(spec.instance.clone()),
                fleet: Some(spec.fleet.clone()),
                status: CloudStatus::Running,
                interruption_at: None,
            })
        })
    }

    fn find<'a>(&'a self, _: &'a FleetId, id: &'a InstanceId) -> Call<'a, Option<Machine>> {
        Box::pin(async move {
            self.takes_its_time(format!("find {id}")).await;
            Ok(None)
        })
    }

    fn get<'a>(&'a self, id: &'a ProviderInstanceId) -> Call<'a, Option<Machine>> {
        Box::pin(async move {
            self.takes_its_time(format!("get {id}")).await;
            Ok(None)
        })
    }

    fn terminate<'a>(&'a self, id: &'a ProviderInstanceId) -> Call<'a, TerminateAnswer> {
        Box::pin(async move {
            self.takes_its_time(format!("terminate {id}")).await;
            Ok(TerminateAnswer::Gone)
        })
    }

    fn list<'a>(&'a self, _: &'a FleetId) -> Call<'a, Listing> {
        Box::pin(async move {
            self.takes_its_time("list".to_owned()).await;
            Ok(Listing {
                machines: Vec::new(),
                complete: true,
            })
        })
    }

    fn offerings(&self) -> Call<'_, Option<Vec<Offer>>> {
        Box::pin(async { Ok(None) })
    }

    fn faults(&self) -> Option<&dyn FaultInjection> {
        None
    }

    fn shutdown(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {})
    }
}

/// Queues before one slow cloud that takes one call at a time.
struct Rig {
    clock: VirtualClock,
    calls: Arc<Mutex<Vec<String>>>,
    jobs: crate::fleet::Jobs,
    effects: Effects,
    _tasks: Tasks,
}

impl Rig {
    fn new(clock: &VirtualClock, room: usize) -> Self {
        let calls = Arc::new(Mutex::new(Vec::new()));
        let cloud = Cloud {
            provider: Arc::new(Slow {
                clock: clock.shared(),
                calls: Arc::clone(&calls),
            }),
            config: ProviderConfig {
                kind: ProviderKind::Fake {
                    gpu_count: 1,
                    url: None,
                },
                request_timeout: Duration::from_secs(30),
                requests_per_second: 100,
                parallel_requests: 1,
            },
        };
        let tasks = Tasks::new();
        let (handle, jobs) = FleetHandle::new(room);
        let effects = Effects::start(
            [(ProviderName::new("slow"), cloud)].into(),
            Arc::new(Notifiers::none(clock.shared())),
            handle,
            FleetClock::new(clock.shared(), Time(0)),
            &tasks.spawner(),
        );
        Self {
            clock: clock.clone(),
            calls,
            jobs,
            effects,
            _tasks: tasks,
        }
    }

    /// The next answer, without the words of errors.
    async fn answer(&mut self) -> String {
        let job = self.jobs.priority.recv().await.expect("the queue is open");
        match job.input {
            Input::LaunchNotBegun { key, .. } => format!("{}: not begun", key.instance),
            Input::LaunchResult { key, result } => match result {
                Ok(machine) => format!("{} is {}", key.instance, machine.provider_id),
                Err(error) => format!("{}: {}", key.instance, error.kind.word()),
            },
            Input::TerminateResult { key, .. } => format!("{} gone", key.instance),
            Input::DrainResult { node, .. } => format!("{node} drained"),
            other => format!("{other:?}"),
        }
    }

    async fn pass(&self, seconds: u64) {
        self.clock
            .shared()
            .sleep(Duration::from_secs(seconds))
            .await;
    }

    fn calls(&self) -> Vec<String> {
        self.calls
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn key(instance: &str, attempt: u32) -> CallKey {
    CallKey {
        provider: ProviderName::new("slow"),
        instance: InstanceId::new(instance),
        attempt,
    }
}

fn launch(instance: &str, deadline_seconds: i64) -> Effect {
    Effect::Launch {
        key: key(instance, 1),
        spec: LaunchSpec {
            instance: InstanceId::new(instance),
            fleet: FleetId::new("fleet"),
            pool: PoolName::new("pool"),
            offering: Offering {
                provider: ProviderName::new("slow"),
                region: String::new(),
                zone: String::new(),
                instance_type: "gpu".to_owned(),
                capacity: CapacityKind::OnDemand,
            },
            labels: [].into(),
        },
        deadline: Time(deadline_seconds * 1_000_000),
    }
}

fn terminate(instance: &str, attempt: u32) -> Effect {
    Effect::Terminate {
        key: key(instance, attempt),
        provider: ProviderName::new("slow"),
        provider_id: ProviderInstanceId::new(format!("m-{instance}")),
    }
}

#[test]
fn a_launch_whose_time_passed_in_the_queue_is_answered_without_a_call() {
    let clock = VirtualClock::new();
    clock.run(async {
        let mut rig = Rig::new(&clock, 64);
        for effect in [launch("one", 15), launch("two", 15), launch("three", 15)] {
            rig.effects.begin(effect);
        }
        assert_eq!(rig.answer().await, "one is m-one");
        assert_eq!(rig.answer().await, "two is m-two");
        assert_eq!(rig.answer().await, "three: not begun");
        assert!(ProviderErrorKind::Transient.made_nothing());
        assert_eq!(rig.calls(), ["launch one", "launch two"]);
    });
}

#[test]
fn a_launch_that_waits_is_taken_back_and_one_that_has_begun_goes_on() {
    let clock = VirtualClock::new();
    clock.run(async {
        let mut rig = Rig::new(&clock, 64);
        rig.effects.begin(launch("one", 600));
        rig.pass(1).await;
        for name in ["two", "three"] {
            rig.effects.begin(launch(name, 600));
        }
        for cancelled in [key("one", 1), key("two", 1), key("three", 2)] {
            rig.effects.begin(Effect::CancelLaunch { key: cancelled });
        }
        let mut answers = Vec::new();
        for _ in 0..3 {
            answers.push(rig.answer().await);
        }
        answers.sort();
        assert_eq!(
            answers,
            ["one is m-one", "three is m-three", "two: not begun"]
        );
        assert_eq!(rig.calls(), ["launch one", "launch three"]);
    });
}

#[test]
fn what_waits_is_forgotten_with_the_fleet_that_asked_for_it() {
    let clock = VirtualClock::new();
    clock.run(async {
        let mut rig = Rig::new(&clock, 64);
        rig.effects.begin(launch("one", 600));
        rig.pass(1).await;
        rig.effects.begin(launch("two", 600));
        rig.effects.purge();
        rig.effects.begin(launch("three", 600));
        assert_eq!(rig.answer().await, "one is m-one");
        assert_eq!(rig.answer().await, "three is m-three");
        assert_eq!(rig.calls(), ["launch one", "launch three"]);
    });
}

#[test]
fn a_repeat_takes_the_place_of_the_call_that_waits() {
    let clock = VirtualClock::new();
    clock.run(async {
        let mut rig = Rig::new(&clock, 64);
        rig.effects.begin(launch("one", 600));
        rig.pass(1).await;
        for attempt in 1..=5 {
            rig.effects.begin(terminate("two", attempt));
        }
        rig.effects.begin(terminate("three", 1));
        for _ in 0..3 {
            rig.answer().await;
        }
        assert_eq!(
            rig.calls(),
            ["launch one", "terminate m-two", "terminate m-three"]
        );
    });
}

#[test]
fn what_waits_is_counted_while_every_call_hangs() {
    let clock = VirtualClock::new();
    clock.run(async {
        let rig = Rig::new(&clock, 64);
        for number in 0..10 {
            rig.effects.begin(launch(&format!("i-{number}"), 600));
        }
        let waiting = || {
            let lengths = rig.effects.lengths();
            lengths[&ProviderName::new("slow")].load(Ordering::Relaxed)
        };
        rig.pass(1).await;
        assert_eq!((rig.calls().len(), waiting()), (1, 9));
        // What comes while the one call is under way.
        rig.effects.begin(terminate("x", 1));
        rig.pass(1).await;
        assert_eq!((rig.calls().len(), waiting()), (1, 10));
        rig.pass(9).await;
        assert_eq!(rig.calls()[1], "terminate m-x");
        assert_eq!(waiting(), 9);
    });
}

#[test]
fn answers_wait_for_room_and_none_is_dropped() {
    let clock = VirtualClock::new();
    clock.run(async {
        let mut rig = Rig::new(&clock, 1);
        for number in 0..20 {
            rig.effects.begin(Effect::AskDrained {
                node: NodeId::new(format!("node-{number:02}")),
                since: Stamp::default(),
                limit: Duration::from_secs(1),
            });
        }
        let mut heard = Vec::new();
        for _ in 0..20 {
            heard.push(rig.answer().await);
        }
        heard.sort();
        heard.dedup();
        assert_eq!(heard.len(), 20);
    });
}
