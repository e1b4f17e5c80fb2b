//! What autoscalers go by: signals that are gathered now and then, and what is made of them.
//!
//! All of it is soft. After a start nothing is recommended before the first signals came, and a
//! window of stabilisation begins anew.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use navarch_config::Autoscaling;
use navarch_model::{
    AskedBy, AskedSize, HoldKind, Instance, NodeId, NodeStatus, Phase, PoolName, Time,
};
use navarch_policy::autoscale::{
    self, Decision, Facts, Pace, Past, Recent, Recommendation, Sample,
};
use navarch_policy::guards::Block;

use super::Fleet;
use crate::input::{Rejection, Reply, Signals};

/// Signals that are older than so many intervals hold the size. Lower holds it for a single slow
/// answer, higher lets it follow what was.
const STALE_AFTER: u32 = 3;

/// What the autoscaler of one pool goes by.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scaling {
    /// When signals last came.
    heard: Option<Time>,
    /// When the autoscaler was configured; none if that was before the start.
    since: Option<Time>,
    /// Use of the nodes that measured it last, in percent.
    used: BTreeMap<NodeId, u32>,
    /// Utilisation over time, as far back as a trend looks.
    history: VecDeque<Sample>,
    /// What was recommended lately.
    recent: Recent,
    /// What is recommended.
    pub told: Option<Recommendation>,
    /// Whether a size was asked for since: steps are taken one for each recommendation.
    taken: bool,
}

impl Scaling {
    /// From when on it counts how long no signals came.
    fn from(&self) -> Option<Time> {
        self.heard.or(self.since)
    }

    /// How many entries it holds.
    pub fn entries(&self) -> usize {
        self.used.len() + self.history.len() + self.recent.entries()
    }
}

/// How busy the GPUs of some machines are. Whole numbers, so that the order of machines does not
/// matter to the last bit.
#[derive(Debug, Clone, Copy, Default)]
struct Busy {
    machines: u32,
    gpus: u32,
    /// Millionths of a percent.
    sum: u64,
}

impl Busy {
    fn add(&mut self, gpus: &[f64]) {
        let mut any = false;
        for percent in gpus
            .iter()
            .filter(|percent| (0.0..=100.0).contains(*percent))
        {
            self.gpus += 1;
            self.sum += (percent * 1e6).round() as u64;
            any = true;
        }
        self.machines += u32::from(any);
    }

    fn percent(self) -> Option<f64> {
        (self.gpus > 0).then(|| self.sum as f64 / 1e6 / f64::from(self.gpus))
    }
}

/// What a pool's size should be now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sizing {
    /// No autoscaler speaks for another size.
    Stay,
    /// Another size is asked for.
    Resize {
        nodes: u32,
        reason: String,
        /// What of the recommendation waits.
        rest: Option<Block>,
    },
    /// Another size is recommended, or nobody knows.
    Held(Block),
}

impl Fleet {
    /// Takes signals: each pool with an autoscaler gets a recommendation.
    pub(crate) fn hear_signals(&mut self, signals: &Signals) -> Reply {
        let mut busy: BTreeMap<PoolName, Busy> = BTreeMap::new();
        let mut used: BTreeMap<PoolName, BTreeMap<NodeId, u32>> = BTreeMap::new();
        let nodes: BTreeMap<_, _> = signals.nodes.iter().map(|(id, gpus)| (id, gpus)).collect();
        for (id, gpus) in nodes {
            let Some(node) = self.state.nodes.get(id) else {
                continue;
            };
            let heard = node.silent_since.is_none() && node.status() == NodeStatus::Active;
            let Some(pool) = node.pool.clone().filter(|_| heard) else {
                continue;
            };
            let mut own = Busy::default();
            own.add(gpus);
            if let Some(percent) = own.percent() {
                let nodes = used.entry(pool.clone()).or_default();
                nodes.insert(node.id.clone(), percent.round() as u32);
            }
            busy.entry(pool).or_default().add(gpus);
        }
        let settings = std::sync::Arc::clone(&self.settings);
        for (pool, settings) in &settings.pools {
            if let Some(autoscaling) = &settings.config.autoscaling {
                let busy = busy.get(pool).copied().unwrap_or_default();
                self.recommend(pool, autoscaling, busy, signals);
                if let Some(scaling) = self.scaling.get_mut(pool) {
                    scaling.used = used.remove(pool).unwrap_or_default();
                }
                self.look_at(Some(pool.clone()));
            }
        }
        Reply::Done
    }

    fn recommend(
        &mut self,
        pool: &PoolName,
        autoscaling: &Autoscaling,
        busy: Busy,
        signals: &Signals,
    ) {
        let now = self.now;
        let mut scaling = self.scaling.remove(pool).unwrap_or_default();
        let patience = self.settings.autoscale_interval * STALE_AFTER;
        if scaling
            .heard
            .is_some_and(|heard| now.core.since(heard) > patience)
        {
            // Nobody knows what was recommended meanwhile.
            scaling = Scaling::default();
        }
        let utilization = busy.percent();
        let lookback = autoscaling.autoscaler.lookback();
        if let Some(percent) = utilization.filter(|_| lookback > 0) {
            let at = now.core;
            scaling.history.push_back(Sample { at, percent });
        }
        while scaling.history.len() > lookback {
            scaling.history.pop_front();
        }
        let current = self.target_of(pool);
        let settings = self.pool_settings(pool);
        let facts = Facts {
            current,
            serving: busy.machines,
            coming: self.coming(pool, current),
            bounds: settings.map_or((0, 0), |pool| {
                (pool.config.min_nodes, pool.config.max_nodes)
            }),
            utilization,
            history: scaling.history.make_contiguous(),
            queues: &signals.queues,
            wall: now.wall,
        };
        let told = autoscale::recommend(&autoscaling.autoscaler, autoscaling.step, &facts);
        let size = told.size(current);
        scaling
            .recent
            .push(size, now.core, autoscaling.stabilization);
        scaling.heard = Some(now.core);
        scaling.told = Some(told);
        scaling.taken = false;
        self.scaling.insert(pool.clone(), scaling);
    }

    /// The size that a pool is planned for, as the configuration counts.
    fn target_of(&self, pool: &PoolName) -> u32 {
        u32::try_from(self.target(pool)).unwrap_or(u32::MAX)
    }

    /// Machines that a pool asked for and that do not serve yet: one in its gate is on its way, one
    /// that is sick, drained or held by a person is not.
    fn coming(&self, pool: &PoolName, target: u32) -> u32 {
        let starting = |instance: &&Instance| match self.node_of(instance) {
            Some(node) if instance.phase == Phase::Running => {
                let mut holds = node.holds.keys();
                !node.holds.is_empty() && holds.all(|kind| *kind == HoldKind::AdmissionGate)
            }
            _ => instance.phase.counts_as_capacity() && instance.phase != Phase::Running,
        };
        let starting = self.restless(pool).filter(starting).count();
        let missing = (target as usize).saturating_sub(self.staying(pool));
        u32::try_from(starting + missing).unwrap_or(u32::MAX)
    }

    /// What a pool's size should be now, the limits on changes included.
    pub(crate) fn sizing(&self, pool: &PoolName, now: Time) -> Sizing {
        let Some(settings) = self.pool_settings(pool) else {
            return Sizing::Stay;
        };
        let Some(autoscaling) = &settings.config.autoscaling else {
            return Sizing::Stay;
        };
        let none = Scaling::default();
        let scaling = self.scaling.get(pool).unwrap_or(&none);
        if now >= self.stale_signals_at(scaling.from()) {
            let reason = match (scaling.heard, scaling.since) {
                (Some(heard), _) => format!(
                    "the last signals came {} s ago: the size holds",
                    now.since(heard).as_secs()
                ),
                (None, Some(since)) if since > self.grace => {
                    "no signals came since the autoscaler was configured: the size holds".to_owned()
                }
                (None, _) => "no signals came since the start: the size holds".to_owned(),
            };
            return Sizing::Held(Block::new("signals", "stale", reason));
        }
        let Some(told) = scaling.told.as_ref().filter(|_| !scaling.taken) else {
            return Sizing::Stay;
        };
        let asked = self
            .state
            .pools
            .get(pool)
            .and_then(|pool| pool.asked.as_ref());
        let chosen = asked.filter(|asked| asked.by == AskedBy::Operator);
        let past = Past {
            chosen: chosen.map(|asked| asked.at.core),
            raised: asked.and_then(|asked| asked.raised).map(|at| at.core),
            lowered: asked.and_then(|asked| asked.lowered).map(|at| at.core),
            recent: &scaling.recent,
        };
        let pace = Pace {
            cooldown: settings.config.cooldown,
            stabilization: autoscaling.stabilization,
            step: autoscaling.step,
        };
        let current = self.target_of(pool);
        match autoscale::decide(current, told, &pace, &past, now) {
            Decision::Resize { to, rest } => {
                // The bounds may be others than when it was recommended.
                let nodes = settings.within(to);
                match rest {
                    rest if nodes != current => Sizing::Resize {
                        nodes,
                        reason: told.reason.clone(),
                        rest,
                    },
                    Some(block) => Sizing::Held(block),
                    None => Sizing::Stay,
                }
            }
            Decision::Stay => Sizing::Stay,
            Decision::Held(block) => Sizing::Held(block),
        }
    }

    /// When signals that came at a moment are too old. They are not on record: a start or a pause
    /// leaves all of that time to gather new ones.
    pub(crate) fn stale_signals_at(&self, from: Option<Time>) -> Time {
        let patience: Duration = self.settings.autoscale_interval * STALE_AFTER;
        self.presence().fresh(from.unwrap_or(self.grace)) + patience
    }

    /// What the autoscaler of a pool goes by.
    pub(crate) fn scaling(&self, pool: &PoolName) -> Option<&Scaling> {
        self.scaling.get(pool)
    }

    /// How busy a node of a pool with an autoscaler is, in percent; none when nobody knows.
    pub(crate) fn used(&self, pool: &PoolName, node: &NodeId, now: Time) -> Option<u32> {
        let scaling = self.scaling.get(pool)?;
        let fresh = now < self.stale_signals_at(scaling.from());
        scaling.used.get(node).copied().filter(|_| fresh)
    }

    /// When the signals of a pool are too old, if it has an autoscaler.
    pub(crate) fn signals_due(&self, pool: &PoolName) -> Option<Time> {
        self.pool_settings(pool)?.config.autoscaling.as_ref()?;
        let from = self.scaling.get(pool).and_then(Scaling::from);
        Some(self.stale_signals_at(from))
    }

    /// Takes the size that a plan found, if it is still right.
    pub(super) fn resize(&mut self, pool: &PoolName, nodes: u32) -> Result<Reply, Rejection> {
        self.must_be_on(pool)
            .map_err(|block| super::act::blocked(&block))?;
        let told = self
            .scaling
            .get(pool)
            .and_then(|scaling| scaling.told.as_ref());
        let inputs = told.map(|told| {
            let inputs = told.inputs.iter();
            inputs
                .map(|(name, value)| format!("{name}={value}"))
                .collect::<Vec<_>>()
        });
        let inputs = inputs.unwrap_or_default().join(" ");
        let reason = match self.sizing(pool, self.now.core) {
            Sizing::Resize {
                nodes: now, reason, ..
            } if now == nodes => reason,
            Sizing::Held(block) => return Err(super::act::blocked(&block)),
            _ => {
                let message = format!("{nodes} machines are not recommended for pool {pool} now");
                return Err(Rejection::precondition(message));
            }
        };
        let from = self.target_of(pool);
        let asked = self
            .state
            .pools
            .get(pool)
            .and_then(|pool| pool.asked.clone());
        let (raised, lowered) = asked.map_or((None, None), |asked| (asked.raised, asked.lowered));
        let asked = AskedSize {
            nodes,
            by: AskedBy::Autoscaler,
            reason,
            at: self.now,
            raised: if nodes > from { Some(self.now) } else { raised },
            lowered: if nodes < from {
                Some(self.now)
            } else {
                lowered
            },
        };
        self.recommendation_is_old(pool);
        let (from, to) = self.ask_for(pool, asked, &inputs);
        Ok(Reply::Sized { from, to })
    }

    /// A size was asked for: what was recommended before it says nothing of it.
    pub(super) fn recommendation_is_old(&mut self, pool: &PoolName) {
        if let Some(scaling) = self.scaling.get_mut(pool) {
            scaling.taken = true;
        }
    }

    /// Forgets what pools went by whose autoscaler is another one now, and remembers when that one
    /// began.
    pub(crate) fn forget_scaling(&mut self, before: &crate::settings::Settings) {
        let settings = std::sync::Arc::clone(&self.settings);
        self.scaling
            .retain(|pool, _| settings.pools.contains_key(pool));
        for (pool, settings) in &settings.pools {
            let old = before.pools.get(pool);
            if settings.config.autoscaling == old.and_then(|old| old.config.autoscaling.clone()) {
                continue;
            }
            self.scaling.remove(pool);
            if settings.config.autoscaling.is_some() {
                let since = Some(self.now.core);
                let scaling = Scaling {
                    since,
                    ..Scaling::default()
                };
                self.scaling.insert(pool.clone(), scaling);
            }
        }
    }
}
