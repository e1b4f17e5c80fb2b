//! What a scenario knows of its nodes before it runs: ids, pools, places.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use navarch_model::ids::check_id;

use crate::config::{Config, ProviderKind};
use crate::fields::{Fields, shown};
use crate::scenario::{Domain, FleetGen, FleetNode, NamedRule, Place, Scope, Target};
use crate::schema;
use crate::tree::quoted;

/// Nodes, pools and places of a scenario.
pub(super) struct Known<'s> {
    config: &'s Config,
    nodes: BTreeMap<&'s str, u32>,
    generated: Option<&'s FleetGen>,
    pools: BTreeMap<&'s str, u32>,
    /// Names of places by scope; `None` where not all are known.
    places: [(Scope, Option<BTreeSet<String>>); 4],
    /// Where pools buy, as `PROVIDER/REGION` and `PROVIDER/REGION/ZONE`.
    bought: BTreeSet<String>,
    /// The first rack of each zone where the run numbers racks.
    first_racks: BTreeSet<String>,
    /// How many racks are numbered in a zone at most; they may be any number for bought machines.
    most_racks: u32,
    /// The rules that assertions name.
    rules: RefCell<Vec<NamedRule>>,
}

impl<'s> Known<'s> {
    pub(super) fn new(
        config: &'s Config,
        fleet: &'s [FleetNode],
        generated: Option<&'s FleetGen>,
    ) -> Self {
        let gpus = |provider: &str| match config.providers.get(provider).map(|one| &one.kind) {
            Some(ProviderKind::Fake { gpu_count, .. }) => *gpu_count,
            None => u32::MAX,
        };
        let pools = config.pools.iter().map(|(name, pool)| {
            let providers = pool.placement.providers.iter();
            let most = providers.map(|one| gpus(&one.name)).max();
            (name.as_str(), most.unwrap_or(u32::MAX))
        });
        Self {
            config,
            nodes: fleet
                .iter()
                .map(|node| (node.id.as_str(), node.gpu_count))
                .collect(),
            generated,
            pools: pools.collect(),
            places: places(config, fleet, generated),
            bought: bought(config),
            first_racks: first_racks(config, generated),
            most_racks: match generated {
                _ if !config.pools.is_empty() => u32::MAX,
                Some(fleet) => fleet.total_nodes.div_ceil(fleet.nodes_per_rack.max(1)),
                None => 0,
            },
            rules: RefCell::default(),
        }
    }

    /// Keeps a rule that an assertion names.
    pub(super) fn names_rule(&self, rule: NamedRule) {
        self.rules.borrow_mut().push(rule);
    }

    /// The rules that assertions name, in the order in which they were read.
    pub(super) fn into_rules(self) -> Vec<NamedRule> {
        self.rules.into_inner()
    }

    /// The pools by name.
    pub(super) fn pools(&self) -> impl Iterator<Item = &'s str> {
        self.pools.keys().copied()
    }

    /// Whether a pool has autoscaling; none where there is no such pool.
    pub(super) fn autoscales(&self, pool: &str) -> Option<bool> {
        let pool = self.config.pools.get(pool)?;
        Some(pool.autoscaling.is_some())
    }

    /// The target that a key names, if it is one.
    pub(super) fn target(&self, fields: &Fields<'_>, key: &'static str) -> Option<Target> {
        let text = fields.text(key)?;
        if self.nodes.contains_key(text.as_str()) {
            return Some(Target::Node(text));
        }
        if text == "*" || text == "all" {
            return Some(Target::All);
        }
        if let Some(rest) = text.strip_prefix("pool/") {
            return self.pool_target(fields, key, &text, rest);
        }
        if let Err(error) = check_id(&text) {
            fields.fail(key, format!("{} {error}", quoted(&text)));
            return None;
        }
        match self.generated {
            Some(fleet) if self.nodes.is_empty() => {
                if may_be_generated(fleet, &text) {
                    return Some(Target::Node(text));
                }
                fields.fail(
                    key,
                    format!(
                        "{} is no id of a generated node: those are PROVIDER-REGION-TEMPLATE-NNNN, by the names in stress.fleet_gen",
                        quoted(&text)
                    ),
                );
            }
            _ => {
                let otherwise = match self.pools.keys().next() {
                    Some(pool) => format!("write pool/{pool}/0 for the oldest machine of a pool"),
                    None => "name a node of the fleet, or * for all".to_owned(),
                };
                fields.fail_unknown(key, "node", &text, self.nodes.keys().copied(), &otherwise);
            }
        }
        None
    }

    fn pool_target(
        &self,
        fields: &Fields<'_>,
        key: &'static str,
        text: &str,
        rest: &str,
    ) -> Option<Target> {
        let Some((pool, Ok(index))) = rest
            .rsplit_once('/')
            .map(|(pool, index)| (pool, index.parse::<u32>()))
        else {
            fields.fail(
                key,
                format!(
                    "{} is not pool/NAME/N, where N is 0 for the oldest machine",
                    quoted(text)
                ),
            );
            return None;
        };
        self.pool(fields, key, pool)
            .map(|pool| Target::Pool { pool, index })
    }

    /// The pool of this name, if there is one.
    pub(super) fn pool(&self, fields: &Fields<'_>, key: &str, pool: &str) -> Option<String> {
        if self.pools.contains_key(pool) {
            return Some(pool.to_owned());
        }
        fields.fail_unknown(key, "pool", pool, self.pools(), "add it to pools");
        None
    }

    /// Checks a place of the cloud such as `PROVIDER/REGION/ZONE`: the provider is one of the
    /// configuration's, and a pool buys there.
    pub(super) fn check_place(&self, name: &str) -> Result<(), String> {
        let parts: Vec<&str> = name.split('/').collect();
        if parts.len() > 3 || parts.iter().any(|part| part.is_empty()) {
            let name = quoted(name);
            return Err(format!(
                "{name} is not PROVIDER, PROVIDER/REGION or PROVIDER/REGION/ZONE"
            ));
        }
        // What is wrong with the providers is said there.
        if self.config.providers.is_empty() {
            return Ok(());
        }
        if self.config.providers.contains_key(parts[0]) {
            if parts.len() == 1 || self.bought.contains(name) {
                return Ok(());
            }
            let alike = self.bought.iter().map(String::as_str);
            let alike = alike.filter(|place| place.split('/').count() == parts.len());
            let hint = match schema::nearest(name, alike) {
                Some(near) => format!("did you mean {}?", shown(near)),
                None => format!("add it to a pool, or write {}", shown(parts[0])),
            };
            return Err(format!("no pool buys at {}: {hint}", quoted(name)));
        }
        let known = self.config.providers.keys().map(String::as_str);
        let hint = match schema::nearest(parts[0], known) {
            Some(near) => format!("did you mean {}?", shown(near)),
            None => "add it to providers".to_owned(),
        };
        Err(format!("unknown provider {}: {hint}", quoted(parts[0])))
    }

    /// The most GPUs that a node of the target may have.
    pub(super) fn gpus(&self, target: &Target) -> u32 {
        let generated = self
            .generated
            .into_iter()
            .flat_map(|fleet| fleet.templates.iter())
            .map(|template| template.gpu_count);
        let gpus = match target {
            Target::Node(id) => match self.nodes.get(id.as_str()) {
                Some(gpus) => Some(*gpus),
                None => generated.max(),
            },
            Target::Pool { pool, .. } => self.pools.get(pool.as_str()).copied(),
            Target::All => {
                let nodes = self.nodes.values().copied();
                let pools = self.pools.values().copied();
                nodes.chain(pools).chain(generated).max()
            }
        };
        gpus.unwrap_or(u32::MAX)
    }

    /// The domain of an outage: what `target` names, by the scope.
    pub(super) fn domain(
        &self,
        fields: &Fields<'_>,
        key: &'static str,
        target: Option<&str>,
        scope: DomainScope,
    ) -> Option<Domain> {
        let scope = match scope {
            DomainScope::All => return Some(Domain::Named(Scope::All, String::new())),
            DomainScope::Percentage => None,
            DomainScope::Place(scope) => Some(scope),
        };
        let Some(target) = target else {
            if !fields.has(key) {
                fields.fail(key, "required: say what fails");
            }
            return None;
        };
        let Some(scope) = scope else {
            let number = target.strip_suffix('%').unwrap_or(target).trim_end();
            let share = crate::fields::plain_number(number).filter(|share| *share <= 100.0);
            if share.is_none() {
                fields.fail(
                    key,
                    format!(
                        "{} is no share of the nodes: write a percentage such as 10%",
                        quoted(target)
                    ),
                );
            }
            return share.map(|share| Domain::Fraction(share / 100.0));
        };
        let known = self.places.iter().find(|(known, _)| *known == scope);
        if let Some((_, Some(known))) = known
            && !known.contains(target)
            && !(scope == Scope::Rack && self.is_numbered(target))
        {
            let word = scope_word(scope);
            let known = known.iter().map(String::as_str);
            let first = self.first_racks.first().filter(|_| scope == Scope::Rack);
            let otherwise = match first {
                Some(first) => format!("the run numbers racks: write {first} for the first"),
                None => format!("name a {word} of the fleet"),
            };
            fields.fail_unknown(key, word, target, known, &otherwise);
            return None;
        }
        Some(Domain::Named(scope, target.to_owned()))
    }

    /// Whether a rack may be one that the run numbers.
    fn is_numbered(&self, rack: &str) -> bool {
        let Some((zone, number)) = rack.rsplit_once('-') else {
            return false;
        };
        let Ok(digits) = number.parse::<u32>() else {
            return false;
        };
        digits < self.most_racks
            && number == format!("{digits:03}")
            && self.first_racks.contains(&format!("{zone}-000"))
    }
}

/// What the target of an outage is.
#[derive(Clone, Copy)]
pub(super) enum DomainScope {
    Place(Scope),
    All,
    Percentage,
}

impl DomainScope {
    pub(super) const WORDS: [(&'static str, Self); 6] = [
        ("provider", Self::Place(Scope::Provider)),
        ("region", Self::Place(Scope::Region)),
        ("zone", Self::Place(Scope::Zone)),
        ("rack", Self::Place(Scope::Rack)),
        ("all", Self::All),
        ("percentage", Self::Percentage),
    ];
}

fn scope_word(scope: Scope) -> &'static str {
    let mut words = Scope::WORDS.iter();
    words
        .find(|(_, known)| *known == scope)
        .map_or("", |(word, _)| word)
}

/// Whether an id has the form of those that are generated; the run numbers them from 0, and
/// replacements end in `-genN`.
fn may_be_generated(fleet: &FleetGen, id: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let id = match id.rsplit_once("-gen") {
        Some((id, number)) if digits(number) => id,
        _ => id,
    };
    let Some((stem, number)) = id.rsplit_once('-') else {
        return false;
    };
    let there = number.len() >= 4 && digits(number);
    let below = number.parse::<u32>().is_ok_and(|n| n < fleet.total_nodes);
    let named = fleet.providers.iter().any(|(provider, _)| {
        let rest = stem
            .strip_prefix(provider.as_str())
            .and_then(|rest| rest.strip_prefix('-'));
        fleet.regions.iter().any(|(region, _)| {
            let template = rest
                .and_then(|rest| rest.strip_prefix(region.as_str()))
                .and_then(|rest| rest.strip_prefix('-'));
            fleet
                .templates
                .iter()
                .any(|known| template == Some(known.name.as_str()))
        })
    });
    there && below && named
}

/// Every place where pools buy; one whose zone the cloud chooses is a region.
fn bought(config: &Config) -> BTreeSet<String> {
    let mut bought = BTreeSet::new();
    let pools = config.pools.values();
    for one in pools.flat_map(|pool| &pool.placement.providers) {
        for (region, zone) in one.places() {
            let region = format!("{}/{region}", one.name);
            if !zone.is_empty() {
                bought.insert(format!("{region}/{zone}"));
            }
            bought.insert(region);
        }
    }
    bought
}

/// The first rack of each zone in which machines are generated or bought.
fn first_racks(config: &Config, generated: Option<&FleetGen>) -> BTreeSet<String> {
    let first = |provider: &str, region: &str, zone: &str| {
        let place = Place::in_rack(provider, region, zone, 0);
        place.rack
    };
    let mut racks = BTreeSet::new();
    if let Some(fleet) = generated {
        for (region, _) in &fleet.regions {
            for zone in fleet.zones_of(region) {
                let providers = fleet.providers.iter();
                racks.extend(providers.map(|(provider, _)| first(provider, region, &zone)));
            }
        }
    }
    for one in config
        .pools
        .values()
        .flat_map(|pool| &pool.placement.providers)
    {
        let places = one.places().into_iter();
        racks.extend(places.map(|(region, zone)| first(&one.name, region, zone)));
    }
    racks
}

fn places(
    config: &Config,
    fleet: &[FleetNode],
    generated: Option<&FleetGen>,
) -> [(Scope, Option<BTreeSet<String>>); 4] {
    let mut providers = BTreeSet::new();
    let mut regions = BTreeSet::new();
    let mut zones = BTreeSet::new();
    let mut racks = BTreeSet::new();
    let mut cloud_chooses = false;
    for node in fleet {
        let place = node.place.clone();
        providers.insert(place.provider);
        regions.insert(place.region);
        zones.insert(place.zone);
        racks.insert(place.rack);
    }
    if let Some(fleet) = generated {
        providers.extend(fleet.providers.iter().map(|(name, _)| name.clone()));
        regions.extend(fleet.regions.iter().map(|(name, _)| name.clone()));
        for (region, _) in &fleet.regions {
            zones.extend(fleet.zones_of(region));
        }
    }
    for pool in config.pools.values() {
        for one in &pool.placement.providers {
            providers.insert(one.name.clone());
            for (region, zone) in one.places() {
                regions.insert(region.to_owned());
                cloud_chooses |= zone.is_empty();
                zones.insert(zone.to_owned());
            }
        }
    }
    [
        (Scope::Provider, Some(providers)),
        (Scope::Region, Some(regions)),
        (Scope::Zone, (!cloud_chooses).then_some(zones)),
        (Scope::Rack, Some(racks)),
    ]
}
