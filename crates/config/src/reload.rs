//! A new configuration for a running server: what it changes, and what of that needs a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::config::Config;
use crate::effective::Plain;
use crate::schema::{self, Form, ROOT, Reloading, Section};

/// The outcome of comparing a running configuration with a new one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Reload {
    /// The configuration to run now: the new one, or the running one when anything of the new one
    /// needs a restart. A configuration applies as a whole or not at all.
    pub config: Config,
    /// The changes that apply live, by key.
    pub live: Vec<Change>,
    /// The changes that need a restart, by key, each with its reason. While there are any, none of
    /// `live` applies.
    pub restart: Vec<Change>,
}

/// One changed key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The dotted path, such as `pools.dev.max_nodes`.
    pub key: String,
    /// What becomes of it, such as `4 -> 20`. No secret is in it.
    pub what: String,
    /// Why it needs a restart; none when it applies live.
    pub reason: Option<&'static str>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.what)?;
        match self.reason {
            Some(reason) => write!(f, " (needs a restart: {reason})"),
            None => Ok(()),
        }
    }
}

/// What becomes of the machines of a pool that the configuration no longer has.
const LEFT: &str = "removed; its machines stay as they are, and nothing is bought, repaired or ended for them until a configuration has the pool again";

impl Reload {
    /// Compares the configuration that runs with a new one.
    pub fn new(running: &Config, new: &Config) -> Self {
        let (restart, live): (Vec<_>, Vec<_>) = changes(running, new)
            .into_iter()
            .partition(|change| change.reason.is_some());
        let config = if restart.is_empty() { new } else { running };
        Self {
            config: config.clone(),
            live,
            restart,
        }
    }

    /// Whether the new configuration is not applied, because a part of it needs a restart.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        !self.restart.is_empty()
    }
}

/// One key of the effective configuration.
struct Leaf {
    /// The value, secrets included, for the comparison.
    value: String,
    /// The value for people.
    shown: String,
    reloading: Reloading,
    /// The path of the pool or provider that it belongs to, with what a reload makes of a whole
    /// one that comes or goes.
    owner: Option<(String, Reloading)>,
}

type Leaves = BTreeMap<String, Leaf>;

fn changes(running: &Config, new: &Config) -> Vec<Change> {
    let (from, to) = (leaves(running), leaves(new));
    let mut changes = Vec::new();
    let owners = |leaves: &Leaves| -> BTreeMap<String, Reloading> {
        let owners = leaves.values().filter_map(|leaf| leaf.owner.clone());
        owners.collect()
    };
    let (gone, come) = (owners(&from), owners(&to));
    let whole: BTreeSet<&String> = gone
        .keys()
        .filter(|key| !come.contains_key(*key))
        .chain(come.keys().filter(|key| !gone.contains_key(*key)))
        .collect();
    for key in &whole {
        let (what, reloading) = match (gone.get(*key), come.get(*key)) {
            (Some(reloading), _) if key.starts_with("pools.") => (LEFT, reloading),
            (Some(reloading), _) => ("removed", reloading),
            (None, Some(reloading)) => ("added", reloading),
            (None, None) => continue,
        };
        changes.push(Change {
            key: (*key).clone(),
            what: what.to_owned(),
            reason: reloading.reason(),
        });
    }
    let keys: BTreeSet<&String> = from.keys().chain(to.keys()).collect();
    for key in keys {
        let (old, new) = (from.get(key), to.get(key));
        let of_whole = |leaf: &Leaf| {
            let owner = leaf.owner.as_ref();
            owner.is_some_and(|(owner, _)| whole.contains(owner))
        };
        if old.or(new).is_some_and(of_whole) {
            continue;
        }
        let (what, leaf) = match (old, new) {
            (Some(old), Some(new)) if old.value == new.value => continue,
            (Some(old), Some(new)) if old.shown == new.shown => {
                ("changed; the value is not shown".to_owned(), new)
            }
            (Some(old), Some(new)) => (format!("{} -> {}", old.shown, new.shown), new),
            (Some(old), None) => (format!("removed, was {}", old.shown), old),
            (None, Some(new)) => (format!("set to {}", new.shown), new),
            (None, None) => continue,
        };
        changes.push(Change {
            key: key.clone(),
            what,
            reason: leaf.reloading.reason(),
        });
    }
    changes.sort_by(|a, b| a.key.cmp(&b.key));
    changes
}

/// Every key of the effective configuration with its value, so that no key can be forgotten here.
fn leaves(config: &Config) -> Leaves {
    let mut leaves = Leaves::new();
    let place = Place {
        path: String::new(),
        section: Some(&ROOT),
        reloading: Reloading::Restart("it is read at the start"),
        owner: None,
    };
    flatten(
        &Plain::revealed(config),
        &Plain::shown(config),
        place,
        &mut leaves,
    );
    leaves
}

/// Where the walk over the values is.
#[derive(Clone)]
struct Place {
    path: String,
    section: Option<&'static Section>,
    reloading: Reloading,
    owner: Option<(String, Reloading)>,
}

impl Place {
    fn below(&self, key: &str) -> Self {
        let path = schema::join(&self.path, key);
        let Some(found) = self.section.and_then(|section| section.key(key)) else {
            return Self {
                path,
                section: None,
                ..self.clone()
            };
        };
        Self {
            path,
            section: match found.form {
                Form::Section(section) | Form::Named(section) | Form::List(section) => {
                    Some(section)
                }
                _ => None,
            },
            reloading: found.reloading.or(self.reloading),
            owner: self.owner.clone(),
        }
    }

    fn is_named(&self, key: &str) -> bool {
        let found = self.section.and_then(|section| section.key(key));
        matches!(found.map(|key| key.form), Some(Form::Named(_)))
    }
}

fn flatten(value: &Plain, shown: &Plain, place: Place, leaves: &mut Leaves) {
    match (value, shown) {
        (Plain::Map(entries), Plain::Map(shown)) => {
            for ((key, value), (_, shown)) in entries.iter().zip(shown) {
                let below = place.below(key);
                match (value, shown) {
                    (Plain::Map(named), Plain::Map(shown)) if place.is_named(key) => {
                        for ((name, value), (_, shown)) in named.iter().zip(shown) {
                            let path = schema::join(&below.path, name);
                            let place = Place {
                                owner: Some((path.clone(), below.reloading)),
                                path,
                                ..below.clone()
                            };
                            flatten(value, shown, place, leaves);
                        }
                    }
                    _ => flatten(value, shown, below, leaves),
                }
            }
        }
        (Plain::List(elements), Plain::List(shown)) => {
            for (index, (value, shown)) in elements.iter().zip(shown).enumerate() {
                let path = format!("{}[{index}]", place.path);
                let place = Place {
                    path,
                    ..place.clone()
                };
                flatten(value, shown, place, leaves);
            }
        }
        (value, shown) => {
            if let (Some(value), Some(shown)) = (text(value), text(shown)) {
                let leaf = Leaf {
                    value,
                    shown,
                    reloading: place.reloading,
                    owner: place.owner,
                };
                leaves.insert(place.path, leaf);
            }
        }
    }
}

fn text(value: &Plain) -> Option<String> {
    match value {
        Plain::Flag(flag) => Some(flag.to_string()),
        Plain::Number(number) => Some(number.to_string()),
        Plain::Text(text) | Plain::Written(text) => Some(text.clone()),
        Plain::Null | Plain::List(_) | Plain::Map(_) => None,
    }
}
