//! Tests of the clocks, the randomness and the task groups.

#[cfg(test)]
mod clocks;
#[cfg(test)]
mod ordering;
#[cfg(test)]
mod races;
#[cfg(test)]
mod randomness;
#[cfg(test)]
mod stress;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tasks;
#[cfg(test)]
mod timers;
