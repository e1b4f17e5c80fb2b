//! A fixed set of seeds in every run, some fresh ones under CI, and the planted bugs that they must
//! catch.

use std::time::Duration;

use navarch_sim::{Bug, Config, Trouble, fuzz};

/// Minutes of trouble in each world.
const MINUTES: u64 = 30;
/// Fresh seeds of a run. More would find more, and every gate would wait for it.
const FRESH: u64 = 20;

#[test]
fn the_first_seeds_keep_every_promise() {
    if let Err(failure) = fuzz::fuzz(12, 0, MINUTES) {
        panic!("{failure}");
    }
}

/// Seeds that found something once: circles of guards that waited for each other, a silence that
/// an operator closed, a launch that was planned late, a machine that booted while it ran, a list
/// of prices that got too old unseen, an intent that moved late, launches that waited for each
/// other, an offering that came back unseen, a launch breaker that nothing tried, a notice that was
/// older than what was heard, a fault that ended with time and was there, a check that was made no
/// more.
#[test]
fn seeds_that_failed_once_keep_every_promise() {
    for seed in [
        1742, 3049, 3583, 8103, 8664, 9046, 9983, 10_013, 10_523, 30_436, 50_250, 51_260, 51_473,
        53_246, 700_037, 721_062,
    ] {
        if let Err(failure) = fuzz::world(seed, Config::drawn(seed), 60) {
            panic!("{failure}");
        }
    }
}

/// Seeds that no build had before, where `NAVARCH_FRESH_SEEDS` says from which on: `scripts/test`
/// takes it from the commit under CI, so that each commit has its own and the same ones again.
#[test]
fn fresh_seeds_keep_every_promise() {
    let Some(from) = std::env::var_os("NAVARCH_FRESH_SEEDS") else {
        return;
    };
    let from = from.to_string_lossy();
    let Ok(from) = from.parse::<u64>() else {
        panic!("NAVARCH_FRESH_SEEDS={from} is no seed: write a whole number");
    };
    for seed in from..from.saturating_add(FRESH) {
        if let Err(failure) = fuzz::world(seed, Config::drawn(seed), MINUTES) {
            panic!(
                "{failure}\nA fresh seed breaks a promise that the fixed ones keep. It is a bug, in \
                 this commit or in an older one. To replay it with the whole trace:\n  \
                 navarch sim fuzz --from {seed} --seeds 1 --minutes {MINUTES} --trace seed-{seed}.txt"
            );
        }
    }
}

/// Each planted bug is found within so many seeds, by one of these promises. The world that shows it
/// keeps every promise without the bug.
#[track_caller]
fn caught(bug: Bug, seeds: u64, promises: &[&str], tend: impl Fn(&mut Config)) {
    let failure = fuzz::catches(bug, seeds, MINUTES, &tend)
        .unwrap_or_else(|| panic!("{bug:?} was not caught"));
    let found: Vec<_> = failure.violations.iter().map(|v| v.invariant).collect();
    assert!(
        found.iter().any(|found| promises.contains(found)),
        "{bug:?} was caught as {found:?}:\n{failure}"
    );
    let mut config = Config::drawn(failure.seed);
    tend(&mut config);
    if let Err(failure) = fuzz::world(failure.seed, config, MINUTES) {
        panic!("without {bug:?}: {failure}");
    }
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

#[test]
fn a_listing_with_the_machines_of_another_fleet_is_caught() {
    let promises = ["P1 other fleets are untouched"];
    caught(Bug::NeighbourTagged, 4, &promises, |config| {
        config.neighbour = true;
    });
}

#[test]
fn a_launch_that_is_made_though_it_was_called_back_is_caught() {
    caught(Bug::CancelIgnored, 20, &["P11 stoppable"], |config| {
        config.troubles = vec![Trouble::SlowCloud, Trouble::Automation, Trouble::Vanish];
        config.trouble_every = Duration::from_secs(20);
    });
}

#[test]
fn a_restored_store_that_does_not_wait_for_a_person_is_caught() {
    caught(Bug::RestoredGoesOn, 8, &["P11 stoppable"], |config| {
        config.troubles = vec![
            Trouble::Backup,
            Trouble::Restore,
            Trouble::Stop,
            Trouble::Vanish,
        ];
        config.trouble_every = Duration::from_secs(60);
    });
}

#[test]
fn holds_of_others_that_end_when_a_node_is_heard_again_are_caught() {
    let promises = ["P5 we undo only what we did"];
    caught(Bug::BackLiftsHolds, 8, &promises, |config| {
        config.troubles = vec![Trouble::Holds, Trouble::Operator, Trouble::HalfSilent];
        config.trouble_every = Duration::from_secs(60);
    });
}

#[test]
fn a_notice_that_was_not_taken_handed_over_as_taken_is_caught() {
    let promises = ["P8 convergence"];
    caught(Bug::EveryNoticeTaken, 20, &promises, |config| {
        *config = Config::calm(2, 3).with_scheduler();
        config.troubles = vec![Trouble::Operator, Trouble::Holds, Trouble::Thermal];
        config.trouble_every = Duration::from_secs(60);
    });
}

#[test]
fn an_agent_that_forgets_the_commands_that_it_finished_is_caught() {
    let promises = ["a command is carried out once"];
    caught(Bug::CommandsForgotten, 8, &promises, |config| {
        config.troubles = vec![Trouble::Diagnose, Trouble::AgentRestart];
        config.trouble_every = Duration::from_secs(15);
        config.lost = 0.3;
    });
}

#[test]
fn an_agent_that_forgets_what_its_spool_lost_is_caught() {
    caught(Bug::LossesForgotten, 8, &["P10 a loss is told"], |config| {
        config.troubles = vec![Trouble::Burst, Trouble::AgentRestart, Trouble::HalfSilent];
        config.trouble_every = Duration::from_secs(20);
        config.spool_bytes = 1_500;
    });
}

#[test]
fn terminations_that_are_never_called_are_caught() {
    let promises = ["P8 convergence", "P10 bounded"];
    caught(Bug::TerminationsDropped, 8, &promises, |_| ());
}

#[test]
fn commits_without_their_first_change_are_caught() {
    let promises = ["P3 nothing acknowledged is lost"];
    caught(Bug::FirstChangeDropped, 8, &promises, crashes);
}

/// Worlds in which a few machines of one pool fail often, one budget slot at a time.
fn sick(config: &mut Config) {
    *config = Config::calm(5, 6);
    config.trouble_every = Duration::from_secs(20);
}

#[test]
fn a_budget_with_one_slot_more_is_caught() {
    let promises = ["P4 bounded blast radius"];
    caught(Bug::BudgetOffByOne, 8, &promises, |config| {
        sick(config);
        config.troubles = vec![Trouble::Ecc, Trouble::LostGpu, Trouble::Thermal];
    });
}

#[test]
fn a_budget_of_the_fleet_with_one_slot_more_is_caught() {
    let promises = ["P4 bounded blast radius"];
    caught(Bug::FleetBudgetOffByOne, 8, &promises, |config| {
        *config = Config::calm(4, 5).with_pools(&["other", "third"], 4, 5, "1");
        config.trouble_every = Duration::from_secs(20);
        config.troubles = vec![Trouble::Ecc, Trouble::LostGpu, Trouble::Thermal];
    });
}

#[test]
fn a_drain_for_a_cloud_that_did_not_ask_is_caught() {
    let promises = ["P4 bounded blast radius"];
    caught(Bug::NoticeOfAnother, 8, &promises, |config| {
        *config = Config::calm(4, 5).on_spot();
        config.troubles = vec![Trouble::Interruption];
        config.trouble_every = Duration::from_secs(60);
    });
}

#[test]
fn a_latched_fault_that_a_good_reading_ends_is_caught() {
    let promises = ["P6 a latched fault ends by its repair"];
    caught(Bug::LatchedIsCondition, 4, &promises, |config| {
        sick(config);
        config.troubles = vec![Trouble::Xid];
    });
}

#[test]
fn a_machine_that_comes_back_with_fewer_gpus_and_is_admitted_is_caught() {
    let promises = ["P6 unknown is not healthy"];
    caught(Bug::LostGpusPass, 8, &promises, |config| {
        sick(config);
        config.troubles = vec![Trouble::LostGpu, Trouble::Repair];
    });
}

#[test]
fn a_report_handed_over_as_that_of_another_node_is_caught() {
    let promises = ["P6 a finding ends by a report of its node"];
    caught(Bug::ReportOfAnother, 4, &promises, |config| {
        sick(config);
        config.troubles = vec![Trouble::Thermal, Trouble::LostGpu];
    });
}

#[test]
fn a_drain_that_is_not_cancelled_is_caught() {
    let promises = ["P8 convergence", "P10 bounded"];
    caught(Bug::DrainNotCancelled, 20, &promises, |config| {
        *config = Config::calm(3, 4).with_scheduler();
        config.troubles = vec![Trouble::Thermal, Trouble::Ecc, Trouble::Repair];
        config.trouble_every = Duration::from_secs(20);
    });
}

#[test]
fn a_breaker_that_closes_on_a_try_that_failed_is_caught() {
    let promises = ["P4 a breaker closes when its try helped"];
    caught(Bug::FailedTryHelped, 20, &promises, |config| {
        *config = Config::calm(8, 9);
        config.troubles = vec![Trouble::Ecc];
        config.trouble_every = Duration::from_secs(10);
    });
}
