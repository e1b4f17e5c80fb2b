//! Between the fleet's words and the fake cloud's, for both of its providers.

use navarch_model::{
    CloudStatus, FleetId, InstanceId, LaunchSpec, Machine, ProviderError, ProviderInstanceId, Time,
};

use super::machine::AgentAccess;
use super::wire::{AgentSpec, InstanceView, LaunchRequest, Page, PageQuery};
use super::{TAG_FLEET, TAG_INSTANCE, TAG_POOL};
use crate::Listing;

/// The most pages of one listing: beyond, the cloud goes round in circles.
const MAX_PAGES: usize = 10_000;

/// The most machines of one listing. More than any fleet has; a cloud that shows more is not read
/// into memory to its end.
const MAX_MACHINES: usize = 1_000_000;

/// The request for the machine of `spec`, whose agent reports to `access`.
pub(crate) fn request_for(spec: &LaunchSpec, gpus: u32, access: &AgentAccess) -> LaunchRequest {
    let instance = spec.instance.to_string();
    let tags = [
        (TAG_FLEET, spec.fleet.to_string()),
        (TAG_INSTANCE, instance.clone()),
        (TAG_POOL, spec.pool.to_string()),
    ];
    LaunchRequest {
        client_token: instance.clone(),
        name: instance.clone(),
        tags: tags.map(|(key, value)| (key.to_owned(), value)).into(),
        region: spec.offering.region.clone(),
        zone: spec.offering.zone.clone(),
        instance_type: spec.offering.instance_type.clone(),
        capacity: spec.offering.capacity,
        gpus,
        agent: Some(AgentSpec {
            server: access.server.clone(),
            token: access.token.get(),
            ca_file: access.ca_file.clone(),
            instance_id: instance,
            provider: spec.offering.provider.to_string(),
            pool: spec.pool.to_string(),
            labels: spec.labels.clone(),
        }),
    }
}

/// The machine that the cloud shows. A tag that is no id counts as absent.
pub(crate) fn machine_of(view: &InstanceView) -> Machine {
    let tag = |key: &str| view.tags.get(key).map(String::as_str).unwrap_or_default();
    Machine {
        provider_id: ProviderInstanceId::new(view.id.as_str()),
        instance: InstanceId::parse(tag(TAG_INSTANCE)).ok(),
        fleet: FleetId::parse(tag(TAG_FLEET)).ok(),
        status: view.status,
        interruption_at: view.interruption_at.map(Time),
    }
}

/// The machine among those of one name that our instance is: a live one before one that ended.
pub(crate) fn best_of(views: &[InstanceView]) -> Option<Machine> {
    let ended = |view: &&InstanceView| view.status == CloudStatus::Terminated;
    let live = views.iter().rev().find(|view| !ended(view));
    live.or(views.last()).map(machine_of)
}

/// What a look-up by our id asks.
pub(crate) fn query_for(fleet: &FleetId, instance: &InstanceId) -> PageQuery {
    let tags = [
        (TAG_FLEET, fleet.as_str()),
        (TAG_INSTANCE, instance.as_str()),
    ];
    PageQuery {
        name: Some(instance.to_string()),
        tags: tags
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        ..PageQuery::default()
    }
}

/// A listing that grows page by page.
pub(crate) struct Pages {
    fleet: FleetId,
    query: PageQuery,
    machines: Vec<Machine>,
    read: usize,
}

impl Pages {
    /// A listing of the fleet's machines that has not begun.
    pub(crate) fn of(fleet: &FleetId, page_size: usize) -> Self {
        Self {
            fleet: fleet.clone(),
            query: PageQuery {
                page_size,
                tags: vec![(TAG_FLEET.to_owned(), fleet.to_string())],
                ..PageQuery::default()
            },
            machines: Vec::new(),
            read: 0,
        }
    }

    /// What to ask next.
    pub(crate) fn next_query(&self) -> PageQuery {
        self.query.clone()
    }

    /// Takes the next page, and answers the listing once there is nothing more to ask.
    pub(crate) fn add(
        &mut self,
        page: Result<Page, ProviderError>,
    ) -> Result<Option<Listing>, ProviderError> {
        let page = match page {
            Ok(page) => page,
            Err(error) if self.read == 0 => return Err(error),
            Err(error) => {
                tracing::warn!(%error, pages = self.read, "listing broke off");
                return Ok(Some(self.end(false)));
            }
        };
        self.read += 1;
        // A cloud that ignores the tag must not hand us the machines of others.
        let ours = |machine: &Machine| machine.fleet.as_ref() == Some(&self.fleet);
        let machines = page.instances.iter().map(machine_of).filter(ours);
        self.machines.extend(machines);
        if page.next_page_token.is_empty() {
            return Ok(Some(self.end(true)));
        }
        if page.next_page_token == self.query.page_token
            || self.read >= MAX_PAGES
            || self.machines.len() >= MAX_MACHINES
        {
            tracing::warn!(pages = self.read, "listing has no end");
            return Ok(Some(self.end(false)));
        }
        self.query.page_token = page.next_page_token;
        Ok(None)
    }

    fn end(&mut self, complete: bool) -> Listing {
        Listing {
            machines: std::mem::take(&mut self.machines),
            complete,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use navarch_model::{CapacityKind, ProviderErrorKind};

    use super::*;

    fn view(id: &str, tags: &[(&str, &str)], status: CloudStatus) -> InstanceView {
        let tags = tags
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        InstanceView {
            id: id.to_owned(),
            name: "nv-1".to_owned(),
            client_token: "nv-1".to_owned(),
            tags: tags.collect::<BTreeMap<_, _>>(),
            region: String::new(),
            zone: String::new(),
            instance_type: "i".to_owned(),
            capacity: CapacityKind::OnDemand,
            interruption_at: None,
            status,
            created_at: 0,
        }
    }

    fn page(ids: &[&str], next: &str) -> Result<Page, ProviderError> {
        let tags = [(TAG_FLEET, "ours"), (TAG_INSTANCE, "nv-1")];
        let views = ids.iter().map(|id| view(id, &tags, CloudStatus::Running));
        Ok(Page {
            instances: views.collect(),
            next_page_token: next.to_owned(),
        })
    }

    /// The listing that the pages make: its ids, and whether it is complete.
    fn listing(
        pages: Vec<Result<Page, ProviderError>>,
    ) -> Result<(Vec<String>, bool), ProviderError> {
        let mut listing = Pages::of(&FleetId::new("ours"), 2);
        let mut asked = Vec::new();
        for page in pages {
            asked.push(listing.next_query().page_token);
            if let Some(listing) = listing.add(page)? {
                let ids = listing
                    .machines
                    .iter()
                    .map(|machine| machine.provider_id.to_string());
                return Ok((ids.collect(), listing.complete));
            }
        }
        panic!("the listing goes on after {asked:?}");
    }

    #[test]
    fn a_listing_is_complete_only_when_its_last_page_was_read() {
        let broken = || Err(ProviderError::new(ProviderErrorKind::Transient, "no"));
        let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        for (pages, expected) in [
            (vec![page(&[], "")], Ok((ids(&[]), true))),
            (
                vec![page(&["a"], "1"), page(&["b"], "")],
                Ok((ids(&["a", "b"]), true)),
            ),
            (vec![page(&["a"], "1"), broken()], Ok((ids(&["a"]), false))),
            // A cloud that goes round in circles.
            (
                vec![page(&["a"], "1"), page(&["b"], "1")],
                Ok((ids(&["a", "b"]), false)),
            ),
            (vec![broken()], broken().map(|_: Page| (ids(&[]), false))),
        ] {
            assert_eq!(listing(pages), expected);
        }
    }

    #[test]
    fn machines_of_others_are_left_out_even_where_the_cloud_shows_them() {
        let tagged = |id: &str, tags: &[(&str, &str)]| view(id, tags, CloudStatus::Running);
        let shown = Page {
            instances: vec![
                tagged("a", &[(TAG_FLEET, "theirs"), (TAG_INSTANCE, "nv-1")]),
                tagged("b", &[]),
                tagged("c", &[(TAG_FLEET, "ours")]),
                tagged("d", &[(TAG_FLEET, "not an id"), (TAG_INSTANCE, "nv-1")]),
            ],
            next_page_token: String::new(),
        };
        assert_eq!(listing(vec![Ok(shown)]), Ok((vec!["c".to_owned()], true)));
    }

    #[test]
    fn of_several_machines_with_one_name_the_live_one_is_ours() {
        let made = |id: &str, status| view(id, &[], status);
        let ended = CloudStatus::Terminated;
        let live = CloudStatus::Running;
        for (views, expected) in [
            (vec![], None),
            (vec![made("a", ended)], Some("a")),
            (vec![made("a", ended), made("b", ended)], Some("b")),
            (vec![made("a", live), made("b", ended)], Some("a")),
            (
                vec![made("a", ended), made("b", CloudStatus::Terminating)],
                Some("b"),
            ),
        ] {
            let best = best_of(&views).map(|machine| machine.provider_id.to_string());
            assert_eq!(best.as_deref(), expected);
        }
    }
}
