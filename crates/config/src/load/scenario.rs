//! From a file to a [`Scenario`]: reading, the top level and the nodes.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::fleet::MOST_GPUS;
use super::{control_plane, read, text_of};
use crate::config::ServerConfig;
use crate::error::{ConfigErrors, Log, Position, Warning};
use crate::expand::{Environment, expand};
use crate::fields::{Fields, YEAR};
use crate::scenario::{Action, ColdStart, Event, FleetNode, Place, Scenario, usual_instance_type};
use crate::schema::Document;
use crate::tree::{self, quoted};

mod assertions;
mod chaos;
mod cloud;
mod events;
mod known;
mod old;
mod stress;
mod work;

use known::Known;

/// What GPUs call themselves when the file does not say it.
const GPU_TYPE: &str = "NVIDIA H100 80GB HBM3";

impl Scenario {
    /// Reads a scenario file, with the variables of the process: the scenario, the text as it was
    /// read, and what is odd about it. The path stands in messages as it is given.
    ///
    /// # Errors
    ///
    /// Fails with all problems found, in the order of the file.
    pub fn load(path: &Path) -> Result<(Self, String, Vec<Warning>), ConfigErrors> {
        let (name, bytes) = read(path, Document::Scenario)?;
        let text = text_of(&name, &bytes, Document::Scenario)?;
        let (scenario, warnings) = Self::parse_with(&name, text, &|name| std::env::var_os(name))?;
        Ok((scenario, text.to_owned(), warnings))
    }

    /// Reads a scenario from a text, without any variable; `name` stands in messages as the file.
    ///
    /// # Errors
    ///
    /// Fails with all problems found, in the order of the text.
    pub fn parse(name: &str, text: &str) -> Result<(Self, Vec<Warning>), ConfigErrors> {
        Self::parse_with(name, text, &|_| None)
    }

    /// The same with these variables.
    ///
    /// # Errors
    ///
    /// Fails with all problems found, in the order of the text.
    pub fn parse_with(
        name: &str,
        text: &str,
        environment: &Environment<'_>,
    ) -> Result<(Self, Vec<Warning>), ConfigErrors> {
        let text = text_of(name, text.as_bytes(), Document::Scenario)?;
        let log = Log::new(name, Document::Scenario);
        let scenario = tree::parse(&log, text).map(|mut root| {
            expand(&log, &mut root, "", environment);
            old::renew(&log, &mut root);
            let at = Position::START;
            let section = Document::Scenario.root();
            let fields = Fields::new(&log, section, String::new(), at, Some(&root));
            top_level(&fields)
        });
        let (scenario, warnings) = log.finish(scenario, text)?;
        let scenario = scenario.expect("a text without a tree has an error");
        Ok((scenario, warnings))
    }
}

fn top_level(root: &Fields<'_>) -> Scenario {
    let config = control_plane(
        root,
        ServerConfig {
            heartbeat_interval: Duration::from_secs(3),
            health_check_interval: Duration::from_secs(5),
            ..ServerConfig::default()
        },
    );
    let name = root.text("name");
    if !root.has("name") && !root.is_broken() {
        root.fail("name", "required: say what the scenario is called");
    }
    let errors = root.log().error_count();
    let fleet = fleet(root);
    let mut stress = root
        .has("stress")
        .then(|| stress::stress(&root.section("stress")));
    let generated = stress.as_ref().and_then(|stress| stress.fleet_gen.clone());
    // A section that is wrong in itself has its own errors.
    if root.log().error_count() == errors {
        check_fleet(root, &fleet, generated.is_some());
    }
    let known = Known::new(&config, &fleet, generated.as_ref());
    if let Some(stress) = &mut stress {
        let section = root.section("stress");
        stress.chaos = section
            .has("chaos")
            .then(|| chaos::chaos(&section.section("chaos"), &known, stress.duration));
    }
    let seed = stress::seed(root);
    if let Some(stress) = &mut stress {
        if seed.is_some() && stress.seed.is_some() {
            root.fail("seed", "stress.seed is set too: keep one");
        }
        stress.seed = stress.seed.or(seed);
    }
    let length = stress.as_ref().map(|stress| stress.duration);
    let mut events = events::events(root, &known, length);
    let starts = |event: &Event| event.action == Action::StartFleet;
    if stress.is_none() && !fleet.is_empty() && !events.iter().any(starts) {
        let start = Event {
            at: Duration::ZERO,
            line: root.at("fleet").line,
            action: Action::StartFleet,
        };
        events.insert(0, start);
    }
    let assertions = assertions::assertions(root, &known);
    let cloud = cloud::cloud(&root.section("cloud"), &known);
    let load = work::load(root, &known);
    let drain = work::drain(root, &config);
    let rules = known.into_rules();
    Scenario {
        name: name.unwrap_or_default(),
        description: root.prose("description").unwrap_or_default(),
        seed: stress.as_ref().map_or(seed, |stress| stress.seed),
        rules,
        events,
        assertions,
        cloud,
        load,
        drain,
        lost_calls: root.share("lost_calls").unwrap_or(0.0),
        fleet,
        stress,
        config,
    }
}

/// Checks that there are nodes, and from one place.
fn check_fleet(root: &Fields<'_>, fleet: &[FleetNode], generated: bool) {
    let named = !fleet.is_empty();
    if named && generated {
        root.fail("fleet", "stress.fleet_gen is set too: keep one");
    }
    if !named && !generated && !root.has("pools") && !root.is_broken() {
        root.log().error(
            root.at("fleet"),
            "the scenario has no nodes: list some under fleet, generate them with stress.fleet_gen, or add pools",
        );
    }
}

fn fleet(root: &Fields<'_>) -> Vec<FleetNode> {
    let mut seen: BTreeMap<String, Position> = BTreeMap::new();
    let mut nodes = Vec::new();
    for fields in root.list("fleet") {
        let node = node(&fields);
        if !fields.has("id") && !fields.is_broken() {
            fields.fail("id", "required: give the node an id");
        }
        if !node.id.is_empty() {
            if let Some(first) = seen.get(&node.id) {
                let id = quoted(&node.id);
                fields.fail(
                    "id",
                    format!("duplicate node id {id}: it is already used at {first}; keep one"),
                );
            } else {
                seen.insert(node.id.clone(), fields.at("id"));
            }
        }
        nodes.push(node);
    }
    nodes
}

fn node(fields: &Fields<'_>) -> FleetNode {
    let or_local = |key| fields.name(key).unwrap_or_else(|| "local".to_owned());
    let region = or_local("region");
    let zone = fields.name("zone").unwrap_or_else(|| format!("{region}-a"));
    let place = Place {
        provider: or_local("provider"),
        rack: fields
            .name("rack")
            .unwrap_or_else(|| format!("{zone}-rack-1")),
        region,
        zone,
    };
    let gpu_count = fields.count("gpu_count", 0..=MOST_GPUS).unwrap_or(8);
    FleetNode {
        id: fields.name("id").unwrap_or_default(),
        instance_type: fields
            .name("instance_type")
            .unwrap_or_else(|| usual_instance_type(&place.provider, gpu_count)),
        place,
        gpu_count,
        gpu_type: fields
            .text("gpu_type")
            .unwrap_or_else(|| GPU_TYPE.to_owned()),
        labels: labels(fields, "labels"),
    }
}

fn labels(fields: &Fields<'_>, key: &str) -> BTreeMap<String, String> {
    let labels = fields.labels(key).into_iter();
    labels.map(|(label, (text, _))| (label, text)).collect()
}

/// The four keys of a boot: the shortest, the longest, the mean and the standard deviation.
fn cold_start(fields: &Fields<'_>, keys: [&str; 4]) -> ColdStart {
    let time = |key| fields.duration(key, Duration::ZERO..=YEAR);
    let [min, max, mean, stddev] = keys;
    let read = ColdStart {
        min: time(min),
        max: time(max),
        mean: time(mean),
        stddev: time(stddev).unwrap_or_default(),
    };
    if let (Some(shortest), Some(longest)) = (read.min, read.max)
        && shortest > longest
    {
        fields.fail(min, format!("longer than {max}: exchange them"));
    }
    if fields.has(stddev) && !fields.has(mean) {
        let path = fields.path_of(stddev);
        fields.log().warn(
            fields.at(stddev),
            format!("{path} has no effect without {mean}"),
        );
    }
    read
}
