//! Commands that are not over, by node: what agents may have to be told.

use std::collections::{BTreeMap, BTreeSet};

use navarch_model::{Change, CommandId, NodeId, State};

/// The commands of a state that are not over.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Orders(BTreeMap<NodeId, BTreeSet<CommandId>>);

impl Orders {
    pub(crate) fn of_state(state: &State) -> Self {
        let mut orders = Self::default();
        for command in state.commands.values() {
            orders.apply(state, &Change::Command(command.clone()));
        }
        orders
    }

    /// Follows a change that is yet to be made in the state.
    pub(crate) fn apply(&mut self, before: &State, change: &Change) {
        match change {
            Change::Command(command) if command.state.is_final() => {
                self.forget(&command.node, &command.id);
            }
            Change::Command(command) => {
                let of = self.0.entry(command.node.clone()).or_default();
                of.insert(command.id.clone());
            }
            Change::ForgetCommand(id) => {
                if let Some(command) = before.commands.get(id) {
                    self.forget(&command.node, id);
                }
            }
            _ => {}
        }
    }

    fn forget(&mut self, node: &NodeId, id: &CommandId) {
        if let Some(of) = self.0.get_mut(node) {
            of.remove(id);
            if of.is_empty() {
                self.0.remove(node);
            }
        }
    }

    /// Those of a node.
    pub(crate) fn of(&self, node: &NodeId) -> impl Iterator<Item = &CommandId> {
        self.0.get(node).into_iter().flatten()
    }
}
