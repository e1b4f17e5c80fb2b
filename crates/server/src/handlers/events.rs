//! The record of events: pages of it, the stream of it, and what it tells of one node.

use std::sync::Arc;

use futures_util::stream;
use navarch_api::service::Answers;
use navarch_api::{ApiError, convert, requests, v1};
use navarch_model::{Event, HealthStatus, Incident, Node, PoolName};
use navarch_store::{EventQuery, History, MAX_LIMIT, Order, StoreError};
use navarch_time::timeout;

use super::names::Named;
use super::{Handlers, KEEP_ALIVE, unreadable};
use crate::archive::Archive;
use crate::fleet::FleetClock;
use crate::publish::Published;

impl Handlers {
    /// Where a node stands, in one line.
    fn summary(&self, node: &Node, open: &[Arc<Incident>]) -> String {
        let mut text = format!(
            "{} is {}",
            node.id,
            node.status().short().to_ascii_uppercase()
        );
        let worst = open
            .iter()
            .filter(|incident| incident.severity >= HealthStatus::Degraded);
        let reasons: Vec<String> = worst
            .map(|incident| format!("{} ({})", incident.key.class, incident.citation))
            .collect();
        if !reasons.is_empty() {
            text.push_str(" because of ");
            text.push_str(&reasons.join("; "));
        }
        let holds = node.hold_names();
        if !holds.is_empty() {
            text.push_str("; holds: ");
            text.push_str(&holds.join(", "));
        }
        let settings = self.published.settings();
        let unknown = |pool: &&PoolName| !settings.pools.contains_key(*pool);
        if let Some(pool) = node.pool.as_ref().filter(unknown) {
            text.push_str(&format!("; its pool {pool} is not in the configuration"));
        }
        text
    }

    pub(super) async fn explain(
        &self,
        request: &v1::ExplainNodeRequest,
    ) -> Result<v1::ExplainNodeResponse, ApiError> {
        let (id, limit) = requests::explain(request)?;
        let newest = newest(&self.published);
        let node = self.find_node(&id).await?;
        let about = EventQuery {
            before: Some(newest + 1),
            order: Order::NewestFirst,
            limit,
            ..EventQuery::default()
        };
        // What befell the machine before its agent registered belongs to the story.
        let machine = node.instance.clone().map(|instance| EventQuery {
            instance: Some(instance),
            ..about.clone()
        });
        let about = EventQuery {
            node: Some(id.clone()),
            ..about
        };
        let read = self.archive.read(move |history| {
            let (mut events, mut more) = some_of(history, about)?;
            if let Some(machine) = machine {
                let (others, more_others) = some_of(history, machine)?;
                events.extend(others);
                more |= more_others;
            }
            Ok((events, more))
        });
        let (mut events, more) = read.await.map_err(|error| unreadable(&error))?;
        events.sort_by_key(|event| event.sequence);
        events.dedup_by_key(|event| event.sequence);
        let truncated = more || events.len() > limit;
        let first = events.len().saturating_sub(limit);
        let open: Vec<Arc<Incident>> = self.published.read(|state| {
            node.open_incidents
                .keys()
                .filter_map(|id| state.incidents.get(id).cloned())
                .collect()
        });
        let report = self.published.report();
        let now = self.time.now();
        let waits = report
            .pools
            .values()
            .flat_map(|pool| &pool.waits)
            .filter(|wait| {
                wait.about == id.as_str()
                    || node
                        .instance
                        .as_ref()
                        .is_some_and(|instance| wait.about == instance.as_str())
            })
            .map(|wait| convert::wait(wait, now))
            .collect();
        Ok(v1::ExplainNodeResponse {
            summary: self.summary(&node, &open),
            node: self.node_info(&node).into(),
            open_incidents: open
                .iter()
                .map(|incident| convert::incident(incident))
                .collect(),
            waits,
            lines: events[first..]
                .iter()
                .map(|event| convert::explain_line(event))
                .collect(),
            truncated,
        })
    }

    pub(super) async fn page_of_events(
        &self,
        request: v1::ListEventsRequest,
    ) -> Result<v1::ListEventsResponse, ApiError> {
        let page = requests::events(request)?;
        self.must_exist(named(&page.query)).await?;
        let end = newest(&self.published) + 1;
        let query = EventQuery {
            after: Some(page.after),
            before: Some(page.before.map_or(end, |before| before.min(end))),
            order: if page.latest {
                Order::NewestFirst
            } else {
                Order::OldestFirst
            },
            limit: page.limit,
            ..stored(&page.query)
        };
        let read = self
            .archive
            .read(move |history| Ok((some_of(history, query)?, history.event_range()?)));
        let ((mut events, more), range) = read.await.map_err(|error| unreadable(&error))?;
        events.sort_by_key(|event| event.sequence);
        Ok(v1::ListEventsResponse {
            resume_after_sequence: events.last().map_or(page.after, |event| event.sequence),
            events: events.iter().map(|event| convert::event(event)).collect(),
            more,
            oldest_sequence: range.map_or(0, |range| *range.start()),
        })
    }

    pub(super) async fn stream_of_events(
        &self,
        request: v1::WatchEventsRequest,
    ) -> Result<Answers<v1::WatchEventsResponse>, ApiError> {
        let (query, after) = requests::watch_events(request)?;
        self.must_exist(named(&query)).await?;
        let news = self.published.events();
        let after = after.unwrap_or_else(|| *news.borrow());
        let watch = Watch {
            query: stored(&query),
            after,
            news,
            archive: Arc::clone(&self.archive),
            time: self.time.clone(),
            closing: self.closing.clone(),
            first: true,
        };
        Ok(Box::pin(stream::unfold(Some(watch), |watch| async {
            let mut watch = watch?;
            match watch.next().await {
                Ok(answer) => Some((Ok(answer), Some(watch))),
                Err(error) => Some((Err(error), None)),
            }
        })))
    }
}

/// The sequence of the last event that readers may see. The store may have later ones whose
/// commit is not published yet: whoever is told of an event must find what it tells of.
fn newest(published: &Published) -> u64 {
    *published.events().borrow()
}

/// The events of one page, and whether there are more beyond it. The store answers no more than
/// its largest page, so that one more than that cannot be asked for at once.
fn some_of(
    history: &dyn History,
    query: EventQuery,
) -> Result<(Vec<Arc<Event>>, bool), StoreError> {
    let events = history.events(&query)?;
    let last = match events.last() {
        Some(last) if events.len() >= query.limit.min(MAX_LIMIT) => Some(last.sequence),
        _ => return Ok((events, false)),
    };
    let rest = match query.order {
        Order::OldestFirst => EventQuery {
            after: last,
            limit: 1,
            ..query
        },
        Order::NewestFirst => EventQuery {
            before: last,
            limit: 1,
            ..query
        },
    };
    let more = !history.events(&rest)?.is_empty();
    Ok((events, more))
}

/// What a query names.
fn named(query: &requests::EventQuery) -> Named<'_> {
    Named {
        pool: query.pool.as_ref(),
        node: query.node.as_ref(),
        instance: query.instance.as_ref(),
        incident: query.incident.as_ref(),
    }
}

/// The store's query for a checked one.
fn stored(query: &requests::EventQuery) -> EventQuery {
    EventQuery {
        pool: query.pool.clone(),
        instance: query.instance.clone(),
        node: query.node.clone(),
        incident: query.incident.clone(),
        kinds: query.kinds.iter().copied().collect(),
        limit: MAX_LIMIT,
        ..EventQuery::default()
    }
}

/// One watcher of the record. It reads what is published at its own pace: nothing is buffered
/// for it, so a slow watcher costs nothing but its own delay.
struct Watch {
    query: EventQuery,
    after: u64,
    news: tokio::sync::watch::Receiver<u64>,
    archive: Arc<Archive>,
    time: FleetClock,
    closing: navarch_time::CancellationToken,
    first: bool,
}

impl Watch {
    async fn next(&mut self) -> Result<v1::WatchEventsResponse, ApiError> {
        let first = std::mem::take(&mut self.first);
        let newest = *self.news.borrow_and_update();
        if !first && newest <= self.after {
            let clock = Arc::clone(self.time.clock());
            tokio::select! {
                () = self.closing.cancelled() => return Err(closing()),
                news = timeout(&*clock, KEEP_ALIVE, self.news.changed()) => {
                    if matches!(news, Ok(Err(_))) {
                        return Err(closing());
                    }
                }
            }
        }
        let newest = *self.news.borrow_and_update();
        let (events, lost) = self
            .events_up_to(newest)
            .await
            .map_err(|error| unreadable(&error))?;
        // A full page may have left some out; else everything up to the newest was looked at.
        self.after = match events.last() {
            Some(last) if events.len() >= MAX_LIMIT => last.sequence,
            _ => newest.max(self.after),
        };
        Ok(v1::WatchEventsResponse {
            events: events.iter().map(|event| convert::event(event)).collect(),
            resume_after_sequence: self.after,
            next_within_milliseconds: i64::try_from(2 * KEEP_ALIVE.as_millis()).unwrap_or(i64::MAX),
            lost_up_to_sequence: lost,
        })
    }

    /// The events that were not told yet, the oldest first: what a full page leaves out comes with
    /// the next. Beside them the last sequence that retention took before it was told, else 0.
    async fn events_up_to(&self, newest: u64) -> Result<(Vec<Arc<Event>>, u64), StoreError> {
        if newest <= self.after {
            return Ok((Vec::new(), 0));
        }
        let after = self.after;
        let query = EventQuery {
            after: Some(self.after),
            before: Some(newest + 1),
            order: Order::OldestFirst,
            ..self.query.clone()
        };
        self.archive
            .read(move |history| {
                let events = history.events(&query)?;
                // Asked for after the events: what retention takes between the two is in none of
                // them, or was told a moment before it went.
                let oldest = history.event_range()?.map_or(0, |range| *range.start());
                let told = events.first().map_or(oldest, |event| event.sequence);
                let before = oldest.min(told).saturating_sub(1);
                // Who begins at the beginning knows of no event that could be missing.
                let lost = if after > 0 && before > after {
                    before
                } else {
                    0
                };
                Ok((events, lost))
            })
            .await
    }
}

fn closing() -> ApiError {
    ApiError::unavailable("the control plane is shutting down")
}

#[cfg(test)]
#[path = "events_tests.rs"]
pub(super) mod tests;
