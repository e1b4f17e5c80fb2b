//! The cloud's records: which machines there are and which faults are on order. Pure.

use std::collections::BTreeMap;

use navarch_model::{CloudStatus, ProviderError, ProviderErrorKind, ProviderInstanceId};
use serde::{Deserialize, Serialize};

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
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const SECOND: i64 = 1_000_000;

    fn request(name: &str) -> LaunchRequest {
        LaunchRequest {
            client_token: name.to_owned(),
            name: name.to_owned(),
            tags: [("fleet".to_owned(), "f".to_owned())].into(),
            region: String::new(),
            zone: String::new(),
            instance_type: "i".to_owned(),
            gpus: 8,
            agent: None,
        }
    }

    fn launch(book: &mut Book, name: &str, now: i64) -> Result<InstanceView, ProviderError> {
        let id = ProviderInstanceId::new(format!("fake-{name}"));
        book.launch(request(name), id, true, 100, now)
    }

    fn with_machines(count: i64) -> Book {
        let mut book = Book::new();
        for number in 1..=count {
            launch(&mut book, &number.to_string(), number * SECOND).expect("a machine");
        }
        book
    }

    /// Every name of a listing, page by page; the faults strike the first page.
    fn names(
        book: &Book,
        size: usize,
        faults: &ListingFaults,
        now: i64,
    ) -> Result<Vec<String>, ProviderError> {
        let mut names = Vec::new();
        let mut query = PageQuery {
            page_size: size,
            ..PageQuery::default()
        };
        let (mut faults, none) = (faults, ListingFaults::default());
        loop {
            let page = book.page(&query, faults, now)?;
            assert!(page.instances.len() <= size.max(1), "{page:?}");
            names.extend(page.instances.into_iter().map(|view| view.name));
            if page.next_page_token.is_empty() {
                return Ok(names);
            }
            query.page_token = page.next_page_token;
            faults = &none;
        }
    }

    proptest! {
        #[test]
        fn pages_of_any_size_show_each_machine_once(count in 0..30_i64, size in 1..12_usize) {
            let book = with_machines(count);
            let expected: Vec<_> = (1..=count).map(|number| number.to_string()).collect();
            let listed = names(&book, size, &ListingFaults::default(), 0);
            prop_assert_eq!(listed, Ok(expected.clone()));
            let missing = ListingFaults {
                partial: Some(PartialHow::Missing),
                ..ListingFaults::default()
            };
            let listed = names(&book, size, &missing, 0);
            prop_assert_eq!(listed, Ok(expected[..expected.len() / 2].to_vec()));
            let past = ListingFaults {
                stale: Some(Duration::from_secs(10)),
                ..ListingFaults::default()
            };
            let then: Vec<_> = (1..=count.min(7)).map(|number| number.to_string()).collect();
            prop_assert_eq!(names(&book, size, &past, 17 * SECOND), Ok(then));
        }

        #[test]
        fn any_page_token_is_read_or_refused(text in "[0-9.a-z-]{0,12}") {
            let query = PageQuery { page_token: text.clone(), ..PageQuery::default() };
            let page = with_machines(3).page(&query, &ListingFaults::default(), 0);
            if let Some(token) = PageToken::parse(&text) {
                prop_assert!(page.is_ok());
                prop_assert_eq!(PageToken::parse(&token.to_string()), Some(token));
            } else if !text.is_empty() {
                prop_assert!(page.is_err(), "{}", text);
            }
        }
    }

    #[test]
    fn a_broken_listing_fails_after_its_first_page() {
        let faults = ListingFaults {
            partial: Some(PartialHow::Error),
            ..ListingFaults::default()
        };
        for count in [0, 1, 5] {
            let book = with_machines(count);
            let first = book
                .page(&PageQuery::default(), &faults, 0)
                .expect("a page");
            assert_eq!(first.instances.len() as i64, count / 2);
            let error = names(&book, 100, &faults, 0).expect_err("the second page fails");
            assert_eq!(error.kind, ProviderErrorKind::Transient);
        }
    }

    #[test]
    fn a_stale_listing_shows_what_was() {
        let mut book = with_machines(3);
        book.terminate("fake-1", 10 * SECOND).expect("known");
        book.ended(&ProviderInstanceId::new("fake-1"), 12 * SECOND);
        let vanish = CloudFault::Vanish {
            instance: "2".to_owned(),
        };
        book.order(vanish, 11 * SECOND).expect("it runs");
        let shown = |seconds: i64| {
            let faults = ListingFaults {
                stale: Some(Duration::from_secs(20 - seconds as u64)),
                ..ListingFaults::default()
            };
            let page = book.page(&PageQuery::default(), &faults, 20 * SECOND);
            let views = page.expect("a page").instances.into_iter();
            let words = views.map(|view| format!("{} {}", view.name, view.status.word()));
            words.collect::<Vec<_>>().join(", ")
        };
        for (at, expected) in [
            (0, ""),
            (2, "1 running, 2 running"),
            (10, "1 terminating, 2 running, 3 running"),
            (11, "1 terminating, 3 running"),
            (12, "1 terminated, 3 running"),
        ] {
            assert_eq!(shown(at), expected, "as of second {at}");
        }
    }

    #[test]
    fn tokens_and_names_are_unique_while_their_machine_is_known() {
        let mut book = with_machines(1);
        let first = book.get("fake-1").expect("known");
        assert_eq!(launch(&mut book, "1", SECOND), Ok(first.clone()));
        let id = || ProviderInstanceId::new("fake-x");
        let mut other = request("1");
        other.gpus = 4;
        let error = book
            .launch(other, id(), true, 100, SECOND)
            .expect_err("another machine");
        assert_eq!(error.kind, ProviderErrorKind::OutcomeUnknown, "{error}");
        let mut namesake = request("1");
        namesake.client_token = "2".to_owned();
        let error = book.launch(namesake.clone(), id(), true, 100, SECOND);
        let error = error.expect_err("the name is taken");
        assert_eq!(error.kind, ProviderErrorKind::OutcomeUnknown, "{error}");
        let error = book
            .launch(request("2"), id(), true, 1, SECOND)
            .expect_err("quota");
        assert_eq!(error.kind, ProviderErrorKind::Quota, "{error}");

        book.terminate("fake-1", 2 * SECOND).expect("known");
        book.ended(&ProviderInstanceId::new("fake-1"), 3 * SECOND);
        let again = launch(&mut book, "1", 4 * SECOND).expect("the token's machine");
        assert_eq!(
            (again.id, again.status),
            (first.id, CloudStatus::Terminated)
        );
        book.launch(namesake, id(), true, 1, 4 * SECOND)
            .expect("name and quota are free again");
        assert_eq!(book.purge(3 * SECOND + KEEP_ENDED_MICROS - 1), []);
        let gone = book.purge(3 * SECOND + KEEP_ENDED_MICROS);
        assert_eq!(gone, [ProviderInstanceId::new("fake-1")]);
    }

    #[test]
    fn the_file_holds_everything() {
        let mut book = with_machines(2);
        for fault in [
            r#"{"fault":"hang","instance":"1"}"#,
            r#"{"fault":"show","instance":"2","status":"impaired"}"#,
            r#"{"fault":"error","error":"rate_limit","operation":"list","retry_after_seconds":3}"#,
            r#"{"fault":"latency","milliseconds":9,"when":"after","count":2}"#,
            r#"{"fault":"partial_listing","how":"error"}"#,
        ] {
            let fault = serde_json::from_str(fault).expect(fault);
            book.order(fault, SECOND).expect("ordered");
        }
        let file = serde_json::to_string(&book).expect("plain data");
        assert_eq!(serde_json::from_str::<Book>(&file).expect(&file), book);
        assert!(
            book.hangs(&ProviderInstanceId::new("fake-1")),
            "the name became the id"
        );
        let shown = book.get("fake-2").expect("known").status;
        assert_eq!(shown, CloudStatus::Impaired);
        assert!(book.clear(Some(2)) && !book.clear(Some(2)));
        let shown = book.get("fake-2").expect("known").status;
        assert_eq!(shown, CloudStatus::Running);
    }
}
