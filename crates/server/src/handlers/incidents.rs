//! Incidents: those that are open, and those on record.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use navarch_api::{ApiError, convert, requests, v1};
use navarch_model::{Incident, IncidentId};
use navarch_store::IncidentQuery;

use super::names::Named;
use super::{Handlers, unreadable};

impl Handlers {
    /// One incident, in memory or on record.
    pub(super) async fn incident_on_record(
        &self,
        id: &IncidentId,
    ) -> Result<Arc<Incident>, ApiError> {
        let known = self
            .published
            .read(|state| state.incidents.get(id).cloned());
        if let Some(incident) = known {
            return Ok(incident);
        }
        let wanted = id.clone();
        let read = self.archive.read(move |history| history.incident(&wanted));
        let found = read.await.map_err(|error| unreadable(&error))?;
        found.ok_or_else(|| ApiError::not_found(format!("incident not found: {id}")))
    }

    /// The open incidents, and then those that ended; the newest first.
    pub(super) async fn incidents(
        &self,
        request: &v1::ListIncidentsRequest,
    ) -> Result<v1::ListIncidentsResponse, ApiError> {
        let wanted = requests::incidents(request)?;
        let named = Named {
            pool: wanted.pool.as_ref(),
            node: wanted.node.as_ref(),
            ..Named::default()
        };
        self.must_exist(named).await?;
        // Open ones never leave memory, and the store may be ahead of what is published.
        let mut found: Vec<Arc<Incident>> = self.published.read(|state| {
            let all = state.incidents.values();
            all.filter(|one| one.is_open() && wanted.matches(one))
                .cloned()
                .collect()
        });
        found.sort_by_key(|one| Reverse((one.opened.core, one.id.clone())));
        let open: BTreeSet<IncidentId> = found.iter().map(|one| one.id.clone()).collect();
        if !wanted.open_only && found.len() < wanted.limit {
            let query = IncidentQuery {
                node: wanted.node.clone(),
                pool: wanted.pool.clone(),
                open: Some(false),
                limit: wanted.limit,
                ..IncidentQuery::default()
            };
            let read = self.archive.read(move |history| history.incidents(&query));
            let ended = read.await.map_err(|error| unreadable(&error))?;
            found.extend(ended.into_iter().filter(|one| !open.contains(&one.id)));
        }
        found.truncate(wanted.limit);
        Ok(v1::ListIncidentsResponse {
            incidents: found
                .iter()
                .map(|incident| convert::incident(incident))
                .collect(),
        })
    }
}
