//! The cloud's inventory beside the record: what differs, and what lacks.

use std::collections::BTreeMap;
use std::fmt;

use navarch_api::wire::{InstanceInfo, NodeInfo};
use navarch_providers::fake::InstanceView;

/// The phases in which a machine may exist.
const LIVE: [&str; 5] = [
    "launching",
    "outcome_unknown",
    "pending_registration",
    "running",
    "terminating",
];

/// The wire's number of ACTIVE.
const ACTIVE: i32 = 1;

/// What is wrong, and with which instances.
#[derive(Debug, Default)]
pub struct Problems {
    words: Vec<String>,
    pub about: Vec<String>,
}

impl Problems {
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    pub fn add(&mut self, other: Self) {
        self.words.extend(other.words);
        self.about.extend(other.about);
    }

    fn say(&mut self, about: &str, words: String) {
        self.words.push(words);
        if !about.is_empty() {
            self.about.push(about.to_owned());
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words.join("\n"))
    }
}

/// The instance that a machine was bought as.
pub fn tag(machine: &InstanceView) -> &str {
    machine
        .tags
        .get("navarch-instance")
        .map(String::as_str)
        .unwrap_or_default()
}

/// Machines on no record, machines bought twice, and records without their machine.
pub fn leaks(machines: &[InstanceView], instances: &[InstanceInfo]) -> Problems {
    let mut problems = Problems::default();
    let mut bought: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for machine in machines {
        let (id, name) = (machine.id.as_str(), tag(machine));
        bought.entry(name).or_default().push(id);
        match instances.iter().find(|known| known.instance_id == name) {
            None => problems.say(name, format!("leak: {id} of {name} is on no record")),
            Some(known) if !LIVE.contains(&known.phase.as_str()) => problems.say(
                name,
                format!("leak: {id} lives and {name} is {}", known.phase),
            ),
            Some(known) if known.provider_instance_id != id => problems.say(
                name,
                format!(
                    "leak: {id} lives and {name} is {:?}",
                    known.provider_instance_id
                ),
            ),
            Some(_) => {}
        }
    }
    for (name, ids) in bought {
        if ids.len() > 1 {
            problems.say(name, format!("double buy: {name} is {}", ids.join(", ")));
        }
    }
    for known in instances {
        let exists = machines
            .iter()
            .any(|machine| machine.id == known.provider_instance_id);
        if LIVE.contains(&known.phase.as_str()) && !exists {
            problems.say(
                &known.instance_id,
                format!(
                    "ghost: {} is {} and the cloud has no such machine",
                    known.instance_id, known.phase
                ),
            );
        }
    }
    problems
}

/// What the pools lack, and what they have too much.
pub fn shortfalls(
    pools: &BTreeMap<String, usize>,
    instances: &[InstanceInfo],
    nodes: &[NodeInfo],
) -> Problems {
    let mut problems = Problems::default();
    for (pool, min) in pools {
        let active = nodes
            .iter()
            .filter(|node| node.pool == *pool && node.status.to_i32() == ACTIVE)
            .count();
        let members: Vec<_> = instances
            .iter()
            .filter(|known| known.pool_name == *pool)
            .filter(|known| known.phase == "requested" || LIVE.contains(&known.phase.as_str()))
            .collect();
        if (active, members.len()) != (*min, *min) {
            problems.say(
                "",
                format!(
                    "{pool}: {active} nodes are ACTIVE and {} instances live; {min} are asked for",
                    members.len()
                ),
            );
            let lacking = |id: &str| {
                !nodes
                    .iter()
                    .any(|node| node.instance_id == id && node.status.to_i32() == ACTIVE)
            };
            for known in members.iter().filter(|known| lacking(&known.instance_id)) {
                problems.say(
                    &known.instance_id,
                    format!(
                        "{pool}: {} is {}: {}",
                        known.instance_id, known.phase, known.status_message
                    ),
                );
            }
        }
    }
    problems
}

#[test]
fn leaks_twins_and_ghosts_are_told_apart() {
    let machine = |id: &str, instance: &str| -> InstanceView {
        serde_json::from_value(serde_json::json!({
            "id": id, "name": instance, "client_token": instance,
            "tags": {"navarch-instance": instance}, "region": "", "zone": "",
            "instance_type": "i", "status": "running", "created_at": 0,
        }))
        .expect("a machine")
    };
    let known = |instance: &str, phase: &str, id: &str| InstanceInfo {
        instance_id: instance.to_owned(),
        phase: phase.to_owned(),
        provider_instance_id: id.to_owned(),
        ..Default::default()
    };
    for (machines, instances, words) in [
        (vec![], vec![], vec![]),
        (vec![("m", "i")], vec![("i", "running", "m")], vec![]),
        (vec![("m", "i")], vec![("i", "terminating", "m")], vec![]),
        (vec![("m", "i")], vec![], vec!["leak"]),
        (
            vec![("m", "i")],
            vec![("i", "terminated", "m")],
            vec!["leak"],
        ),
        (
            vec![("m", "i")],
            vec![("i", "running", "n")],
            vec!["leak", "ghost"],
        ),
        (
            vec![("m", "i"), ("n", "i")],
            vec![("i", "running", "m")],
            vec!["leak", "double buy"],
        ),
        (vec![], vec![("i", "running", "m")], vec!["ghost"]),
        (vec![], vec![("i", "terminated", "m")], vec![]),
    ] {
        let machines: Vec<_> = machines.iter().map(|(id, of)| machine(id, of)).collect();
        let instances: Vec<_> = instances
            .iter()
            .map(|(id, phase, of)| known(id, phase, of))
            .collect();
        let found = leaks(&machines, &instances);
        let kinds: Vec<_> = found
            .words
            .iter()
            .filter_map(|said| said.split(':').next())
            .collect();
        assert_eq!(kinds, words, "{found}");
    }
}
