//! Nodes that nobody bought, and what becomes of them when an operator ends them.

use navarch_model::{
    CommandId, CommandState, HoldKind, InstanceId, NodeCommandType, NodeId, NodeStatus, SessionId,
};

use super::{Rig, yaml};
use crate::input::{Input, Reply};

/// A fleet with one external node that is well. `acknowledges` says whether its agent can say what
/// became of a command.
fn external(acknowledges: bool) -> (Rig, InstanceId) {
    let mut rig = Rig::new(&yaml(0, 2, ""));
    let id = InstanceId::new("rack-7");
    register(&mut rig, &id, 1, acknowledges);
    rig.full(&id, 45);
    assert_eq!(rig.node(&id).status(), NodeStatus::Active);
    (rig, id)
}

fn register(rig: &mut Rig, id: &InstanceId, session: u32, acknowledges: bool) {
    let mut registration = Rig::registration(id);
    registration.instance = None;
    registration.session = Some(SessionId::new(format!("session-{session}")));
    registration.description.capabilities.command_results = acknowledges;
    rig.take(Input::Register(registration));
}

/// An operator ends the node. Answers the command.
fn end(rig: &mut Rig, id: &InstanceId) -> CommandId {
    let reply = rig.take(Input::Command {
        node: NodeId::new(id.as_str()),
        kind: NodeCommandType::Terminate,
        parameters: [("reason".to_owned(), "rack moves".to_owned())].into(),
    });
    match reply {
        Reply::Commanded { id, status, .. } => {
            assert_eq!(status, NodeStatus::Draining);
            id
        }
        other => panic!("{other:?}"),
    }
}

/// The agent takes its commands.
fn poll(rig: &mut Rig, id: &InstanceId) -> usize {
    let reply = rig.take(Input::Poll {
        node: NodeId::new(id.as_str()),
        session: rig.node(id).session.clone(),
    });
    match reply {
        Reply::Commands(commands) => commands.len(),
        other => panic!("{other:?}"),
    }
}

fn answer(rig: &mut Rig, id: &InstanceId, command: &CommandId, state: CommandState) {
    rig.take(Input::Acknowledge {
        node: NodeId::new(id.as_str()),
        command: command.clone(),
        state,
        result: String::new(),
    });
}

#[test]
fn a_node_that_is_told_to_end_takes_no_work_until_its_agent_ended() {
    let (mut rig, id) = external(true);
    let command = end(&mut rig, &id);
    assert_eq!(rig.node(&id).hold_names(), ["drain:terminating"]);
    assert_eq!(poll(&mut rig, &id), 1);
    assert_eq!(rig.node(&id).status(), NodeStatus::Draining);
    answer(&mut rig, &id, &command, CommandState::Succeeded);
    assert_eq!(rig.node(&id).status(), NodeStatus::Terminated);
    // Its agent runs again: the node is back, through its gate.
    register(&mut rig, &id, 2, true);
    assert_eq!(rig.node(&id).status(), NodeStatus::Cordoned);
    rig.full(&id, 45);
    assert_eq!(rig.node(&id).status(), NodeStatus::Active);
    assert_eq!(rig.node(&id).incarnation, 2);
}

#[test]
fn a_node_whose_agent_does_not_end_takes_work_again() {
    let (mut rig, id) = external(true);
    let (first, second) = (end(&mut rig, &id), end(&mut rig, &id));
    assert_eq!(poll(&mut rig, &id), 2);
    answer(&mut rig, &id, &first, CommandState::Failed);
    assert_eq!(rig.node(&id).status(), NodeStatus::Draining, "one waits");
    answer(&mut rig, &id, &second, CommandState::Failed);
    assert_eq!(rig.node(&id).status(), NodeStatus::Active);
    // A second answer changes nothing.
    answer(&mut rig, &id, &second, CommandState::Succeeded);
    assert_eq!(rig.node(&id).status(), NodeStatus::Active);
}

#[test]
fn a_node_whose_agent_never_asks_takes_work_again_when_the_command_expires() {
    let (mut rig, id) = external(true);
    end(&mut rig, &id);
    for minute in 0..60 {
        assert_eq!(rig.node(&id).status(), NodeStatus::Draining, "{minute}");
        rig.pass(60);
        rig.full(&id, 45);
        rig.take(Input::Tick);
    }
    assert_eq!(rig.node(&id).status(), NodeStatus::Active);
}

#[test]
fn a_node_that_falls_silent_after_it_was_told_to_end_has_ended() {
    for acknowledges in [true, false] {
        let (mut rig, id) = external(acknowledges);
        end(&mut rig, &id);
        assert_eq!(poll(&mut rig, &id), 1);
        assert_eq!(rig.node(&id).status(), NodeStatus::Draining);
        rig.silent(&id);
        assert_eq!(rig.node(&id).status(), NodeStatus::Terminated);
        register(&mut rig, &id, 2, acknowledges);
        rig.full(&id, 45);
        assert_eq!(rig.node(&id).status(), NodeStatus::Active);
    }
}

#[test]
fn an_order_that_was_not_given_yet_outlasts_a_silence() {
    for acknowledges in [true, false] {
        let (mut rig, id) = external(acknowledges);
        end(&mut rig, &id);
        rig.silent(&id);
        assert_eq!(rig.node(&id).status(), NodeStatus::Unhealthy);
        register(&mut rig, &id, 2, acknowledges);
        rig.back(&id);
        rig.full(&id, 45);
        assert_eq!(rig.node(&id).status(), NodeStatus::Draining);
        assert_eq!(poll(&mut rig, &id), 1);
        rig.silent(&id);
        assert_eq!(rig.node(&id).status(), NodeStatus::Terminated);
    }
}

#[test]
fn an_order_to_a_node_that_ended_is_not_given_to_the_next_agent() {
    let (mut rig, id) = external(true);
    let given = end(&mut rig, &id);
    assert_eq!(poll(&mut rig, &id), 1);
    let waits = end(&mut rig, &id);
    rig.silent(&id);
    assert_eq!(rig.node(&id).status(), NodeStatus::Terminated);
    for command in [&given, &waits] {
        let state = rig.fleet.state().commands[command].state;
        assert_eq!(state, CommandState::Expired);
    }
    register(&mut rig, &id, 2, true);
    rig.full(&id, 45);
    assert_eq!(poll(&mut rig, &id), 0);
    // What the old agent says late changes nothing.
    answer(&mut rig, &id, &given, CommandState::Succeeded);
    assert_eq!(rig.node(&id).status(), NodeStatus::Active);
}

#[test]
fn an_old_agent_that_is_here_again_did_not_end() {
    let (mut rig, id) = external(false);
    end(&mut rig, &id);
    // It was not given the command yet: its restart changes nothing.
    register(&mut rig, &id, 2, false);
    assert_eq!(rig.node(&id).status(), NodeStatus::Draining);
    assert_eq!(poll(&mut rig, &id), 1);
    assert_eq!(poll(&mut rig, &id), 0, "at most once");
    register(&mut rig, &id, 3, false);
    assert_eq!(rig.node(&id).status(), NodeStatus::Active);
    // One that keeps beating takes work again after the time of a command.
    end(&mut rig, &id);
    assert_eq!(poll(&mut rig, &id), 1);
    for _ in 0..61 {
        rig.pass(60);
        rig.full(&id, 45);
        rig.take(Input::Tick);
    }
    assert_eq!(rig.node(&id).status(), NodeStatus::Active);
}

#[test]
fn what_others_hold_stands_when_the_order_failed() {
    let (mut rig, id) = external(true);
    rig.take(Input::Command {
        node: NodeId::new(id.as_str()),
        kind: NodeCommandType::Cordon,
        parameters: [].into(),
    });
    let command = end(&mut rig, &id);
    poll(&mut rig, &id);
    answer(&mut rig, &id, &command, CommandState::Failed);
    let holds: Vec<&HoldKind> = rig.node(&id).holds.keys().collect();
    assert_eq!(holds, [&HoldKind::OperatorCordon]);
}

#[test]
fn another_command_that_fails_ends_no_drain() {
    let (mut rig, id) = external(true);
    let reply = rig.take(Input::Command {
        node: NodeId::new(id.as_str()),
        kind: NodeCommandType::RunDiagnostic,
        parameters: [].into(),
    });
    let Reply::Commanded { id: diagnostic, .. } = reply else {
        panic!("{reply:?}");
    };
    end(&mut rig, &id);
    poll(&mut rig, &id);
    answer(&mut rig, &id, &diagnostic, CommandState::Succeeded);
    assert_eq!(rig.node(&id).status(), NodeStatus::Draining);
}

#[test]
fn an_old_session_takes_no_command_of_a_new_one() {
    let (mut rig, id) = external(true);
    end(&mut rig, &id);
    register(&mut rig, &id, 2, true);
    let ask = |session: Option<&str>| Input::Poll {
        node: NodeId::new(id.as_str()),
        session: session.map(SessionId::new),
    };
    let refused = rig.feed(ask(Some("session-1"))).unwrap_err();
    assert_eq!(
        refused.message,
        "session superseded: another agent registered as rack-7 since"
    );
    let pending = |rig: &Rig| {
        let commands = rig.fleet.state().commands.values();
        commands
            .filter(|one| one.state == CommandState::Pending)
            .count()
    };
    assert_eq!(pending(&rig), 1);
    assert!(matches!(rig.take(ask(Some("session-2"))), Reply::Commands(all) if all.len() == 1));
    assert_eq!(pending(&rig), 0);
    // An agent that names no session is not fenced.
    assert!(matches!(rig.take(ask(None)), Reply::Commands(all) if all.len() == 1));
}
