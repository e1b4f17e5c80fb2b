//! Named holds: how people and other systems hold a node beside us.

use navarch_model::{EventKind, Hold, HoldKind, Lifecycle, Node, NodeId, Time, check_hold_word};

use super::Fleet;
use super::orphans::with_reason;
use crate::input::{NamedHold, Rejection, RejectionCode, Reply};

/// The most named holds of one node. Lower refuses systems that stand beside each other, higher
/// lets one caller that never reuses a name fill the record of the node.
const MAX_NAMED: usize = 16;

impl Fleet {
    /// Sets a named hold, or sets it anew. A repeat that changes nothing records nothing.
    pub(crate) fn add_named_hold(
        &mut self,
        id: &NodeId,
        asked: NamedHold,
    ) -> Result<Reply, Rejection> {
        for (field, word) in [("name", &asked.name), ("owner", &asked.owner)] {
            check_hold_word(word).map_err(|why| Rejection::invalid(format!("{field} {why}")))?;
        }
        let mut node = self.node_to_hold(id)?;
        let standing = node
            .named_hold(&asked.name)
            .map(|(kind, hold)| (kind.clone(), hold.clone()));
        let kind = HoldKind::Named {
            name: asked.name.clone(),
            owner: asked.owner.clone(),
            drains: asked.drains,
        };
        let expires = asked.lasts.map(|lasts| self.now.core + lasts);
        let mut hold = Hold {
            reason: asked.reason.clone(),
            since: self.now,
            expires,
            drained: None,
        };
        let mut words = kind.name();
        match &standing {
            None => {
                let named = |kind: &&HoldKind| matches!(kind, HoldKind::Named { .. });
                let count = node.holds.keys().filter(named).count();
                if count >= MAX_NAMED {
                    return Err(Rejection::precondition(format!(
                        "{count} named holds stand on node {id} already; remove one first"
                    )));
                }
            }
            Some((HoldKind::Named { owner, .. }, _)) if *owner != asked.owner => {
                return Err(Rejection {
                    code: RejectionCode::AlreadyExists,
                    message: format!(
                        "the hold {} on node {id} is {owner}'s: choose another name",
                        asked.name
                    ),
                });
            }
            Some((before, known)) => {
                hold.since = known.since;
                if *before == kind {
                    hold.drained = known.drained;
                }
                if *before == kind && *known == hold {
                    return Ok(held(&node, false));
                }
                node.holds.remove(before);
                words.push_str(" set anew");
            }
        }
        if let Some(lasts) = asked.lasts {
            words.push_str(&format!(" for {} s", lasts.as_secs()));
        }
        let subject = self.node_subject(&node);
        let name = kind.name();
        self.event(
            EventKind::HoldAdded,
            subject,
            with_reason(&words, &asked.reason),
            [("hold", name.clone()), ("owner", asked.owner)],
        );
        node.holds.insert(kind, hold);
        let reply = held(&node, true);
        self.put_node(node, &name);
        Ok(reply)
    }

    /// Lifts a named hold. One that is not there stays away: a repeat is no error.
    pub(crate) fn remove_named_hold(
        &mut self,
        id: &NodeId,
        name: &str,
        reason: &str,
    ) -> Result<Reply, Rejection> {
        check_hold_word(name).map_err(|why| Rejection::invalid(format!("name {why}")))?;
        let mut node = self.node_to_hold(id)?;
        let Some(kind) = node.named_hold(name).map(|(kind, _)| kind.clone()) else {
            return Ok(held(&node, false));
        };
        let why = with_reason("removed", reason);
        self.remove_hold(&mut node, &kind, &why);
        let reply = held(&node, true);
        self.put_node(node, &format!("{} removed", kind.name()));
        Ok(reply)
    }

    fn node_to_hold(&self, id: &NodeId) -> Result<Node, Rejection> {
        let Some(node) = self.state.nodes.get(id) else {
            return Err(Rejection::not_found(format!("node not found: {id}")));
        };
        if node.lifecycle == Lifecycle::Terminated {
            return Err(Rejection::precondition(format!(
                "node {id} is terminated: its machine is gone"
            )));
        }
        Ok(Node::clone(node))
    }

    /// Lifts holds whose time is over.
    pub(crate) fn expire_holds(&mut self) {
        let now = self.now.core;
        let over = |expires: Option<Time>| expires.is_some_and(|at| now >= at);
        let due: Vec<Node> = self
            .index
            .timed()
            .filter_map(|id| self.state.nodes.get(id))
            .filter(|node| node.holds.values().any(|hold| over(hold.expires)))
            .map(|node| Node::clone(node))
            .collect();
        for mut node in due {
            let kinds: Vec<HoldKind> = node
                .holds
                .iter()
                .filter(|(_, hold)| over(hold.expires))
                .map(|(kind, _)| kind.clone())
                .collect();
            for kind in &kinds {
                self.remove_hold(&mut node, kind, "its time is over");
            }
            self.put_node(node, "the time of a hold is over");
        }
    }
}

fn held(node: &Node, changed: bool) -> Reply {
    Reply::Held {
        changed,
        holds: node.hold_names(),
        status: node.status(),
    }
}
