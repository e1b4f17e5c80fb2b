//! Names in filters: one that is misspelled must not look like a fleet in which nothing happens.

use navarch_api::ApiError;
use navarch_model::{IncidentId, InstanceId, NodeId, PoolName, ProviderName};
use navarch_store::{EventQuery, IncidentQuery};

use super::{Handlers, unreadable};

/// Names that an answer about an unknown one suggests.
const SUGGESTIONS: usize = 3;
/// The longest name, in bytes, that anything is suggested for. What a comparison costs grows with
/// both lengths.
const LONG: usize = 64;
/// Names whose lengths differ by more bytes are not compared.
const FAR: usize = 4;
/// Names that are compared at most. Higher finds nearer ones in a large fleet, and lets whoever
/// asks for names that nothing has cost everybody more.
const LOOKED_AT: usize = 1000;

/// What a filter names. What is none restricts nothing.
#[derive(Debug, Default)]
pub(super) struct Named<'a> {
    pub(super) pool: Option<&'a PoolName>,
    pub(super) node: Option<&'a NodeId>,
    pub(super) instance: Option<&'a InstanceId>,
    pub(super) incident: Option<&'a IncidentId>,
}

impl Handlers {
    /// Refuses a filter by something that neither is nor was.
    pub(super) async fn must_exist(&self, named: Named<'_>) -> Result<(), ApiError> {
        if let Some(pool) = named.pool {
            self.pool_must_exist(pool).await?;
        }
        let about = |query: EventQuery| EventQuery { limit: 1, ..query };
        if let Some(node) = named.node
            && self.published.node(node).is_none()
        {
            let wanted = node.clone();
            let read = self.archive.read(move |history| {
                let events = about(EventQuery {
                    node: Some(wanted.clone()),
                    ..EventQuery::default()
                });
                Ok(history.node(&wanted)?.is_some() || !history.events(&events)?.is_empty())
            });
            if !read.await.map_err(|error| unreadable(&error))? {
                let known = self.published.read(|state| {
                    candidates(node.as_str(), state.nodes.keys().map(|id| id.as_str()))
                });
                return Err(unknown("node", node.as_str(), known));
            }
        }
        if let Some(instance) = named.instance
            && !self
                .published
                .read(|state| state.instances.contains_key(instance))
        {
            let wanted = instance.clone();
            let read = self.archive.read(move |history| history.instance(&wanted));
            if read.await.map_err(|error| unreadable(&error))?.is_none() {
                let known = self.published.read(|state| {
                    candidates(
                        instance.as_str(),
                        state.instances.keys().map(|id| id.as_str()),
                    )
                });
                return Err(unknown("instance", instance.as_str(), known));
            }
        }
        if let Some(incident) = named.incident
            && !self
                .published
                .read(|state| state.incidents.contains_key(incident))
        {
            let wanted = incident.clone();
            let read = self.archive.read(move |history| history.incident(&wanted));
            if read.await.map_err(|error| unreadable(&error))?.is_none() {
                let known = self.published.read(|state| {
                    candidates(
                        incident.as_str(),
                        state.incidents.keys().map(|id| id.as_str()),
                    )
                });
                return Err(unknown("incident", incident.as_str(), known));
            }
        }
        Ok(())
    }

    async fn pool_must_exist(&self, pool: &PoolName) -> Result<(), ApiError> {
        let settings = self.published.settings();
        let of = |name: Option<&PoolName>| name == Some(pool);
        let known = settings.pools.contains_key(pool)
            || self.published.read(|state| {
                state.pools.contains_key(pool)
                    || state.nodes.values().any(|node| of(node.pool.as_ref()))
                    || state.instances.values().any(|one| of(Some(&one.pool)))
            });
        if known {
            return Ok(());
        }
        // It may have been configured once.
        let wanted = Some(pool.clone());
        let read = self.archive.read(move |history| {
            let events = EventQuery {
                pool: wanted.clone(),
                limit: 1,
                ..EventQuery::default()
            };
            let incidents = IncidentQuery {
                pool: wanted,
                limit: 1,
                ..IncidentQuery::default()
            };
            Ok(!history.events(&events)?.is_empty() || !history.incidents(&incidents)?.is_empty())
        });
        if read.await.map_err(|error| unreadable(&error))? {
            return Ok(());
        }
        Err(self.unknown_pool(pool))
    }

    /// The answer about a pool that is not configured.
    pub(super) fn unknown_pool(&self, pool: &PoolName) -> ApiError {
        let settings = self.published.settings();
        let known = settings.pools.keys().map(|name| name.as_str());
        let known = candidates(pool.as_str(), known);
        unknown("pool", pool.as_str(), known)
    }

    /// Refuses a filter by a provider that neither is configured nor has a machine on record.
    pub(super) fn provider_must_exist(&self, provider: &ProviderName) -> Result<(), ApiError> {
        let settings = self.published.settings();
        let known = settings.providers.contains_key(provider)
            || self.published.read(|state| {
                let mut machines = state.unclaimed.values();
                machines.any(|machine| machine.provider == *provider)
            });
        if known {
            return Ok(());
        }
        let names = settings.providers.keys().map(|name| name.as_str());
        let names = candidates(provider.as_str(), names);
        Err(unknown("provider", provider.as_str(), names))
    }
}

/// Those of all names that are compared with a name that nothing has. It is called while the state
/// is read, so that it copies few.
fn candidates<'a>(name: &str, all: impl Iterator<Item = &'a str>) -> Vec<String> {
    if name.len() > LONG {
        return Vec::new();
    }
    all.filter(|known| known.len().abs_diff(name.len()) <= FAR)
        .take(LOOKED_AT)
        .map(str::to_owned)
        .collect()
}

/// The answer about a name that nothing has, with those nearest to it.
fn unknown(what: &str, name: &str, known: Vec<String>) -> ApiError {
    let mut near: Vec<(usize, String)> = known
        .into_iter()
        .map(|known| (strsim::osa_distance(name, &known), known))
        .collect();
    near.sort();
    near.truncate(SUGGESTIONS);
    let near: Vec<&str> = near.iter().map(|(_, name)| name.as_str()).collect();
    let hint = if near.is_empty() {
        String::new()
    } else {
        format!(" (nearest: {})", near.join(", "))
    };
    ApiError::not_found(format!("{what} not found: {name}{hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_names_come_first_and_few() {
        for (known, expected) in [
            (vec![], "pool not found: mian"),
            (vec!["main"], "pool not found: mian (nearest: main)"),
            (
                vec!["other", "train", "main", "infer"],
                "pool not found: mian (nearest: main, train, infer)",
            ),
        ] {
            let known = known.into_iter().map(str::to_owned).collect();
            assert_eq!(unknown("pool", "mian", known).message, expected);
        }
    }

    #[test]
    fn a_large_fleet_and_a_long_name_cost_few_comparisons() {
        let fleet: Vec<String> = (0..10_000).map(|at| format!("node-{at:05}")).collect();
        let long = "n".repeat(LONG + 1);
        for (name, expected) in [
            ("node-00x", LOOKED_AT),
            ("node", 0),
            ("node-0123456789", 0),
            (long.as_str(), 0),
        ] {
            let near = candidates(name, fleet.iter().map(String::as_str).chain([&*long]));
            assert_eq!(near.len(), expected, "{name}");
        }
    }
}
