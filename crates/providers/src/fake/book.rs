//! The cloud's records: which machines there are and which faults are on order. Pure.

use std::collections::BTreeMap;

use navarch_model::{
    CapacityKind, CloudStatus, Offer, ProviderError, ProviderErrorKind, ProviderInstanceId,
};
use serde::{Deserialize, Serialize};

use super::market::{Market, Product};
use super::orders::{CloudFault, ListingFaults, Order, PartialHow};
use super::wire::{InstanceView, LaunchRequest, Page, PageQuery, PageToken};

/// The version of the file's form.
pub(crate) const VERSION: u32 = 1;

/// How long a machine that ended stays listed, in microseconds. Lower, and who looks rarely
/// sees it vanish instead of end; higher, and listings and the file grow.
pub(crate) const KEEP_ENDED_MICROS: i64 = 3_600_000_000;

/// The usual number of machines on a page.
const PAGE_SIZE: usize = 100;
/// The most machines on a page.
const MAX_PAGE_SIZE: usize = 1000;
/// The most faults on order.
const MAX_ORDERS: usize = 1000;

/// Everything the cloud knows; this is what its file holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Book {
    version: u32,
    next_serial: u64,
    next_order: u64,
    machines: BTreeMap<u64, Record>,
    pub(crate) orders: Vec<Order>,
    /// What is sold; a file from before there was a market has none.
    #[serde(default)]
    market: Market,
}

/// One machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    pub(crate) id: ProviderInstanceId,
    pub(crate) request: LaunchRequest,
    /// Whether its agent ever starts.
    pub(crate) boots: bool,
    /// Its states and when each began, the oldest first; never empty.
    history: Vec<(i64, CloudStatus)>,
    /// When the cloud forgot it. What is left of it serves listings of the past alone.
    vanished: Option<i64>,
}

impl Record {
    pub(crate) fn status(&self) -> CloudStatus {
        self.history
            .last()
            .map_or(CloudStatus::Terminated, |last| last.1)
    }

    /// Whether a process may run for it: it is live, or was not seen to end.
    pub(crate) fn may_run(&self) -> bool {
        self.status() != CloudStatus::Terminated
    }

    /// Whether it is to run.
    pub(crate) fn should_run(&self) -> bool {
        self.vanished.is_none() && self.status() == CloudStatus::Running
    }

    /// The state at a moment, or `None` where the cloud did not know the machine then.
    fn status_at(&self, at: i64) -> Option<CloudStatus> {
        if self.vanished.is_some_and(|vanished| vanished <= at) {
            return None;
        }
        let past = self.history.iter().rev().find(|(since, _)| *since <= at);
        past.map(|(_, status)| *status)
    }

    fn became(&mut self, status: CloudStatus, now: i64) {
        // A wall clock that went back must not reorder what happened.
        let last = self.history.last().map_or(now, |last| last.0);
        self.history.push((now.max(last), status));
    }

    fn answers_to(&self, id_or_name: &str) -> bool {
        self.id.as_str() == id_or_name || self.request.name == id_or_name
    }
}

impl Book {
    pub(crate) fn new() -> Self {
        Self {
            version: VERSION,
            next_serial: 1,
            next_order: 1,
            machines: BTreeMap::new(),
            orders: Vec::new(),
            market: Market::default(),
        }
    }

    pub(crate) fn version(&self) -> u32 {
        self.version
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = &Record> {
        self.machines.values()
    }

    /// Makes a machine called `id`, or finds the one that the token made. A token or name that
    /// is taken is an unknown outcome: a machine exists, and a look-up shows which.
    pub(crate) fn launch(
        &mut self,
        request: LaunchRequest,
        id: ProviderInstanceId,
        boots: bool,
        quota: usize,
        now: i64,
    ) -> Result<InstanceView, ProviderError> {
        let configuration = |message| ProviderError::new(ProviderErrorKind::Configuration, message);
        request.check().map_err(configuration)?;
        let taken = |message| ProviderError::new(ProviderErrorKind::OutcomeUnknown, message);
        let known = |record: &&Record| record.vanished.is_none();
        let mut records = self.machines.values().filter(known);
        if let Some(earlier) =
            records.find(|earlier| earlier.request.client_token == request.client_token)
        {
            if !same_machine(&earlier.request, &request) {
                return Err(taken(format!(
                    "client_token: was used for {} with other parameters; use a new token",
                    earlier.id
                )));
            }
            return Ok(self.view(earlier, earlier.status()));
        }
        let product = self.market.product(&request).map_err(configuration)?;
        if let Some(product) = product
            && product
                .machines
                .is_some_and(|most| self.live_of(product) >= most)
        {
            return Err(ProviderError::new(
                ProviderErrorKind::Capacity,
                format!("{} is sold out here", request.instance_type),
            ));
        }
        let mut live = self
            .machines
            .values()
            .filter(known)
            .filter(|record| record.may_run());
        if let Some(holder) = live
            .clone()
            .find(|holder| holder.request.name == request.name)
        {
            return Err(taken(format!(
                "name: {} is taken by {}; use another name, or terminate that machine",
                request.name, holder.id
            )));
        }
        if live.by_ref().count() >= quota {
            return Err(ProviderError::new(
                ProviderErrorKind::Quota,
                format!("the quota of {quota} machines is used up; terminate some first"),
            ));
        }
        let record = Record {
            id,
            request,
            boots,
            history: vec![(now, CloudStatus::Running)],
            vanished: None,
        };
        let view = self.view(&record, CloudStatus::Running);
        self.machines.insert(self.next_serial, record);
        self.next_serial += 1;
        Ok(view)
    }

    /// Machines of a product that are live.
    fn live_of(&self, product: &Product) -> usize {
        let known = self.machines.values().filter(|one| one.vanished.is_none());
        known
            .filter(|one| one.may_run() && product.sells(&one.request))
            .count()
    }

    /// What is sold from now on. Machines that are there stay.
    pub(crate) fn sell(&mut self, market: Market) -> Result<(), ProviderError> {
        let configuration = |message| ProviderError::new(ProviderErrorKind::Configuration, message);
        market.check().map_err(configuration)?;
        self.market = market;
        Ok(())
    }

    /// What is sold.
    pub(crate) fn market(&self) -> Market {
        self.market.clone()
    }

    /// The price list; `None` while everything is sold.
    pub(crate) fn offers(&self) -> Option<Vec<Offer>> {
        self.market.offers(|product| self.live_of(product))
    }

    /// Ends the machines whose notice passed. Answers whether any waits still.
    pub(crate) fn interrupt(&mut self, now: i64) -> bool {
        let due = |order: &Order| match &order.fault {
            CloudFault::Interrupt { instance, at, .. } if at.is_none_or(|at| at <= now) => {
                Some(instance.clone())
            }
            _ => None,
        };
        let gone: Vec<String> = self.orders.iter().filter_map(due).collect();
        for id in gone {
            self.terminate(&id, now);
        }
        self.orders.retain(|order| due(order).is_none());
        let waits = |order: &Order| matches!(order.fault, CloudFault::Interrupt { .. });
        self.orders.iter().any(waits)
    }

    /// The machine with the cloud's id or the name; of several with one name the live one.
    pub(crate) fn find(&self, id_or_name: &str) -> Option<&Record> {
        let mut matching = self
            .machines
            .values()
            .filter(|record| record.vanished.is_none() && record.answers_to(id_or_name));
        let first = matching.next_back()?;
        if first.may_run() {
            return Some(first);
        }
        Some(matching.find(|record| record.may_run()).unwrap_or(first))
    }

    pub(crate) fn get(&self, id: &str) -> Option<InstanceView> {
        let record = self.find(id).filter(|record| record.id.as_str() == id)?;
        Some(self.view(record, record.status()))
    }

    /// Begins to end a machine. `None` when the cloud does not know it.
    pub(crate) fn terminate(&mut self, id: &str, now: i64) -> Option<InstanceView> {
        let record = self
            .machines
            .values_mut()
            .find(|record| record.vanished.is_none() && record.id.as_str() == id)?;
        if record.should_run() {
            record.became(CloudStatus::Terminating, now);
        }
        self.get(id)
    }

    /// Notes that the process of a machine that is to end is gone.
    pub(crate) fn ended(&mut self, id: &ProviderInstanceId, now: i64) {
        if let Some(record) = self.machines.values_mut().find(|record| record.id == *id)
            && record.may_run()
        {
            record.became(CloudStatus::Terminated, now);
        }
    }

    /// Orders a fault, with the machine's id in place of its name. A machine that vanishes does
    /// so here.
    pub(crate) fn order(
        &mut self,
        mut fault: CloudFault,
        now: i64,
    ) -> Result<Order, ProviderError> {
        let configuration = |message| ProviderError::new(ProviderErrorKind::Configuration, message);
        fault.check().map_err(configuration)?;
        if let Some(name) = fault.instance_mut() {
            let record = self.find(name).filter(|record| record.should_run());
            let Some(record) = record else {
                return Err(ProviderError::new(
                    ProviderErrorKind::NotFound,
                    format!("no machine {name:?} runs; list the instances for their ids"),
                ));
            };
            *name = record.id.to_string();
            let spot = record.request.capacity == CapacityKind::Spot;
            if let CloudFault::Interrupt {
                notice_seconds, at, ..
            } = &mut fault
            {
                if !spot {
                    return Err(configuration(
                        "instance: is rented on demand; only spot machines are taken back"
                            .to_owned(),
                    ));
                }
                let notice = i64::try_from(*notice_seconds * 1_000_000).unwrap_or(i64::MAX);
                *at = Some(now.saturating_add(notice));
            }
        }
        if self.orders.len() >= MAX_ORDERS {
            return Err(configuration(format!(
                "{MAX_ORDERS} faults are on order, which is the limit; clear some first"
            )));
        }
        let order = Order {
            id: self.next_order,
            fault,
        };
        self.next_order += 1;
        if let CloudFault::Vanish { instance } = &order.fault {
            let gone = self
                .machines
                .values_mut()
                .find(|record| record.id.as_str() == instance);
            if let Some(record) = gone {
                record.vanished = Some(now);
            }
        } else {
            self.orders.push(order.clone());
        }
        Ok(order)
    }

    /// Takes one fault off the list, or all. Says whether there was one.
    pub(crate) fn clear(&mut self, id: Option<u64>) -> bool {
        let before = self.orders.len();
        self.orders
            .retain(|order| id.is_some_and(|id| order.id != id));
        self.orders.len() < before
    }

    /// Whether the machine hangs.
    pub(crate) fn hangs(&self, id: &ProviderInstanceId) -> bool {
        self.orders.iter().any(
            |order| matches!(&order.fault, CloudFault::Hang { instance } if instance == id.as_str()),
        )
    }

    /// Forgets machines that ended long ago, and their faults. Returns their ids.
    pub(crate) fn purge(&mut self, now: i64) -> Vec<ProviderInstanceId> {
        let mut gone = Vec::new();
        self.machines.retain(|_, record| {
            let ended = record.history.last().map_or(now, |last| last.0);
            let keep = record.may_run() || now.saturating_sub(ended) < KEEP_ENDED_MICROS;
            if !keep {
                gone.push(record.id.clone());
            }
            keep
        });
        let live = |id: &String| {
            self.machines
                .values()
                .any(|record| record.id.as_str() == id && record.should_run())
        };
        self.orders
            .retain_mut(|order| order.fault.instance_mut().is_none_or(|id| live(id)));
        gone
    }

    /// One page of a listing.
    pub(crate) fn page(
        &self,
        query: &PageQuery,
        faults: &ListingFaults,
        now: i64,
    ) -> Result<Page, ProviderError> {
        if query.page_token == PageToken::BROKEN {
            return Err(ProviderError::new(
                ProviderErrorKind::Transient,
                "ordered fault: this page of the listing fails",
            ));
        }
        let mut token = PageToken {
            after: 0,
            last: None,
            as_of: faults
                .stale
                .map(|age| now.saturating_sub(i64::try_from(age.as_micros()).unwrap_or(i64::MAX))),
        };
        if !query.page_token.is_empty() {
            token = PageToken::parse(&query.page_token).ok_or_else(|| {
                ProviderError::new(
                    ProviderErrorKind::Configuration,
                    format!("page_token: {:?} is not one of ours", query.page_token),
                )
            })?;
        }
        if faults.empty {
            return Ok(Page::default());
        }
        let mut shown: Vec<_> = self
            .machines
            .range((
                std::ops::Bound::Excluded(token.after),
                std::ops::Bound::Unbounded,
            ))
            .filter(|(serial, _)| token.last.is_none_or(|last| **serial <= last))
            .filter(|(_, record)| wanted(record, query))
            .filter_map(|(serial, record)| {
                let status = record.status_at(token.as_of.unwrap_or(i64::MAX))?;
                Some((*serial, record, status))
            })
            .collect();
        if faults.partial == Some(PartialHow::Missing) {
            shown.truncate(shown.len() / 2);
            token.last = Some(shown.last().map_or(0, |(serial, ..)| *serial));
        }
        let size = match query.page_size {
            0 => PAGE_SIZE,
            size => size.min(MAX_PAGE_SIZE),
        };
        let more = shown.len() > size;
        shown.truncate(size);
        let next = shown.last().filter(|_| more).map(|(serial, ..)| PageToken {
            after: *serial,
            ..token
        });
        let mut next_page_token = next.map_or(String::new(), |next| next.to_string());
        if faults.partial == Some(PartialHow::Error) {
            shown.truncate(shown.len() / 2);
            PageToken::BROKEN.clone_into(&mut next_page_token);
        }
        Ok(Page {
            instances: shown
                .into_iter()
                .map(|(_, record, status)| self.view(record, status))
                .collect(),
            next_page_token,
        })
    }

    fn view(&self, record: &Record, status: CloudStatus) -> InstanceView {
        let request = &record.request;
        let ordered = self
            .orders
            .iter()
            .rev()
            .find_map(|order| match &order.fault {
                CloudFault::Show { instance, status } if instance == record.id.as_str() => {
                    Some(*status)
                }
                _ => None,
            });
        InstanceView {
            id: record.id.to_string(),
            name: request.name.clone(),
            client_token: request.client_token.clone(),
            tags: request.tags.clone(),
            region: request.region.clone(),
            zone: request.zone.clone(),
            instance_type: request.instance_type.clone(),
            capacity: request.capacity,
            interruption_at: self.orders.iter().find_map(|order| match &order.fault {
                CloudFault::Interrupt { instance, at, .. } if instance == record.id.as_str() => *at,
                _ => None,
            }),
            status: ordered
                .filter(|_| status == CloudStatus::Running)
                .unwrap_or(status),
            created_at: record.history.first().map_or(0, |first| first.0),
        }
    }
}

fn wanted(record: &Record, query: &PageQuery) -> bool {
    let request = &record.request;
    query.name.as_ref().is_none_or(|name| request.name == *name)
        && query
            .tags
            .iter()
            .all(|(key, value)| request.tags.get(key) == Some(value))
}

/// Whether two requests ask for the same machine. How its agent reaches the control plane may
/// differ: an address or a token can change between a launch and its repetition.
fn same_machine(one: &LaunchRequest, other: &LaunchRequest) -> bool {
    let bare = |request: &LaunchRequest| LaunchRequest {
        agent: None,
        ..request.clone()
    };
    bare(one) == bare(other)
}

#[cfg(test)]
mod tests;
