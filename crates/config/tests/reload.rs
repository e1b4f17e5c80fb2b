//! A new configuration for a running server: what applies, what waits, and why.

use navarch_config::{Config, Reload};
use proptest::prelude::*;

const RUNNING: &str = "
server:
  heartbeat_interval: 30s
providers: {fake: {}}
pools:
  a: {provider: fake, instance_type: x, max_nodes: 4}
  b: {provider: fake, instance_type: x, max_nodes: 4, labels: {team: red}}
";

fn load(text: &str) -> Config {
    Config::parse("f", text).expect("the file is sound").0
}

/// Edits of the running file, with every change that is reported.
const EDITS: &[(&str, &str, &[&str])] = &[
    ("max_nodes: 4, labels", "max_nodes: 4, labels", &[]),
    (
        "max_nodes: 4}",
        "min_nodes: 2, max_nodes: 20, automation: observe}",
        &[
            "pools.a.automation: on -> observe",
            "pools.a.max_launches_per_hour: 10 -> 20",
            "pools.a.max_nodes: 4 -> 20",
            "pools.a.min_nodes: 0 -> 2",
        ],
    ),
    (
        "{team: red}",
        "{team: blue, tier.io/x: 1}",
        &[
            "pools.b.labels.team: red -> blue",
            "pools.b.labels.tier.io/x: set to 1",
        ],
    ),
    (
        "\nproviders:",
        "\nguards: {budget: 2, silence_replace_after: never}\nproviders:",
        &[
            "guards.budget: 10% -> 2",
            "guards.silence_replace_after: 15m -> never",
            "pools.a.budget: 10% -> 2",
            "pools.a.health.silence_replace_after: 15m -> never",
            "pools.b.budget: 10% -> 2",
            "pools.b.health.silence_replace_after: 15m -> never",
        ],
    ),
    (
        "30s",
        "30s\n  heartbeat_timeout: 1m\n  health_policy: p.yaml",
        &[
            "server.health_policy: set to p.yaml",
            "server.heartbeat_timeout: 1m30s -> 1m",
        ],
    ),
    (
        "heartbeat_interval: 30s",
        "notifier: {type: webhook, timeout: 5s, webhook: {cordon_url: http://s/c}}",
        &[
            "server.notifier.timeout: 10s -> 5s",
            "server.notifier.type: noop -> webhook",
            "server.notifier.webhook.cordon_url: set to http://s/c",
            "server.notifier.webhook.timeout: set to 30s",
        ],
    ),
    // A timeout that follows its interval waits with it.
    (
        "30s",
        "10s",
        &[
            "server.heartbeat_interval: 30s -> 10s (needs a restart: running agents keep the interval that they were given)",
            "server.heartbeat_timeout: 1m30s -> 30s (needs a restart: running agents keep the interval that they were given)",
        ],
    ),
    (
        "heartbeat_interval: 30s",
        "address: :1\n  external_address: http://h\n  auth: {token_file: t}\n  limits: {request_timeout: 5s, calls_per_second: 7}",
        &[
            "server.auth.token_env: removed, was NAVARCH_AUTH_TOKEN",
            "server.auth.token_file: set to t",
            "server.limits.calls_per_second: 100 -> 7",
            "server.address: :50051 -> :1 (needs a restart: the server listens on it from its start)",
            "server.external_address: set to http://h (needs a restart: running machines were started with it)",
            "server.limits.request_timeout: 30s -> 5s (needs a restart: connections take their limits when the server starts)",
        ],
    ),
    (
        "\npools:",
        "\nstore: {data_dir: d, min_free: 1GiB, retention: {events_age: 24h, events_size: 2GiB, records_age: 48h}}\npools:",
        &[
            "store.min_free: 256MiB -> 1GiB",
            "store.retention.events_age: 2160h -> 24h",
            "store.retention.events_size: 1GiB -> 2GiB",
            "store.retention.records_age: 8760h -> 48h",
            "store.data_dir: navarch-data -> d (needs a restart: the store is opened at the start)",
        ],
    ),
    (
        "{fake: {}}",
        "{fake: {gpu_count: 4}}",
        &[
            "providers.fake.gpu_count: 8 -> 4 (needs a restart: providers are connected at the start)",
        ],
    ),
    (
        "a: {provider: fake, instance_type: x, max_nodes: 4}",
        "a: {provider: fake, instance_type: y, region: eu, zone: eu-1, max_nodes: 5}",
        &[
            "pools.a.max_nodes: 4 -> 5",
            "pools.a.instance_type: x -> y (needs a restart: the pool's machines were bought with it)",
            "pools.a.region: local -> eu (needs a restart: the pool's machines were bought with it)",
            "pools.a.zone: set to eu-1 (needs a restart: the pool's machines were bought with it)",
        ],
    ),
];

fn reported(reload: &Reload) -> Vec<String> {
    reload
        .live
        .iter()
        .chain(&reload.restart)
        .map(ToString::to_string)
        .collect()
}

#[test]
fn each_change_is_named_with_what_it_needs() {
    let running = load(RUNNING);
    for (from, to, expected) in EDITS {
        assert!(RUNNING.contains(from), "{from}");
        let reload = Reload::new(&running, &load(&RUNNING.replacen(from, to, 1)));
        assert_eq!(reported(&reload), *expected, "{from} -> {to}");
    }
}

#[test]
fn pools_come_live_with_a_known_provider_and_go_at_a_restart() {
    let running = load(RUNNING);
    let new = load(
        "
providers: {fake: {}, other: {type: fake}}
pools:
  b: {provider: other, instance_type: x, max_nodes: 4, labels: {team: red}}
  c: {provider: fake, instance_type: z, max_nodes: 1}
  d: {provider: other, instance_type: z, max_nodes: 1}
",
    );
    let reload = Reload::new(&running, &new);
    let names: Vec<_> = reload.config.pools.keys().collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(reload.config.pools["a"], running.pools["a"]);
    assert_eq!(reload.config.pools["b"], running.pools["b"]);
    assert_eq!(reload.config.pools["c"], new.pools["c"]);
    assert_eq!(reload.config.providers, running.providers);
    assert!(
        reload
            .live
            .iter()
            .all(|change| change.key.starts_with("pools.c."))
    );
    let waiting: std::collections::BTreeSet<_> = reload
        .restart
        .iter()
        .map(|change| change.key.rsplit_once('.').unwrap().0)
        .filter(|section| {
            let below = ["health", "labels", "cooldown"];
            !below.iter().any(|word| section.contains(word))
        })
        .collect();
    let waiting: Vec<_> = waiting.into_iter().collect();
    assert_eq!(
        waiting,
        ["pools.a", "pools.b", "pools.d", "providers.other"]
    );
}

proptest! {
    /// Whatever is edited together: what runs afterwards is a sound configuration, a second
    /// reload changes nothing more, and what is left is exactly what was said to need a restart.
    #[test]
    fn reloads_settle(picks in proptest::collection::btree_set(0..EDITS.len(), 0..4)) {
        let running = load(RUNNING);
        let mut text = RUNNING.to_owned();
        for pick in picks {
            text = text.replacen(EDITS[pick].0, EDITS[pick].1, 1);
        }
        let new = load(&text);
        let first = Reload::new(&running, &new);
        prop_assert_eq!(&load(&first.config.to_yaml()), &first.config);
        let second = Reload::new(&first.config, &new);
        prop_assert_eq!(&second.config, &first.config);
        prop_assert!(second.live.is_empty(), "{:?}", second.live);
        prop_assert_eq!(&second.restart, &first.restart);
        prop_assert_eq!(first.restart.is_empty(), first.config == new);
    }
}
