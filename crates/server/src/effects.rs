//! Effects: bounded calls to the outside, paced per provider. They choose nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use navarch_config::ProviderConfig;
use navarch_core::{CallKey, Effect, Input, NotifyOutcome};
use navarch_model::{
    InstanceId, ProviderError, ProviderErrorKind, ProviderInstanceId, ProviderName,
};
use navarch_providers::Provider;
use navarch_time::{SharedClock, Spawner, timeout};
use tokio::sync::{Semaphore, mpsc};

use crate::fleet::{FleetClock, FleetHandle};
use crate::notifier::Notifiers;

/// One configured provider with its pace.
#[derive(Clone)]
pub struct Cloud {
    /// The provider.
    pub provider: Arc<dyn Provider>,
    /// Its deadlines and pace.
    pub config: ProviderConfig,
}

/// An effect and the Fleet that asked for it, counted from the first.
#[derive(Debug)]
struct Asked {
    generation: u64,
    effect: Effect,
}

/// How many calls wait for their turn, by provider.
pub type QueueLengths = BTreeMap<ProviderName, Arc<AtomicUsize>>;

/// The queues of all providers.
#[derive(Debug, Clone)]
pub struct Effects {
    queues: BTreeMap<ProviderName, mpsc::UnboundedSender<Asked>>,
    lengths: Arc<QueueLengths>,
    notifiers: Arc<Notifiers>,
    fleet: FleetHandle,
    spawner: Spawner,
    generation: Arc<AtomicU64>,
}

impl Effects {
    /// Starts a queue for each provider.
    pub fn start(
        clouds: BTreeMap<ProviderName, Cloud>,
        notifiers: Arc<Notifiers>,
        fleet: FleetHandle,
        time: FleetClock,
        spawner: &Spawner,
    ) -> Self {
        let generation = Arc::new(AtomicU64::new(0));
        let mut lengths = BTreeMap::new();
        let queues = clouds
            .into_iter()
            .map(|(name, cloud)| {
                // Unbounded, but a later call for a machine takes the place of one that waits.
                let (sender, receiver) = mpsc::unbounded_channel();
                let waits = Arc::new(AtomicUsize::new(0));
                lengths.insert(name.clone(), Arc::clone(&waits));
                let queue = Queue {
                    cloud,
                    fleet: fleet.clone(),
                    time: time.clone(),
                    spawner: spawner.clone(),
                    generation: Arc::clone(&generation),
                    waiting: Waiting::default(),
                    waits,
                };
                spawner.spawn(format!("provider {name}"), queue.run(receiver));
                (name, sender)
            })
            .collect();
        Self {
            queues,
            lengths: Arc::new(lengths),
            notifiers,
            fleet,
            spawner: spawner.clone(),
            generation,
        }
    }

    /// Forgets every call that has not begun: the Fleet that asked for them is gone, and the next
    /// one derives from its states what to ask.
    pub fn purge(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// How many calls wait for their turn, by provider, now and later.
    pub fn lengths(&self) -> Arc<QueueLengths> {
        Arc::clone(&self.lengths)
    }

    /// Starts one effect whose intent is durable.
    pub fn begin(&self, effect: Effect) {
        let provider = match &effect {
            Effect::Launch { spec, .. } => &spec.offering.provider,
            Effect::Lookup { provider, .. }
            | Effect::Terminate { provider, .. }
            | Effect::List { provider, .. }
            | Effect::Prices { provider }
            | Effect::TerminateUnclaimed { provider, .. } => provider,
            Effect::CancelLaunch { key } => &key.provider,
            Effect::Notify { .. } | Effect::AskDrained { .. } => {
                self.ask_scheduler(effect);
                return;
            }
        };
        let asked = |effect| Asked {
            generation: self.generation.load(Ordering::Acquire),
            effect,
        };
        let sent = match self.queues.get(provider) {
            Some(queue) => queue.send(asked(effect)).map_err(|lost| lost.0.effect),
            None => Err(effect),
        };
        if let Err(effect) = sent {
            let error = ProviderError::new(
                ProviderErrorKind::Transient,
                "the provider is not configured in this control plane",
            );
            if let Some(input) = failed(effect, error) {
                self.answer(input);
            }
        }
    }

    /// Makes a call to the scheduler: at most one for each node is under way.
    fn ask_scheduler(&self, effect: Effect) {
        let (notifiers, fleet) = (Arc::clone(&self.notifiers), self.fleet.clone());
        self.spawner.spawn("scheduler call", async move {
            let input = match effect {
                Effect::Notify {
                    node,
                    notice,
                    key,
                    limit,
                } => {
                    let outcome = notifiers.notify(&node, &notice, &key, limit).await;
                    Input::NotifyResult {
                        node,
                        sequence: notice.sequence,
                        outcome,
                    }
                }
                Effect::AskDrained { node, since, limit } => {
                    let drained = notifiers.is_drained(&node, limit).await;
                    Input::DrainResult {
                        node,
                        since,
                        drained,
                    }
                }
                _ => return,
            };
            fleet.tell(input).await;
        });
    }

    /// Feeds an answer back. It is never dropped; where there is no room it waits in a task, for
    /// the fleet loop may itself be waiting for the caller.
    fn answer(&self, input: Input) {
        if let Err(input) = self.fleet.try_tell(input) {
            let fleet = self.fleet.clone();
            self.spawner
                .spawn("answer", async move { fleet.tell(*input).await });
        }
    }
}

/// The input that says why a call was not made; none if nothing waits for its answer.
fn failed(effect: Effect, error: ProviderError) -> Option<Input> {
    let input = match effect {
        Effect::CancelLaunch { .. } => return None,
        Effect::Launch { key, .. } => Input::LaunchNotBegun {
            key,
            why: error.message,
        },
        Effect::Lookup { key, .. } => Input::LookupResult {
            key,
            result: Err(error),
        },
        Effect::Terminate { key, .. } => Input::TerminateResult {
            key,
            result: Err(error),
        },
        Effect::List {
            provider, began, ..
        } => Input::ListResult {
            provider,
            began,
            result: Err(error),
        },
        Effect::Prices { provider } => Input::PricesResult {
            provider,
            result: Err(error),
        },
        Effect::TerminateUnclaimed {
            provider,
            provider_id,
        } => Input::UnclaimedResult {
            provider,
            machine: provider_id,
            result: Err(error),
        },
        Effect::Notify { node, notice, .. } => Input::NotifyResult {
            node,
            sequence: notice.sequence,
            outcome: NotifyOutcome::Refused(error.to_string()),
        },
        Effect::AskDrained { node, since, .. } => Input::DrainResult {
            node,
            since,
            drained: Err(error.to_string()),
        },
    };
    Some(input)
}

/// Terminations before look-ups before launches: what costs money ends first.
const fn rank(effect: &Effect) -> u8 {
    match effect {
        Effect::Terminate { .. } | Effect::TerminateUnclaimed { .. } => 0,
        Effect::Lookup { .. }
        | Effect::List { .. }
        | Effect::Notify { .. }
        | Effect::Prices { .. }
        | Effect::AskDrained { .. }
        | Effect::CancelLaunch { .. } => 1,
        Effect::Launch { .. } => 2,
    }
}

/// What a call is for: a later one for the same takes the place of one that waits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum About {
    Launch(InstanceId),
    Lookup(InstanceId),
    Terminate(InstanceId),
    Unclaimed(ProviderInstanceId),
    List,
    Prices,
    Other,
}

impl About {
    fn of(effect: &Effect) -> Self {
        match effect {
            Effect::Launch { key, .. } | Effect::CancelLaunch { key } => {
                Self::Launch(key.instance.clone())
            }
            Effect::Lookup { key, .. } => Self::Lookup(key.instance.clone()),
            Effect::Terminate { key, .. } => Self::Terminate(key.instance.clone()),
            Effect::TerminateUnclaimed { provider_id, .. } => Self::Unclaimed(provider_id.clone()),
            Effect::List { .. } => Self::List,
            Effect::Notify { .. } | Effect::AskDrained { .. } => Self::Other,
            Effect::Prices { .. } => Self::Prices,
        }
    }
}

/// The calls that wait for their turn, by rank and then in their order.
#[derive(Debug, Default)]
struct Waiting {
    calls: BTreeMap<(u8, u64), Asked>,
    places: BTreeMap<About, (u8, u64)>,
    order: u64,
}

impl Waiting {
    fn push(&mut self, asked: Asked) {
        let about = About::of(&asked.effect);
        let place = *self.places.entry(about).or_insert_with(|| {
            self.order += 1;
            (rank(&asked.effect), self.order)
        });
        self.calls.insert(place, asked);
    }

    /// Takes a launch call back that waits.
    fn cancel(&mut self, key: &CallKey) -> Option<Asked> {
        let about = About::Launch(key.instance.clone());
        let place = *self.places.get(&about)?;
        let is_it = matches!(
            &self.calls.get(&place)?.effect,
            Effect::Launch { key: waiting, .. } if waiting == key
        );
        if !is_it {
            return None;
        }
        self.places.remove(&about);
        self.calls.remove(&place)
    }

    fn pop(&mut self) -> Option<Asked> {
        let (_, asked) = self.calls.pop_first()?;
        self.places.remove(&About::of(&asked.effect));
        Some(asked)
    }
}

struct Queue {
    cloud: Cloud,
    fleet: FleetHandle,
    time: FleetClock,
    spawner: Spawner,
    generation: Arc<AtomicU64>,
    waiting: Waiting,
    /// How many wait, for people.
    waits: Arc<AtomicUsize>,
}

impl Queue {
    async fn run(mut self, mut effects: mpsc::UnboundedReceiver<Asked>) {
        let token = self.spawner.token();
        let permits = Arc::new(Semaphore::new(
            self.cloud.config.parallel_requests.max(1) as usize
        ));
        let pace = Duration::from_secs(1) / self.cloud.config.requests_per_second.max(1);
        let mut next_at = Duration::ZERO;
        loop {
            self.waits
                .store(self.waiting.calls.len(), Ordering::Relaxed);
            if self.waiting.calls.is_empty() {
                let asked = tokio::select! {
                    () = token.cancelled() => return,
                    asked = effects.recv() => asked,
                };
                let Some(asked) = asked else { return };
                self.take(asked).await;
                continue;
            }
            let turn = async {
                self.time.clock().sleep_until(next_at).await;
                Arc::clone(&permits).acquire_owned().await
            };
            // What is asked meanwhile is counted, and may come first.
            let permit = tokio::select! {
                () = token.cancelled() => return,
                Some(asked) = effects.recv() => {
                    self.take(asked).await;
                    continue;
                }
                permit = turn => permit,
            };
            let Ok(permit) = permit else { return };
            while let Ok(asked) = effects.try_recv() {
                self.take(asked).await;
            }
            self.waits
                .store(self.waiting.calls.len(), Ordering::Relaxed);
            let Some(effect) = self.next().await else {
                continue;
            };
            let (cloud, fleet) = (self.cloud.clone(), self.fleet.clone());
            let clock = Arc::clone(self.time.clock());
            self.spawner.spawn("provider call", async move {
                let input = call(&cloud, effect, &clock).await;
                drop(permit);
                if let Some(input) = input {
                    fleet.tell(input).await;
                }
            });
            next_at = self.time.clock().monotonic() + pace;
        }
    }

    /// Lets a call wait for its turn, or takes one back.
    async fn take(&mut self, asked: Asked) {
        let Effect::CancelLaunch { key } = &asked.effect else {
            self.waiting.push(asked);
            return;
        };
        let current = self.generation.load(Ordering::Acquire);
        let Some(taken) = self.waiting.cancel(key) else {
            return;
        };
        if taken.generation == current {
            let error = ProviderError::new(
                ProviderErrorKind::Transient,
                "the call was not begun: it is not to be made any more",
            );
            self.tell_failed(taken.effect, error).await;
        }
    }

    async fn tell_failed(&self, effect: Effect, error: ProviderError) {
        if let Some(input) = failed(effect, error) {
            self.fleet.tell(input).await;
        }
    }

    /// The next call to make. What was purged is forgotten, and a launch whose time passed is
    /// answered without a call.
    async fn next(&mut self) -> Option<Effect> {
        while let Some(Asked { generation, effect }) = self.waiting.pop() {
            if generation != self.generation.load(Ordering::Acquire) {
                continue;
            }
            let late = matches!(
                &effect,
                Effect::Launch { deadline, .. } if self.time.now().core > *deadline
            );
            if !late {
                return Some(effect);
            }
            let error = ProviderError::new(
                ProviderErrorKind::Transient,
                "the call was not begun: too many others were before it",
            );
            self.tell_failed(effect, error).await;
        }
        None
    }
}

/// Makes one call within its deadline. A call without an answer in time has an unknown outcome.
async fn call(cloud: &Cloud, effect: Effect, clock: &SharedClock) -> Option<Input> {
    let limit = cloud.config.request_timeout;
    let late = || {
        ProviderError::new(
            ProviderErrorKind::OutcomeUnknown,
            format!("no answer within {} s", limit.as_secs_f64()),
        )
    };
    let provider = &cloud.provider;
    let input = match effect {
        Effect::Launch { key, spec, .. } => {
            let result = timeout(&**clock, limit, provider.launch(&spec)).await;
            Input::LaunchResult {
                key,
                result: result.unwrap_or_else(|_| Err(late())),
            }
        }
        Effect::Lookup {
            key,
            fleet,
            provider_id,
            ..
        } => {
            let result = match &provider_id {
                Some(id) => timeout(&**clock, limit, provider.get(id)).await,
                None => timeout(&**clock, limit, provider.find(&fleet, &key.instance)).await,
            };
            Input::LookupResult {
                key,
                result: result.unwrap_or_else(|_| Err(late())),
            }
        }
        Effect::Terminate {
            key, provider_id, ..
        } => {
            let result = timeout(&**clock, limit, provider.terminate(&provider_id)).await;
            Input::TerminateResult {
                key,
                result: result.unwrap_or_else(|_| Err(late())),
            }
        }
        Effect::List {
            provider: name,
            fleet,
            began,
        } => {
            let result = timeout(&**clock, limit, provider.list(&fleet)).await;
            let result = result.unwrap_or_else(|_| Err(late()));
            Input::ListResult {
                provider: name,
                began,
                result: result.map(|listing| (listing.machines, listing.complete)),
            }
        }
        Effect::Prices { provider: name } => {
            let result = timeout(&**clock, limit, provider.offerings()).await;
            Input::PricesResult {
                provider: name,
                result: result.unwrap_or_else(|_| Err(late())),
            }
        }
        Effect::TerminateUnclaimed {
            provider: name,
            provider_id,
        } => {
            let result = timeout(&**clock, limit, provider.terminate(&provider_id)).await;
            Input::UnclaimedResult {
                provider: name,
                machine: provider_id,
                result: result.unwrap_or_else(|_| Err(late())),
            }
        }
        effect @ (Effect::Notify { .. }
        | Effect::AskDrained { .. }
        | Effect::CancelLaunch { .. }) => {
            let why = "not a call to a provider";
            let error = ProviderError::new(ProviderErrorKind::Configuration, why);
            return failed(effect, error);
        }
    };
    Some(input)
}

#[cfg(test)]
#[path = "effects_tests.rs"]
mod tests;
