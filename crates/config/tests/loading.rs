//! Files that load: what they mean, and what the effective configuration says of them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use navarch_config::{
    AuthConfig, Automation, Budget, Config, Percent, ProviderKind, Recovery, Reload, Role,
    Threshold, TokenConfig, TokenSource,
};
use proptest::prelude::*;

const MINIMAL: &str = "\
providers: {fake: {}}
pools:
  dev: {provider: fake, instance_type: fake-8x, max_nodes: 5}
";

fn load(text: &str) -> Config {
    let (config, warnings) = Config::parse("test.yaml", text).expect("the file is sound");
    assert_eq!(warnings, [], "{text}");
    config
}

fn warnings(text: &str) -> Vec<String> {
    let (_, warnings) = Config::parse("test.yaml", text).expect("the file is sound");
    warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn every_example_loads() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut loaded = Vec::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|end| end != "yaml") {
            continue;
        }
        let (_, warnings) = Config::load(&path).unwrap_or_else(|errors| panic!("{errors:#}"));
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        // The old spellings are there to be warned of.
        assert_eq!(
            warnings.is_empty(),
            name != "go-compat.yaml",
            "{warnings:?}"
        );
        loaded.push(name);
    }
    loaded.sort();
    let names = [
        "autoscaling.yaml",
        "config.yaml",
        "go-compat.yaml",
        "multi-cloud.yaml",
    ];
    assert_eq!(loaded, names);
    let (config, _) = Config::load(&folder.join("config.yaml")).unwrap();
    assert_eq!(config.pools.len(), 2);
    assert_eq!(config.pools["inference"].health.recovery, Recovery::Manual);
}

#[test]
fn defaults_are_those_of_the_design() {
    let config = load(MINIMAL);
    let pool = &config.pools["dev"];
    assert_eq!((pool.min_nodes, pool.max_nodes, pool.max_surge), (0, 5, 1));
    assert_eq!(pool.max_launches_per_hour, 10);
    assert_eq!(pool.budget, Budget::Share(Percent::new(10)));
    assert_eq!(pool.automation, Automation::On);
    assert_eq!(pool.labels["pool"], "dev");
    assert!(pool.health.auto_replace);
    assert_eq!(
        config.providers["fake"].kind,
        ProviderKind::Fake {
            gpu_count: 8,
            url: None
        }
    );
    // Everything but the pools and providers is as without a file.
    let default = Config::default();
    assert_eq!(config.server, default.server);
    assert_eq!(config.guards, default.guards);
    assert_eq!(config.store, default.store);
}

/// The whole effective configuration of the smallest file: each default is read by a person once.
#[test]
fn the_effective_configuration_names_every_default() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/effective.yaml");
    let fresh = load(MINIMAL).to_yaml();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &fresh).unwrap();
    }
    assert_eq!(fresh, std::fs::read_to_string(&path).unwrap());
}

#[test]
fn the_effective_configuration_loads_as_itself() {
    let file = format!(
        "{MINIMAL}
server:
  address: '[::1]:0'
  external_address: https://navarch.example.com:8443/base/
  heartbeat_timeout: 1m
  health_policy: policies/on.yaml
  tls: {{cert_file: /etc/c.pem, key_file: /etc/k.pem}}
  auth:
    token_file: /run/secrets/navarch token
    tokens: {{ci: {{role: viewer, token_env: CI}}, nodes: {{role: agent, token_file: n}}}}
  notifier:
    type: webhook
    timeout: 7s
    webhook: {{cordon_url: 'http://s/c', uncordon_url: 'http://[::1]:8/u', drain_url: 'http://s:1/d/', drain_status_url: 'https://s/x', secret_env: S}}
guards:
  budget: 0
  silence_replace_after: never
  max_launches_per_hour: 7
  breaker: {{threshold: {{percent: 2.5%}}}}
"
    );
    for text in [MINIMAL, &Config::dev(None), &file] {
        let config = load(text);
        let again = load(&config.to_yaml());
        assert_eq!(config, again);
        assert_eq!(config.to_yaml(), again.to_yaml());
    }
}

#[test]
fn values_are_read_as_written() {
    let config = load(
        "
server:
  heartbeat_interval: 10s
  external_address: http://10.0.0.1:50051/
guards:
  max_surge: 2
  unhealthy_after: 3
  max_launches_per_hour: 40
  silence_replace_after: 20m
  silence_witnesses: {count: 5}
  launch_breaker: {wait: 2h}
providers:
  fake: {gpu_count: 4, url: 'http://[::1]:9000'}
pools:
  a:
    provider: fake
    instance_type: 8
    max_nodes: 30
    automation: off
    labels: {version: 1.10, on: yes, pool: a}
    health: {auto_replace: off, silence_replace_after: never}
  b:
    provider: fake
    instance_type: x
    region: eu-west-1
    zone: eu-west-1a
    min_nodes: 30
    max_nodes: 30
    max_surge: 0
    budget: 3
    max_launches_per_hour: 1
    automation: 'observe'
    health: {unhealthy_after: 1, recovery: manual, recover_after: 4}
",
    );
    assert_eq!(config.server.heartbeat_timeout, Duration::from_secs(30));
    assert_eq!(
        config.server.external_address.as_deref(),
        Some("http://10.0.0.1:50051")
    );
    assert_eq!(
        config.guards.silence_witnesses,
        Threshold {
            count: 5,
            percent: Percent::new(50)
        }
    );
    // The limit of a doubling wait is never below the wait.
    assert_eq!(
        config.guards.launch_breaker.max_wait,
        Duration::from_secs(7200)
    );
    let (a, b) = (&config.pools["a"], &config.pools["b"]);
    assert_eq!(a.placement.providers[0].instance_type, "8");
    assert_eq!(a.automation, Automation::Off);
    assert_eq!(
        a.labels
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect::<Vec<_>>(),
        ["on=yes", "pool=a", "version=1.10"]
    );
    assert_eq!((a.max_surge, a.max_launches_per_hour), (2, 40));
    assert_eq!(a.health.unhealthy_after, 3);
    assert!(!a.health.auto_replace);
    assert_eq!(a.health.silence_replace_after, None);
    assert_eq!(
        b.placement.providers[0].places(),
        [("eu-west-1", "eu-west-1a")]
    );
    assert_eq!((b.max_surge, b.max_launches_per_hour), (0, 1));
    assert_eq!(b.budget, Budget::Count(3));
    assert_eq!(b.automation, Automation::Observe);
    assert_eq!(b.health.recover_after, 4);
    assert_eq!(
        b.health.silence_replace_after,
        Some(Duration::from_secs(1200))
    );
}

#[test]
fn yaml_of_every_style_is_read() {
    let flow = load(MINIMAL);
    for text in [
        // Windows line ends, a byte order mark, a document marker, anchors and merge keys.
        MINIMAL.replace('\n', "\r\n"),
        format!("\u{feff}{MINIMAL}"),
        format!("---\n{MINIMAL}"),
        "x: &x {}".replace("x: &x {}", "providers: {fake: &none }\npools: {dev: {<<: &p {provider: fake, instance_type: fake-8x, max_nodes: 1}, max_nodes: 5}}\n"),
        format!("server:\nguards: ~\n{MINIMAL}"),
    ] {
        assert_eq!(load(&text), flow, "{text}");
    }
}

#[test]
fn aliases_keep_the_text_of_what_they_stand_for() {
    let config = load(
        "
providers: {fake: {}}
pools:
  a: &a {provider: fake, instance_type: x, max_nodes: 2, labels: &l {1.10: 007, on: y}}
  b: *a
  c: {<<: *a, max_nodes: 3, labels: {<<: *l, on: 0x1}}
",
    );
    for (pool, on, max_nodes) in [("a", "y", 2), ("b", "y", 2), ("c", "0x1", 3)] {
        let labels = &config.pools[pool].labels;
        assert_eq!(labels["1.10"], "007", "{pool}");
        assert_eq!(labels["on"], on, "{pool}");
        assert_eq!(config.pools[pool].max_nodes, max_nodes, "{pool}");
    }
}

#[test]
fn booleans_and_automation_take_every_spelling() {
    for (text, expected) in [
        ("true", true),
        ("True", true),
        ("yes", true),
        ("on", true),
        ("ON", true),
        ("y", true),
        ("false", false),
        ("FALSE", false),
        ("no", false),
        ("Off", false),
        ("n", false),
    ] {
        let file = MINIMAL.replace(
            "max_nodes: 5",
            &format!("max_nodes: 5, health: {{auto_replace: {text}}}"),
        );
        assert_eq!(
            load(&file).pools["dev"].health.auto_replace,
            expected,
            "{text}"
        );
    }
    for (text, expected) in [
        ("on", Automation::On),
        ("'on'", Automation::On),
        ("true", Automation::On),
        ("yes", Automation::On),
        ("observe", Automation::Observe),
        ("\"observe\"", Automation::Observe),
        ("off", Automation::Off),
        ("\"off\"", Automation::Off),
        ("false", Automation::Off),
        ("OFF", Automation::Off),
    ] {
        let file = MINIMAL.replace("max_nodes: 5", &format!("max_nodes: 5, automation: {text}"));
        assert_eq!(load(&file).pools["dev"].automation, expected, "{text}");
    }
}

#[test]
fn what_is_probably_not_meant_is_a_warning() {
    let with = |more: &str| format!("{MINIMAL}{more}");
    let pool = |more: &str| MINIMAL.replace("max_nodes: 5", &format!("max_nodes: 5, {more}"));
    for (text, expected) in [
        (
            with("store: {path: data}\n"),
            "test.yaml:4:9: store.path is an old spelling: write store.data_dir instead",
        ),
        (
            pool("health: {unhealthy_threshold: 3}"),
            "test.yaml:3:72: pools.dev.health.unhealthy_threshold is an old spelling: write pools.dev.health.unhealthy_after instead",
        ),
        (
            pool("health: {silence_replace_after: 89s}"),
            "test.yaml:3:95: pools.dev.health.silence_replace_after: 1m29s is shorter than server.heartbeat_timeout (1m30s), and a node is found silent only after that: use a longer time",
        ),
        (
            with("guards: {silence_replace_after: 1s}\nserver: {heartbeat_timeout: 2m}\n"),
            "test.yaml:4:33: guards.silence_replace_after: 1s is shorter than server.heartbeat_timeout (2m), and a node is found silent only after that: use a longer time",
        ),
        (
            with("server: {heartbeat_interval: 10s, heartbeat_timeout: 19s}\n"),
            "test.yaml:4:54: server.heartbeat_timeout: 19s is shorter than twice heartbeat_interval (10s): one heartbeat that is lost makes a node UNHEALTHY; use about three times the interval",
        ),
        (
            pool("labels: {pool: other}"),
            "test.yaml:3:78: pools.dev.labels.pool: the label pool is always the pool's name: remove it",
        ),
        (
            MINIMAL.replace("{fake: {}}", "{fake: {}, spare: {type: fake}}"),
            "test.yaml:1:23: provider \"spare\": no pool uses it",
        ),
    ] {
        assert_eq!(warnings(&text), [expected]);
    }
    let renamed = Config::parse("t", &with("store: {path: data}\n"))
        .unwrap()
        .0;
    assert_eq!(renamed.store.data_dir, PathBuf::from("data"));
}

#[test]
fn the_common_token_counts_beside_named_ones_only_when_the_file_says_so() {
    let auth = |text: &str| {
        load(&format!("{MINIMAL}server: {{auth: {{{text}}}}}\n"))
            .server
            .auth
    };
    let named = "tokens: {ops: {role: operator, token_file: /t}}";
    let alone = auth(named);
    assert_eq!(alone.token, None);
    assert_eq!(
        alone.tokens["ops"],
        TokenConfig {
            role: Role::Operator,
            source: TokenSource::File("/t".into()),
        }
    );
    let both = auth(&format!("token_env: ALL, {named}"));
    assert_eq!(both.token, Some(TokenSource::Environment("ALL".into())));
    assert_eq!(both.tokens, alone.tokens);
    assert_eq!(auth("tokens: {}"), AuthConfig::default());
}

#[test]
fn secrets_never_reach_the_effective_configuration() {
    let config = load(&format!(
        "{MINIMAL}server: {{auth: {{token_env: MY_TOKEN}}}}\n"
    ));
    assert_eq!(
        config.server.auth,
        AuthConfig {
            token: Some(TokenSource::Environment("MY_TOKEN".into())),
            ..AuthConfig::default()
        }
    );
    assert!(config.to_yaml().contains("token_env: MY_TOKEN"));
    for text in [
        "server: {auth: {token: hunter2secret}}",
        "server: {auth: {token_env: hunter2-secret}}",
        "server: {auth: {tokens: {a: {role: admin, token: hunter2secret}}}}",
        "server: {auth: {tokens: {a: {role: admin, token_env: hunter2-secret}}}}",
        "server: {external_address: 'https://me:hunter2@example.com'}",
        "providers: {fake: {url: 'http://hunter2@example.com'}}",
        "providers: {fake: {api_key: hunter2}}",
    ] {
        let error = Config::parse("test.yaml", text).unwrap_err().to_string();
        assert!(error.contains("does not belong in this file"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

/// A path from the command line need not be UTF-8, and printing it must not fail.
#[cfg(unix)]
#[test]
fn paths_of_any_bytes_are_printed() {
    use std::os::unix::ffi::OsStrExt as _;
    let mut config = load(MINIMAL);
    config.store.data_dir = PathBuf::from(std::ffi::OsStr::from_bytes(b"/d\x1b\n/caf\xe9"));
    let yaml = config.to_yaml();
    assert!(yaml.contains("caf\u{fffd}"), "{yaml}");
    let reload = Reload::new(&load(MINIMAL), &config);
    assert_eq!(reload.restart.len(), 1, "{reload:?}");
}

proptest! {
    /// Labels hold any text that fits on a line, and the effective configuration keeps it.
    #[test]
    fn labels_survive_the_effective_configuration(
        labels in proptest::collection::btree_map("[^\\p{C}\\p{Z}]{1,8}|on|~|<<|null|[0-9.+:_-]{1,6}|0x[0-9a-f]", "\\PC{0,12}|yes|null|[0-9.+:_-]{0,6}|1e3|# x|- y|\"", 0..4)
    ) {
        let mut config = load(MINIMAL);
        config.pools.get_mut("dev").expect("the pool is there").labels.extend(
            labels.into_iter().filter(|(label, text)| label != "pool" && !text.contains("${"))
        );
        let yaml = config.to_yaml();
        let again = Config::parse("effective.yaml", &yaml);
        prop_assert!(again.is_ok(), "{}\n{}", again.unwrap_err(), yaml);
        prop_assert_eq!(again.unwrap().0, config, "{}", yaml);
    }

    /// No text makes the loader panic, and every error of it names the file and a place.
    #[test]
    fn any_text_is_answered(text in "\\PC{0,200}") {
        if let Err(errors) = Config::parse("f", &text) {
            for error in errors.errors() {
                prop_assert!(error.position.is_some(), "{}", error);
            }
        }
    }

    /// The same for texts that look like configurations: lines of the example, cut and mixed.
    #[test]
    fn any_mixture_of_real_lines_is_answered(
        picks in proptest::collection::vec((0usize..200, 0usize..6, any::<Option<char>>()), 0..30)
    ) {
        let lines: Vec<&str> = include_str!("effective.yaml").lines().collect();
        let mut text = String::new();
        for (line, indent, noise) in picks {
            text.push_str(&" ".repeat(indent));
            text.push_str(lines[line % lines.len()].trim_start());
            text.extend(noise);
            text.push('\n');
        }
        let _ = Config::parse("f", &text);
    }
}

#[test]
fn a_scheduler_that_is_waited_for_longer_than_the_command_line_waits_is_warned_of() {
    let with = |timeout: &str| {
        let urls = "cordon_url: http://h, uncordon_url: http://h, drain_url: http://h, drain_status_url: http://h";
        let notifier = format!("type: webhook, timeout: {timeout}, webhook: {{{urls}}}");
        warnings(&format!("server: {{notifier: {{{notifier}}}}}\n{MINIMAL}"))
    };
    assert_eq!(with("25s"), [""; 0]);
    let told = with("26s").concat();
    assert!(
        told.contains("server.notifier.timeout") && told.contains("--timeout"),
        "{told}"
    );
}
