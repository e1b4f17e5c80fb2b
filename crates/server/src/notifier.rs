//! Telling the scheduler what holds a node. The core decides what is told and when; this makes the
//! calls, each within its time.

mod webhook;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use navarch_api::client::TrustError;
use navarch_config::NotifierConfig;
use navarch_core::NotifyOutcome;
use navarch_model::{NodeId, Notice};
use navarch_time::{SharedClock, timeout};
use tokio::sync::Semaphore;

use webhook::Webhook;

/// Calls at once for commands that somebody waits for, and as many again for all others. Higher
/// floods a scheduler that comes back, lower lets one slow answer hold up the next.
const CALLS: usize = 32;

/// One call of a notifier.
pub type Call<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A scheduler, as far as it hears of nodes.
///
/// Notices of one node come one at a time and in order, each with a sequence that grows; one that
/// got no answer comes again with the same key. An adapter keeps three promises:
///
/// - It does what a notice says at most once for each key, or so that a repeat changes nothing.
/// - It resumes only what it stopped for us. For Slurm that means `scontrol update` with a reason
///   that begins with `navarch:`, and no resume of a node whose reason is another's; for Kubernetes
///   a taint of our own beside `unschedulable`, and no uncordon without it.
/// - It answers [`NotifyOutcome::Refused`] only when nothing was done.
///
/// Both need the id that the scheduler knows the node by, which is the node id unless the adapter
/// maps it, and both know what runs: Slurm by the node's state (`DRAINED`, not `DRAINING`),
/// Kubernetes by its pods that are not of a DaemonSet.
pub trait Notifier: Send + Sync {
    /// Tells the scheduler something of a node. `key` makes a repeat recognisable.
    fn notify<'a>(
        &'a self,
        node: &'a NodeId,
        notice: &'a Notice,
        key: &'a str,
    ) -> Call<'a, NotifyOutcome>;

    /// Whether nothing runs any more on a node that was told to drain; the error says why nobody
    /// knows.
    fn is_drained<'a>(&'a self, node: &'a NodeId) -> Call<'a, Result<bool, String>>;
}

/// No scheduler: nothing runs on any node as far as anybody knows.
#[derive(Debug)]
struct Noop;

impl Notifier for Noop {
    fn notify<'a>(&'a self, _: &'a NodeId, _: &'a Notice, _: &'a str) -> Call<'a, NotifyOutcome> {
        Box::pin(std::future::ready(NotifyOutcome::Taken))
    }

    fn is_drained<'a>(&'a self, _: &'a NodeId) -> Call<'a, Result<bool, String>> {
        Box::pin(std::future::ready(Ok(true)))
    }
}

/// Why there is no notifier.
#[derive(Debug, thiserror::Error)]
pub enum NotifierError {
    /// The secret cannot be read.
    #[error("server.notifier.webhook: cannot read the secret file {path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The variable is not set.
    #[error("server.notifier.webhook: the environment variable {0} is not set")]
    Unset(String),
    /// The secret can be guessed.
    #[error("server.notifier.webhook: the secret has fewer than 16 bytes: use a longer one")]
    Short,
    /// A URL cannot be called.
    #[error("server.notifier.webhook.{key}: {problem}")]
    Url {
        /// The key.
        key: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// No certificate is trusted.
    #[error("server.notifier.webhook: {0}")]
    Trust(#[from] TrustError),
}

/// What became of calls: their number by kind and outcome.
pub type Counts = BTreeMap<(&'static str, &'static str), u64>;

/// The notifier in force, and the turns of its calls.
pub struct Notifiers {
    present: RwLock<Arc<dyn Notifier>>,
    clock: SharedClock,
    urgent: Semaphore,
    other: Semaphore,
    counts: Mutex<Counts>,
}

impl std::fmt::Debug for Notifiers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notifiers").finish_non_exhaustive()
    }
}

impl Notifiers {
    /// The notifier of a configuration.
    ///
    /// # Errors
    ///
    /// See [`NotifierError`].
    pub fn open(config: &NotifierConfig, clock: SharedClock) -> Result<Self, NotifierError> {
        Ok(Self::with(make(config, &clock)?, clock))
    }

    /// Nobody is told.
    pub(crate) fn none(clock: SharedClock) -> Self {
        Self::with(Arc::new(Noop), clock)
    }

    pub(crate) fn with(notifier: Arc<dyn Notifier>, clock: SharedClock) -> Self {
        Self {
            present: RwLock::new(notifier),
            clock,
            urgent: Semaphore::new(CALLS),
            other: Semaphore::new(CALLS),
            counts: Mutex::default(),
        }
    }

    /// A notifier of a new configuration, which is not in force yet.
    ///
    /// # Errors
    ///
    /// See [`NotifierError`].
    pub(crate) fn make(&self, config: &NotifierConfig) -> Result<Arc<dyn Notifier>, NotifierError> {
        make(config, &self.clock)
    }

    /// Puts a notifier in force, and answers the one before. Calls under way end with the one that
    /// they began with.
    pub(crate) fn replace(&self, notifier: Arc<dyn Notifier>) -> Arc<dyn Notifier> {
        let mut present = self.present.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *present, notifier)
    }

    fn present(&self) -> Arc<dyn Notifier> {
        Arc::clone(&self.present.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes the call for a notice, once it is its turn.
    pub(crate) async fn notify(
        &self,
        node: &NodeId,
        notice: &Notice,
        key: &str,
        limit: Duration,
    ) -> NotifyOutcome {
        let notifier = self.present();
        let turns = match notice.asked {
            Some(_) => &self.urgent,
            None => &self.other,
        };
        let mut begun = false;
        let call = async {
            let _turn = turns.acquire().await;
            begun = true;
            notifier.notify(node, notice, key).await
        };
        let outcome = match timeout(&*self.clock, limit, call).await {
            Ok(outcome) => outcome,
            Err(_) if begun => NotifyOutcome::Unknown(no_answer(limit)),
            Err(_) => NotifyOutcome::Refused(format!(
                "the call was not begun within {} s: too many others were before it",
                limit.as_secs_f64()
            )),
        };
        let word = match &outcome {
            NotifyOutcome::Taken => "taken",
            NotifyOutcome::Refused(_) => "refused",
            NotifyOutcome::Unknown(_) => "unknown",
        };
        self.count(notice.kind.word(), word);
        outcome
    }

    /// Asks whether a node is empty, once it is its turn.
    pub(crate) async fn is_drained(&self, node: &NodeId, limit: Duration) -> Result<bool, String> {
        let notifier = self.present();
        let call = async {
            let _turn = self.other.acquire().await;
            notifier.is_drained(node).await
        };
        let answer = timeout(&*self.clock, limit, call).await;
        let answer = answer.unwrap_or_else(|_| Err(no_answer(limit)));
        let word = match answer {
            Ok(true) => "drained",
            Ok(false) => "busy",
            Err(_) => "failed",
        };
        self.count("drain_status", word);
        answer
    }

    fn count(&self, kind: &'static str, outcome: &'static str) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((kind, outcome)).or_default() += 1;
    }

    /// The calls so far, by kind and outcome.
    pub(crate) fn counts(&self) -> Counts {
        let counts = self.counts.lock();
        counts.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn make(config: &NotifierConfig, clock: &SharedClock) -> Result<Arc<dyn Notifier>, NotifierError> {
    Ok(match &config.webhook {
        Some(webhook) => Arc::new(Webhook::open(webhook, Arc::clone(clock))?),
        None => Arc::new(Noop),
    })
}

fn no_answer(limit: Duration) -> String {
    format!("no answer within {} s", limit.as_secs_f64())
}
