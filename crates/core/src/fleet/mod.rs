//! The Fleet: the one owner of the state, and the only thing that changes it.

mod act;
mod breakers;
mod changes;
mod cloud;
mod ends;
mod forget;
mod holds;
mod incidents;
mod index;
mod interruptions;
mod listing;
mod notices;
mod offerings;
mod operator;
mod orphans;
mod policy;
mod record;
mod register;
mod report;
mod signals;
mod size;
mod sizes;
mod stale;
mod ticks;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use navarch_model::{
    Automation, Change, Event, EventKind, IncidentId, InstanceId, Meta, NodeId, NodeStatus,
    Offering, OfferingMemory, Pool, PoolName, ProviderInstanceId, ProviderName, Stamp, State,
    Subject, Time,
};
use navarch_policy::{HealthPolicy, guards};

use crate::input::{Actor, Applied, Effect, Input, Note, Rejection, Reply};
use crate::plan::PoolReport;
use crate::settings::{PoolSettings, Settings};
use index::Index;
use offerings::Prices;

pub(crate) use cloud::{Made, PROOF_LISTINGS};
pub(crate) use incidents::describe;
pub(crate) use index::{Tally, Witnesses};
pub(crate) use notices::Telling;

pub use navarch_model::IdSource;
pub use report::SILENCE;
pub(crate) use signals::{Scaling, Sizing};
pub use size::target;
pub use stale::STALE_REPORTS;

/// The rule and class of the incidents that stand for those beyond the limit of a node.
pub const OVERFLOW: &str = "too-many-incidents";
/// The class of latched faults beyond the limit.
pub(crate) const OVERFLOW_LATCHED: &str = "too-many-faults";
/// What makes an event the repeat of another: all but its time and its words.
type EventKey = (EventKind, Subject, BTreeMap<String, String>);

/// What a call to a cloud is for; none is stored, so that after a load plans derive them again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallKind {
    Launch,
    Lookup,
    Terminate,
}

/// What the next plan has to look at.
#[derive(Debug, Clone, Default)]
pub(crate) struct Due {
    /// Whether a fact changed at all.
    pub any: bool,
    /// Every pool.
    pub all: bool,
    /// Every pool in which something waits: what is counted for the whole fleet changed.
    pub waiting: bool,
    /// These pools.
    pub pools: BTreeSet<PoolName>,
}

/// What the last plan of a pool found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Planned {
    /// Its report, if it is configured.
    pub report: Option<PoolReport>,
    /// Whether something waits in it.
    pub waits: bool,
    /// When it is worth looking again, if no fact changes.
    pub wake: Option<Time>,
}

/// A call to a cloud that has no answer yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UnderWay {
    pub attempt: u32,
    pub kind: CallKind,
    /// After this moment of fleet time its answer is taken for lost, and it is asked again.
    pub until: Time,
    /// Whether it is not to be begun any more.
    pub called_back: bool,
}

/// What is known of a node and need not survive a restart.
#[derive(Debug, Clone, Default)]
pub(crate) struct Soft {
    /// When the last full report came.
    pub last_full: Option<Time>,
    /// When a full report last showed each open incident.
    pub shown: BTreeMap<IncidentId, Time>,
    /// Since when full reports lack the check of each of these open conditions.
    pub unchecked: BTreeMap<IncidentId, Time>,
    /// When the scheduler may be asked again whether the node is empty.
    pub ask_drained_at: Option<Time>,
    /// Until when an answer to that question is waited for.
    pub asking_drained: Option<Time>,
    /// How often it was asked since its drain began.
    pub drain_questions: u32,
    /// Why the last answer said nothing.
    pub drain_error: String,
    /// The notice that was sent and has no answer yet.
    pub telling: Option<Telling>,
}

/// What is known of a provider and need not survive a restart.
#[derive(Debug, Clone, Default)]
pub(crate) struct ProviderSoft {
    /// When the last listing began.
    pub listed: Option<Time>,
    /// Until when the answer of one under way is waited for.
    pub listing: Option<Time>,
    /// When the newest listing that was looked at began.
    pub looked_at: Time,
    /// Failed listings in a row.
    pub failures: u32,
    /// What it sells, and for how much.
    pub prices: Prices,
    /// Machines that the cloud was to take back, and of which the last believed listing says so no
    /// more.
    pub kept: BTreeSet<InstanceId>,
    /// Why listings are not believed; nothing is bought or closed meanwhile.
    pub suspect: Option<String>,
}

/// The whole fleet in memory. Synchronous: no input or output, no clock, no randomness.
#[derive(Debug)]
pub struct Fleet {
    pub(crate) state: State,
    pub(crate) settings: Arc<Settings>,
    pub(crate) policy: Arc<HealthPolicy>,
    pub(crate) index: Index,
    /// The nodes as witnesses of a silence, until one of them changes.
    witnesses: OnceLock<Witnesses>,
    /// The machines that the budget of the fleet is a share of, until something changes.
    pub(crate) base: OnceLock<usize>,
    /// Calls under way.
    pub(crate) calls: BTreeMap<InstanceId, UnderWay>,
    pub(crate) soft: BTreeMap<NodeId, Soft>,
    pub(crate) providers: BTreeMap<ProviderName, ProviderSoft>,
    /// Machines that do not go and of which a person was told.
    pub(crate) alerted: BTreeSet<InstanceId>,
    /// Intents that were on record at the start, and how many listings since then proved that no
    /// machine has their id: a call that this record does not know of may have made it.
    pub(crate) unlisted: BTreeMap<InstanceId, u32>,
    /// When machines that nobody claims were last asked to go.
    pub(crate) unclaimed_asked: BTreeMap<(ProviderName, ProviderInstanceId), Time>,
    /// Since when pools that left the configuration have had nothing on record.
    pub(crate) empty_pools: BTreeMap<PoolName, Time>,
    /// When full reports are missed.
    pub(crate) stale: stale::Watch,
    /// What the autoscaler of each pool goes by.
    pub(crate) scaling: BTreeMap<PoolName, Scaling>,
    /// Reasons on record that still hold.
    pub(crate) notes: BTreeMap<(PoolName, String, &'static str, String), Note>,
    /// The last start or end of a pause.
    pub(crate) grace: Time,
    /// Free bytes on the disk of the store; none until they were measured.
    pub(crate) disk_free: Option<u64>,
    pub(crate) last_tick: Option<Stamp>,
    /// When it is looked again for what ended long ago.
    pub(crate) next_look_back: Time,
    pub(crate) last_meta: Time,
    /// What the next plan has to look at.
    pub(crate) due: Due,
    /// What the last plan of each pool found, and when it is due again.
    pub(crate) planned: BTreeMap<PoolName, Planned>,
    pub(crate) now: Stamp,
    /// Who asked for the input that is applied.
    actor: Option<Actor>,
    changes: Vec<Change>,
    effects: Vec<Effect>,
    last_event: u64,
    /// Events whose repeats only raise their count.
    recent: BTreeMap<EventKey, Arc<Event>>,
}

impl Fleet {
    /// Takes a loaded state. Feed [`Input::Started`] next.
    pub fn new(state: State, settings: Arc<Settings>, policy: Arc<HealthPolicy>) -> Self {
        let core_time = state.meta.core_time;
        let last_event = state.meta.last_event;
        Self {
            index: Index::of(&state),
            witnesses: OnceLock::new(),
            base: OnceLock::new(),
            state,
            settings,
            policy,
            calls: BTreeMap::new(),
            soft: BTreeMap::new(),
            providers: BTreeMap::new(),
            alerted: BTreeSet::new(),
            unlisted: BTreeMap::new(),
            unclaimed_asked: BTreeMap::new(),
            empty_pools: BTreeMap::new(),
            stale: stale::Watch::default(),
            scaling: BTreeMap::new(),
            notes: BTreeMap::new(),
            grace: core_time,
            disk_free: None,
            last_tick: None,
            next_look_back: core_time,
            last_meta: core_time,
            due: Due {
                any: true,
                all: true,
                ..Due::default()
            },
            planned: BTreeMap::new(),
            now: Stamp {
                core: core_time,
                wall: core_time,
            },
            actor: None,
            changes: Vec::new(),
            effects: Vec::new(),
            last_event,
            recent: BTreeMap::new(),
        }
    }

    /// The state as of the last applied input.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// The settings in force.
    pub const fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// The health policy in force.
    pub const fn policy(&self) -> &Arc<HealthPolicy> {
        &self.policy
    }

    /// Whether a fact changed since the last plan.
    pub const fn is_dirty(&self) -> bool {
        self.due.any
    }

    /// Since when heartbeats are missed, at the earliest: the last start or pause.
    pub const fn grace(&self) -> Time {
        self.grace
    }

    /// Applies one input. The caller makes `changes` durable, then releases `reply` and starts
    /// `effects`; if the commit fails, it discards the Fleet and loads again.
    pub fn apply(&mut self, input: Input, now: Stamp, ids: &mut dyn IdSource) -> Applied {
        self.now = now;
        let reply = self.dispatch(input, ids);
        if !self.changes.is_empty() {
            self.due.any = true;
            let meta = Meta {
                core_time: now.core,
                last_event: self.last_event,
                ..Meta::clone(&self.state.meta)
            };
            self.last_meta = now.core;
            self.put_meta(meta);
        }
        Applied {
            reply,
            changes: std::mem::take(&mut self.changes),
            effects: std::mem::take(&mut self.effects),
        }
    }

    fn dispatch(&mut self, input: Input, ids: &mut dyn IdSource) -> Result<Reply, Rejection> {
        match input {
            Input::Started { epoch } => {
                self.started(epoch, ids);
                Ok(Reply::Done)
            }
            Input::Configure { settings, policy } => {
                self.configure(settings);
                if let Some(policy) = policy {
                    self.set_policy(policy, ids);
                }
                Ok(Reply::Done)
            }
            Input::SetPolicy(policy) => {
                self.set_policy(policy, ids);
                Ok(Reply::Done)
            }
            Input::Tick => {
                self.tick(ids);
                Ok(Reply::Done)
            }
            Input::Signals(signals) => Ok(self.hear_signals(&signals)),
            Input::Disk { free } => {
                self.disk(free);
                Ok(Reply::Done)
            }
            Input::Register(registration) => self.register(registration, ids),
            Input::Report(report) => self.report(report, ids),
            Input::Silent { node, last_heard } => self.silent(&node, last_heard, ids),
            Input::Back { node } => self.back(&node),
            Input::PolicyRefused { source, error } => {
                self.policy_refused(&source, &error);
                Ok(Reply::Done)
            }
            Input::Poll { node, session } => self.poll(&node, session.as_ref()),
            Input::Acknowledge {
                node,
                command,
                state,
                result,
            } => self.acknowledge(&node, &command, state, &result),
            Input::Command {
                node,
                kind,
                parameters,
            } => self.command(&node, kind, parameters, ids),
            Input::CloseIncident { incident, reason } => self.close_by_operator(&incident, reason),
            Input::ConfirmDead { node, reason } => self.confirm_dead(&node, reason),
            Input::SetAutomation { pool, mode, reason } => self.set_automation(pool, mode, reason),
            Input::InheritAutomation { pool, reason } => self.inherit_automation(&pool, &reason),
            Input::ScalePool {
                pool,
                nodes,
                reason,
            } => self.scale_pool(&pool, nodes, reason),
            Input::ResetBreaker { pool, signature } => {
                self.reset_breaker(&pool, signature.as_deref())
            }
            Input::AddHold { node, hold } => self.add_named_hold(&node, hold),
            Input::RemoveHold { node, name, reason } => {
                self.remove_named_hold(&node, &name, &reason)
            }
            Input::AdoptMachine {
                provider,
                machine,
                pool,
                reason,
            } => self.adopt_machine(&provider, &machine, &pool, &reason, ids),
            Input::EndInstance { instance, reason } => self.end_instance(&instance, &reason),
            Input::EndUnclaimed {
                provider,
                machine,
                reason,
            } => self.end_unclaimed(&provider, &machine, &reason, ids),
            Input::By { actor, input } => {
                self.actor = Some(actor);
                let reply = self.dispatch(*input, ids);
                self.actor = None;
                reply
            }
            Input::Act(action) => self.act(action, ids),
            Input::LaunchNotBegun { key, why } => {
                self.launch_not_begun(&key, why, ids);
                Ok(Reply::Done)
            }
            Input::LaunchResult { key, result } => {
                self.launch_result(&key, result, Made::Yes, ids);
                Ok(Reply::Done)
            }
            Input::LookupResult { key, result } => {
                self.lookup_result(&key, result);
                Ok(Reply::Done)
            }
            Input::TerminateResult { key, result } => {
                self.terminate_result(&key, result);
                Ok(Reply::Done)
            }
            Input::ListResult {
                provider,
                began,
                result,
            } => {
                self.list_result(&provider, began, result);
                Ok(Reply::Done)
            }
            Input::PricesResult { provider, result } => {
                self.prices_result(&provider, result);
                Ok(Reply::Done)
            }
            Input::UnclaimedResult {
                provider,
                machine,
                result,
            } => {
                self.unclaimed_result(&provider, &machine, result);
                Ok(Reply::Done)
            }
            Input::NotifyResult {
                node,
                sequence,
                outcome,
            } => {
                self.notify_result(&node, sequence, outcome);
                Ok(Reply::Done)
            }
            Input::DrainResult {
                node,
                since,
                drained,
            } => {
                self.drain_result(&node, since, drained);
                Ok(Reply::Done)
            }
        }
    }

    /// What a start or a pause does to the waits that were under way.
    pub(crate) fn presence(&self) -> guards::Presence {
        guards::Presence {
            since: self.grace,
            resumed: self.state.meta.resumed,
            settle: self.settings.settle(),
        }
    }

    /// The call that an instance waits for an answer of.
    pub(crate) fn call_under_way(&self, id: &InstanceId, now: Time) -> Option<&UnderWay> {
        self.calls.get(id).filter(|call| now < call.until)
    }

    /// The automation mode of a pool; see [`automation`].
    pub fn automation(&self, pool: &PoolName) -> Automation {
        automation(&self.state, &self.settings, pool)
    }

    pub(crate) fn pool_settings(&self, pool: &PoolName) -> Option<&PoolSettings> {
        self.settings.pools.get(pool)
    }

    pub(crate) fn pool_memory(&self, pool: &PoolName) -> Pool {
        self.state
            .pools
            .get(pool)
            .map_or_else(|| Pool::new(pool.clone()), |pool| Pool::clone(pool))
    }

    /// What a pool remembers of an offering, by its text.
    pub(crate) fn remembered(&self, pool: &PoolName, offering: &str) -> Option<&OfferingMemory> {
        self.state.pools.get(pool)?.offerings.get(offering)
    }

    /// Changes what a pool remembers of offerings, in one change of the pool.
    pub(crate) fn change_offerings<'a>(
        &mut self,
        pool: &PoolName,
        offerings: impl IntoIterator<Item = &'a Offering>,
        mut change: impl FnMut(&mut OfferingMemory),
    ) {
        let mut memory = self.pool_memory(pool);
        for offering in offerings {
            change(memory.offerings.entry(offering.to_string()).or_default());
        }
        self.put_pool(memory);
    }

    /// The nodes as witnesses of a silence.
    pub(crate) fn witnesses(&self) -> &Witnesses {
        self.witnesses.get_or_init(|| Witnesses::of(&self.state))
    }

    pub(crate) fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }
}

/// The automation mode of a pool: an operator's choice for it, else the configured one; never more
/// than the fleet's.
pub fn automation(state: &State, settings: &Settings, pool: &PoolName) -> Automation {
    let chosen = state
        .pools
        .get(pool)
        .and_then(|pool| pool.automation.as_ref());
    let configured = settings.pools.get(pool).map(|pool| pool.config.automation);
    let fleet = state.meta.automation.mode;
    match (chosen, configured) {
        (Some(setting), _) => setting.mode.min(fleet),
        (None, Some(mode)) => mode.min(fleet),
        (None, None) => fleet,
    }
}

/// The status as tables and events show it.
fn status_word(status: NodeStatus) -> String {
    status.short().to_ascii_uppercase()
}
