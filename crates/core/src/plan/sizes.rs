//! The size of a pool with an autoscaler: what is recommended, and what holds it.

use navarch_model::PoolName;
use navarch_policy::autoscale::Wish;

use super::{Advice, Planner};
use crate::fleet::Sizing;
use crate::input::Action;
use crate::settings::PoolSettings;

/// What waits, in the words of the report.
const RESIZE: &str = "resize the pool";

impl Planner<'_> {
    /// Asks for the size that the autoscaler recommends, as far as the limits let it.
    pub(super) fn resize(&mut self, pool: &PoolName) {
        if let Some(due) = self.fleet.signals_due(pool) {
            self.wake(due);
        }
        match self.sizings.remove(pool).unwrap_or(Sizing::Stay) {
            Sizing::Stay => {}
            Sizing::Held(block) => self.wait(pool, pool.as_str(), RESIZE, &block),
            Sizing::Resize {
                nodes,
                reason,
                rest,
            } => {
                let words = format!("resize to {nodes} machines");
                let action = Action::Resize {
                    pool: pool.clone(),
                    nodes,
                };
                let before = self.actions.len();
                self.choose(pool, pool.as_str(), words, reason, action);
                self.resizing = self.actions.len() > before;
                if let Some(block) = rest {
                    self.wait(pool, pool.as_str(), RESIZE, &block);
                }
            }
        }
    }

    /// What the report says of the autoscaler of a pool.
    pub(super) fn advice(&self, pool: &PoolName, settings: &PoolSettings) -> Option<Advice> {
        let autoscaling = settings.config.autoscaling.as_ref()?;
        let told = self.fleet.scaling(pool)?.told.as_ref()?;
        let target = u32::try_from(self.fleet.target(pool)).unwrap_or(u32::MAX);
        let held = match self.sizings.get(pool) {
            Some(
                Sizing::Held(block)
                | Sizing::Resize {
                    rest: Some(block), ..
                },
            ) => Some(format!("{}: {}", block.guard, block.reason)),
            _ => None,
        };
        Some(Advice {
            autoscaler: autoscaling.autoscaler.word(),
            nodes: (told.wish != Wish::Unknown).then(|| settings.within(told.size(target))),
            reason: told.reason.clone(),
            inputs: told.inputs.clone(),
            held,
        })
    }
}
