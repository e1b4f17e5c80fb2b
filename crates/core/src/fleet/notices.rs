//! What the scheduler hears: the notices of each node, in order and one at a time, until it took
//! them or the command that they tell of failed.
//!
//! What a scheduler should have heard is derived from the holds whenever a node is stored, so that
//! a hold and its notice are one commit, and no case of a hold that ends can be forgotten. What it
//! did hear is on record beside them: it is told to resume only what it was told to stop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use navarch_model::command::MAX_RESULT_BYTES;
use navarch_model::notice::MAX_UNANSWERED;
use navarch_model::{
    Asked, Command, CommandState, EventKind, Hold, HoldKind, Lifecycle, Node, NodeId, Notice,
    NoticeKind, Time, Told,
};
use navarch_policy::guards::doubled;

use super::Fleet;
use crate::input::{Effect, NotifyOutcome, Rejection, Reply};

/// The first wait before a notice of our own is sent again, and the longest. Shorter asks a
/// scheduler that is down for nothing, longer leaves work on machines that should have none.
const RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(120));

/// Added to the time of a call before its answer is taken for lost: the shell always answers.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why a command failed that the scheduler never heard of.
const NO_TURN: &str =
    "its turn did not come in time: the scheduler has not answered an earlier notice";

/// The most bytes that are kept of what a scheduler answered.
const MAX_WORDS: usize = 512;

/// A notice that was sent and has no answer yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Telling {
    /// Which.
    pub sequence: u64,
    /// After this moment of fleet time its answer is taken for lost.
    pub until: Time,
    /// Whether the scheduler may have heard it before this attempt.
    pub unsure: bool,
}

impl Fleet {
    fn telling(&self, node: &NodeId) -> Option<Telling> {
        self.soft.get(node)?.telling
    }

    /// Brings what waits to be told of a node in step with its holds. Whoever stores a node calls
    /// this first.
    pub(super) fn renotice(&self, node: &mut Node) {
        if !self.settings.notifier.tells || node.lifecycle == Lifecycle::Terminated {
            forget_waiting(&mut node.told);
            return;
        }
        let under_way = self.telling(&node.id).map(|telling| telling.sequence);
        if self.is_another_receiver(&node.told) {
            forget_attempts(&mut node.told, under_way);
        }
        let mut waiting = std::mem::take(&mut node.told.waiting);
        let commands = waiting.iter().any(|notice| notice.asked.is_some());
        let wanted = node.wanted_notice();
        let keeps = |notice: &Notice, told: (NoticeKind, bool)| {
            notice.asked.is_some()
                || under_way == Some(notice.sequence)
                || (!commands
                    && wanted.is_some_and(|(kind, _)| kind == notice.kind)
                    && (notice.kind != told.0 || told.1 || notice.unsure))
        };
        let told = self.heard(&node.told);
        let mut unsure = false;
        waiting.retain(|notice| {
            let kept = keeps(notice, told);
            unsure |= !kept && notice.unsure;
            kept
        });
        let fresh = wanted
            .filter(|(kind, _)| waiting.is_empty() && (*kind != told.0 || told.1 || unsure))
            .map(|(kind, reason)| self.notice(kind, reason, None));
        waiting.extend(fresh);
        node.told.waiting = waiting;
        node.told.doubt |= unsure;
    }

    /// Whether what is on record was told to somebody else than the receiver of the settings.
    fn is_another_receiver(&self, told: &Told) -> bool {
        told.receiver != 0 && told.receiver != self.settings.notifier.receiver
    }

    /// What the receiver of the settings was told last and took, and whether it may have heard
    /// something else since. One that was told nothing is given nothing back: who stopped the node
    /// there was not us.
    fn heard(&self, told: &Told) -> (NoticeKind, bool) {
        if self.is_another_receiver(told) {
            return (NoticeKind::Uncordon, false);
        }
        // Old records do not say who was told.
        let unknown = told.receiver == 0 && told.last != NoticeKind::Uncordon;
        (told.last, told.doubt || unknown)
    }

    /// Whether the scheduler has to hear of an operator's command. A cordon or a drain is always
    /// told, for it may be repeated because the scheduler forgot it; an uncordon only when it
    /// changes what the scheduler knows: others may hold the node still.
    fn must_hear(&self, node: &Node, kind: NoticeKind) -> bool {
        let (last, doubt) = self.heard(&node.told);
        match (kind, node.wanted_notice()) {
            (NoticeKind::Cordon | NoticeKind::Drain, Some(_)) => true,
            (NoticeKind::Uncordon, Some((wanted, _))) => wanted != last || doubt,
            (_, None) => false,
        }
    }

    fn notice(&self, kind: NoticeKind, reason: &str, asked: Option<Asked>) -> Notice {
        Notice {
            // It gets its place when it is sent: what is sent later is newer.
            sequence: 0,
            kind,
            reason: cut(reason, MAX_WORDS),
            created: self.now,
            asked,
            attempts: 0,
            unsure: false,
            retry_at: None,
            error: String::new(),
        }
    }

    /// Brings every node's notices in step: the notifier may be another than before.
    pub(super) fn renotice_all(&mut self) {
        let nodes: Vec<NodeId> = self.state.nodes.keys().cloned().collect();
        for id in nodes {
            let tells = self.settings.notifier.tells;
            let concerned = |node: &&Arc<Node>| tells || !node.told.waiting.is_empty();
            let Some(node) = self.state.nodes.get(&id).filter(concerned) else {
                continue;
            };
            let node = Node::clone(node);
            if !tells {
                for notice in &node.told.waiting {
                    self.finish(notice, CommandState::Succeeded, "no scheduler is told");
                }
                if let Some(soft) = self.soft.get_mut(&id) {
                    soft.telling = None;
                }
            }
            self.put_node(node, "the notifier changed");
        }
    }

    /// Sets or lifts the holds of an operator's command and, if a scheduler hears of it, begins to
    /// tell it. Answers whether the command is done already.
    pub(super) fn command_to_hold(
        &mut self,
        mut node: Node,
        command: &Command,
        kind: NoticeKind,
        reason: &str,
    ) -> Result<bool, Rejection> {
        let unanswered = node.told.waiting.iter().filter(|one| one.asked.is_some());
        let unanswered = unanswered.count();
        if unanswered >= MAX_UNANSWERED {
            return Err(Rejection::precondition(format!(
                "{unanswered} commands for node {} wait for the scheduler's answer already; let it \
                 answer first",
                node.id
            )));
        }
        let before = operators_holds(&node);
        let cause = self.hold_as_told(&mut node, kind, reason)?;
        if !self.settings.notifier.tells {
            self.put_node(node, &cause);
            return Ok(true);
        }
        let under_way = self.telling(&node.id).map(|telling| telling.sequence);
        let told = &mut node.told;
        // Ours makes room, unless it is under way: the answer to the command says what stands.
        let mut doubt = told.doubt;
        told.waiting.retain(|notice| {
            let kept = notice.asked.is_some() || under_way == Some(notice.sequence);
            doubt |= !kept && notice.unsure;
            kept
        });
        told.doubt = doubt;
        let busy = !told.waiting.is_empty();
        if !busy && !self.must_hear(&node, kind) {
            self.put_node(node, &cause);
            return Ok(true);
        }
        if !node.told.has_command() {
            node.told.before = before;
        }
        let asked = Asked {
            command: command.id.clone(),
            kind,
        };
        let notice = self.notice(kind, reason, Some(asked));
        node.told.waiting.push(notice);
        if !busy {
            self.send(&mut node);
        }
        self.put_node(node, &cause);
        Ok(false)
    }

    fn hold_as_told(
        &mut self,
        node: &mut Node,
        kind: NoticeKind,
        reason: &str,
    ) -> Result<String, Rejection> {
        let hold = match kind {
            NoticeKind::Cordon => HoldKind::OperatorCordon,
            NoticeKind::Drain => HoldKind::OperatorDrain,
            NoticeKind::Uncordon => {
                let stands = OPERATORS.iter().any(|kind| node.holds.contains_key(kind));
                if !stands {
                    let mut message = format!(
                        "node {} is not cordoned (current status: {})",
                        node.id,
                        node.status().name()
                    );
                    if !node.holds.is_empty() {
                        message.push_str("; what holds it: ");
                        message.push_str(&node.hold_names().join(", "));
                    }
                    return Err(Rejection::precondition(message));
                }
                for kind in OPERATORS {
                    self.remove_hold(node, &kind, "uncordoned by an operator");
                }
                return Ok("uncordoned by an operator".to_owned());
            }
        };
        let name = hold.name();
        self.add_hold(node, hold, reason);
        Ok(format!("{name} by an operator"))
    }

    /// When something is to be done about the notices of a node; none if none waits.
    pub(crate) fn tell_at(&self, node: &Node) -> Option<Time> {
        let first = node.told.waiting.first()?;
        match self.telling(&node.id) {
            Some(telling) => {
                let late = self.late_turn(node).map(|(_, at)| at);
                Some(late.map_or(telling.until, |at| at.min(telling.until)))
            }
            None => Some(first.retry_at.unwrap_or(Time(i64::MIN))),
        }
    }

    /// The command that waits longest behind a notice that is under way, and until when it may.
    fn late_turn(&self, node: &Node) -> Option<(usize, Time)> {
        let waiting = node.told.waiting.iter().enumerate().skip(1);
        waiting
            .filter(|(_, notice)| notice.asked.is_some())
            .map(|(at, notice)| (at, self.deadline(notice)))
            .next()
    }

    /// Until when an operator waits for the answer to a notice.
    fn deadline(&self, notice: &Notice) -> Time {
        self.presence()
            .due(notice.created.core, self.settings.notifier.timeout)
    }

    /// Whether the scheduler knows that a node is to be drained, or there is none to know it.
    pub(crate) fn knows_of_drain(&self, node: &Node) -> bool {
        !self.settings.notifier.tells
            || (self.heard(&node.told) == (NoticeKind::Drain, false)
                && node.told.waiting.is_empty())
    }

    /// Tells the scheduler what it is to hear next of a node.
    pub(super) fn tell(&mut self, id: &NodeId) -> Result<Reply, Rejection> {
        let node = self.state.nodes.get(id);
        let due = node.and_then(|node| self.tell_at(node));
        let (Some(node), Some(_)) = (node, due.filter(|due| *due <= self.now.core)) else {
            return Err(Rejection::precondition(format!(
                "the scheduler is to hear nothing of node {id} now"
            )));
        };
        if let Some(telling) = self.telling(id) {
            let late = self.late_turn(node);
            if let Some((at, _)) = late.filter(|(_, at)| *at <= self.now.core) {
                let mut node = Node::clone(node);
                self.command_failed(&mut node, at, NO_TURN, false);
                self.put_node(node, "the scheduler has not answered");
                return Ok(Reply::Done);
            }
            let lost = NotifyOutcome::Unknown("its answer never came".to_owned());
            self.notify_result(id, telling.sequence, lost);
            return Ok(Reply::Done);
        }
        let mut node = Node::clone(node);
        self.send(&mut node);
        self.put_node(node, "the scheduler is told");
        Ok(Reply::Done)
    }

    /// Sends the first notice of a node that waits, or finds that there is nothing to send.
    fn send(&mut self, node: &mut Node) {
        let settings = self.settings.notifier;
        let wanted = node.wanted_notice().map(|(kind, _)| kind);
        let Some(first) = node.told.waiting.first() else {
            return;
        };
        let mut limit = settings.call_timeout;
        if let Some(asked) = &first.asked {
            let deadline = self.deadline(first);
            if self.now.core >= deadline {
                self.command_failed(node, 0, NO_TURN, false);
                return;
            }
            limit = limit.min(deadline.since(self.now.core));
            // While a gate stands nothing is given back, whatever was tried before.
            if wanted.is_none() || (!first.unsure && !self.must_hear(node, asked.kind)) {
                let done = node.told.waiting.remove(0);
                node.told.doubt |= done.unsure;
                self.command_taken(node, &done);
                return;
            }
        }
        let (last, doubt) = self.heard(&node.told);
        let told = &mut node.told;
        let sequence = (told.sequence + 1).max(self.now.wall.0.max(0).cast_unsigned());
        let Some(first) = told.waiting.first_mut() else {
            return;
        };
        let kind = match &first.asked {
            // Others hold the node beside the operator, or hold it no more.
            Some(_) => wanted.unwrap_or(last),
            None => first.kind,
        };
        // From here on the record is about who is told now.
        (told.last, told.doubt, told.receiver) = (last, doubt, settings.receiver);
        if first.attempts == 0 || kind != first.kind {
            told.doubt |= first.unsure;
            first.unsure = false;
            first.kind = kind;
            first.sequence = sequence;
            told.sequence = sequence;
        }
        let telling = Telling {
            sequence: first.sequence,
            until: self.now.core + limit + PATIENCE,
            unsure: first.unsure,
        };
        first.attempts = first.attempts.saturating_add(1);
        first.unsure = true;
        first.retry_at = None;
        let effect = Effect::Notify {
            node: node.id.clone(),
            key: first.key(&self.state.meta.fleet, &node.id),
            notice: first.clone(),
            limit,
        };
        self.soft.entry(node.id.clone()).or_default().telling = Some(telling);
        self.effect(effect);
    }

    /// The scheduler answered, or did not.
    pub(crate) fn notify_result(&mut self, id: &NodeId, sequence: u64, outcome: NotifyOutcome) {
        let telling = self.telling(id).filter(|one| one.sequence == sequence);
        if let (Some(_), Some(soft)) = (telling, self.soft.get_mut(id)) {
            soft.telling = None;
        }
        let Some(node) = self.state.nodes.get(id) else {
            return;
        };
        let is_it = |notice: &Notice| notice.sequence == sequence && notice.attempts > 0;
        // An answer that comes late is believed when it says that the notice was taken.
        let counts = telling.is_some() || outcome == NotifyOutcome::Taken;
        if !counts || !node.told.waiting.first().is_some_and(is_it) {
            return;
        }
        let mut node = Node::clone(node);
        let unsure = telling.is_some_and(|telling| telling.unsure);
        match outcome {
            NotifyOutcome::Taken => self.notice_taken(&mut node),
            NotifyOutcome::Refused(why) => self.notice_failed(&mut node, &why, unsure),
            NotifyOutcome::Unknown(why) => self.notice_failed(&mut node, &why, true),
        }
        self.put_node(node, "the scheduler answered");
    }

    fn notice_taken(&mut self, node: &mut Node) {
        let taken = node.told.waiting.remove(0);
        node.told.last = taken.kind;
        node.told.doubt = false;
        let subject = self.node_subject(node);
        let word = taken.kind.word();
        let mut message = format!("the scheduler took {word}");
        if !taken.reason.is_empty() && taken.kind != NoticeKind::Uncordon {
            message.push_str(": ");
            message.push_str(&taken.reason);
        }
        let details = [("notice", word.to_owned())];
        self.event(EventKind::NoticeTaken, subject, message, details);
        self.command_taken(node, &taken);
    }

    /// The command of a notice is done: what it did stays, whatever becomes of others.
    fn command_taken(&mut self, node: &mut Node, taken: &Notice) {
        if let Some(asked) = &taken.asked {
            hold_by(&mut node.told.before, asked.kind, taken);
        }
        if !node.told.has_command() {
            node.told.before.clear();
        }
        self.finish(taken, CommandState::Succeeded, "");
    }

    /// The scheduler refused the first notice, or nobody knows whether it took it.
    fn notice_failed(&mut self, node: &mut Node, why: &str, unsure: bool) {
        let why = cut(why, MAX_WORDS);
        let Some(first) = node.told.waiting.first_mut() else {
            return;
        };
        first.unsure = unsure;
        first.error.clone_from(&why);
        let (kind, attempts) = (first.kind, first.attempts);
        let subject = self.node_subject(node);
        self.event(
            EventKind::NoticeFailed,
            subject,
            format!("the scheduler did not take {}: {why}", kind.word()),
            [("notice", kind.word().to_owned())],
        );
        if node
            .told
            .waiting
            .first()
            .is_some_and(|one| one.asked.is_some())
        {
            self.command_failed(node, 0, &why, unsure);
            return;
        }
        let wait = doubled(RETRY.0, attempts.saturating_sub(1), RETRY.1);
        if let Some(first) = node.told.waiting.first_mut() {
            first.retry_at = Some(self.now.core + wait);
        }
    }

    /// The command of a notice failed: what it did to the holds is taken back, and what other
    /// commands did stays.
    fn command_failed(&mut self, node: &mut Node, at: usize, why: &str, unsure: bool) {
        let failed = node.told.waiting.remove(at);
        node.told.doubt |= unsure || failed.unsure;
        let mut holds = node.told.before.clone();
        for notice in &node.told.waiting {
            if let Some(asked) = &notice.asked {
                hold_by(&mut holds, asked.kind, notice);
            }
        }
        for kind in OPERATORS {
            match (node.holds.contains_key(&kind), holds.remove(&kind)) {
                (true, None) => {
                    self.remove_hold(node, &kind, &format!("taken back: {why}"));
                }
                (false, Some(hold)) => {
                    let subject = self.node_subject(node);
                    let name = kind.name();
                    self.event(
                        EventKind::HoldAdded,
                        subject,
                        format!("{name} is put back: {why}"),
                        [("hold", name)],
                    );
                    node.holds.insert(kind, hold);
                }
                // A repeat of the command that failed stands for itself now.
                (true, Some(hold)) => {
                    if node.holds.get(&kind).map(|known| known.since) != Some(hold.since) {
                        node.holds.insert(kind, hold);
                    }
                }
                (false, None) => {}
            }
        }
        if !node.told.has_command() {
            node.told.before.clear();
        }
        self.finish(&failed, CommandState::Failed, why);
    }

    /// Says what became of the command of a notice.
    pub(super) fn finish(&mut self, notice: &Notice, state: CommandState, result: &str) {
        let Some(command) = notice
            .asked
            .as_ref()
            .and_then(|asked| self.state.commands.get(&asked.command))
            .filter(|command| !command.state.is_final())
        else {
            return;
        };
        let mut command = Command::clone(command);
        command.state = state;
        command.changed = self.now;
        command.result = cut(result, MAX_RESULT_BYTES);
        self.command_changed(command);
    }
}

/// What an operator's commands set and lift.
const OPERATORS: [HoldKind; 2] = [HoldKind::OperatorCordon, HoldKind::OperatorDrain];

fn operators_holds(node: &Node) -> BTreeMap<HoldKind, Hold> {
    OPERATORS
        .into_iter()
        .filter_map(|kind| {
            let hold = node.holds.get(&kind)?.clone();
            Some((kind, hold))
        })
        .collect()
}

/// Does to an operator's holds what a command does.
fn hold_by(holds: &mut BTreeMap<HoldKind, Hold>, kind: NoticeKind, notice: &Notice) {
    let hold = match kind {
        NoticeKind::Uncordon => {
            holds.clear();
            return;
        }
        NoticeKind::Cordon => HoldKind::OperatorCordon,
        NoticeKind::Drain => HoldKind::OperatorDrain,
    };
    holds.entry(hold).or_insert_with(|| Hold {
        reason: notice.reason.clone(),
        since: notice.created,
        expires: None,
        drained: None,
    });
}

/// What was sent and not taken may have been heard by who was told before: whoever is told next gets
/// it as something new.
fn forget_attempts(told: &mut Told, under_way: Option<u64>) {
    let others = |notice: &&mut Notice| under_way != Some(notice.sequence);
    for notice in told.waiting.iter_mut().filter(others) {
        told.doubt |= notice.unsure;
        notice.unsure = false;
        notice.attempts = 0;
        notice.retry_at = None;
        notice.error.clear();
    }
}

/// Forgets what waits to be told, remembering what may have been heard of it.
fn forget_waiting(told: &mut Told) {
    told.doubt |= told.waiting.iter().any(|notice| notice.unsure);
    told.waiting.clear();
    told.before.clear();
}

/// The beginning of a text.
pub(super) fn cut(text: &str, most: usize) -> String {
    let end = (0..=most.min(text.len()))
        .rev()
        .find(|at| text.is_char_boundary(*at));
    text[..end.unwrap_or(0)].to_owned()
}
