//! Work for the fleet: how busy its GPUs are and how long its queue is, as autoscalers hear of it.

use std::sync::Arc;
use std::time::Duration;

use navarch_config::scenario::Curve;
use navarch_core::{Input, Signals};
use navarch_model::{NodeId, NodeStatus, PoolName, Time};

use crate::world::Sim;

/// The work of this moment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Load {
    /// Work for the GPUs of each pool, in whole machines.
    pub busy: f64,
    /// Jobs in every queue, or why nobody knows.
    pub jobs: Result<f64, String>,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            busy: 0.0,
            jobs: Ok(0.0),
        }
    }
}

impl Sim {
    /// The signals of this moment, if a pool follows them and they are due.
    pub(crate) fn signals_due(&mut self) -> Option<Input> {
        let now = self.now;
        let interval: Duration = self.settings.autoscale_interval;
        let pools = self.settings.pools.values();
        let followed = pools.clone().any(|pool| pool.config.autoscaling.is_some());
        let process = self.plane.process.as_mut()?;
        if !followed || now < process.next_signals {
            return None;
        }
        process.next_signals = now + interval;
        let mut signals = Signals::default();
        let settings = Arc::clone(&self.settings);
        for (name, pool) in &settings.pools {
            let load = self.load_of(name);
            let all = self.plane.process.as_ref()?.fleet.state().nodes.values();
            let active: Vec<NodeId> = all
                .filter(|node| node.pool.as_ref() == Some(name))
                .filter(|node| node.status() == NodeStatus::Active)
                .map(|node| node.id.clone())
                .collect();
            let percent = 100.0 * load.busy / active.len().max(1) as f64;
            let gpus = vec![percent.min(100.0); 2];
            let busy = active.into_iter().map(|node| (node, gpus.clone()));
            signals.nodes.extend(busy);
            let Some(autoscaling) = &pool.config.autoscaling else {
                continue;
            };
            for source in autoscaling.autoscaler.sources() {
                // Pools that ask the same source hear the same, of the first of them.
                if signals.queues.iter().all(|(known, _)| known != source) {
                    signals.queues.push((source.clone(), load.jobs.clone()));
                }
            }
        }
        Some(Input::Signals(signals))
    }

    /// The work of a pool at this moment: as the scenario says, if one runs.
    fn load_of(&mut self, pool: &PoolName) -> Load {
        let Some(story) = &self.story else {
            return self.load.clone();
        };
        let time = self.now.since(story.begun);
        let told = story.load.get(pool).cloned().unwrap_or_default();
        let mut number = |curve: &Curve| {
            let noise = curve.noise * (2.0 * self.loads.unit() - 1.0);
            curve.at(time) * (1.0 + noise)
        };
        Load {
            busy: number(&told.work),
            // Nobody counts a part of a job.
            jobs: Ok(number(&told.jobs).round()),
        }
    }

    /// From now on the GPUs have so much work.
    pub(crate) fn work(&mut self, machines: f64) {
        self.load.busy = machines;
        self.note("load", format_args!("work for {machines} machines"));
    }

    /// From now on so many jobs wait and run; none: nobody knows.
    pub(crate) fn jobs(&mut self, jobs: Option<f64>) {
        match jobs {
            Some(jobs) => self.note("load", format_args!("{jobs} jobs")),
            None => self.note("load", format_args!("the queue does not answer")),
        }
        self.load.jobs = jobs.ok_or_else(|| "connection refused".to_owned());
    }

    /// Other work, if a pool follows it.
    pub(crate) fn work_at_random(&mut self) {
        let mut pools = self.settings.pools.values();
        if !pools.any(|pool| pool.config.autoscaling.is_some()) {
            return;
        }
        let busy = self.loads.below(80) as f64 / 10.0;
        let jobs = (!self.loads.chance(0.1)).then(|| self.loads.below(40) as f64);
        self.work(busy);
        self.jobs(jobs);
    }

    /// An operator chooses the size of a pool.
    pub(crate) fn scale(&mut self, pool: &str, nodes: u32) {
        self.note("human", format_args!("scale {pool} to {nodes}"));
        self.operate(Input::ScalePool {
            pool: PoolName::new(pool),
            nodes,
            reason: "because".to_owned(),
        });
    }
}

/// When the signals of a process that starts are due: at once.
pub(crate) const AT_ONCE: Time = Time(i64::MIN);
