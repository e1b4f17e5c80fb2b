//! The ordered event queue: virtual time is nothing but the key of the next entry.

use std::collections::BTreeMap;

use navarch_model::Time;

/// Entries in the order of their time, then of their scheduling.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    entries: BTreeMap<(Time, u64), T>,
    scheduled: u64,
}

impl<T> Queue<T> {
    pub(crate) const fn new() -> Self {
        Self {
            entries: BTreeMap::new(),
            scheduled: 0,
        }
    }

    /// Schedules an entry; of two at one time the one scheduled first comes first.
    pub(crate) fn push(&mut self, at: Time, entry: T) {
        self.scheduled += 1;
        self.entries.insert((at, self.scheduled), entry);
    }

    /// Takes the first entry that is as asked for, whenever it is due.
    pub(crate) fn take(&mut self, is_it: impl Fn(&T) -> bool) -> Option<T> {
        let (key, _) = self.entries.iter().find(|(_, entry)| is_it(entry))?;
        let key = *key;
        self.entries.remove(&key)
    }

    /// How many entries wait.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// When the next entry is due.
    pub(crate) fn due(&self) -> Option<Time> {
        self.entries.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes the next entry that is due at or before `until`.
    pub(crate) fn pop(&mut self, until: Time) -> Option<(Time, T)> {
        let next = self.entries.first_entry()?;
        if next.key().0 > until {
            return None;
        }
        let ((at, _), entry) = next.remove_entry();
        Some((at, entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_by_time_and_then_in_the_order_they_were_scheduled() {
        let mut queue = Queue::new();
        for (at, name) in [(5, "c"), (1, "a"), (5, "d"), (1, "b"), (9, "e")] {
            queue.push(Time(at), name);
        }
        let mut order = Vec::new();
        while let Some((at, name)) = queue.pop(Time(5)) {
            order.push((at.0, name));
        }
        assert_eq!(order, [(1, "a"), (1, "b"), (5, "c"), (5, "d")]);
    }
}
