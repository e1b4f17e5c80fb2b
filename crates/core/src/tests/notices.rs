//! Tests of what the scheduler hears: of commands, of holds of our own, of drains, and never of
//! more than it was told before.

use std::collections::BTreeMap;

use navarch_model::{CommandId, CommandState, HoldKind, Notice, NoticeKind};

use super::*;
use crate::NotifyOutcome;

/// The configuration of a fleet with a scheduler that has ten seconds for a command and four for
/// a call.
pub(super) fn told_yaml(min: usize, max: usize) -> String {
    yaml(min, max, "").replace(
        "server:\n",
        "server:
  notifier:
    type: webhook
    timeout: 10s
    webhook:
      cordon_url: http://scheduler/cordon
      uncordon_url: http://scheduler/uncordon
      drain_url: http://scheduler/drain
      drain_status_url: http://scheduler/status
      timeout: 4s
",
    )
}

/// The same with another scheduler.
fn moved_yaml() -> String {
    told_yaml(1, 2).replace("http://scheduler/", "http://other/")
}

/// One machine that is up, and a scheduler.
pub(super) fn one() -> (Rig, InstanceId) {
    let mut rig = Rig::new(&told_yaml(1, 2));
    let up = rig.up(1);
    rig.drop_calls();
    (rig, up[0].clone())
}

/// A machine breaks and is drained: the notice of that, sent.
pub(super) fn drained(rig: &mut Rig, id: &InstanceId) -> Notice {
    rig.xid(id, 79, 0);
    rig.plan();
    // The fault comes first, and one notice at a time.
    let cordon = rig.the_notice(C);
    assert!(rig.node(id).our_drain().is_some());
    rig.scheduler(id, &cordon, NotifyOutcome::Taken);
    rig.plan();
    rig.the_notice(D)
}

fn refused() -> NotifyOutcome {
    NotifyOutcome::Refused("webhook returned 409: in use".to_owned())
}

fn unknown() -> NotifyOutcome {
    NotifyOutcome::Unknown("no answer within 4 s".to_owned())
}

impl Rig {
    pub(super) fn order(
        &mut self,
        id: &InstanceId,
        kind: NodeCommandType,
        reason: &str,
    ) -> CommandId {
        let reply = self.take(Input::Command {
            node: NodeId::new(id.as_str()),
            kind,
            parameters: [("reason".to_owned(), reason.to_owned())].into(),
        });
        match reply {
            Reply::Commanded { id, .. } => id,
            other => panic!("{other:?}"),
        }
    }

    fn command_state(&self, id: &CommandId) -> (CommandState, &str) {
        let command = &self.fleet.state().commands[id];
        (command.state, &command.result)
    }

    /// Takes the notices that were sent and have no answer.
    pub(super) fn sent(&mut self) -> Vec<Notice> {
        let mut found = Vec::new();
        self.effects.retain(|effect| match effect {
            Effect::Notify { notice, .. } => {
                found.push(notice.clone());
                false
            }
            _ => true,
        });
        found
    }

    /// Takes the one notice that was sent.
    #[track_caller]
    pub(super) fn the_notice(&mut self, kind: NoticeKind) -> Notice {
        let sent = self.sent();
        assert_eq!(sent.len(), 1, "{sent:?}");
        assert_eq!(sent[0].kind, kind, "{sent:?}");
        sent[0].clone()
    }

    pub(super) fn scheduler(&mut self, id: &InstanceId, notice: &Notice, outcome: NotifyOutcome) {
        self.take(Input::NotifyResult {
            node: NodeId::new(id.as_str()),
            sequence: notice.sequence,
            outcome,
        });
    }

    /// Lets seconds pass with a tick and a plan in each; the cloud answers, the scheduler does not.
    pub(super) fn wait(&mut self, id: &InstanceId, seconds: u64) {
        for second in 0..seconds {
            if second % 20 == 0 {
                self.full(id, 45);
            }
            self.pass(1);
            self.take(Input::Tick);
            self.plan();
            let (told, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.effects)
                .into_iter()
                .partition(|effect| {
                    matches!(effect, Effect::Notify { .. } | Effect::AskDrained { .. })
                });
            self.effects = others;
            self.answer();
            self.effects.extend(told);
        }
    }

    fn holds(&self, id: &InstanceId) -> Vec<String> {
        self.node(id).hold_names()
    }
}

use NodeCommandType as K;
use NoticeKind::{Cordon as C, Drain as D, Uncordon as U};
use navarch_model::NodeCommandType;

#[test]
fn a_command_is_told_at_once_and_done_when_the_scheduler_took_it() {
    let (mut rig, id) = one();
    let cordon = rig.order(&id, K::Cordon, "fan");
    assert_eq!(rig.command_state(&cordon).0, CommandState::Pending);
    assert_eq!(rig.holds(&id), ["operator:cordon"]);
    let notice = rig.the_notice(C);
    assert_eq!(notice.reason, "fan");
    // It is no agent's command.
    let node = NodeId::new(id.as_str());
    let session = rig.node(&id).session.clone();
    let polled = rig.take(Input::Poll { node, session });
    assert_eq!(polled, Reply::Commands(Vec::new()));
    rig.scheduler(&id, &notice, NotifyOutcome::Taken);
    assert_eq!(rig.command_state(&cordon), (CommandState::Succeeded, ""));
    assert_eq!(rig.node(&id).told.last, C);
    assert_eq!(
        rig.said(EventKind::NoticeTaken),
        ["the scheduler took cordon: fan"]
    );
    // A repeat is told again: the scheduler may have forgotten it. Refused, it changes nothing.
    let again = rig.order(&id, K::Cordon, "fan");
    let repeat = rig.the_notice(C);
    assert!(repeat.sequence > notice.sequence);
    rig.scheduler(&id, &repeat, refused());
    assert_eq!(
        rig.command_state(&again),
        (CommandState::Failed, "webhook returned 409: in use")
    );
    assert_eq!(rig.holds(&id), ["operator:cordon"]);
    let uncordon = rig.order(&id, K::Uncordon, "");
    let notice = rig.the_notice(U);
    rig.scheduler(&id, &notice, NotifyOutcome::Taken);
    assert_eq!(rig.command_state(&uncordon).0, CommandState::Succeeded);
    assert_eq!(rig.holds(&id), [""; 0]);
    rig.wait(&id, 5);
    assert_eq!(rig.sent(), []);
}

#[test]
fn without_a_scheduler_a_command_is_done_at_once() {
    let mut rig = Rig::new(&yaml(1, 2, ""));
    let id = rig.up(1)[0].clone();
    rig.drop_calls();
    let cordon = rig.order(&id, K::Cordon, "fan");
    assert_eq!(rig.command_state(&cordon).0, CommandState::Succeeded);
    assert_eq!(rig.node(&id).told, navarch_model::Told::default());
    assert_eq!(rig.drop_calls(), []);
}

#[test]
fn a_refused_command_leaves_nothing_behind() {
    let (mut rig, id) = one();
    let cordon = rig.order(&id, K::Cordon, "fan");
    let notice = rig.the_notice(C);
    rig.scheduler(&id, &notice, refused());
    assert_eq!(
        rig.command_state(&cordon),
        (CommandState::Failed, "webhook returned 409: in use")
    );
    assert_eq!(rig.holds(&id), [""; 0]);
    let removed = rig.said(EventKind::HoldRemoved);
    assert_eq!(
        removed.last(),
        Some(&"operator:cordon: taken back: webhook returned 409: in use")
    );
    // Nothing was done, so there is nothing to undo.
    rig.wait(&id, 30);
    assert_eq!(rig.sent(), []);
    assert_eq!(rig.node(&id).told.last, U);
}

#[test]
fn an_unknown_outcome_is_undone_until_the_scheduler_answers() {
    let (mut rig, id) = one();
    let drain = rig.order(&id, K::Drain, "fan");
    let notice = rig.the_notice(D);
    rig.scheduler(&id, &notice, unknown());
    assert_eq!(
        rig.command_state(&drain),
        (CommandState::Failed, "no answer within 4 s")
    );
    assert_eq!(rig.holds(&id), [""; 0]);
    rig.wait(&id, 1);
    let undo = rig.the_notice(U);
    assert!(undo.sequence > notice.sequence && undo.asked.is_none());
    // The same key, again and again, ever more seldom.
    rig.scheduler(&id, &undo, unknown());
    let mut waits = Vec::new();
    for _ in 0..8 {
        let mut seconds = 0;
        let repeat = loop {
            rig.wait(&id, 1);
            seconds += 1;
            if let Some(repeat) = rig.sent().pop() {
                break repeat;
            }
        };
        assert_eq!((repeat.sequence, repeat.kind), (undo.sequence, U));
        waits.push(seconds);
        rig.scheduler(&id, &repeat, unknown());
    }
    assert_eq!(waits, [2, 4, 8, 16, 32, 64, 120, 120]);
    rig.wait(&id, 120);
    let last = rig.the_notice(U);
    // Who refuses may be a proxy, and the scheduler may have stopped the node.
    rig.scheduler(&id, &last, refused());
    rig.wait(&id, 120);
    let last = rig.the_notice(U);
    rig.scheduler(&id, &last, NotifyOutcome::Taken);
    rig.wait(&id, 300);
    assert_eq!(rig.sent(), []);
    assert!(!rig.node(&id).told.doubt);
}

#[test]
fn a_later_command_is_never_undone_by_an_earlier_one() {
    for (outcome, held) in [
        (refused(), ["operator:drain"].as_slice()),
        (unknown(), &["operator:drain"]),
        (NotifyOutcome::Taken, &["operator:cordon", "operator:drain"]),
    ] {
        let (mut rig, id) = one();
        let first = rig.order(&id, K::Cordon, "one");
        let second = rig.order(&id, K::Drain, "two");
        let notice = rig.the_notice(C);
        rig.scheduler(&id, &notice, outcome.clone());
        let state = match outcome {
            NotifyOutcome::Taken => CommandState::Succeeded,
            _ => CommandState::Failed,
        };
        assert_eq!(rig.command_state(&first).0, state);
        assert_eq!(rig.command_state(&second).0, CommandState::Pending);
        assert_eq!(rig.holds(&id), held, "{outcome:?}");
        rig.wait(&id, 1);
        let notice = rig.the_notice(D);
        rig.scheduler(&id, &notice, NotifyOutcome::Taken);
        assert_eq!(rig.command_state(&second).0, CommandState::Succeeded);
        assert_eq!(rig.holds(&id), held);
        assert_eq!(rig.node(&id).told.last, D);
    }
}

#[test]
fn a_failed_uncordon_puts_the_holds_back_as_they_were() {
    let (mut rig, id) = one();
    rig.order(&id, K::Drain, "fan");
    let notice = rig.the_notice(D);
    rig.scheduler(&id, &notice, NotifyOutcome::Taken);
    rig.pass(60);
    let before = rig.node(&id).holds.clone();
    rig.order(&id, K::Uncordon, "");
    assert_eq!(rig.holds(&id), [""; 0]);
    let notice = rig.the_notice(U);
    // A later cordon stands beside what is put back.
    let cordon = rig.order(&id, K::Cordon, "later");
    rig.scheduler(&id, &notice, unknown());
    let mut holds = rig.node(&id).holds.clone();
    assert!(holds.remove(&HoldKind::OperatorCordon).is_some());
    assert_eq!(holds, before);
    rig.wait(&id, 1);
    // The scheduler may have resumed it.
    let notice = rig.the_notice(D);
    rig.scheduler(&id, &notice, NotifyOutcome::Taken);
    assert_eq!(rig.command_state(&cordon).0, CommandState::Succeeded);
    rig.wait(&id, 30);
    assert_eq!(rig.sent(), []);
}

#[test]
fn a_node_is_given_back_only_when_nobody_holds_it() {
    let (mut rig, id) = one();
    rig.order(&id, K::Cordon, "fan");
    let notice = rig.the_notice(C);
    rig.scheduler(&id, &notice, NotifyOutcome::Taken);
    // Incidents: the scheduler knows already.
    rig.full(&id, 97);
    assert_eq!(rig.holds(&id).len(), 3);
    let uncordon = rig.order(&id, K::Uncordon, "");
    assert_eq!(rig.command_state(&uncordon).0, CommandState::Succeeded);
    rig.pass(1);
    rig.take(Input::Tick);
    assert_eq!(rig.sent(), []);
    // It ends, and nothing holds the node any more.
    rig.wait(&id, 1);
    let notice = rig.the_notice(U);
    rig.scheduler(&id, &notice, NotifyOutcome::Taken);
    assert_eq!(rig.holds(&id), [""; 0]);
    rig.wait(&id, 30);
    assert_eq!(rig.sent(), []);
}

#[test]
fn a_gate_is_not_told_and_delays_that_a_node_is_given_back() {
    let (mut rig, id) = one();
    rig.order(&id, K::Cordon, "reboot");
    let notice = rig.the_notice(C);
    rig.scheduler(&id, &notice, NotifyOutcome::Taken);
    let mut again = Rig::registration(&id);
    again.boot = Some(BootId::new("boot-2"));
    rig.take(Input::Register(again));
    assert_eq!(rig.holds(&id), ["operator:cordon", "gate:admission"]);
    let uncordon = rig.order(&id, K::Uncordon, "");
    assert_eq!(rig.command_state(&uncordon).0, CommandState::Succeeded);
    rig.pass(1);
    rig.plan();
    assert_eq!(rig.sent(), []);
    rig.wait(&id, 1);
    rig.the_notice(U);
}

#[test]
fn holds_of_our_own_are_told_until_they_are_taken_and_made_up_for_when_they_end() {
    let (mut rig, id) = one();
    rig.full(&id, 97);
    rig.plan();
    let notice = rig.the_notice(C);
    assert!(notice.asked.is_none() && !notice.reason.is_empty());
    rig.scheduler(&id, &notice, refused());
    assert!(rig.holds(&id)[0].starts_with("incident:"), "it stays");
    rig.pass(1);
    rig.plan();
    assert_eq!(rig.sent(), []);
    assert_eq!(
        rig.waits(),
        [(id.as_str(), "notifier"), (id.as_str(), "unhealthy_after")]
    );
    rig.pass(1);
    rig.plan();
    let again = rig.the_notice(C);
    assert_eq!(again.sequence, notice.sequence);
    // It ends before an answer came: the scheduler may have heard of it.
    rig.full(&id, 45);
    assert_eq!(rig.holds(&id), [""; 0]);
    rig.plan();
    assert_eq!(rig.sent(), [], "one at a time");
    rig.scheduler(&id, &again, unknown());
    rig.plan();
    let undo = rig.the_notice(U);
    rig.scheduler(&id, &undo, NotifyOutcome::Taken);
    // One that was refused before it ended was never heard, and there is nothing to undo.
    rig.full(&id, 97);
    rig.plan();
    let notice = rig.the_notice(C);
    rig.scheduler(&id, &notice, refused());
    rig.full(&id, 45);
    rig.wait(&id, 30);
    assert_eq!(rig.sent(), []);
}

#[test]
fn a_machine_goes_when_the_scheduler_says_that_it_is_empty() {
    let (mut rig, id) = one();
    let drain = drained(&mut rig, &id);
    let asked = |rig: &mut Rig| {
        let effects = rig.drop_calls();
        let asks = |effect: &&Effect| matches!(effect, Effect::AskDrained { .. });
        effects.iter().filter(asks).count()
    };
    rig.scheduler(&id, &drain, unknown());
    rig.wait(&id, 1);
    assert_eq!(asked(&mut rig), 0, "it does not know of the drain");
    rig.wait(&id, 1);
    let again = rig.the_notice(D);
    assert_eq!(again.sequence, drain.sequence);
    rig.scheduler(&id, &again, NotifyOutcome::Taken);
    rig.plan();
    assert_eq!(asked(&mut rig), 1);
    let node = NodeId::new(id.as_str());
    let since = rig.node(&id).our_drain().expect("it is drained").1.since;
    rig.take(Input::DrainResult {
        node: node.clone(),
        since,
        drained: Err("drain status returned 500: no".to_owned()),
    });
    rig.wait(&id, 4);
    assert_eq!(asked(&mut rig), 0);
    rig.wait(&id, 1);
    assert_eq!(asked(&mut rig), 1);
    assert!(
        rig.explain(&[(&id, "NODE")])
            .iter()
            .any(|line| line.ends_with("is empty: drain status returned 500: no"))
    );
    let empty = Input::DrainResult {
        node,
        since,
        drained: Ok(true),
    };
    // While it may believe something else, its word is not taken.
    rig.order(&id, K::Drain, "mine");
    rig.take(empty.clone());
    assert_eq!(rig.count(EventKind::DrainFinished), 0);
    let repeat = rig.the_notice(D);
    rig.scheduler(&id, &repeat, NotifyOutcome::Taken);
    rig.take(empty);
    assert_eq!(
        rig.said(EventKind::DrainFinished),
        ["the scheduler says that the node is empty"]
    );
}

#[test]
fn a_drain_that_never_ends_is_cut_off_at_its_deadline_and_says_so() {
    let (mut rig, id) = one();
    let drain = drained(&mut rig, &id);
    rig.scheduler(&id, &drain, NotifyOutcome::Taken);
    let mut questions = 0;
    let mut seconds = 0;
    while rig.instance(&id).phase == Phase::Running {
        rig.wait(&id, 1);
        seconds += 1;
        assert!(seconds < 700, "it goes at its deadline");
        for instance in rig.of(Phase::PendingRegistration) {
            rig.register(&instance);
            rig.full(&instance, 45);
        }
        for effect in rig.drop_calls() {
            if let Effect::AskDrained { node, since, .. } = effect {
                questions += 1;
                rig.take(Input::DrainResult {
                    node,
                    since,
                    drained: Ok(false),
                });
            }
        }
    }
    assert!((590..=610).contains(&seconds), "{seconds}");
    assert!((20..=25).contains(&questions), "{questions}");
    let said = rig.said(EventKind::DrainFinished);
    assert_eq!(said.len(), 1);
    assert!(
        said[0].starts_with("its deadline passed after 6"),
        "{said:?}"
    );
}

#[test]
fn what_was_not_answered_is_told_again_after_a_start_with_the_same_key() {
    let (mut rig, id) = one();
    let cordon = rig.order(&id, K::Cordon, "fan");
    let notice = rig.the_notice(C);
    rig.start();
    rig.plan();
    let again = rig.the_notice(C);
    assert_eq!(again.sequence, notice.sequence);
    // The answer to the first attempt went with the process; this one may have come too late.
    rig.scheduler(&id, &again, refused());
    assert_eq!(rig.command_state(&cordon).0, CommandState::Failed);
    assert_eq!(rig.holds(&id), [""; 0]);
    rig.wait(&id, 1);
    rig.the_notice(U);
}

#[test]
fn a_command_whose_turn_does_not_come_fails_in_time() {
    let mut yaml = told_yaml(1, 2);
    yaml = yaml.replace("timeout: 4s", "timeout: 60s");
    let mut rig = Rig::new(&yaml);
    let id = rig.up(1)[0].clone();
    rig.drop_calls();
    rig.full(&id, 97);
    rig.plan();
    let ours = rig.the_notice(C);
    let cordon = rig.order(&id, K::Cordon, "fan");
    rig.pass(9);
    rig.plan();
    assert_eq!(rig.command_state(&cordon).0, CommandState::Pending);
    rig.pass(1);
    rig.plan();
    let (state, why) = rig.command_state(&cordon);
    assert_eq!(state, CommandState::Failed);
    assert!(why.starts_with("its turn did not come in time"), "{why}");
    assert_eq!(rig.holds(&id).len(), 2, "ours stay");
    rig.scheduler(&id, &ours, NotifyOutcome::Taken);
    rig.pass(1);
    rig.plan();
    assert_eq!(rig.sent(), []);
}

#[test]
fn commands_that_wait_for_the_scheduler_are_few() {
    let (mut rig, id) = one();
    for number in 0..8 {
        rig.order(&id, if number % 2 == 0 { K::Cordon } else { K::Drain }, "");
    }
    let refused = rig.feed(Input::Command {
        node: NodeId::new(id.as_str()),
        kind: K::Drain,
        parameters: BTreeMap::new(),
    });
    let why = refused.unwrap_err().message;
    assert!(why.contains("8 commands"), "{why}");
}

#[test]
fn a_new_notifier_hears_what_stands_and_none_lets_commands_go() {
    let (mut rig, id) = one();
    let cordon = rig.order(&id, K::Cordon, "fan");
    let notice = rig.the_notice(C);
    rig.configure(&yaml(1, 2, ""));
    assert_eq!(rig.command_state(&cordon).0, CommandState::Succeeded);
    assert_eq!(rig.holds(&id), ["operator:cordon"]);
    rig.scheduler(&id, &notice, refused());
    assert_eq!(rig.holds(&id), ["operator:cordon"]);
    rig.configure(&told_yaml(1, 2));
    rig.plan();
    let ours = rig.the_notice(C);
    assert!(ours.asked.is_none() && ours.sequence > notice.sequence);
    assert_eq!(ours.reason, "fan");
    rig.scheduler(&id, &ours, NotifyOutcome::Taken);
    // Lifted while nobody was told: made up for.
    rig.configure(&yaml(1, 2, ""));
    rig.order(&id, K::Uncordon, "");
    rig.configure(&told_yaml(1, 2));
    rig.plan();
    rig.the_notice(U);
}

#[test]
fn a_command_for_a_machine_that_goes_meanwhile_fails() {
    let (mut rig, id) = one();
    let cordon = rig.order(&id, K::Cordon, "fan");
    let notice = rig.the_notice(C);
    rig.order(&id, K::Terminate, "");
    rig.plan();
    rig.answer();
    assert_eq!(rig.instance(&id).phase, Phase::Terminated);
    let (state, why) = rig.command_state(&cordon);
    assert_eq!(state, CommandState::Failed);
    assert!(why.contains("its machine is gone"), "{why}");
    rig.scheduler(&id, &notice, NotifyOutcome::Taken);
    rig.run(30);
    assert_eq!(rig.node(&id).told.waiting, []);
}

/// A scheduler in front of the fleet that does as it is told, or does not, or loses its answers.
#[test]
fn whatever_the_scheduler_does_it_ends_up_knowing_who_holds_a_node() {
    for seed in 0..150_u64 {
        let mut bits = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut draw = |below: u64| {
            bits ^= bits << 13;
            bits ^= bits >> 7;
            bits ^= bits << 17;
            bits % below
        };
        let (mut rig, id) = one();
        // Two receivers, one at a time.
        let urls = [told_yaml(1, 2), moved_yaml()];
        let mut here = 0;
        let mut told_last = 0;
        let mut believes = [U; 2];
        let mut stopped = [false; 2];
        let mut newest = [0; 2];
        let mut flying: Vec<(usize, Notice)> = Vec::new();
        for step in 0..60 {
            match draw(8) {
                0 => drop(rig.feed(command(&id, K::Cordon))),
                1 => drop(rig.feed(command(&id, K::Drain))),
                2 => drop(rig.feed(command(&id, K::Uncordon))),
                3 => rig.full(&id, 97),
                4 => rig.full(&id, 45),
                5 if step < 40 && draw(4) == 0 => rig.start(),
                6 if draw(3) == 0 => {
                    here = 1 - here;
                    rig.configure(&urls[here]);
                }
                _ => {}
            }
            let seconds = 1 + draw(6);
            for _ in 0..seconds {
                rig.pass(1);
                rig.take(Input::Tick);
                rig.plan();
            }
            let sent = rig.sent();
            rig.drop_calls();
            for notice in &sent {
                let known = notice.kind != U || stopped[here];
                assert!(known, "seed {seed}: never stopped");
                stopped[here] |= notice.kind != U;
                told_last = here;
            }
            flying.extend(sent.into_iter().map(|notice| (here, notice)));
            if draw(3) == 0 {
                continue;
            }
            for (to, notice) in std::mem::take(&mut flying) {
                let mut hear = || {
                    if notice.sequence >= newest[to] {
                        (believes[to], newest[to]) = (notice.kind, notice.sequence);
                    }
                };
                let outcome = match draw(4) {
                    0 => refused(),
                    1 => unknown(),
                    2 => {
                        hear();
                        unknown()
                    }
                    _ => {
                        hear();
                        NotifyOutcome::Taken
                    }
                };
                rig.scheduler(&id, &notice, outcome);
            }
        }
        // The scheduler is well again. What waits is heard in the end, and nothing more is told then.
        let mut quiet = 0;
        for _ in 0..400 {
            rig.pass(1);
            rig.take(Input::Tick);
            rig.plan();
            let sent = rig.sent();
            let settled = sent.is_empty() && rig.node(&id).told.waiting.is_empty();
            quiet = if settled { quiet + 1 } else { 0 };
            for notice in sent {
                assert!(
                    notice.kind != U || stopped[here],
                    "seed {seed}: never stopped"
                );
                told_last = here;
                if notice.sequence >= newest[here] {
                    (believes[here], newest[here]) = (notice.kind, notice.sequence);
                }
                rig.scheduler(&id, &notice, NotifyOutcome::Taken);
            }
            rig.drop_calls();
            if quiet == 10 || rig.node(&id).terminated.is_some() {
                break;
            }
        }
        let node = rig.node(&id);
        if node.terminated.is_some() {
            continue;
        }
        assert_eq!(node.told.waiting, [], "seed {seed}");
        let wanted = node.wanted_notice().map(|(kind, _)| kind);
        // Who was left for another receiver keeps what it was told, and hears of no end.
        if wanted != Some(U) || here == told_last {
            assert_eq!(Some(believes[here]), wanted, "seed {seed}");
        }
    }
}

fn command(id: &InstanceId, kind: NodeCommandType) -> Input {
    Input::Command {
        node: NodeId::new(id.as_str()),
        kind,
        parameters: BTreeMap::new(),
    }
}

#[test]
fn a_notice_that_waits_for_a_machine_that_serves_is_named() {
    let (mut rig, id) = one();
    rig.order(&id, K::Cordon, "fan");
    let notice = rig.the_notice(C);
    rig.scheduler(&id, &notice, unknown());
    assert_eq!(rig.holds(&id), [""; 0], "it is ACTIVE");
    rig.wait(&id, 1);
    let undo = rig.the_notice(U);
    rig.scheduler(&id, &undo, refused());
    rig.plan();
    assert_eq!(rig.waits(), [(id.as_str(), "notifier")]);
    assert_eq!(
        rig.explain(&[(&id, "NODE")]),
        ["uncordon at the scheduler waits for notifier: webhook returned 409: in use"]
    );
}

#[test]
fn an_agent_has_no_word_about_what_the_scheduler_is_told() {
    let (mut rig, id) = one();
    let cordon = rig.order(&id, K::Cordon, "fan");
    let done = rig.feed(Input::Acknowledge {
        node: NodeId::new(id.as_str()),
        command: cordon.clone(),
        state: CommandState::Succeeded,
        result: "done".to_owned(),
    });
    let refused = done.expect_err("the agent never got it").message;
    assert_eq!(
        refused,
        format!("command {cordon} is not the agent's: the scheduler carries out cordon")
    );
    assert_eq!(rig.command_state(&cordon), (CommandState::Pending, ""));
}

#[test]
fn another_receiver_is_told_what_is_held_and_nothing_else() {
    let (mut rig, id) = one();
    let moved = moved_yaml();
    // Nothing is held: there is nothing to tell.
    rig.configure(&moved);
    rig.wait(&id, 5);
    assert_eq!(rig.sent(), []);
    rig.order(&id, K::Cordon, "one");
    let notice = rig.the_notice(C);
    rig.scheduler(&id, &notice, NotifyOutcome::Taken);
    rig.wait(&id, 5);
    assert_eq!(rig.sent(), []);
    // The same receiver with other times has heard it.
    rig.configure(&moved.replace("timeout: 4s", "timeout: 5s"));
    rig.wait(&id, 5);
    assert_eq!(rig.sent(), []);
    rig.configure(&told_yaml(1, 2));
    rig.wait(&id, 1);
    let again = rig.the_notice(C);
    assert_eq!((again.reason.as_str(), again.asked.as_ref()), ("one", None));
    // Who takes it while the configuration changes back is not the one that counts then.
    rig.configure(&moved);
    rig.scheduler(&id, &again, NotifyOutcome::Taken);
    rig.wait(&id, 1);
    let again = rig.the_notice(C);
    rig.scheduler(&id, &again, NotifyOutcome::Taken);
    rig.wait(&id, 300);
    assert_eq!(rig.sent(), []);
    // With nobody to tell in between as well.
    rig.configure(&yaml(1, 2, ""));
    rig.configure(&told_yaml(1, 2));
    rig.wait(&id, 1);
    let again = rig.the_notice(C);
    rig.scheduler(&id, &again, NotifyOutcome::Taken);
    // Across a start as well.
    let mut settings = crate::Settings::clone(&rig.fleet.settings);
    settings.notifier.receiver += 1;
    rig.fleet.settings = settings.into();
    rig.take(Input::Started { epoch: 2 });
    rig.wait(&id, 1);
    rig.the_notice(C);
}

#[test]
fn a_node_that_another_receiver_was_told_to_stop_is_not_given_back_by_this_one() {
    for commanded in [true, false] {
        let (mut rig, id) = one();
        if commanded {
            rig.order(&id, K::Drain, "fan");
            let notice = rig.the_notice(D);
            rig.scheduler(&id, &notice, NotifyOutcome::Taken);
        } else {
            rig.full(&id, 97);
            rig.plan();
            let notice = rig.the_notice(C);
            rig.scheduler(&id, &notice, NotifyOutcome::Taken);
        }
        // The first one is gone, and the node is free before the second one hears of it.
        rig.configure(&moved_yaml());
        if commanded {
            let uncordon = rig.order(&id, K::Uncordon, "");
            assert_eq!(rig.command_state(&uncordon).0, CommandState::Succeeded);
        } else {
            rig.full(&id, 45);
        }
        assert_eq!(rig.holds(&id), [""; 0]);
        rig.wait(&id, 300);
        assert_eq!(rig.sent(), []);
        // The first one comes back, and is told what it missed.
        rig.configure(&told_yaml(1, 2));
        rig.wait(&id, 1);
        let notice = rig.the_notice(U);
        rig.scheduler(&id, &notice, NotifyOutcome::Taken);
        rig.wait(&id, 300);
        assert_eq!(rig.sent(), []);
    }
}

#[test]
fn a_notice_that_another_receiver_may_have_heard_is_not_undone_at_this_one() {
    // Its answer comes before the new configuration, after it, or never.
    for answered in 0..3 {
        let (mut rig, id) = one();
        rig.order(&id, K::Drain, "fan");
        let notice = rig.the_notice(D);
        if answered == 0 {
            rig.scheduler(&id, &notice, unknown());
        }
        rig.configure(&moved_yaml());
        if answered == 1 {
            rig.scheduler(&id, &notice, unknown());
        }
        rig.wait(&id, 300);
        assert_eq!(rig.holds(&id), [""; 0], "{answered}");
        assert_eq!(rig.sent(), [], "{answered}");
        rig.configure(&told_yaml(1, 2));
        rig.wait(&id, 1);
        rig.the_notice(U);
    }
}

#[test]
fn a_late_word_that_a_notice_was_taken_counts_for_who_was_told() {
    let (mut rig, id) = one();
    rig.full(&id, 97);
    rig.plan();
    let notice = rig.the_notice(C);
    // Four seconds for the call and two of patience.
    rig.pass(7);
    rig.plan();
    rig.plan();
    assert_eq!(rig.waits()[0], (id.as_str(), "notifier"), "it was given up");
    rig.scheduler(&id, &notice, NotifyOutcome::Taken);
    assert_eq!(rig.node(&id).told.last, C);
    for _ in 0..130 {
        rig.pass(1);
        rig.plan();
        assert_eq!(rig.sent(), []);
    }
    // Said after another receiver was told it is not that one's word.
    let (mut rig, id) = one();
    rig.full(&id, 97);
    rig.plan();
    let notice = rig.the_notice(C);
    rig.pass(7);
    rig.plan();
    rig.configure(&moved_yaml());
    rig.pass(1);
    rig.plan();
    let other = rig.the_notice(C);
    assert!(other.sequence > notice.sequence);
    rig.scheduler(&id, &notice, NotifyOutcome::Taken);
    assert_eq!(rig.node(&id).told.waiting.len(), 1);
    assert_eq!(rig.node(&id).told.last, U);
}
