//! Files that nobody would write on purpose: whatever is in them, they are answered, and every
//! error begins with a place that the file has.

use navarch_config::scenario::Scenario;
use navarch_config::{Config, ConfigErrors, Warning};
use proptest::prelude::*;
use std::path::Path;
use std::time::Duration;

const EFFECTIVE: &str = include_str!("effective.yaml");

const SCENARIOS: &[&str] = &[
    include_str!("../../../examples/scenarios/gpu-failure.yaml"),
    include_str!("../../../examples/scenarios/5000-node-extreme.yaml"),
    include_str!("../../../examples/scenarios/pools-stock-outs.yaml"),
    include_str!("../../../examples/scenarios/control-plane-crashes.yaml"),
];

/// What breaks a YAML text in ways that random characters seldom do.
const SHARDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "[[[[[[[[",
    "&a ",
    "*a",
    "<<: ",
    "!!binary ",
    "!x ",
    "|",
    ">-",
    "'",
    "\"",
    "\\",
    "\"\\u",
    "\"\\ud800\"",
    "? ",
    "- ",
    "---\n",
    "...\n",
    "%YAML 1.2\n",
    "#",
    ": ",
    ":",
    "\t",
    "\r",
    "\r\n",
    "\n",
    "\n\n",
    "\u{feff}",
    "\u{2028}",
    "\u{85}",
    "\0",
    "\u{1b}",
    "\u{1f600}",
    "é",
    "~",
    "null",
    "NaN",
    ".inf",
    "-0",
    "0x",
    "1e999",
    "99999999999999999999999",
    "-1",
    "1ns",
    "9999999h",
    "100%",
    "101%",
    "${HOME}",
    "${",
    "2001-01-01",
    "yes",
    "010",
    "key: &a [*a]\n",
    "a: {b: {c: {d: {e: {f: 1}}}}}\n",
];

/// One change of a text of bytes: where, how many go, and what comes.
#[derive(Debug, Clone)]
struct Cut {
    at: prop::sample::Index,
    gone: usize,
    shard: &'static str,
    bytes: Vec<u8>,
}

fn cuts() -> impl Strategy<Value = Vec<Cut>> {
    let bytes = proptest::collection::vec(any::<u8>(), 0..4);
    let cut = (
        any::<prop::sample::Index>(),
        prop_oneof![4 => Just(0), 4 => 1..20_usize, 1 => 0..2000_usize],
        prop::sample::select(SHARDS),
        prop_oneof![3 => Just(Vec::new()), 1 => bytes],
    );
    let cut = cut.prop_map(|(at, gone, shard, bytes)| Cut {
        at,
        gone,
        shard,
        bytes,
    });
    proptest::collection::vec(cut, 1..5)
}

fn cut(text: &str, cuts: &[Cut]) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for cut in cuts {
        let at = cut.at.index(bytes.len() + 1);
        let end = (at + cut.gone).min(bytes.len());
        let fresh = cut.shard.bytes().chain(cut.bytes.iter().copied());
        bytes.splice(at..end, fresh);
    }
    bytes
}

/// A loader of files.
type Load = fn(&Path) -> Result<Vec<Warning>, ConfigErrors>;

fn configuration(path: &Path) -> Result<Vec<Warning>, ConfigErrors> {
    Config::load(path).map(|(_, warnings)| warnings)
}

fn scenario(path: &Path) -> Result<Vec<Warning>, ConfigErrors> {
    Scenario::load(path).map(|(scenario, _, warnings)| {
        check(&scenario);
        warnings
    })
}

/// What the simulator relies on, whatever is in the file.
fn check(scenario: &Scenario) {
    let share = |share: f64| assert!((0.0..=1.0).contains(&share), "{share}");
    let drawn = |weights: &mut dyn Iterator<Item = f64>| {
        let weights: Vec<f64> = weights.collect();
        assert!(
            weights
                .iter()
                .all(|weight| weight.is_finite() && *weight >= 0.0)
        );
        assert!(weights.is_empty() || weights.iter().sum::<f64>() > 0.0);
    };
    assert!(!scenario.name.is_empty());
    assert!(scenario.events.is_sorted_by_key(|event| event.at));
    share(scenario.lost_calls);
    let cloud = &scenario.cloud;
    for provider in cloud.providers.values().chain([&cloud.usual]) {
        share(provider.never_boots);
        assert!(provider.latency.0 <= provider.latency.1);
    }
    for load in scenario.load.values() {
        for curve in [&load.work, &load.jobs] {
            share(curve.noise);
            assert!(curve.steps.is_sorted_by_key(|(at, _)| at));
            for hour in 0..48 {
                let level = curve.at(Duration::from_secs(3600 * hour));
                assert!(level.is_finite() && level >= 0.0, "{level}");
            }
        }
    }
    let Some(stress) = &scenario.stress else {
        return;
    };
    assert!(!stress.duration.is_zero() && !stress.metrics_interval.is_zero());
    assert_eq!(stress.seed, scenario.seed);
    if let Some(fleet) = &stress.fleet_gen {
        assert!(fleet.total_nodes > 0 && !fleet.templates.is_empty());
        drawn(&mut fleet.templates.iter().map(|one| one.weight));
        drawn(&mut fleet.providers.iter().map(|(_, weight)| *weight));
        drawn(&mut fleet.regions.iter().map(|(_, weight)| *weight));
        for (region, _) in &fleet.regions {
            assert!(!fleet.zones_of(region).is_empty());
        }
        share(fleet.startup.jitter);
    }
    if let Some(chaos) = &stress.chaos {
        drawn(&mut chaos.failure_types.iter().map(|(_, weight)| *weight));
        drawn(&mut chaos.xid_distribution.iter().map(|(_, weight)| *weight));
        for outage in &chaos.outages {
            assert!(outage.start_time < stress.duration && !outage.duration.is_zero());
        }
        for rate in &chaos.rates {
            assert!(rate.per_1000_node_days.is_finite());
            share(rate.permanent);
        }
        if let Some(cascading) = &chaos.cascading {
            assert!(cascading.min_delay <= cascading.max_delay && cascading.max_depth > 0);
            share(cascading.probability);
            share(cascading.max_affected);
        }
    }
}

/// Loads the file and checks what is said of it: `FILE:LINE:COLUMN: `, within the file.
fn answered(path: &Path, bytes: &[u8], load: Load) -> Result<(), TestCaseError> {
    std::fs::write(path, bytes).expect("a file");
    let name = path.display().to_string();
    let text = String::from_utf8_lossy(bytes);
    // Every break that YAML 1.1 knows ends a line.
    let lines: Vec<&str> = text
        .split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}'])
        .collect();
    let placed = |said: &str| {
        let rest = said.strip_prefix(&name)?.strip_prefix(':')?;
        let mut parts = rest.splitn(3, ':');
        let line: usize = parts.next()?.parse().ok()?;
        let column: usize = parts.next()?.parse().ok()?;
        let message = parts.next()?;
        let width = text.chars().count() + 1;
        let there = (1..=lines.len()).contains(&line) && (1..=width).contains(&column);
        (there && message.starts_with(' ') && !said.contains(char::is_control)).then_some(())
    };
    match load(path) {
        Ok(warnings) => {
            for warning in warnings {
                let said = warning.to_string();
                prop_assert!(placed(&said).is_some(), "{said:?}");
            }
        }
        Err(errors) => {
            prop_assert!(!errors.errors().is_empty());
            for error in errors.errors() {
                let said = error.to_string();
                prop_assert!(placed(&said).is_some(), "{said:?} of {text:?}");
            }
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_configuration_with_pieces_cut_out_and_put_in_is_answered(cuts in cuts()) {
        let directory = tempfile::tempdir().expect("a directory");
        answered(&directory.path().join("f.yaml"), &cut(EFFECTIVE, &cuts), configuration)?;
    }

    #[test]
    fn a_scenario_with_pieces_cut_out_and_put_in_is_answered(
        text in prop::sample::select(SCENARIOS),
        cuts in cuts(),
    ) {
        let directory = tempfile::tempdir().expect("a directory");
        answered(&directory.path().join("f.yaml"), &cut(text, &cuts), scenario)?;
    }

    #[test]
    fn any_lines_of_scenarios_are_answered(
        picks in proptest::collection::vec((prop::sample::select(SCENARIOS), any::<prop::sample::Index>()), 0..60),
    ) {
        let lines = picks.iter().map(|(text, at)| {
            let lines: Vec<&str> = text.lines().collect();
            lines[at.index(lines.len())]
        });
        let text = lines.collect::<Vec<_>>().join("\n");
        let directory = tempfile::tempdir().expect("a directory");
        answered(&directory.path().join("f.yaml"), text.as_bytes(), scenario)?;
    }

    #[test]
    fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let directory = tempfile::tempdir().expect("a directory");
        answered(&directory.path().join("f.yaml"), &bytes, configuration)?;
        answered(&directory.path().join("f.yaml"), &bytes, scenario)?;
    }

    #[test]
    fn shards_alone_are_answered(picks in proptest::collection::vec(prop::sample::select(SHARDS), 0..40)) {
        let directory = tempfile::tempdir().expect("a directory");
        answered(&directory.path().join("f.yaml"), picks.concat().as_bytes(), configuration)?;
        answered(&directory.path().join("f.yaml"), picks.concat().as_bytes(), scenario)?;
    }
}
