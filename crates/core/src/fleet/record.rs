//! The record: what happened, to what, and who asked for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use navarch_model::{Change, Event, EventKind, Instance, Node, Subject};
use navarch_policy::guards;

use crate::fleet::{EventKey, Fleet};

/// Repeats within this time of the first become one event with a count.
const COALESCED_WITHIN: Duration = Duration::from_secs(3600);
/// Events that are remembered for their repeats. Lower records a repeat as an event of its own
/// sooner, higher costs memory.
const MAX_REMEMBERED: usize = 1024;

impl Fleet {
    pub(crate) fn instance_subject(&self, instance: &Instance) -> Subject {
        Subject {
            pool: Some(instance.pool.clone()),
            instance: Some(instance.id.clone()),
            node: instance.node.clone(),
            ..Subject::default()
        }
    }

    pub(crate) fn node_subject(&self, node: &Node) -> Subject {
        Subject {
            pool: node.pool.clone(),
            instance: node.instance.clone(),
            node: Some(node.id.clone()),
            ..Subject::default()
        }
    }

    /// Adds an entry to the record.
    pub(crate) fn event<const N: usize>(
        &mut self,
        kind: EventKind,
        subject: Subject,
        message: impl Into<String>,
        details: [(&str, String); N],
    ) {
        let mut details: BTreeMap<String, String> = details
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect();
        if let Some(actor) = &self.actor {
            details.insert("actor".to_owned(), actor.name.clone());
            if !actor.address.is_empty() {
                details.insert("address".to_owned(), actor.address.clone());
            }
        }
        let key = kind
            .coalesces()
            .then(|| (kind, subject.clone(), details.clone()));
        let repeated = key
            .as_ref()
            .and_then(|key| self.recent.get(key))
            .filter(|first| self.now.core.since(first.at.core) < COALESCED_WITHIN);
        let event = match repeated {
            Some(first) => Event {
                last: self.now,
                count: first.count.saturating_add(1),
                message: message.into(),
                ..Event::clone(first)
            },
            None => {
                self.last_event += 1;
                Event {
                    sequence: self.last_event,
                    at: self.now,
                    last: self.now,
                    count: 1,
                    kind,
                    subject,
                    message: message.into(),
                    details,
                }
            }
        };
        let event = Arc::new(event);
        if let Some(key) = key {
            self.remember(key, Arc::clone(&event));
        }
        // A repeat is counted in memory while the store's disk is nearly full; the first one after
        // there is room again writes the whole count.
        let full = guards::low_disk(self.disk_free, self.settings.min_free).is_some();
        if event.count > 1 && full {
            return;
        }
        self.changes.push(Change::Event(event));
    }

    /// How many events are remembered for their repeats.
    #[cfg(test)]
    pub(crate) fn remembered_events(&self) -> usize {
        self.recent.len()
    }

    pub(super) fn remember(&mut self, key: EventKey, event: Arc<Event>) {
        if self.recent.len() >= MAX_REMEMBERED && !self.recent.contains_key(&key) {
            let oldest = self.recent.iter().min_by_key(|(_, event)| event.last);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                self.recent.remove(&oldest);
            }
        }
        self.recent.insert(key, event);
    }
}
