//! The fleet loop: the one place that owns the Fleet.
//!
//! A turn takes a batch of inputs, applies them, and hands the changes to the store's writer. A
//! second task waits for each commit in order, publishes the changes, and only then releases the
//! replies and starts the effects; meanwhile the next turn is applied. When a commit fails, the
//! Fleet is discarded and loaded again, and everybody who waits gets `unavailable`.

mod clock;
mod handle;
mod owner;
mod release;
#[cfg(test)]
mod tests;
mod trouble;
mod turn;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use navarch_core::Fleet;
use navarch_model::Time;
use navarch_store::{Retention, Writer};
use navarch_time::{SharedClock, Tasks};
use tokio::sync::{mpsc, watch};

use crate::effects::{Cloud, Effects, QueueLengths};
use crate::notifier::Notifiers;
use crate::publish::Published;
use owner::Owner;
use release::{Failed, Releaser};
use turn::Turn;

pub(crate) use clock::ToldTime;
pub use clock::{FleetClock, SystemIds};
pub(crate) use handle::{Answer, Job, Jobs};
pub use handle::{FleetHandle, SubmitError};

/// Results and operators' inputs that may wait, beside the agents'.
pub(crate) const PRIORITY_QUEUE: usize = 16_384;
/// Turns whose commit may be under way.
const PIPELINE: usize = 64;

/// A running fleet.
#[derive(Debug)]
pub struct Running {
    /// Feeds it.
    pub handle: FleetHandle,
    /// Reads it.
    pub published: Arc<Published>,
    /// Its time.
    pub time: FleetClock,
    /// How many calls wait for each provider.
    pub calls: Arc<QueueLengths>,
}

/// What a fleet is started with.
pub struct Parts {
    /// The loaded Fleet.
    pub fleet: Fleet,
    /// The store's writer.
    pub writer: Writer,
    /// The epoch that the store gave.
    pub epoch: u64,
    /// The providers.
    pub clouds: std::collections::BTreeMap<navarch_model::ProviderName, Cloud>,
    /// Who is told of nodes.
    pub notifiers: Arc<Notifiers>,
    /// Least time between two plans of what changed.
    pub plan_interval: Duration,
    /// Time between two plans of everything.
    pub full_plan_interval: Duration,
    /// The directory of the store, whose disk is measured.
    pub data_dir: PathBuf,
    /// What the store keeps.
    pub keep: watch::Receiver<Retention>,
    /// The clock.
    pub clock: SharedClock,
}

/// Starts the fleet loop in `tasks`. It ends, with everything applied committed and released,
/// when the group's token is cancelled.
pub fn start(parts: Parts, tasks: &Tasks) -> Running {
    let Parts {
        fleet,
        writer,
        epoch,
        clouds,
        notifiers,
        plan_interval,
        full_plan_interval,
        data_dir,
        keep,
        clock,
    } = parts;
    let time = FleetClock::new(Arc::clone(&clock), fleet.state().meta.core_time);
    let published = Arc::new(Published::new(
        fleet.state().clone(),
        Arc::clone(fleet.settings()),
        Arc::clone(fleet.policy()),
    ));
    published.pulses.load(fleet.state(), time.now());
    let (handle, jobs) = FleetHandle::new(PRIORITY_QUEUE);
    let effects = Effects::start(
        clouds,
        notifiers,
        handle.clone(),
        time.clone(),
        &tasks.spawner(),
    );
    let calls = effects.lengths();
    let (release, released) = mpsc::channel(PIPELINE);
    let failed = Arc::new(Failed::default());
    let releaser = Releaser {
        published: Arc::clone(&published),
        effects: effects.clone(),
        failed: Arc::clone(&failed),
        time: time.clone(),
    };
    tasks.spawn("release", releaser.run(released));
    let owner = Owner {
        fleet,
        writer,
        epoch,
        time: time.clone(),
        published: Arc::clone(&published),
        agent_jobs: jobs.agents,
        priority_jobs: jobs.priority,
        release,
        effects,
        failed,
        plan_interval,
        full_plan_interval,
        ids: SystemIds::default(),
        pending: Turn::empty(),
        pruning: None,
        keep,
        data_dir,
        next_measure: Time(i64::MIN),
        last_reload: Time(i64::MIN),
        unreadable: None,
        token: tasks.token(),
    };
    tasks.spawn("fleet", owner.run());
    Running {
        handle,
        published,
        time,
        calls,
    }
}
