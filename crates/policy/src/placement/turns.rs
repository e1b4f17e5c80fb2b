//! Machines that are placed one after the other: what [`super::rank`] would say first each time,
//! without judging every offering for each of them.

use std::collections::BTreeMap;

use super::{Candidate, Share, Strategy, closed, machines_by_group, sorted};
use crate::guards::Block;

/// The offerings of a pool while one plan places several machines.
///
/// An offering is judged when its turn comes and each time a machine was placed at it. What is
/// closed stays so: a plan places machines and takes none away.
#[derive(Debug)]
pub struct Turns {
    strategy: Strategy,
    candidates: Vec<Candidate>,
    groups: BTreeMap<usize, u128>,
    /// Those that are not found closed, by place: in the order in which they are asked, unless the
    /// machines at them decide it.
    left: Vec<usize>,
    /// Whether each was judged since the last machine was placed at it.
    judged: Vec<bool>,
    /// Why those are closed that are, by place.
    closed: BTreeMap<usize, Block>,
}

impl Turns {
    /// Takes candidates as they are now. What stops one beside its price and its list is asked for
    /// when its turn comes, so `block` of each counts for nothing.
    pub fn new(strategy: Strategy, candidates: Vec<Candidate>) -> Self {
        let groups = machines_by_group(&candidates);
        let mut left = sorted(strategy, &candidates, (0..candidates.len()).collect());
        // The next is the last.
        left.reverse();
        Self {
            strategy,
            groups,
            left,
            judged: vec![false; candidates.len()],
            closed: BTreeMap::new(),
            candidates,
        }
    }

    /// Where the next machine is placed, by the place of the candidate; none if all are closed.
    /// `name` gives the text of each for messages, and `judge` says what stops it beside its price
    /// and its list.
    pub fn next(
        &mut self,
        name: impl Fn(usize) -> String,
        judge: impl Fn(usize) -> Option<Block>,
    ) -> Option<usize> {
        loop {
            let at = self.turn()?;
            let place = self.left[at];
            if self.judged[place] {
                return Some(place);
            }
            let one = &self.candidates[place];
            match closed(self.strategy, one, || name(place), || judge(place)) {
                None => self.judged[place] = true,
                Some(block) => {
                    self.left.remove(at);
                    self.closed.insert(place, block);
                }
            }
        }
    }

    /// Whose turn it is, by its index in `left`.
    fn turn(&self) -> Option<usize> {
        if self.strategy != Strategy::RoundRobin {
            return self.left.len().checked_sub(1);
        }
        (0..self.left.len()).min_by_key(|at| {
            let place = self.left[*at];
            let one = &self.candidates[place];
            (Share::of(&self.groups, one), one.machines, place)
        })
    }

    /// A machine is placed at a candidate.
    pub fn take(&mut self, place: usize) {
        let one = &mut self.candidates[place];
        one.machines += 1;
        *self.groups.entry(one.group).or_default() += 1;
        self.judged[place] = false;
    }

    /// Why those are closed whose turn came and that were, in the order of the candidates.
    pub fn closed(&self) -> Vec<&Block> {
        self.closed.values().collect()
    }
}
