//! Reading of where a pool's machines are bought.

use std::collections::{BTreeMap, BTreeSet};

use navarch_model::CapacityKind;

use super::fleet::Problems;
use crate::config::{CandidateConfig, PlacementConfig, Strategy};
use crate::error::Position;
use crate::fields::Fields;
use crate::instance_types;
use crate::schema;
use crate::tree::quoted;

/// The most that a weight may be.
const MOST_WEIGHT: u32 = 1000;
/// Priorities beyond are slips of the keyboard.
const MOST_PRIORITY: i128 = 1_000_000;
/// The most offerings of a pool: each is ranked and reported with every plan.
const MOST_OFFERINGS: usize = 256;
/// The most launch calls under way that a limit may name.
const MOST_LAUNCHES: u32 = 10_000;

/// The providers of the file by name, with their types where those are sound; none when the
/// section is no mapping, so that nothing is known.
pub(super) type Known<'t> = Option<BTreeMap<&'t str, Option<&'static str>>>;

pub(super) fn placement(this: &Problems<'_, '_>, providers: &Known<'_>) -> PlacementConfig {
    let fields = this.fields;
    let placement = PlacementConfig {
        strategy: fields
            .word("strategy", &Strategy::WORDS)
            .unwrap_or_default(),
        parallel_launches: fields.count("parallel_launches", 1..=MOST_LAUNCHES),
        providers: candidates(this, providers),
    };
    let names = placement.providers.iter();
    let weighted = names.clone().any(|one| one.weight != 1);
    if weighted && placement.strategy != Strategy::RoundRobin {
        this.warn_at_key(
            "strategy",
            "weights count with strategy round-robin alone, and the strategy is another",
        );
    }
    let count: usize = names.clone().map(|one| one.places().len()).sum();
    if count > MOST_OFFERINGS {
        this.at_key(
            "providers",
            &format!("{count} regions and zones are too many: a pool has at most {MOST_OFFERINGS}"),
        );
    }
    let mut seen = BTreeSet::new();
    for one in names {
        for (region, zone) in one.places() {
            let offering = (&one.name, region, zone, &one.instance_type, one.capacity);
            if !one.name.is_empty() && !seen.insert(offering) {
                this.at_key(
                    "providers",
                    &format!(
                        "{} is named twice for {region} {zone} {}: keep one",
                        quoted(&one.name),
                        one.instance_type
                    ),
                );
            }
        }
    }
    placement
}

/// What the pool says for all of its providers.
struct Defaults {
    regions: Vec<String>,
    zones: Vec<String>,
    instance_type: Option<String>,
    capacity: CapacityKind,
    max_price: Option<navarch_model::Price>,
}

fn candidates(this: &Problems<'_, '_>, providers: &Known<'_>) -> Vec<CandidateConfig> {
    let fields = this.fields;
    let regions = one_or_several(this, "region", "regions");
    let defaults = Defaults {
        regions: if regions.is_empty() {
            vec!["local".to_owned()]
        } else {
            regions
        },
        zones: one_or_several(this, "zone", "zones"),
        instance_type: fields.name("instance_type"),
        capacity: capacity(fields).unwrap_or_default(),
        max_price: fields.price("max_price"),
    };
    let errors = fields.log().error_count();
    let several = fields.list("providers");
    let broken = several.iter().any(Fields::is_broken) || fields.log().error_count() > errors;
    match (fields.has("provider"), fields.has("providers")) {
        (true, true) if broken => {}
        (true, true) => {
            let problem = "cannot specify both provider and providers: keep one";
            this.at_key("providers", problem);
        }
        (false, false) => {
            this.at_start(
                "must specify provider or providers: name those of the providers section",
            );
        }
        _ => {}
    }
    if several.is_empty() {
        if fields.has("providers") && !fields.has("provider") && !broken {
            this.at_key("providers", "providers is empty: list at least one");
        }
        let name = fields.name("provider").unwrap_or_default();
        check_provider(this, providers, &name, fields.at("provider"));
        if !fields.has("instance_type") {
            this.at_start("instance_type is required: name the machine type to launch");
        }
        let wanted = defaults.instance_type.clone().unwrap_or_default();
        let at = fields.at("instance_type");
        let instance_type = resolve(this, providers, &name, &wanted, at);
        let one = CandidateConfig {
            name,
            priority: 0,
            weight: 1,
            regions: defaults.regions,
            zones: defaults.zones,
            instance_type,
            capacity: defaults.capacity,
            max_price: defaults.max_price,
        };
        check_zones(this, &one, fields, "zones");
        return vec![one];
    }
    several
        .iter()
        .map(|entry| candidate(this, entry, &defaults, providers))
        .collect()
}

fn candidate(
    this: &Problems<'_, '_>,
    entry: &Fields<'_>,
    defaults: &Defaults,
    providers: &Known<'_>,
) -> CandidateConfig {
    let name = entry.name("name").unwrap_or_default();
    if !entry.has("name") && !entry.is_broken() {
        let message = "name is required: name one of the providers section";
        this.at(entry.start(), message);
    }
    check_provider(this, providers, &name, entry.at("name"));
    let priority = entry.integer("priority").unwrap_or(0);
    if priority.abs() > MOST_PRIORITY {
        entry.fail(
            "priority",
            format!("out of range: use -{MOST_PRIORITY} to {MOST_PRIORITY}"),
        );
    }
    let own = entry.name("instance_type");
    let at = if entry.has("instance_type") {
        entry.at("instance_type")
    } else {
        this.fields.at("instance_type")
    };
    let wanted = own.or_else(|| defaults.instance_type.clone());
    if wanted.is_none() && !entry.has("instance_type") && !this.fields.has("instance_type") {
        let message = "instance_type is required: give the pool or this provider one";
        this.at(entry.start(), message);
    }
    let or_default = |own: Vec<String>, default: &[String]| match own.is_empty() {
        true => default.to_vec(),
        false => own,
    };
    let instance_type = resolve(this, providers, &name, &wanted.unwrap_or_default(), at);
    let one = CandidateConfig {
        priority: i32::try_from(priority).unwrap_or(0),
        weight: entry.count("weight", 1..=MOST_WEIGHT).unwrap_or(1),
        regions: or_default(names(entry, "regions"), &defaults.regions),
        zones: or_default(names(entry, "zones"), &defaults.zones),
        instance_type,
        capacity: capacity(entry).unwrap_or(defaults.capacity),
        max_price: entry.price("max_price").or(defaults.max_price),
        name,
    };
    check_zones(this, &one, entry, "zones");
    one
}

fn capacity(fields: &Fields<'_>) -> Option<CapacityKind> {
    fields.word(
        "capacity",
        &CapacityKind::ALL.map(|kind| (kind.word(), kind)),
    )
}

/// A list of names, each once.
fn names(fields: &Fields<'_>, key: &'static str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for (text, at) in fields.texts(key) {
        let path = fields.path_of(key);
        if let Err(error) = navarch_model::ids::check_id(&text) {
            let message = format!("{path}: {} {error}", quoted(&text));
            fields.log().error(at, message);
        } else if found.contains(&text) {
            let message = format!("{path}: {} is listed twice: keep one", quoted(&text));
            fields.log().error(at, message);
        } else {
            found.push(text);
        }
    }
    found
}

/// The key for one, or the key for several.
fn one_or_several(
    this: &Problems<'_, '_>,
    one: &'static str,
    several: &'static str,
) -> Vec<String> {
    let fields = this.fields;
    if fields.has(one) && fields.has(several) {
        this.at_key(
            several,
            &format!("cannot specify both {one} and {several}: keep one"),
        );
    }
    let single = fields.name(one);
    match single {
        Some(single) => vec![single],
        None => names(fields, several),
    }
}

/// Each region must be left with a zone where zones are named.
fn check_zones(
    this: &Problems<'_, '_>,
    one: &CandidateConfig,
    fields: &Fields<'_>,
    key: &'static str,
) {
    if one.zones.is_empty() {
        return;
    }
    let places = one.places();
    for region in &one.regions {
        if !places.iter().any(|(has, _)| has == region) {
            let at = if fields.has(key) {
                fields.at(key)
            } else {
                fields.start()
            };
            this.at(
                at,
                &format!(
                    "region {} has none of the zones: name one of it, or leave zones out",
                    quoted(region)
                ),
            );
        }
    }
}

fn check_provider(this: &Problems<'_, '_>, providers: &Known<'_>, provider: &str, at: Position) {
    let Some(providers) = providers else { return };
    if provider.is_empty() || providers.contains_key(provider) {
        return;
    }
    let hint = match schema::nearest(provider, providers.keys().copied()) {
        Some(near) => format!("did you mean {near}?"),
        None => "add it to the providers section".to_owned(),
    };
    this.at(
        at,
        &format!("unknown provider {}: {hint}", quoted(provider)),
    );
}

/// The cloud's own name of a machine type.
fn resolve(
    this: &Problems<'_, '_>,
    providers: &Known<'_>,
    provider: &str,
    wanted: &str,
    at: Position,
) -> String {
    let known = providers.as_ref().and_then(|known| known.get(provider));
    let Some(Some(kind)) = known else {
        return wanted.to_owned();
    };
    match instance_types::resolve(wanted, kind) {
        Ok(own) => own,
        Err(problem) => {
            this.at(at, &format!("provider {}: {problem}", quoted(provider)));
            wanted.to_owned()
        }
    }
}
