//! What operators say: commands, holds, automation.

use std::collections::BTreeMap;

use navarch_model::command::MAX_RESULT_BYTES;
use navarch_model::ids::fresh_uuid;
use navarch_model::{
    Automation, AutomationSetting, Command, CommandId, CommandState, DrainCause, EndCause,
    EventKind, HoldKind, IdSource, Instance, Lifecycle, Meta, Node, NodeCommandType, NodeId,
    NodeStatus, NoticeKind, Phase, PoolName, SessionId, Subject, Time,
};
use std::sync::Arc;

use super::Fleet;
use super::notices::cut;
use super::orphans::with_reason;
use super::report::SILENCE;
use crate::input::{Rejection, Reply};

/// The most commands that may wait for one node.
const MAX_WAITING: usize = 64;

/// What keeps work from a node that is told to end.
pub(super) const LEAVING: HoldKind = HoldKind::Drain(DrainCause::Terminating);

/// Whether a node is external and was told to end.
pub(super) fn is_leaving_external(node: &Node) -> bool {
    node.instance.is_none() && node.holds.contains_key(&LEAVING)
}

/// The refusal of an agent whose node id another one registered under since.
pub(super) fn superseded(id: &NodeId) -> Rejection {
    Rejection::precondition(format!(
        "session superseded: another agent registered as {id} since"
    ))
}

impl Fleet {
    pub(crate) fn command(
        &mut self,
        id: &NodeId,
        kind: NodeCommandType,
        parameters: BTreeMap<String, String>,
        ids: &mut dyn IdSource,
    ) -> Result<Reply, Rejection> {
        if kind == NodeCommandType::Unknown {
            return Err(Rejection::invalid("command_type is required"));
        }
        let Some(node) = self.state.nodes.get(id).map(|node| Node::clone(node)) else {
            return Err(Rejection::not_found(format!("node not found: {id}")));
        };
        if node.lifecycle == Lifecycle::Terminated {
            return Err(Rejection::precondition(format!(
                "node {id} is terminated: its machine is gone"
            )));
        }
        let reason = parameters.get("reason").cloned().unwrap_or_default();
        let command = Command {
            id: CommandId::new(fresh_uuid(ids)),
            node: id.clone(),
            kind,
            parameters,
            issued: self.now,
            expires: self.now.core + self.settings.guards.command_expiry,
            state: CommandState::Pending,
            changed: self.now,
            result: String::new(),
        };
        let done = match NoticeKind::of(kind) {
            Some(told) => self.command_to_hold(node, &command, told, &reason)?,
            None if kind == NodeCommandType::Terminate => {
                self.terminate_by_operator(&node, &reason, command.expires)?
            }
            None => {
                self.room_for_command(id)?;
                false
            }
        };
        self.issue(command, done, &reason)
    }

    fn issue(
        &mut self,
        mut command: Command,
        done: bool,
        reason: &str,
    ) -> Result<Reply, Rejection> {
        if done {
            command.state = CommandState::Succeeded;
        }
        let Some(node) = self.state.nodes.get(&command.node).cloned() else {
            return Err(Rejection::not_found(format!(
                "node not found: {}",
                command.node
            )));
        };
        let subject = Subject {
            command: Some(command.id.clone()),
            ..self.node_subject(&node)
        };
        let word = command.kind.short();
        self.event(
            EventKind::CommandIssued,
            subject,
            if reason.is_empty() {
                word.to_owned()
            } else {
                format!("{word}: {reason}")
            },
            [("command", word.to_owned()), ("reason", reason.to_owned())],
        );
        let reply = Reply::Commanded {
            id: command.id.clone(),
            issued: command.issued,
            holds: node.hold_names(),
            status: node.status(),
        };
        self.put_command(command);
        Ok(reply)
    }

    pub(crate) fn put_command(&mut self, command: Command) {
        self.put(navarch_model::Change::Command(Arc::new(command)));
    }

    fn room_for_command(&self, id: &NodeId) -> Result<(), Rejection> {
        let waiting = self.index.waiting(id).count();
        if waiting >= MAX_WAITING {
            return Err(Rejection::precondition(format!(
                "{waiting} commands wait for node {id} already; let its agent catch up first"
            )));
        }
        Ok(())
    }

    /// Ends the instance of a bound node; answers whether nothing is left for the agent to do.
    fn terminate_by_operator(
        &mut self,
        node: &Node,
        reason: &str,
        expires: Time,
    ) -> Result<bool, Rejection> {
        let Some(instance) = node
            .instance
            .as_ref()
            .and_then(|id| self.state.instances.get(id))
        else {
            if node.silent_since.is_some() {
                // No agent can carry it out.
                self.end_node(
                    node.clone(),
                    "terminated by an operator while it was silent",
                );
                return Ok(true);
            }
            self.room_for_command(&node.id)?;
            self.end_external(Node::clone(node), reason, expires);
            return Ok(false);
        };
        let instance = Instance::clone(instance);
        if instance.phase.may_be_alive() && instance.phase != Phase::Terminating {
            let why = if reason.is_empty() {
                "terminated by an operator".to_owned()
            } else {
                format!("terminated by an operator: {reason}")
            };
            self.commit_termination(instance, EndCause::Operator, &why);
        }
        Ok(true)
    }

    /// The commands that wait for a node, for the agent that asks.
    ///
    /// # Errors
    ///
    /// Another agent registered under the id since: the commands are not this one's to take.
    pub(crate) fn poll(
        &mut self,
        id: &NodeId,
        session: Option<&SessionId>,
    ) -> Result<Reply, Rejection> {
        let Some(node) = self.state.nodes.get(id).cloned() else {
            return Ok(Reply::Commands(Vec::new()));
        };
        if session.is_some() && session != node.session.as_ref() {
            return Err(superseded(id));
        }
        let confirms = node.description.capabilities.command_results;
        let mut waiting: Vec<_> = self
            .index
            .waiting(id)
            .filter_map(|command| self.state.commands.get(command))
            .cloned()
            .collect();
        waiting.sort_by_key(|command| (command.issued, command.id.clone()));
        for command in &waiting {
            if command.state == CommandState::Pending {
                let mut delivered = Command::clone(command);
                delivered.state = if confirms {
                    CommandState::Delivered
                } else {
                    CommandState::Unconfirmed
                };
                delivered.changed = self.now;
                self.put_command(delivered);
            }
        }
        Ok(Reply::Commands(waiting))
    }

    pub(crate) fn acknowledge(
        &mut self,
        node: &NodeId,
        id: &CommandId,
        state: CommandState,
        result: &str,
    ) -> Result<Reply, Rejection> {
        let Some(command) = self
            .state
            .commands
            .get(id)
            .filter(|command| command.node == *node)
            .cloned()
        else {
            return Err(Rejection::not_found(format!(
                "command not found: {id} for node {node}"
            )));
        };
        if !matches!(state, CommandState::Succeeded | CommandState::Failed) {
            return Err(Rejection::invalid(
                "a command is acknowledged as succeeded or failed",
            ));
        }
        if NoticeKind::of(command.kind).is_some() {
            let kind = command.kind.short();
            return Err(Rejection::precondition(format!(
                "command {id} is not the agent's: the scheduler carries out {kind}"
            )));
        }
        if command.state.is_final() {
            return Ok(Reply::Done);
        }
        let mut command = Command::clone(&command);
        command.state = state;
        command.changed = self.now;
        command.result = cut(result, MAX_RESULT_BYTES);
        self.command_changed(command);
        Ok(Reply::Done)
    }

    pub(crate) fn command_changed(&mut self, command: Command) {
        let subject = Subject {
            node: Some(command.node.clone()),
            command: Some(command.id.clone()),
            ..Subject::default()
        };
        let message = format!("{} {}", command.kind.short(), command.state.word());
        self.event(EventKind::CommandChanged, subject, message, []);
        self.put_command(command.clone());
        if command.kind == NodeCommandType::Terminate {
            self.external_answered(&command);
        }
    }

    /// An external node is told to end: no work is placed on it until its agent answers, or until
    /// the command's time is over.
    fn end_external(&mut self, mut node: Node, reason: &str, expires: Time) {
        let why = with_reason("its agent is told to end", reason);
        self.add_hold(&mut node, LEAVING, &why);
        if let Some(hold) = node.holds.get_mut(&LEAVING) {
            hold.expires = Some(expires);
        }
        self.put_node(node, &why);
    }

    /// What became of an order to end: the agent of an external node ended, or the node stays.
    fn external_answered(&mut self, command: &Command) {
        let Some(node) =
            self.state.nodes.get(&command.node).filter(|node| {
                node.lifecycle == Lifecycle::Registered && is_leaving_external(node)
            })
        else {
            return;
        };
        let mut node = Node::clone(node);
        if command.state == CommandState::Succeeded {
            self.end_node(node, "its agent ended as it was told");
        } else if !self.is_told_to_end(&node.id) {
            let why = format!(
                "its agent did not end: the command {}",
                command.state.word()
            );
            self.remove_hold(&mut node, &LEAVING, &why);
            self.put_node(node, &why);
        }
    }

    /// Whether an order to end still waits for a node's agent.
    pub(super) fn is_told_to_end(&self, node: &NodeId) -> bool {
        self.index
            .waiting(node)
            .filter_map(|id| self.state.commands.get(id))
            .any(|command| command.kind == NodeCommandType::Terminate)
    }

    /// Whether a node's agent was given an order to end, if there was one.
    pub(super) fn was_told_to_end(&self, node: &NodeId) -> bool {
        let orders: Vec<CommandState> = self
            .index
            .waiting(node)
            .filter_map(|id| self.state.commands.get(id))
            .filter(|command| command.kind == NodeCommandType::Terminate)
            .map(|command| command.state)
            .collect();
        orders.is_empty() || orders.contains(&CommandState::Delivered)
    }

    pub(crate) fn confirm_dead(&mut self, id: &NodeId, reason: String) -> Result<Reply, Rejection> {
        let Some(node) = self.state.nodes.get(id) else {
            return Err(Rejection::not_found(format!("node not found: {id}")));
        };
        if node.status() == NodeStatus::Terminated || node.silent_since.is_none() {
            return Err(Rejection::precondition(format!(
                "node {id} is not silent; terminate it instead if it must go"
            )));
        }
        let silence = node
            .open_incidents
            .keys()
            .filter_map(|id| self.state.incidents.get(id))
            .find(|incident| incident.key.class == SILENCE)
            .map(|incident| navarch_model::Incident::clone(incident));
        let Some(mut incident) = silence else {
            return Err(Rejection::precondition(format!(
                "node {id} has no silence incident"
            )));
        };
        incident.confirmed = true;
        let subject = self.incident_subject(&incident);
        self.event(
            EventKind::IncidentChanged,
            subject,
            format!("an operator confirmed that the machine is dead: {reason}"),
            [],
        );
        self.put_incident(incident);
        Ok(Reply::Done)
    }

    pub(crate) fn set_automation(
        &mut self,
        pool: Option<PoolName>,
        mode: Automation,
        reason: String,
    ) -> Result<Reply, Rejection> {
        let setting = AutomationSetting {
            mode,
            reason: reason.clone(),
            since: Some(self.now),
        };
        let scope = match &pool {
            Some(name) => {
                self.known(name)?;
                let mut memory = self.pool_memory(name);
                memory.automation = Some(setting);
                self.put_pool(memory);
                format!("pool {name}")
            }
            None => {
                let meta = Meta {
                    automation: setting,
                    ..Meta::clone(&self.state.meta)
                };
                self.put_meta(meta);
                "the fleet".to_owned()
            }
        };
        let subject = Subject {
            pool,
            ..Subject::default()
        };
        let mut message = format!("automation of {scope} is {}", mode.word());
        if !reason.is_empty() {
            message.push_str(": ");
            message.push_str(&reason);
        }
        self.event(
            EventKind::AutomationChanged,
            subject,
            message,
            [("mode", mode.word().to_owned())],
        );
        self.cancel_launches();
        Ok(Reply::Done)
    }

    pub(crate) fn inherit_automation(
        &mut self,
        pool: &PoolName,
        reason: &str,
    ) -> Result<Reply, Rejection> {
        self.known(pool)?;
        let mut memory = self.pool_memory(pool);
        if memory.automation.take().is_none() {
            return Err(Rejection::precondition(format!(
                "automation of pool {pool} was not chosen by an operator: its configuration counts"
            )));
        }
        self.put_pool(memory);
        let mode = self.automation(pool);
        let mut message = format!("automation of pool {pool} is inherited: {}", mode.word());
        if !reason.is_empty() {
            message.push_str("; ");
            message.push_str(reason);
        }
        let subject = Subject {
            pool: Some(pool.clone()),
            ..Subject::default()
        };
        let details = [("mode", mode.word().to_owned())];
        self.event(EventKind::AutomationChanged, subject, message, details);
        self.cancel_launches();
        Ok(Reply::Done)
    }

    pub(super) fn known(&self, pool: &PoolName) -> Result<(), Rejection> {
        if self.settings.pools.contains_key(pool) {
            return Ok(());
        }
        let known: Vec<_> = self.settings.pools.keys().map(PoolName::as_str).collect();
        Err(Rejection::not_found(format!(
            "pool not found: {pool} (pools: {})",
            known.join(", ")
        )))
    }
}
