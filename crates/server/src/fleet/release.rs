//! The task that waits for each commit in its order, and only then releases what depends on it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use navarch_store::StoreError;
use tokio::sync::mpsc;

use super::clock::FleetClock;
use super::handle::SubmitError;
use super::trouble::Trouble;
use super::turn::{Release, Rules};
use crate::effects::Effects;
use crate::publish::Published;

/// What the releaser tells the owner of failed commits.
#[derive(Debug, Default)]
pub(super) struct Failed {
    pub(super) raised: AtomicBool,
    pub(super) fatal: OnceLock<StoreError>,
}

impl Failed {
    pub(super) fn raise(&self) {
        self.raised.store(true, Ordering::Release);
    }

    /// After this error the process must not write any more. The first counts.
    pub(super) fn fatal(&self, error: &StoreError) {
        // A second one says nothing new.
        let _ = self.fatal.set(error.clone());
    }
}

pub(super) struct Releaser {
    pub(super) published: Arc<Published>,
    pub(super) effects: Effects,
    pub(super) failed: Arc<Failed>,
    pub(super) time: FleetClock,
}

impl Releaser {
    pub(super) async fn run(self, mut turns: mpsc::Receiver<Release>) {
        // After a failed commit nothing is released until the fleet was loaded again: later turns
        // build on changes that were lost.
        let mut broken: Option<StoreError> = None;
        let mut trouble: Option<Trouble> = None;
        while let Some(release) = turns.recv().await {
            let turn = match release {
                Release::Turn(turn) => *turn,
                Release::Barrier(done) => {
                    broken = None;
                    // The owner waits for it, unless it was aborted.
                    let _ = done.send(());
                    continue;
                }
            };
            let committed = turn.ticket.is_some();
            let result = match (&broken, turn.ticket) {
                (Some(error), _) => Err(error.clone()),
                (None, Some(ticket)) => ticket.await,
                (None, None) => Ok(()),
            };
            match result {
                Ok(()) => {
                    self.published.apply(&turn.changes, turn.at);
                    if committed {
                        let took = self.time.now().core.since(turn.at.core);
                        self.published.meters.commits.add(took);
                        self.published.set_failing(false);
                        if let Some(over) = trouble.take() {
                            let (failed, time) = over.summary(turn.at.core);
                            tracing::warn!(failed, ?time, "commits succeed again");
                        }
                    }
                    if let Some(Rules { settings, policy }) = turn.rules {
                        self.published.set_settings(settings);
                        self.published.set_policy(policy);
                    }
                    for (kind, taken) in turn.actions {
                        self.published.meters.action(kind, taken);
                    }
                    if let Some(report) = turn.report {
                        self.published.set_report(report);
                    }
                    for (answer, reply) in turn.replies {
                        // The caller may be gone; the change stays.
                        drop(answer.send(reply.map_err(SubmitError::from)));
                    }
                    for effect in turn.effects {
                        self.effects.begin(effect);
                    }
                    // Last: whoever reads the log slowly must not hold up the answers.
                    crate::journal::log(&turn.changes);
                }
                Err(error) => {
                    if error.is_final() {
                        // Callers that wait are told before the owner ends everything.
                        self.failed.fatal(&error);
                    } else if broken.is_none() && Trouble::is_news(&mut trouble, turn.at.core) {
                        let failed = trouble
                            .as_ref()
                            .map_or(0, |trouble| trouble.summary(turn.at.core).0);
                        tracing::error!(
                            %error,
                            failed,
                            "a commit failed; the fleet is loaded again, and nothing can be \
                             changed until a commit succeeds"
                        );
                    }
                    self.published.set_failing(true);
                    self.failed.raise();
                    for (answer, _) in turn.replies {
                        drop(answer.send(Err(SubmitError::Unavailable(error.to_string()))));
                    }
                    broken = Some(error);
                }
            }
        }
    }
}
