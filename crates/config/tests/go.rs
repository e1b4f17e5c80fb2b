//! Files in the shapes that the Go project ships, and its old spellings.
//!
//! `go/answers.txt` has what is said of each; `UPDATE_GOLDEN=1 cargo test` writes it anew.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use navarch_config::{Config, ProviderKind};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/go")
}

#[test]
fn the_files_of_the_go_project_get_their_answers() {
    let mut names: Vec<_> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".yaml"))
        .collect();
    names.sort();
    assert_eq!(names.len(), 5);
    let mut fresh = String::new();
    for name in &names {
        let text = std::fs::read_to_string(folder().join(name)).unwrap();
        let environment = |name: &str| (name == "SCHEDULER_TOKEN").then(|| "hunter2".into());
        let (errors, warnings) = match Config::parse_with(name, &text, &environment) {
            Ok((_, warnings)) => (Vec::new(), warnings),
            Err(errors) => (errors.errors().to_vec(), errors.warnings().to_vec()),
        };
        for error in errors {
            let _ = writeln!(fresh, "error:   {error}");
        }
        for warning in warnings {
            let _ = writeln!(fresh, "warning: {warning}");
        }
        let _ = writeln!(fresh, "{name}: done\n");
    }
    assert!(!fresh.contains("hunter2"));
    let path = folder().join("answers.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &fresh).unwrap();
    }
    assert_eq!(fresh, std::fs::read_to_string(&path).unwrap());
}

#[test]
fn the_old_spellings_mean_the_new_ones() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/go-compat.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    let (config, warnings) = Config::parse("f", &text).unwrap();
    let said: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    for expected in [
        "global.ssh_key_names is an old spelling: write defaults.ssh_keys instead",
        "global.agent.server is an old spelling: write server.external_address instead",
        "global.agent.heartbeat_interval is an old spelling: write server.heartbeat_interval instead",
        "server.grpc_port is an old spelling: write server.address instead",
        "defaults.unhealthy_threshold is an old spelling: write defaults.health.unhealthy_after instead",
        "defaults.auto_replace is an old spelling: write defaults.health.auto_replace instead",
        "pools as a list is an old spelling",
        "pools.training.scaling.min_nodes is an old spelling: write pools.training.min_nodes instead",
        "pools.training.health.unhealthy_threshold is an old spelling",
        "server.coordinator is an old spelling: write server.notifier instead",
        "defaults.cooldown_period is an old spelling: write defaults.cooldown instead",
        "pools.training.scaling.cooldown_period is an old spelling: write pools.training.cooldown instead",
        "pools.training.scaling.autoscaler is an old spelling: write pools.training.autoscaling instead",
        "pools.inference.autoscaler is an old spelling: write pools.inference.autoscaling instead",
        "strategies is an old spelling",
        "scale_up_threshold is an old spelling",
        "scale_down_threshold is an old spelling",
        "start_hour is an old spelling",
        "end_hour is an old spelling",
        "pools.inference.ssh_timeout has no effect: this build has no cloud whose machines are set up over SSH",
    ] {
        let told = said.iter().filter(|line| line.contains(expected)).count();
        assert_eq!(told, 1, "{expected}\n{said:#?}");
    }
    assert_eq!(config.server.address, ":50051");
    assert_eq!(
        config.server.external_address.as_deref(),
        Some("http://127.0.0.1:50051")
    );
    assert!(matches!(
        config.providers["fake"].kind,
        ProviderKind::Fake { gpu_count: 8, .. }
    ));
    let (training, inference) = (&config.pools["training"], &config.pools["inference"]);
    assert_eq!((training.min_nodes, training.max_nodes), (2, 8));
    assert_eq!((inference.min_nodes, inference.max_nodes), (0, 4));
    assert_eq!(training.health.unhealthy_after, 3);
    assert_eq!(training.cooldown.up, std::time::Duration::from_secs(180));
    assert_eq!(inference.cooldown.up, std::time::Duration::from_secs(300));
    let autoscalers = |pool: &navarch_config::PoolConfig| {
        let autoscaling = pool.autoscaling.as_ref().expect("it has one");
        autoscaling.autoscaler.all().len()
    };
    assert_eq!((autoscalers(training), autoscalers(inference)), (3, 1));
    assert_eq!(inference.health.unhealthy_after, 2);
    assert_eq!(training.labels["team"], "research");
    assert_eq!(training.labels["workload"], "training");
    assert_eq!(inference.labels["team"], "research");
}

/// A degraded node has the time of a healthy one unless the file says another.
#[test]
fn the_deadline_of_degraded_nodes_is_the_voluntary_one_beside_it() {
    for (guards, pool, expected) in [
        ("", "", 24 * 60),
        ("voluntary: 6m", "", 6),
        ("voluntary: 6m, degraded: 7m", "", 7),
        ("degraded: 7m", "", 7),
        ("degraded: 7m", "voluntary: 8m", 8),
        ("degraded: 7m", "voluntary: 8m, degraded: 9m", 9),
        ("degraded: 7m", "unhealthy: 8m", 7),
    ] {
        let text = format!(
            "guards: {{drain_deadline: {{{guards}}}}}\nproviders: {{fake: {{}}}}\npools:\n  a: {{provider: fake, instance_type: x, max_nodes: 1, drain_deadline: {{{pool}}}}}\n"
        );
        let (config, warnings) = Config::parse("f", &text).unwrap();
        assert_eq!(warnings, []);
        let found = config.pools["a"].drain_deadline.degraded;
        assert_eq!(found.as_secs(), expected * 60, "{text}");
    }
}

/// Silence is looked into as often as clouds are listed unless the file says another interval.
#[test]
fn stale_instances_are_checked_with_each_listing_by_default() {
    let interval = |keys: &str| {
        let pool =
            "providers: {fake: {}}\npools: {a: {provider: fake, instance_type: x, max_nodes: 1}}";
        let (config, _) = Config::parse("f", &format!("{keys}\n{pool}\n")).unwrap();
        config.instance_manager.stale_check_interval.as_secs()
    };
    assert_eq!(interval(""), 180);
    assert_eq!(interval("guards: {sweep: {interval: 5m}}"), 300);
    let both = "guards: {sweep: {interval: 5m}}\ninstance_manager: {stale_check_interval: 1m}";
    assert_eq!(interval(both), 60);
}

/// Defaults count key by key: what a pool says itself, it says for that key alone.
#[test]
fn defaults_are_taken_key_by_key() {
    let text = "
defaults:
  health: {auto_replace: false, unhealthy_after: 4, silence_replace_after: never}
  drain_deadline: {unhealthy: 1m, voluntary: 2m}
  labels: {team: red, tier: gold}
  cooldown: {up: 3m, down: 4m}
guards:
  recover_after: 3
  drain_deadline: {voluntary: 6h}
providers: {fake: {}}
pools:
  silent: {provider: fake, instance_type: x, max_nodes: 1}
  partly:
    provider: fake
    instance_type: x
    max_nodes: 1
    health: {auto_replace: true}
    drain_deadline: {unhealthy: 7m}
    labels: {team: blue}
    cooldown: {down: 9m}
  empty: {provider: fake, instance_type: x, max_nodes: 1, health: , labels: {}, drain_deadline: {}}
";
    let (config, warnings) = Config::parse("f", text).unwrap();
    assert_eq!(warnings, []);
    let minutes = |minutes: u64| std::time::Duration::from_secs(60 * minutes);
    for (pool, replace, team, unhealthy) in [
        ("silent", false, "red", 1),
        ("partly", true, "blue", 7),
        ("empty", false, "red", 1),
    ] {
        let config = &config.pools[pool];
        assert_eq!(config.health.auto_replace, replace, "{pool}");
        assert_eq!(config.health.unhealthy_after, 4, "{pool}");
        assert_eq!(config.health.silence_replace_after, None, "{pool}");
        assert_eq!(config.health.recover_after, 3, "{pool}");
        assert_eq!(config.labels["team"], team, "{pool}");
        assert_eq!(config.labels["tier"], "gold", "{pool}");
        assert_eq!(
            config.drain_deadline.unhealthy,
            minutes(unhealthy),
            "{pool}"
        );
        assert_eq!(config.drain_deadline.voluntary, minutes(2), "{pool}");
        assert_eq!(config.drain_deadline.degraded, minutes(2), "{pool}");
        let cooldown = (config.cooldown.up, config.cooldown.down);
        let down = if pool == "partly" { 9 } else { 4 };
        assert_eq!(cooldown, (minutes(3), minutes(down)), "{pool}");
    }
}
