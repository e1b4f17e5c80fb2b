//! Signals for autoscalers: gathered every `autoscale_interval` and fed to the Fleet, which decides.

#[cfg(test)]
mod rounds_tests;
mod sources;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use navarch_config::Source;
use navarch_core::{Input, Settings, Signals};
use navarch_model::{NodeId, PoolName};
use navarch_time::{CancellationToken, SharedClock, timeout};

use crate::fleet::FleetHandle;
use crate::publish::Published;

/// Sources that are asked at once. Higher floods a small machine that many pools ask, lower lets
/// slow ones hold up the others.
const AT_ONCE: usize = 16;

/// One call of a source.
pub type Call<'a> = Pin<Box<dyn Future<Output = Result<f64, String>> + Send + 'a>>;

/// Somebody who knows how many jobs there are.
///
/// A call has no limit of time of its own: who makes it sets one. What is answered is passed on as
/// it is; whether it makes sense is decided by the autoscaler. An error says in words why nobody
/// knows, without secrets.
pub trait QueueSource: Send + Sync {
    /// The jobs that wait and run.
    fn depth(&self) -> Call<'_>;
}

/// Gathers signals.
pub(crate) struct Gatherer {
    pub fleet: FleetHandle,
    pub published: Arc<Published>,
    pub clock: SharedClock,
}

/// The sources of the configuration in force.
type Open = Vec<(Source, Result<Arc<dyn QueueSource>, String>)>;

impl Gatherer {
    /// Gathers at once, then every interval, and when the interval, the pools or the sources change.
    pub async fn run(self, token: CancellationToken) {
        let mut open = Open::new();
        let mut news = self.published.watch_settings();
        loop {
            // What changes from here on wakes.
            let settings = Arc::clone(&news.borrow_and_update());
            // A round takes its time out of the interval.
            let next = self.clock.monotonic() + settings.autoscale_interval;
            tokio::select! {
                () = token.cancelled() => return,
                () = self.round(&settings, &mut open) => {}
            }
            let another = |new: &Arc<Settings>| {
                new.autoscale_interval != settings.autoscale_interval
                    || wanted(new) != wanted(&settings)
            };
            let left = next.saturating_sub(self.clock.monotonic());
            tokio::select! {
                () = token.cancelled() => return,
                () = self.clock.sleep(left) => {}
                Ok(_) = news.wait_for(another) => {}
            }
        }
    }

    /// Gathers once.
    async fn round(&self, settings: &Settings, open: &mut Open) {
        let (pools, wanted) = wanted(settings);
        if pools.is_empty() {
            open.clear();
            return;
        }
        reopen(open, wanted);
        // An answer that comes after the next round is no signal.
        let queues = ask(open, settings.autoscale_interval, &self.clock).await;
        let nodes = self.utilization(&pools);
        let signals = Input::Signals(Signals { nodes, queues });
        if let Err(error) = self.fleet.submit(signals).await {
            tracing::debug!(%error, "signals were not taken: the next ones follow");
        }
    }

    /// What the GPUs of the nodes of some pools last measured.
    fn utilization(&self, pools: &BTreeSet<PoolName>) -> Vec<(NodeId, Vec<f64>)> {
        let of = |pool: &Option<PoolName>| pool.as_ref().is_some_and(|pool| pools.contains(pool));
        let nodes: Vec<NodeId> = self.published.read(|state| {
            let nodes = state.nodes.values().filter(|node| of(&node.pool));
            nodes.map(|node| node.id.clone()).collect()
        });
        nodes
            .into_iter()
            .filter_map(|node| {
                let gpus = self.published.pulses.utilization(&node)?;
                Some((node, gpus))
            })
            .collect()
    }
}

/// The pools with an autoscaler, and their sources, each once.
fn wanted(settings: &Settings) -> (BTreeSet<PoolName>, Vec<Source>) {
    let (mut pools, mut sources) = (BTreeSet::new(), Vec::<Source>::new());
    for (name, pool) in &settings.pools {
        let Some(autoscaling) = &pool.config.autoscaling else {
            continue;
        };
        pools.insert(name.clone());
        for source in autoscaling.autoscaler.sources() {
            if !sources.contains(source) {
                sources.push(source.clone());
            }
        }
    }
    (pools, sources)
}

/// Opens what is new, and closes what nobody asks any more.
fn reopen(open: &mut Open, wanted: Vec<Source>) {
    open.retain(|(source, _)| wanted.contains(source));
    for source in wanted {
        if !open.iter().any(|(known, _)| *known == source) {
            let opened = sources::open(&source);
            open.push((source, opened));
        }
    }
}

/// Asks every source, each within its own time and all of them within `longest`.
async fn ask(
    open: &Open,
    longest: Duration,
    clock: &SharedClock,
) -> Vec<(Source, Result<f64, String>)> {
    let until = clock.monotonic() + longest;
    let asked: Vec<_> = open
        .iter()
        .map(|(source, opened)| ask_one(source.clone(), opened.clone(), until, Arc::clone(clock)))
        .collect();
    stream::iter(asked)
        .buffer_unordered(AT_ONCE)
        .collect()
        .await
}

async fn ask_one(
    source: Source,
    opened: Result<Arc<dyn QueueSource>, String>,
    until: Duration,
    clock: SharedClock,
) -> (Source, Result<f64, String>) {
    let left = until.saturating_sub(clock.monotonic());
    let limit = source.timeout.min(left);
    let told = match opened {
        Err(problem) => Err(problem),
        Ok(_) if left.is_zero() => {
            Err("it was not asked in time: too many others are slow to answer".to_owned())
        }
        Ok(opened) => match timeout(&*clock, limit, opened.depth()).await {
            Ok(told) => told,
            Err(_) => Err(format!("no answer within {} s", limit.as_secs_f64())),
        },
    };
    (source, told)
}
