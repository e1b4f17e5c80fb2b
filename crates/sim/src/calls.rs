//! Calls to the cloud: their turns, their way there and back, and what is lost on it.

use std::time::Duration;

use navarch_core::fleet::automation;
use navarch_core::{CallKey, Effect, Input, NotifyOutcome};
use navarch_model::{Automation, ProviderError, ProviderErrorKind, ProviderInstanceId};

use crate::bugs::Bug;
use crate::cloud::{Done, provider_of};
use crate::world::{Event, Sim};

/// How long a call to the cloud may take.
const CLOUD_DEADLINE: Duration = Duration::from_secs(30);
/// The shortest and the longest way of a call to a slow cloud, in milliseconds.
const SLOW_MILLIS: (u64, u64) = (5_000, 60_000);

impl Sim {
    /// An effect takes its turn: while the cloud is slow, launches wait behind other calls.
    pub(crate) fn start_effect(&mut self, effect: Effect) {
        let life = self.plane.life;
        if let Effect::CancelLaunch { key } = &effect {
            if self.config.bug != Some(Bug::CancelIgnored) {
                self.cancel_launch(life, key);
            }
            return;
        }
        let dropped = match self.config.bug {
            Some(Bug::TerminationsDropped) => matches!(effect, Effect::Terminate { .. }),
            Some(Bug::ListingsDropped) => matches!(effect, Effect::List { .. }),
            _ => false,
        };
        if dropped {
            return;
        }
        let told = matches!(effect, Effect::Notify { .. } | Effect::AskDrained { .. });
        if told && self.settings.notifier.tells {
            self.call_scheduler(life, effect);
            return;
        }
        let slow = self.cloud.is_slow(self.now, provider_of(&effect));
        if slow && matches!(effect, Effect::Launch { .. }) {
            let turn = self.now + self.network.between(0, 240_000);
            self.queue.push(turn, Event::Begin { life, effect });
        } else {
            self.begin_effect(life, effect);
        }
    }

    /// A launch that waits for its turn is not begun.
    fn cancel_launch(&mut self, life: u64, key: &CallKey) {
        let waiting = self.queue.take(|event| {
            matches!(event, Event::Begin { life: of, effect: Effect::Launch { key: waiting, .. } }
                if *of == life && waiting == key)
        });
        if waiting.is_some() {
            let input = Box::new(not_begun(key));
            self.queue.push(self.now, Event::Answer { life, input });
        }
    }

    /// A call begins, if the process that asked for it still runs and it is not too late for it.
    pub(crate) fn begin_effect(&mut self, life: u64, effect: Effect) {
        let now = self.now;
        let Some(process) = &self.plane.process else {
            return;
        };
        if life != self.plane.life {
            return;
        }
        if now < self.plane.paused_until {
            // A process that is frozen begins nothing.
            let at = self.plane.paused_until;
            self.queue.push(at, Event::Begin { life, effect });
            return;
        }
        if let Effect::Launch { key, deadline, .. } = &effect
            && process.stamp(now).core > *deadline
        {
            let input = Box::new(not_begun(key));
            self.answer(life, input);
            return;
        }
        self.check_begin(&effect);
        let provider = provider_of(&effect);
        let (low, high) = if self.cloud.is_slow(now, provider) {
            SLOW_MILLIS
        } else {
            let told = &self.cloud.told;
            let (low, high) = provider
                .map_or(told.usual, |one| *told.traits(one.as_str()))
                .latency;
            (low.as_millis() as u64, high.as_millis() as u64)
        };
        let there = self.network.between(low, high);
        let back = self.network.between(low, high);
        let answer = there + back <= CLOUD_DEADLINE;
        if !answer {
            let error = ProviderError::new(ProviderErrorKind::OutcomeUnknown, "no answer in time");
            let input = Box::new(failed(&effect, error));
            self.queue
                .push(self.now + CLOUD_DEADLINE, Event::Answer { life, input });
        }
        self.queue.push(
            self.now + there,
            Event::AtCloud {
                life,
                effect,
                back,
                answer,
            },
        );
    }

    /// P11: what we do by our own choosing begins only while automation is on, however long it
    /// waited for its turn.
    fn check_begin(&mut self, effect: &Effect) {
        let pool = match effect {
            Effect::Launch { spec, .. } => Some(&spec.pool),
            Effect::TerminateUnclaimed { .. } => None,
            _ => return,
        };
        let mode = match pool {
            Some(pool) => automation(&self.seen, &self.settings, pool),
            None => self.seen.meta.automation.mode,
        };
        if mode != Automation::On || self.plane.waits_for_person {
            let what = format!("{effect:?} begins with automation {}", mode.word());
            self.violated("P11 stoppable", what);
        }
    }

    /// P1: what the cloud is asked to end is this fleet's.
    fn check_own(&mut self, effect: &Effect) {
        let (Effect::Terminate { provider_id, .. }
        | Effect::TerminateUnclaimed { provider_id, .. }) = effect
        else {
            return;
        };
        let rented = self.cloud.machines.get(provider_id);
        let other = rented.filter(|rented| rented.fleet.as_ref() != Some(&self.fleet));
        if let Some(what) = other.map(|rented| format!("{provider_id} is of {:?}", rented.fleet)) {
            self.violated("P1 other fleets are untouched", what);
        }
    }

    /// P2 where the cloud honours no token: nothing is bought again while the first machine lives
    /// and the listings tell the truth. A copy that was put back may not know of it.
    fn check_repeat(&mut self, effect: &Effect) {
        let Effect::Launch { spec, .. } = effect else {
            return;
        };
        if self.cloud.honours_tokens || self.cloud.lied || self.plane.restored > 0 {
            return;
        }
        let first = self.cloud.alive_of(&spec.instance).next();
        let first = first.map(|first| first.id.clone());
        if let Some(first) = first {
            let what = format!("{} again, beside {first}", spec.instance);
            self.violated("P2 no double buy", what);
        }
    }

    pub(crate) fn at_cloud(&mut self, life: u64, effect: &Effect, back: Duration, answer: bool) {
        let orphan = life != self.plane.life || self.plane.process.is_none();
        if orphan && self.network.chance(0.5) {
            return;
        }
        if life > self.plane.restored {
            self.check_intent(effect);
        }
        self.check_own(effect);
        self.check_repeat(effect);
        let (done, input) = self.cloud.call(self.now, effect);
        match done {
            Done::Nothing => {}
            Done::Made(id) => self.made(&id),
            Done::Ending(id) => {
                self.note("cloud", format_args!("{id} is terminating"));
                let wait = self.boots.between(3_000, 40_000);
                self.queue.push(self.now + wait, Event::Gone(id));
            }
        }
        if answer {
            let input = Box::new(input);
            self.queue
                .push(self.now + back, Event::Answer { life, input });
        }
    }

    fn made(&mut self, id: &ProviderInstanceId) {
        let Some(rented) = self.cloud.machines.get(id) else {
            return;
        };
        let boots = rented.boots;
        let instance = rented.instance.clone();
        let whose = instance.as_ref().map_or("nobody", |id| id.as_str());
        self.note("cloud", format_args!("made {id} for {whose}"));
        let usual = self.boots.between(20_000, 60_000);
        let wait = self.story_made(id).unwrap_or(usual);
        if boots && wait < Duration::MAX {
            self.queue.push(self.now + wait, Event::Boot(id.clone()));
        }
        if let Some(instance) = &instance {
            self.check_twins(instance);
        }
    }

    pub(crate) fn answer(&mut self, life: u64, input: Box<Input>) {
        if life != self.plane.life {
            return;
        }
        if self.now < self.plane.paused_until {
            let at = self.plane.paused_until;
            self.queue.push(at, Event::Answer { life, input });
            return;
        }
        self.turn(vec![*input]);
    }
}

/// The input that says that a launch was not begun.
fn not_begun(key: &CallKey) -> Input {
    Input::LaunchNotBegun {
        key: key.clone(),
        why: "it was not begun".to_owned(),
    }
}

/// The input that says how a call failed.
fn failed(effect: &Effect, error: ProviderError) -> Input {
    match effect {
        Effect::Launch { key, .. } | Effect::CancelLaunch { key } => Input::LaunchResult {
            key: key.clone(),
            result: Err(error),
        },
        Effect::Lookup { key, .. } => Input::LookupResult {
            key: key.clone(),
            result: Err(error),
        },
        Effect::Terminate { key, .. } => Input::TerminateResult {
            key: key.clone(),
            result: Err(error),
        },
        Effect::List {
            provider, began, ..
        } => Input::ListResult {
            provider: provider.clone(),
            began: *began,
            result: Err(error),
        },
        Effect::Prices { provider } => Input::PricesResult {
            provider: provider.clone(),
            result: Err(error),
        },
        Effect::TerminateUnclaimed {
            provider,
            provider_id,
        } => Input::UnclaimedResult {
            provider: provider.clone(),
            machine: provider_id.clone(),
            result: Err(error),
        },
        Effect::Notify { node, notice, .. } => Input::NotifyResult {
            node: node.clone(),
            sequence: notice.sequence,
            outcome: NotifyOutcome::Refused(error.to_string()),
        },
        Effect::AskDrained { node, since, .. } => Input::DrainResult {
            node: node.clone(),
            since: *since,
            drained: Err(error.to_string()),
        },
    }
}
