//! A fixed set of seeds in every run, and the planted bugs that they must catch.

use std::time::Duration;

use navarch_sim::{Bug, Config, Trouble, fuzz};

/// Minutes of trouble in each world.
const MINUTES: u64 = 30;

#[test]
fn the_first_seeds_keep_every_promise() {
    if let Err(failure) = fuzz::fuzz(12, 0, MINUTES) {
        panic!("{failure}");
    }
}

/// Each planted bug is found within so many seeds, by one of these promises.
#[track_caller]
fn caught(bug: Bug, seeds: u64, promises: &[&str], tend: impl Fn(&mut Config)) {
    let failure = fuzz::catches(bug, seeds, MINUTES, tend)
        .unwrap_or_else(|| panic!("{bug:?} was not caught"));
    let found: Vec<_> = failure.violations.iter().map(|v| v.invariant).collect();
    assert!(
        found.iter().any(|found| promises.contains(found)),
        "{bug:?} was caught as {found:?}:\n{failure}"
    );
}

/// Worlds in which processes die often, right at their commits.
fn crashes(config: &mut Config) {
    config.crash_per_turn = 0.1;
}

/// Small worlds in which, from the first launch on, answers are lost, the cloud cannot be asked
/// and no machine boots.
fn outages(config: &mut Config) {
    *config = Config::calm(1, 2);
    config.troubles = vec![Trouble::LostAnswers, Trouble::Duds, Trouble::Outage];
    config.trouble_every = Duration::from_millis(100);
}

#[test]
fn a_launch_intent_left_out_of_the_commit_is_caught() {
    let promises = ["P2 the intent is durable before the call"];
    caught(Bug::LaunchIntentDropped, 1, &promises, |_| ());
}

#[test]
fn effects_before_the_commit_are_caught() {
    let promises = ["P2 the intent is durable before the call"];
    caught(Bug::EffectsBeforeCommit, 40, &promises, crashes);
}

#[test]
fn replies_before_the_commit_are_caught() {
    let promises = ["P3 nothing acknowledged is lost"];
    caught(Bug::RepliesBeforeCommit, 8, &promises, crashes);
}

#[test]
fn a_hold_change_left_out_of_the_commit_is_caught() {
    let promises = ["P3 nothing acknowledged is lost"];
    caught(Bug::HoldChangeDropped, 8, &promises, crashes);
}

#[test]
fn a_failed_listing_handed_over_as_empty_and_complete_is_caught() {
    let promises = ["P1 ended means gone", "P1 no leak"];
    caught(Bug::EmptyListingComplete, 8, &promises, outages);
}

#[test]
fn an_accepted_termination_handed_over_as_finished_is_caught() {
    caught(Bug::AcceptedIsGone, 8, &["P1 ended means gone"], |_| ());
}
