//! What feeds the Fleet: two bounded queues, and answers that leave once they are durable.

use navarch_core::input::{Input, Rejection, Reply};
use tokio::sync::{mpsc, oneshot};

/// Reports and registrations that may wait. More hides a slow disk; fewer refuses bursts that
/// agents then send again from their spools.
const AGENT_QUEUE: usize = 4096;

/// Why an input got no reply of the Fleet's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The Fleet refused it; nothing that the caller asked for was changed.
    #[error("{0}")]
    Rejected(#[from] Rejection),
    /// Too much waits already.
    #[error("the control plane is overloaded: send it again later")]
    Overloaded,
    /// It could not be made durable, or the control plane is shutting down.
    #[error("the control plane cannot take it now: {0}")]
    Unavailable(String),
}

pub(crate) type Answer = oneshot::Sender<Result<Reply, SubmitError>>;

pub(crate) struct Job {
    pub(crate) input: Input,
    pub(crate) answer: Option<Answer>,
}

/// The other ends of a [`FleetHandle`].
pub(crate) struct Jobs {
    pub(crate) agents: mpsc::Receiver<Job>,
    pub(crate) priority: mpsc::Receiver<Job>,
}

/// What feeds the Fleet.
#[derive(Debug, Clone)]
pub struct FleetHandle {
    agents: mpsc::Sender<Job>,
    priority: mpsc::Sender<Job>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job")
            .field("input", &self.input)
            .finish_non_exhaustive()
    }
}

impl FleetHandle {
    /// A handle and what it feeds; `priority` answers and operators' inputs may wait.
    pub(crate) fn new(priority: usize) -> (Self, Jobs) {
        let (agents, agent_jobs) = mpsc::channel(AGENT_QUEUE);
        let (priority, priority_jobs) = mpsc::channel(priority);
        let jobs = Jobs {
            agents: agent_jobs,
            priority: priority_jobs,
        };
        (Self { agents, priority }, jobs)
    }

    /// How many inputs wait: those of agents, and all others.
    pub fn waiting(&self) -> [(&'static str, usize); 2] {
        let length = |queue: &mpsc::Sender<Job>| queue.max_capacity() - queue.capacity();
        [
            ("agents", length(&self.agents)),
            ("results_and_operators", length(&self.priority)),
        ]
    }

    /// Submits an agent's input and waits until it is durable.
    ///
    /// # Errors
    ///
    /// See [`SubmitError`].
    pub async fn submit_agent(&self, input: Input) -> Result<Reply, SubmitError> {
        let (answer, reply) = oneshot::channel();
        match self.agents.try_send(Job {
            input,
            answer: Some(answer),
        }) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => return Err(SubmitError::Overloaded),
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(shutting_down()),
        }
        reply.await.unwrap_or_else(|_| Err(shutting_down()))
    }

    /// Submits an operator's input and waits until it is durable.
    ///
    /// # Errors
    ///
    /// See [`SubmitError`].
    pub async fn submit(&self, input: Input) -> Result<Reply, SubmitError> {
        let (answer, reply) = oneshot::channel();
        if self
            .priority
            .send(Job {
                input,
                answer: Some(answer),
            })
            .await
            .is_err()
        {
            return Err(shutting_down());
        }
        reply.await.unwrap_or_else(|_| Err(shutting_down()))
    }

    /// Feeds the answer to a call. It waits for room: an answer that is lost leaves its machine
    /// waiting.
    pub async fn tell(&self, input: Input) {
        // An error means that the loop has ended; the next start looks everything up.
        drop(
            self.priority
                .send(Job {
                    input,
                    answer: None,
                })
                .await,
        );
    }

    /// Feeds an answer if there is room for it now.
    ///
    /// # Errors
    ///
    /// The input, when it has to wait for room.
    pub fn try_tell(&self, input: Input) -> Result<(), Box<Input>> {
        match self.priority.try_send(Job {
            input,
            answer: None,
        }) {
            Err(mpsc::error::TrySendError::Full(job)) => Err(Box::new(job.input)),
            // The loop has ended; the next start looks everything up.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
        }
    }

    /// Feeds a fact that nobody waits for and that is found again if it is lost.
    pub fn feed(&self, input: Input) {
        if let Err(input) = self.try_tell(input) {
            tracing::warn!(?input, "an input is found again later: the queue is full");
        }
    }
}

fn shutting_down() -> SubmitError {
    SubmitError::Unavailable("it is shutting down".to_owned())
}
