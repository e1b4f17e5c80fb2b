//! What time alone brings: starts, pauses, expiries, forgetting.

use std::sync::Arc;
use std::time::Duration;

use navarch_model::{
    Command, CommandState, Ending, EventKind, IdSource, Incident, Meta, Node, Phase, Subject, Time,
};
use navarch_policy::guards;

use super::Fleet;
use crate::settings::Settings;

/// How often it is looked for what ended long ago, at most, and how many times in the time that it
/// is kept: each look goes over every record.
const LOOK_BACK: (Duration, u32) = (Duration::from_secs(300), 12);

/// Fleet time is made durable at least this often.
const META_INTERVAL: Duration = Duration::from_secs(60);

/// An external node that is silent for so long is taken for gone: nobody tells us when such a
/// machine ends. Lower forgets machines that are only switched off, higher keeps the dead listed.
const EXTERNAL_SILENCE: Duration = Duration::from_secs(24 * 3600);

impl Fleet {
    pub(crate) fn started(&mut self, epoch: u64, ids: &mut dyn IdSource) {
        self.grace = self.now.core;
        self.look_at_all();
        self.last_tick = Some(self.now);
        self.unlisted = self
            .state
            .instances
            .values()
            .filter(|instance| match instance.phase {
                Phase::Requested => true,
                Phase::Launching => instance.clean,
                _ => false,
            })
            .map(|instance| (instance.id.clone(), 0))
            .collect();
        let meta = Meta {
            epoch,
            ..Meta::clone(&self.state.meta)
        };
        self.put_meta(meta);
        let message = format!(
            "control plane started with {} nodes and {} instances on record",
            self.state.nodes.len(),
            self.state.instances.len()
        );
        self.event(EventKind::Started, Subject::default(), message, []);
        self.judge_again(None, ids);
        self.renotice_all();
    }

    pub(crate) fn configure(&mut self, settings: Arc<Settings>) {
        if *self.settings == *settings {
            return;
        }
        let notifier = self.settings.notifier;
        let before = std::mem::replace(&mut self.settings, settings);
        self.base.take();
        self.forget_scaling(&before);
        self.forget_prices(&before);
        self.look_at_all();
        self.event(
            EventKind::Configured,
            Subject::default(),
            "a new configuration is in force",
            [],
        );
        self.cancel_launches();
        if self.settings.notifier != notifier {
            self.renotice_all();
        }
    }

    pub(crate) fn tick(&mut self, ids: &mut dyn IdSource) {
        self.notice_pause();
        self.expire_commands();
        self.expire_incidents();
        self.expire_holds();
        self.find_stale_reports(ids);
        self.forget_in_pools();
        self.forget_pools();
        if self.now.core >= self.next_look_back {
            let kept = self.settings.ended_kept;
            let kept = kept.min(self.settings.guards.repeat_fault_window);
            self.next_look_back = self.now.core + LOOK_BACK.0.min(kept / LOOK_BACK.1);
            self.end_silent_externals();
            self.forget();
        }
        if self.now.core.since(self.last_meta) >= META_INTERVAL {
            let meta = Meta {
                core_time: self.now.core,
                ..Meta::clone(&self.state.meta)
            };
            self.last_meta = self.now.core;
            self.put_meta(meta);
        }
    }

    /// A pause of ours is no start, but what happened meanwhile is as little known.
    fn notice_pause(&mut self) {
        let last = self.last_tick.replace(self.now);
        let Some(last) = last else { return };
        let gap = self.now.core.since(last.core);
        if gap > self.settings.guards.pause_gap {
            self.grace = self.now.core;
            self.put_meta(Meta {
                resumed: Some(self.now.core),
                ..Meta::clone(&self.state.meta)
            });
            self.look_at_all();
            self.event(
                EventKind::Paused,
                Subject::default(),
                format!(
                    "the control plane did not run for {:.1} s: nothing is due before everybody could be \
                     heard",
                    gap.as_secs_f64()
                ),
                [],
            );
        }
        let drift = (self.now.wall.0 - last.wall.0) - (self.now.core.0 - last.core.0);
        if Duration::from_micros(drift.unsigned_abs()) > self.settings.guards.clock_divergence {
            let seconds = drift as f64 / 1e6;
            self.event(
                EventKind::ClockJumped,
                Subject::default(),
                format!("the wall clock jumped by {seconds:+.1} s; no decision depends on it"),
                [],
            );
        }
    }

    /// Takes the free space of the store's disk. Plans hear of it when it crosses the limit.
    pub(crate) fn disk(&mut self, free: u64) {
        let low = |free| guards::low_disk(free, self.settings.min_free).is_some();
        let crossed = low(self.disk_free) != low(Some(free));
        self.disk_free = Some(free);
        if crossed {
            self.look_at_all();
        }
    }

    fn expire_commands(&mut self) {
        let waiting = self.index.all_waiting();
        let mut due: Vec<Command> = waiting
            .filter_map(|id| self.state.commands.get(id))
            .filter(|command| self.now.core >= command.expires)
            .map(|command| Command::clone(command))
            .collect();
        due.sort_unstable_by(|one, other| one.id.cmp(&other.id));
        for mut command in due {
            command.state = CommandState::Expired;
            command.changed = self.now;
            self.command_changed(command);
        }
    }

    /// Ends the incidents that had no evidence for as long as their rule says. What the last full
    /// report shows is there, however often it said so before. After a start the first one is waited
    /// for, where one is to be expected.
    fn expire_incidents(&mut self) {
        let presence = self.presence();
        let reported_by = presence.since + self.stale_limit();
        let due: Vec<Incident> = self
            .index
            .passing()
            .filter_map(|id| self.state.incidents.get(id))
            .filter(|incident| {
                let soft = self.soft.get(&incident.key.node);
                let shown = soft.and_then(|soft| soft.shown.get(&incident.id).copied());
                let stands = shown.is_some() && shown == soft.and_then(|soft| soft.last_full);
                let last = incident
                    .last_evidence
                    .core
                    .max(shown.unwrap_or(Time(i64::MIN)));
                let over = |after| self.now.core >= presence.due(last, after);
                let node = self.state.nodes.get(&incident.key.node);
                let reports = node.is_some_and(|node| node.description.capabilities.full_reports);
                let unread = reports && soft.is_none_or(|soft| soft.last_full.is_none());
                let known = !(stands || unread && self.now.core < reported_by);
                incident.is_open() && known && incident.clear_after.is_some_and(over)
            })
            .map(|incident| Incident::clone(incident))
            .collect();
        for incident in due {
            let Some(node) = self.state.nodes.get(&incident.key.node) else {
                continue;
            };
            let mut node = Node::clone(node);
            self.close(&mut node, incident, Ending::Expired);
            self.put_node(node, "the incident's time passed");
        }
    }

    /// External nodes that were silent for long are gone, unless an operator holds them.
    fn end_silent_externals(&mut self) {
        let now = self.now.core;
        let presence = self.presence();
        let gone: Vec<Node> = self
            .state
            .nodes
            .values()
            .filter(|node| {
                node.silent_since
                    .is_some_and(|since| now >= presence.silence_due(since.core, EXTERNAL_SILENCE))
                    && node.instance.is_none()
                    && node.terminated.is_none()
                    && !node.is_held_by_operator()
            })
            .map(|node| Node::clone(node))
            .collect();
        for node in gone {
            let why = "an external node that was silent for a day";
            self.end_node(node, why);
        }
    }
}
