//! Effects: bounded calls to the outside, paced per provider. They choose nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use navarch_config::ProviderConfig;
use navarch_core::{Effect, Input};
use navarch_model::{ProviderError, ProviderErrorKind, ProviderName};
use navarch_providers::Provider;
use navarch_time::{SharedClock, Spawner, timeout};
use tokio::sync::{Semaphore, mpsc};

use crate::fleet::FleetHandle;

/// One configured provider with its pace.
#[derive(Clone)]
pub struct Cloud {
    /// The provider.
    pub provider: Arc<dyn Provider>,
    /// Its deadlines and pace.
    pub config: ProviderConfig,
}

/// The queues of all providers.
#[derive(Debug, Clone)]
pub struct Effects {
    queues: BTreeMap<ProviderName, mpsc::UnboundedSender<Effect>>,
    fleet: FleetHandle,
}

impl Effects {
    /// Starts a queue for each provider.
    pub fn start(
        clouds: BTreeMap<ProviderName, Cloud>,
        fleet: FleetHandle,
        clock: SharedClock,
        spawner: &Spawner,
    ) -> Self {
        let queues = clouds
            .into_iter()
            .map(|(name, cloud)| {
                // Unbounded, but the Fleet has at most one call under way per machine.
                let (sender, receiver) = mpsc::unbounded_channel();
                let queue = Queue {
                    cloud,
                    fleet: fleet.clone(),
                    clock: Arc::clone(&clock),
                    spawner: spawner.clone(),
                };
                spawner.spawn(format!("provider {name}"), queue.run(receiver));
                (name, sender)
            })
            .collect();
        Self { queues, fleet }
    }

    /// Starts one effect whose intent is durable.
    pub fn begin(&self, effect: Effect) {
        let provider = match &effect {
            Effect::Launch { spec, .. } => &spec.offering.provider,
            Effect::Lookup { provider, .. }
            | Effect::Terminate { provider, .. }
            | Effect::List { provider, .. }
            | Effect::TerminateUnclaimed { provider, .. } => provider,
            Effect::AskDrained { node, .. } => {
                // Without a scheduler nothing runs on the node.
                self.fleet.feed(Input::DrainResult {
                    node: node.clone(),
                    drained: Ok(true),
                });
                return;
            }
        };
        let sent = match self.queues.get(provider) {
            Some(queue) => queue.send(effect).map_err(|lost| lost.0),
            None => Err(effect),
        };
        if let Err(effect) = sent {
            let error = ProviderError::new(
                ProviderErrorKind::Transient,
                "the provider is not configured in this control plane",
            );
            self.fleet.feed(failed(effect, error));
        }
    }
}

/// The input that says how a call failed.
fn failed(effect: Effect, error: ProviderError) -> Input {
    match effect {
        Effect::Launch { key, .. } => Input::LaunchResult {
            key,
            result: Err(error),
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
        Effect::TerminateUnclaimed {
            provider,
            provider_id,
        } => Input::UnclaimedResult {
            provider,
            machine: provider_id,
            result: Err(error),
        },
        Effect::AskDrained { node, .. } => Input::DrainResult {
            node,
            drained: Err(error.to_string()),
        },
    }
}

/// Terminations before look-ups before launches: what costs money ends first.
const fn rank(effect: &Effect) -> u8 {
    match effect {
        Effect::Terminate { .. } | Effect::TerminateUnclaimed { .. } => 0,
        Effect::Lookup { .. } | Effect::List { .. } | Effect::AskDrained { .. } => 1,
        Effect::Launch { .. } => 2,
    }
}

struct Queue {
    cloud: Cloud,
    fleet: FleetHandle,
    clock: SharedClock,
    spawner: Spawner,
}

impl Queue {
    async fn run(self, mut effects: mpsc::UnboundedReceiver<Effect>) {
        let token = self.spawner.token();
        let permits = Arc::new(Semaphore::new(
            self.cloud.config.parallel_requests.max(1) as usize
        ));
        let pace = Duration::from_secs(1) / self.cloud.config.requests_per_second.max(1);
        let mut waiting: BTreeMap<(u8, u64), Effect> = BTreeMap::new();
        let mut order = 0;
        loop {
            if waiting.is_empty() {
                let effect = tokio::select! {
                    () = token.cancelled() => return,
                    effect = effects.recv() => effect,
                };
                let Some(effect) = effect else { return };
                order += 1;
                waiting.insert((rank(&effect), order), effect);
            }
            let permit = tokio::select! {
                () = token.cancelled() => return,
                permit = Arc::clone(&permits).acquire_owned() => permit,
            };
            let Ok(permit) = permit else { return };
            while let Ok(effect) = effects.try_recv() {
                order += 1;
                waiting.insert((rank(&effect), order), effect);
            }
            let Some((_, effect)) = waiting.pop_first() else {
                continue;
            };
            let (cloud, fleet, clock) = (
                self.cloud.clone(),
                self.fleet.clone(),
                Arc::clone(&self.clock),
            );
            self.spawner.spawn("provider call", async move {
                let input = call(&cloud, effect, &clock).await;
                drop(permit);
                fleet.tell(input).await;
            });
            tokio::select! {
                () = token.cancelled() => return,
                () = self.clock.sleep(pace) => {}
            }
        }
    }
}

/// Makes one call within its deadline. A call without an answer in time has an unknown outcome.
async fn call(cloud: &Cloud, effect: Effect, clock: &SharedClock) -> Input {
    let limit = cloud.config.request_timeout;
    let late = || {
        ProviderError::new(
            ProviderErrorKind::OutcomeUnknown,
            format!("no answer within {} s", limit.as_secs_f64()),
        )
    };
    let provider = &cloud.provider;
    match effect {
        Effect::Launch { key, spec } => {
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
        effect @ Effect::AskDrained { .. } => failed(
            effect,
            ProviderError::new(ProviderErrorKind::Configuration, "not a call to a provider"),
        ),
    }
}
