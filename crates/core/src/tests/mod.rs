//! A rig for tests of the Fleet: a small fleet, virtual time, and a cloud that answers as told.
//!
//! Every input is checked against the invariants of the model.

mod autoscale;
mod bounds;
mod breakers;
mod calls;
mod day;
mod events;
mod external;
mod holds;
mod incidents;
mod interruptions;
mod late;
mod launch;
mod limits;
mod memory;
mod notices;
mod orphans;
mod placement;
mod policy;
mod proofs;
mod register;
mod reports;
mod restarts;
mod restored;
mod rules;
mod scope;
mod shrink;
mod silence;
mod size;
mod slots;
mod stories;
mod stuck;
mod sweep;
mod tokens;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use navarch_config::Config;
use navarch_model::invariants::{check, check_change};
use navarch_model::{
    BootId, Capabilities, Change, CloudStatus, Description, Event, EventKind, FleetId, Gpu,
    HealthEventType, HealthWatchSystem, IdSource, Idempotency, Instance, InstanceId, Machine, Node,
    NodeId, NoticeKind, Offer, Phase, PoolName, ProviderError, ProviderErrorKind,
    ProviderInstanceId, ProviderName, SessionId, Stamp, State, TerminateAnswer, Time,
};
use navarch_policy::HealthPolicy;

use crate::input::{
    Action, Effect, Fact, Input, NotifyOutcome, Registration, Rejection, Reply, Report,
};
use crate::plan::PlanReport;
use crate::settings::Settings;
use crate::{CallKey, Fleet};

/// Unix time at the start, in microseconds.
const WALL: i64 = 1_767_225_600_000_000;

/// Ids that count.
#[derive(Debug, Default)]
struct Numbers(u64);

impl IdSource for Numbers {
    fn next_bits(&mut self) -> u64 {
        self.0 += 1;
        self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// A fleet under test.
pub(super) struct Rig {
    pub fleet: Fleet,
    pub now: Stamp,
    ids: Numbers,
    /// Every event, the latest state of each.
    pub events: BTreeMap<u64, Arc<Event>>,
    /// Effects that were not answered yet.
    pub effects: Vec<Effect>,
    /// Machines that the cloud has.
    pub machines: BTreeMap<ProviderInstanceId, Machine>,
    pub report: PlanReport,
    /// How launches are refused, by the text of the offering.
    pub refusals: BTreeMap<String, ProviderErrorKind>,
    /// What providers say that they sell; one without an entry has no list.
    pub offers: BTreeMap<String, Result<Option<Vec<Offer>>, ProviderError>>,
}

/// A configuration of one pool, `main`; `extra` is added to its top level.
pub(super) fn yaml(min: usize, max: usize, extra: &str) -> String {
    format!(
        "server:
  heartbeat_interval: 15s
  heartbeat_timeout: 45s
  health_check_interval: 30s
instance_manager:
  launch_timeout: 2m
  registration_timeout: 5m
providers:
  fake:
    type: fake
    gpu_count: 2
pools:
  main:
    provider: fake
    instance_type: gpu
    region: here
    min_nodes: {min}
    max_nodes: {max}
    budget: 1
    max_launches_per_hour: 60
{extra}"
    )
}

pub(super) fn settings(yaml: &str, idempotency: Idempotency) -> Arc<Settings> {
    let (config, _) = Config::parse("test.yaml", yaml).unwrap_or_else(|errors| panic!("{errors}"));
    Arc::new(Settings::new(&config, |_| idempotency))
}

/// The built-in policy, compiled once for all rigs of a test.
fn builtin() -> Arc<HealthPolicy> {
    static POLICY: OnceLock<Arc<HealthPolicy>> = OnceLock::new();
    Arc::clone(POLICY.get_or_init(HealthPolicy::builtin))
}

impl Rig {
    /// A started fleet with nothing in it.
    pub fn new(yaml: &str) -> Self {
        Self::on(yaml, Idempotency::TokenOrName)
    }

    pub fn on(yaml: &str, idempotency: Idempotency) -> Self {
        let state = State::new(FleetId::new("fleet-test"));
        let mut rig = Self {
            fleet: Fleet::new(state, settings(yaml, idempotency), builtin()),
            now: Stamp {
                core: Time(0),
                wall: Time(WALL),
            },
            ids: Numbers::default(),
            events: BTreeMap::new(),
            effects: Vec::new(),
            machines: BTreeMap::new(),
            report: PlanReport::default(),
            refusals: BTreeMap::new(),
            offers: BTreeMap::new(),
        };
        rig.start();
        rig
    }

    /// A control plane takes the fleet over as it is on record.
    pub fn start(&mut self) {
        let state = self.fleet.state().clone();
        let settings = Arc::clone(self.fleet.settings());
        let policy = Arc::clone(self.fleet.policy());
        self.fleet = Fleet::new(state, settings, policy);
        self.effects.clear();
        self.take(Input::Started { epoch: 1 });
    }

    /// Lets time pass, without a tick.
    pub fn pass(&mut self, seconds: u64) {
        self.now = self.now.after(Duration::from_secs(seconds));
    }

    /// Feeds an input.
    pub fn feed(&mut self, input: Input) -> Result<Reply, Rejection> {
        let mut before = self.fleet.state().clone();
        let shown = format!("{input:?}");
        let applied = self.fleet.apply(input, self.now, &mut self.ids);
        for change in &applied.changes {
            assert_eq!(check_change(&before, change), [], "after {shown}");
            before.apply(change);
            if let Change::Event(event) = change {
                self.events.insert(event.sequence, Arc::clone(event));
            }
        }
        assert_eq!(check(self.fleet.state()), [], "after {shown}");
        assert_eq!(
            &before,
            self.fleet.state(),
            "the changes make the state: {shown}"
        );
        assert!(self.fleet.index.is_of(self.fleet.state()), "after {shown}");
        for effect in &applied.effects {
            if let Effect::Notify { node, notice, .. } = effect
                && notice.kind == NoticeKind::Uncordon
            {
                let held = self.fleet.state().nodes[node].hold_names();
                assert_eq!(held, [""; 0], "{node} is given back: {shown}");
            }
        }
        self.effects.extend(applied.effects);
        applied.reply
    }

    /// Feeds an input that is not refused.
    #[track_caller]
    pub fn take(&mut self, input: Input) -> Reply {
        let shown = format!("{input:?}");
        self.feed(input)
            .unwrap_or_else(|rejection| panic!("{shown}: {rejection}"))
    }

    /// One plan, carried out. Answers its actions.
    pub fn plan(&mut self) -> Vec<Action> {
        let plan = self.fleet.plan(self.now);
        let all = self.fleet.plan_all(self.now);
        assert_eq!(plan.actions, all.actions, "what changed, and all");
        for pool in self.fleet.settings().pools.keys() {
            let (unwanted, _) = self.fleet.unwanted_intents(pool, self.now.core);
            for instance in self.fleet.pool_instances(pool) {
                let why = unwanted.get(&instance.id);
                assert_eq!(
                    why,
                    self.fleet.unwanted(instance, self.now.core).as_ref(),
                    "{}",
                    instance.id
                );
            }
        }
        self.fleet.planned(&plan);
        self.report = plan.report;
        for action in &plan.actions {
            // An action that is no longer right is refused, as in production.
            let _ = self.feed(Input::Act(action.clone()));
        }
        plan.actions
    }

    /// Plans and lets the cloud answer, for so many seconds, with a tick in each.
    pub fn run(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.pass(1);
            self.take(Input::Tick);
            self.plan();
            self.answer();
        }
    }

    /// The same, while a node reports that it is well.
    pub fn run_well(&mut self, id: &InstanceId, seconds: u64) {
        for second in 0..seconds {
            if second % 20 == 0 {
                self.full(id, 45);
            }
            self.run(1);
        }
    }

    /// The cloud answers every call as a cloud without trouble does.
    pub fn answer(&mut self) {
        for effect in std::mem::take(&mut self.effects) {
            if let Some(input) = self.cloud(effect) {
                self.take(input);
            }
        }
    }

    fn cloud(&mut self, effect: Effect) -> Option<Input> {
        let input = match effect {
            // It has begun.
            Effect::CancelLaunch { .. } => return None,
            Effect::Launch { key, spec, .. }
                if self.refusals.contains_key(&spec.offering.to_string()) =>
            {
                let kind = self.refusals[&spec.offering.to_string()];
                let result = Err(ProviderError::new(kind, "as ordered"));
                Input::LaunchResult { key, result }
            }
            Effect::Launch { key, spec, .. } => {
                let id = ProviderInstanceId::new(format!("m-{}", spec.instance));
                let machine = Machine {
                    provider_id: id.clone(),
                    instance: Some(spec.instance),
                    fleet: Some(spec.fleet),
                    status: CloudStatus::Running,
                    interruption_at: None,
                };
                self.machines.insert(id, machine.clone());
                let result = Ok(machine);
                Input::LaunchResult { key, result }
            }
            Effect::Lookup {
                key, provider_id, ..
            } => {
                let found = self.machines.values().find(|machine| match &provider_id {
                    Some(id) => machine.provider_id == *id,
                    None => machine.instance.as_ref() == Some(&key.instance),
                });
                let result = Ok(found.cloned());
                Input::LookupResult { key, result }
            }
            Effect::Terminate {
                key, provider_id, ..
            } => {
                self.machines.remove(&provider_id);
                let result = Ok(TerminateAnswer::Gone);
                Input::TerminateResult { key, result }
            }
            Effect::TerminateUnclaimed {
                provider,
                provider_id,
            } => {
                self.machines.remove(&provider_id);
                Input::UnclaimedResult {
                    provider,
                    machine: provider_id,
                    result: Ok(TerminateAnswer::Gone),
                }
            }
            Effect::List {
                provider, began, ..
            } => Input::ListResult {
                provider,
                began,
                result: Ok((self.machines.values().cloned().collect(), true)),
            },
            Effect::Notify { node, notice, .. } => Input::NotifyResult {
                node,
                sequence: notice.sequence,
                outcome: NotifyOutcome::Taken,
            },
            Effect::Prices { provider } => {
                let result = match self.offers.get(provider.as_str()) {
                    Some(offers) => offers.clone(),
                    None => Ok(None),
                };
                Input::PricesResult { provider, result }
            }
            Effect::AskDrained { node, since, .. } => Input::DrainResult {
                node,
                since,
                drained: Ok(true),
            },
        };
        Some(input)
    }

    /// Takes the launch calls that wait for an answer.
    pub fn launches(&mut self) -> Vec<(CallKey, Time)> {
        let mut found = Vec::new();
        self.effects.retain(|effect| match effect {
            Effect::Launch { key, deadline, .. } => {
                found.push((key.clone(), *deadline));
                false
            }
            _ => true,
        });
        found
    }

    /// Takes every call that waits, unanswered.
    pub fn drop_calls(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    pub fn launch_fails(&mut self, key: &CallKey, kind: ProviderErrorKind) {
        self.take(Input::LaunchResult {
            key: key.clone(),
            result: Err(ProviderError::new(kind, "as told")),
        });
    }

    pub fn launch_not_begun(&mut self, key: &CallKey) {
        self.take(Input::LaunchNotBegun {
            key: key.clone(),
            why: "as told".to_owned(),
        });
    }

    /// What an agent of an instance says when it registers.
    pub fn registration(id: &InstanceId) -> Registration {
        let gpus = (0..2)
            .map(|index| Gpu {
                index,
                uuid: format!("GPU-fake-{id}-{index}"),
                ..Gpu::default()
            })
            .collect();
        Registration {
            node: Some(NodeId::new(id.as_str())),
            instance: Some(id.clone()),
            description: Description {
                gpus,
                hostname: id.to_string(),
                machine_id: format!("machine-{id}"),
                capabilities: Capabilities {
                    full_reports: true,
                    command_results: true,
                    command_push: true,
                },
                ..Description::default()
            },
            boot: Some(BootId::new(format!("{id}-boot-1"))),
            session: Some(SessionId::new(format!("{id}-session-1"))),
            address: "10.0.0.1".to_owned(),
        }
    }

    pub fn register(&mut self, id: &InstanceId) {
        self.take(Input::Register(Self::registration(id)));
    }

    /// A full report of a node whose GPUs have these temperatures.
    pub fn full(&mut self, id: &InstanceId, celsius: u32) {
        let mut report = self.facts(id, Vec::new());
        report.full = true;
        let place = |watch: &str, name: &str, value: String| Fact {
            watch: watch.to_owned(),
            metrics: [(name.to_owned(), value)].into(),
            ..Fact::default()
        };
        report
            .facts
            .push(place("device_count", "gpu_count", "2".to_owned()));
        for gpu in 0..2 {
            report.facts.push(Fact {
                gpu: Some(gpu),
                system: HealthWatchSystem::Thermal,
                event_type: HealthEventType::Thermal,
                ..place("temperature", "temperature", celsius.to_string())
            });
        }
        self.take(Input::Report(report));
    }

    /// A report of facts that is not full.
    pub fn facts(&self, id: &InstanceId, facts: Vec<Fact>) -> Report {
        let node = self.fleet.state().nodes.get(&NodeId::new(id.as_str()));
        Report {
            node: Some(NodeId::new(id.as_str())),
            facts,
            session: node.and_then(|node| node.session.clone()),
            boot: node.and_then(|node| node.boot.clone()),
            ..Report::default()
        }
    }

    /// An XID in the kernel log.
    pub fn xid(&mut self, id: &InstanceId, code: u32, gpu: i32) {
        let fact = Fact {
            gpu: Some(gpu),
            event_type: HealthEventType::Xid,
            system: HealthWatchSystem::Driver,
            metrics: [("xid_code".to_owned(), code.to_string())].into(),
            watch: "xid".to_owned(),
            ..Fact::default()
        };
        let report = self.facts(id, vec![fact]);
        self.take(Input::Report(report));
    }

    /// A node goes silent now.
    pub fn silent(&mut self, id: &InstanceId) {
        let last_heard = self.now;
        self.take(Input::Silent {
            node: NodeId::new(id.as_str()),
            last_heard,
        });
    }

    pub fn back(&mut self, id: &InstanceId) {
        let node = NodeId::new(id.as_str());
        self.take(Input::Back { node });
    }

    /// Brings up so many machines in one pool, ACTIVE. Answers them in the order of their ids.
    pub fn up(&mut self, count: usize) -> Vec<InstanceId> {
        for _ in 0..60 {
            self.run(1);
            let waiting: Vec<InstanceId> = self.of(Phase::PendingRegistration);
            for id in waiting {
                self.register(&id);
                self.full(&id, 45);
            }
            if self.of(Phase::Running).len() >= count {
                break;
            }
        }
        let up = self.of(Phase::Running);
        assert_eq!(up.len(), count);
        up
    }

    /// The instances in a phase.
    pub fn of(&self, phase: Phase) -> Vec<InstanceId> {
        self.fleet
            .state()
            .instances
            .values()
            .filter(|instance| instance.phase == phase)
            .map(|instance| instance.id.clone())
            .collect()
    }

    pub fn instance(&self, id: &InstanceId) -> &Instance {
        &self.fleet.state().instances[id]
    }

    pub fn node(&self, id: &InstanceId) -> &Node {
        &self.fleet.state().nodes[&NodeId::new(id.as_str())]
    }

    /// Changes the configuration.
    pub fn configure(&mut self, yaml: &str) {
        let provider = ProviderName::new("fake");
        let idempotency = self.fleet.settings().providers[&provider].idempotency;
        self.take(Input::Configure {
            settings: settings(yaml, idempotency),
            policy: None,
        });
    }

    /// How often a kind of event happened, repeats counted.
    pub fn count(&self, kind: EventKind) -> u32 {
        self.events
            .values()
            .filter(|event| event.kind == kind)
            .map(|event| event.count)
            .sum()
    }

    /// The messages of a kind of event.
    pub fn said(&self, kind: EventKind) -> Vec<&str> {
        self.events
            .values()
            .filter(|event| event.kind == kind)
            .map(|event| event.message.as_str())
            .collect()
    }

    /// What `explain` says of everything that waits in the pool `main`. Instances have the names that
    /// are given.
    pub fn explain(&self, names: &[(&InstanceId, &str)]) -> Vec<String> {
        let pool = &self.report.pools[&PoolName::new("main")];
        let line = |wait: &crate::plan::Wait| {
            let line = format!("{} waits for {}: {}", wait.action, wait.guard, wait.reason);
            let named =
                |line: String, (id, name): &(&InstanceId, &str)| line.replace(id.as_str(), name);
            names.iter().fold(line, named)
        };
        pool.waits.iter().map(line).collect()
    }

    /// The guards that stop something in the pool `main`, by what it is about.
    pub fn waits(&self) -> Vec<(&str, &'static str)> {
        let pool = &self.report.pools[&PoolName::new("main")];
        pool.waits
            .iter()
            .map(|wait| (wait.about.as_str(), wait.guard))
            .collect()
    }
}
