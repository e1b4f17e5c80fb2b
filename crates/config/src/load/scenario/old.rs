//! Forms that documents of the Go project show and its own reader never took.

use crate::error::Log;
use crate::tree::{Entry, Node, Value};

/// Turns such forms into those of the tables, each with a warning.
pub(super) fn renew(log: &Log, root: &mut Node) {
    nodes_of_fleet(log, root);
    codes_of_xids(log, root);
    provider_of_pools(root);
}

fn below<'n>(node: &'n mut Node, key: &str) -> Option<&'n mut Node> {
    match &mut node.value {
        Value::Map(entries) => {
            let entry = entries.iter_mut().find(|entry| entry.key == key)?;
            Some(&mut entry.node)
        }
        _ => None,
    }
}

/// `fleet: {nodes: [...]}`.
fn nodes_of_fleet(log: &Log, root: &mut Node) {
    let Some(fleet) = below(root, "fleet") else {
        return;
    };
    if let Value::Map(entries) = &mut fleet.value
        && let [only] = entries.as_mut_slice()
        && only.key == "nodes"
    {
        log.warn(
            only.at,
            "fleet.nodes is an old spelling: write the list under fleet itself",
        );
        let nodes = std::mem::replace(&mut only.node.value, Value::Null);
        fleet.value = nodes;
    }
}

/// `xid_distribution: [{code: 79, weight: 30}]`.
fn codes_of_xids(log: &Log, root: &mut Node) {
    let chaos = below(root, "stress").and_then(|stress| below(stress, "chaos"));
    let Some(xids) = chaos.and_then(|chaos| below(chaos, "xid_distribution")) else {
        return;
    };
    let Value::List(elements) = &mut xids.value else {
        return;
    };
    let paired = |element: &Node| {
        let Value::Map(entries) = &element.value else {
            return false;
        };
        let code =
            |entry: &Entry| entry.key == "code" && matches!(entry.node.value, Value::Scalar(_));
        entries.len() == 2
            && entries.iter().any(code)
            && entries.iter().any(|entry| entry.key == "weight")
    };
    if elements.is_empty() || !elements.iter().all(paired) {
        return;
    }
    log.warn(
        xids.at,
        "stress.chaos.xid_distribution as a list is an old spelling: write each code as a key with its weight",
    );
    let mut entries = Vec::new();
    for element in std::mem::take(elements) {
        let Value::Map(pair) = element.value else {
            continue;
        };
        let mut code = None;
        let mut weight = None;
        for entry in pair {
            match entry.node.value {
                Value::Scalar(ref scalar) if entry.key == "code" => {
                    code = Some((scalar.text.clone(), entry.node.at));
                }
                _ => weight = Some(entry.node),
            }
        }
        if let (Some((key, at)), Some(node)) = (code, weight) {
            entries.push(Entry { key, at, node });
        }
    }
    xids.value = Value::Map(entries);
}

/// Pools without providers buy at `fake`.
fn provider_of_pools(root: &mut Node) {
    if below(root, "providers").is_some() {
        return;
    }
    let Value::Map(entries) = &mut root.value else {
        return;
    };
    let Some(pools) = entries.iter().find(|entry| entry.key == "pools") else {
        return;
    };
    if matches!(pools.node.value, Value::Null) {
        return;
    }
    let at = pools.at;
    let entry = |key: &str, value| Entry {
        key: key.to_owned(),
        at,
        node: Node { at, value },
    };
    // The type is the name, and the rest is as it is by default.
    let fake = entry("fake", Value::Map(Vec::new()));
    entries.push(entry("providers", Value::Map(vec![fake])));
}
