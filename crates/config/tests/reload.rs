//! A new configuration for a running server: what applies, what needs a restart, and why.

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
    // A timeout follows its interval.
    (
        "30s",
        "10s",
        &[
            "server.heartbeat_timeout: 1m30s -> 30s",
            "server.heartbeat_interval: 30s -> 10s (needs a restart: running agents keep the interval that they were given)",
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
            "server.limits.request_timeout: 30s -> 5s (needs a restart: connections take their limits at the start)",
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
            "pools.a.providers[0].instance_type: x -> y",
            "pools.a.providers[0].regions[0]: local -> eu",
            "pools.a.providers[0].zones[0]: set to eu-1",
        ],
    ),
    (
        "a: {provider: fake, instance_type: x, max_nodes: 4}",
        "a: {providers: [{name: fake, weight: 2}, {name: fake, capacity: spot, max_price: 1.5}], strategy: round-robin, instance_type: x, max_nodes: 4, parallel_launches: 3}",
        &[
            "pools.a.parallel_launches: set to 3",
            "pools.a.providers[0].weight: 1 -> 2",
            "pools.a.providers[1].capacity: set to spot",
            "pools.a.providers[1].instance_type: set to x",
            "pools.a.providers[1].max_price: set to 1.50",
            "pools.a.providers[1].name: set to fake",
            "pools.a.providers[1].priority: set to 0",
            "pools.a.providers[1].regions[0]: set to local",
            "pools.a.providers[1].weight: set to 1",
            "pools.a.strategy: priority -> round-robin",
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
fn a_configuration_applies_as_a_whole_or_not_at_all() {
    let running = load(RUNNING);
    let live = RUNNING.replacen("max_nodes: 4}", "max_nodes: 5}", 1);
    let both = live.replacen("{fake: {}}", "{fake: {gpu_count: 4}}", 1);
    let reload = Reload::new(&running, &load(&live));
    assert!(!reload.is_refused());
    assert_eq!(reload.config, load(&live));
    let reload = Reload::new(&running, &load(&both));
    assert!(reload.is_refused());
    assert_eq!(reload.config, running);
    assert_eq!(reload.live.len() + reload.restart.len(), 2);
}

#[test]
fn pools_come_and_go_live_and_providers_at_a_restart() {
    let running = load(RUNNING);
    let pool = "{provider: fake, instance_type: z, max_nodes: 1}";
    let reload = |text: &str| Reload::new(&running, &load(text));
    let swapped = reload(&format!(
        "providers: {{fake: {{}}}}\nserver: {{heartbeat_interval: 30s}}\npools: {{a.b: {pool}, b: {{provider: fake, instance_type: x, max_nodes: 4, labels: {{team: red}}}}}}\n"
    ));
    assert_eq!(
        reported(&swapped),
        [
            "pools.a: removed; its machines stay as they are, and nothing is bought, repaired or ended for them until a configuration has the pool again",
            "pools.a.b: added",
        ]
    );
    assert!(!swapped.is_refused());
    let elsewhere = reload(
        &RUNNING
            .replacen("{fake: {}}", "{other: {type: fake}}", 1)
            .replace("provider: fake", "provider: other"),
    );
    assert_eq!(
        reported(&elsewhere),
        [
            "pools.a.providers[0].name: fake -> other",
            "pools.b.providers[0].name: fake -> other",
            "providers.fake: removed (needs a restart: providers are connected at the start)",
            "providers.other: added (needs a restart: providers are connected at the start)",
        ]
    );
}

proptest! {
    /// Whatever is edited together: what runs afterwards is the one configuration or the other, a
    /// second reload changes nothing more, and no difference goes without a word.
    #[test]
    fn reloads_settle(picks in proptest::collection::btree_set(0..EDITS.len(), 0..4)) {
        let running = load(RUNNING);
        let mut text = RUNNING.to_owned();
        for pick in picks {
            text = text.replacen(EDITS[pick].0, EDITS[pick].1, 1);
        }
        let new = load(&text);
        let first = Reload::new(&running, &new);
        prop_assert_eq!(first.is_refused(), !first.restart.is_empty());
        prop_assert_eq!(&first.config, if first.is_refused() { &running } else { &new });
        prop_assert_eq!(&load(&first.config.to_yaml()), &first.config);
        let second = Reload::new(&first.config, &new);
        prop_assert_eq!(&second.config, &first.config);
        prop_assert_eq!(second.is_refused(), first.is_refused());
        prop_assert_eq!(second.live.is_empty(), !first.is_refused() || first.live.is_empty());
        prop_assert_eq!(first.live.is_empty() && first.restart.is_empty(), running == new);
    }
}

#[test]
fn tokens_come_and_go_live() {
    let with = |tokens: &str| {
        RUNNING.replace(
            "server:\n",
            &format!("server:\n  auth: {{tokens: {{{tokens}}}}}\n"),
        )
    };
    let (a, b) = (
        "a: {role: viewer, token_file: a}",
        "b: {role: admin, token_env: B}",
    );
    let reload = Reload::new(&load(&with(&format!("{a}, {b}"))), &load(&with(a)));
    assert_eq!(reported(&reload), ["server.auth.tokens.b: removed"]);
    assert!(!reload.is_refused());
    let reload = Reload::new(&load(RUNNING), &load(&with(a)));
    assert_eq!(
        reported(&reload),
        [
            "server.auth.token_env: removed, was NAVARCH_AUTH_TOKEN",
            "server.auth.tokens.a: added"
        ]
    );
    assert!(!reload.is_refused());
}
