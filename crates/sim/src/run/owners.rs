//! What the owners of external nodes do: switch them on, replace the broken, report the gone.

use std::time::Duration;

use navarch_model::{NodeCommandType, NodeId, ProviderInstanceId};

use super::{Happening, Owned, Power, fleet};
use crate::world::{Event, Sim};

/// How long a new external node boots that replaces another, when nothing says so.
const REPLACEMENT: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(60));

impl Sim {
    /// An external node is to be switched on after a while.
    pub(super) fn order_start(&mut self, at: usize, wait: Duration) {
        let now = self.now;
        let Some(story) = &mut self.story else { return };
        let Some(one) = story.fleet.get_mut(at) else {
            return;
        };
        one.power = Power::Coming;
        one.orders += 1;
        let starts = Happening::Starts(at, one.orders);
        self.queue.push(now + wait, Event::Story(starts));
    }

    /// An external node is switched on, unless its owner ordered something else since.
    pub(super) fn starts(&mut self, at: usize, order: u64) {
        let now = self.now;
        let Some(story) = &mut self.story else { return };
        let ordered = |one: &&mut Owned| one.power == Power::Coming && one.orders == order;
        let Some(one) = story.fleet.get_mut(at).filter(ordered) else {
            return;
        };
        one.power = Power::On;
        let spec = one.spec.clone();
        let id = ProviderInstanceId::new(spec.node.as_str());
        story.join(&id, &spec.place);
        if let Some(host) = self.hosts.get_mut(&id) {
            host.off = false;
            self.make_room();
            self.queue.push(now, Event::Boot(id));
            return;
        }
        let first = !story.generations.contains_key(&spec.node);
        let lemon = story.draw_lemon();
        story.book.powered(&spec, lemon, first, now);
        let boots = match first {
            false => Duration::ZERO,
            true => fleet::cold_start(&story.cold, &mut story.startup),
        };
        self.make_room();
        self.power_on(&id, spec);
        self.queue.push(now + boots, Event::Boot(id));
    }

    /// The owner of an external node that the control plane finds unhealthy gets another one, once;
    /// one that its owner stopped is not missed.
    pub(super) fn replace(&mut self, node: &NodeId) {
        let now = self.now;
        let Some(story) = &mut self.story else { return };
        let at = story.owned.get(node).copied();
        let Some(one) = at.and_then(|at| story.fleet.get_mut(at)) else {
            return;
        };
        let known = story.generations.get(node).cloned();
        let (base, generation) = known.unwrap_or_else(|| (node.clone(), 1));
        let replaced = story.newest.get(&base).is_some_and(|newest| newest != node);
        if replaced || one.power == Power::Off {
            return;
        }
        one.power = Power::Gone;
        let mut spec = one.spec.clone();
        if let Some(id) = self.by_node.get(node).cloned() {
            self.switch_off(&id, "it is replaced");
        }
        let silent = now + self.settings.heartbeat_timeout * 2;
        self.queue
            .push(silent, Event::Story(Happening::Bury(node.clone())));
        let Some(story) = &mut self.story else { return };
        let generation = generation + 1;
        spec.node = NodeId::new(format!("{base}-gen{generation}"));
        story
            .generations
            .insert(spec.node.clone(), (base.clone(), generation));
        story.newest.insert(base, spec.node.clone());
        story.book.replaced(node, &spec.node);
        let recovery = story.chaos.as_ref().and_then(|chaos| chaos.recovery);
        let told = recovery.and_then(|recovery| recovery.replace_cold_start);
        let wait = match (told, story.cold.min, story.cold.max) {
            (Some(told), ..) => told,
            (None, Some(min), Some(max)) => story.startup.uniform(min, max),
            _ => story.startup.uniform(REPLACEMENT.0, REPLACEMENT.1),
        };
        let at = story.fleet.len();
        story.owned.insert(spec.node.clone(), at);
        story.fleet.push(Owned::new(spec));
        self.order_start(at, wait);
    }

    /// A silent external node ends when its owner says so. Where the control plane is away or does
    /// not know yet that it is silent, the owner comes back.
    pub(super) fn bury(&mut self, node: NodeId) {
        let Some(known) = self.seen.nodes.get(&node) else {
            return;
        };
        if known.terminated.is_some() {
            return;
        }
        if known.silent_since.is_some() {
            self.command(node.clone(), NodeCommandType::Terminate);
        }
        let again = self.now + self.settings.heartbeat_timeout * 2;
        self.queue.push(again, Event::Story(Happening::Bury(node)));
    }
}
