//! Between the fleet's words and the fake cloud's, for both of its providers.

use navarch_model::{
    CloudStatus, FleetId, InstanceId, LaunchSpec, Machine, ProviderError, ProviderInstanceId,
};

use super::wire::{AgentSpec, InstanceView, LaunchRequest, Page, PageQuery};
use super::{TAG_FLEET, TAG_INSTANCE, TAG_POOL};
use crate::Listing;

/// The most pages of one listing: beyond, the cloud goes round in circles.
const MAX_PAGES: usize = 10_000;

/// The request for the machine of `spec`.
pub(crate) fn request_for(
    spec: &LaunchSpec,
    gpus: u32,
    server: &str,
    token: Option<&str>,
) -> LaunchRequest {
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
        gpus,
        agent: Some(AgentSpec {
            server: server.to_owned(),
            token: token.map(str::to_owned),
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
        if page.next_page_token == self.query.page_token || self.read >= MAX_PAGES {
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
