//! Variables in values: what they become, and that nobody reads what they hold.

use std::ffi::OsString;
use std::time::Duration;

use navarch_config::{Automation, Budget, Config, Percent, Reload};

fn environment(name: &str) -> Option<OsString> {
    let text = match name {
        "PORT" => "50052",
        "INTERVAL" => "10s",
        "NODES" => "7",
        "SHARE" => "20%",
        "OFF" => "off",
        "NO" => "no",
        "TYPE" => "fake-8x",
        "EMPTY" => "",
        "YAML" => "x, max_nodes: 9}",
        "SECRET" => "hunter2",
        "SECRETS" => "hunter2 hunter2",
        "SECRETS3" => "hunter3",
        "URL" => "ftp://hunter2.example",
        "USER" => "http://me:hunter2@host",
        "QUERY" => "http://host/p?t=hunter2#x",
        "DAYS" => "2hunter2",
        "LINES" => "hunter2\nhunter2",
        _ => return None,
    };
    Some(text.into())
}

fn load(text: &str) -> Result<Config, String> {
    match Config::parse_with("f", text, &environment) {
        Ok((config, warnings)) => {
            assert_eq!(warnings, []);
            Ok(config)
        }
        Err(errors) => Err(format!("{errors:#}")),
    }
}

const POOLS: &str =
    "providers: {fake: {}}\npools: {dev: {provider: fake, instance_type: fake-8x, max_nodes: 5}}\n";

#[test]
fn every_kind_of_value_may_be_a_variable() {
    let config = load(
        r#"
server:
  address: "localhost:${PORT}"
  heartbeat_interval: ${INTERVAL}
guards: {budget: "${SHARE}", max_surge: "${NONE:-3}"}
providers: {fake: {gpu_count: "${NODES}"}}
pools:
  dev:
    provider: ${NONE:-fake}
    instance_type: ${TYPE}
    max_nodes: ${NODES}
    automation: ${OFF}
    health: {auto_replace: "${NO}"}
    labels: {a: "${EMPTY}", "${N}": "$${NODES} $$ $5", b: "${NODES}-${TYPE}"}
"#,
    )
    .unwrap();
    assert_eq!(config.server.address, "localhost:50052");
    assert!(config.to_yaml().contains("address: localhost:50052\n"));
    assert_eq!(config.server.heartbeat_interval, Duration::from_secs(10));
    assert_eq!(config.guards.budget, Budget::Share(Percent::new(20)));
    assert_eq!(config.guards.max_surge, 3);
    let pool = &config.pools["dev"];
    assert_eq!(
        (
            pool.max_nodes,
            pool.placement.providers[0].instance_type.as_str()
        ),
        (7, "fake-8x")
    );
    assert_eq!(pool.automation, Automation::Off);
    assert!(!pool.health.auto_replace);
    let labels: Vec<_> = pool
        .labels
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    assert_eq!(
        labels,
        ["${N}=${NODES} $ $5", "a=", "b=7-fake-8x", "pool=dev"]
    );
}

#[test]
fn a_variable_is_one_value_and_never_yaml() {
    let error = load("providers: {fake: {}}\npools: {dev: {provider: fake, instance_type: \"${YAML}\", max_nodes: 5}}\n").unwrap_err();
    assert!(
        error.starts_with("f:2:46: pools.dev.instance_type: "),
        "{error}"
    );
}

#[test]
fn wrong_variables_are_all_named_with_their_places() {
    let error = load(&format!(
        "server:\n  address: ${{A}}:${{B}}\n  health_policy: ${{\nguards: {{max_surge: '${{C}}', budget: '${{EMPTY}}'}}\n{POOLS}"
    ))
    .unwrap_err();
    let lines: Vec<_> = error
        .lines()
        .filter(|line| line.starts_with("f:"))
        .collect();
    assert_eq!(
        lines,
        [
            "f:2:12: server.address: the variable A is not set: set it, or write ${A:-default}",
            "f:2:12: server.address: the variable B is not set: set it, or write ${B:-default}",
            "f:3:18: server.health_policy: ${ has no closing }; write $${ for a plain ${",
            "f:4:21: guards.max_surge: the variable C is not set: set it, or write ${C:-default}",
            "f:4:37: guards.budget: expected a count such as 1 or a percentage such as 10%, found what stands for \"${EMPTY}\"",
        ]
    );
}

/// Every kind of value with a variable that does not fit it: the message says what is wrong, the
/// snippet shows the line as the file has it, and nothing shows what the variable holds.
#[test]
fn what_a_variable_holds_is_never_told() {
    let variables = ["SECRET", "SECRETS", "URL", "USER", "QUERY", "DAYS", "LINES"];
    let mut refused = 0;
    for variable in variables {
        for place in [
            "server: {address: \"${V}\"}",
            "server: {address: \"localhost:${V}\"}",
            "server: {address: \"[${V}]:1\"}",
            "server: {external_address: \"${V}\"}",
            "server: {external_address: \"http://${V}\"}",
            "server: {external_address: \"http://h:${V}\"}",
            "server: {heartbeat_interval: \"${V}\"}",
            "server: {heartbeat_interval: \"5${V}\"}",
            "server: {auth: \"${V}\"}",
            "server: {auth: {token_env: \"${V}\", tokens: {a: \"${V}\"}}}",
            "server: {auth: {tokens: {a: {role: \"${V}\", token_file: f}}}}",
            "server: {limits: {max_request_bytes: \"${V}\"}}",
            "store: {type: \"${V}\", min_free: \"${V}\"}",
            "guards: {budget: \"${V}\", silence_replace_after: \"${V}\"}",
            "guards: {breaker: {threshold: {percent: \"${V}\"}}}",
            "guards: \"${V}\"",
            "guards: {drain_deadline: {degraded: \"${V}\"}}",
            "server: {notifier: {type: webhook, webhook: {cordon_url: \"${V}\", uncordon_url: \"${V}\", drain_url: \"${V}\", drain_status_url: \"${V}\"}}}",
            "server: {notifier: {type: webhook, webhook: {cordon_url: \"http://${V}\", uncordon_url: \"http://h:${V}\", drain_url: \"http://h/${V}#\", drain_status_url: \"ftp://${V}\"}}}",
            "server: {notifier: {type: webhook, webhook: {cordon_url: \"http://h/ ${V}\", uncordon_url: \"http://h/?${V} \", drain_url: \"http://h/?a=${V}#\", secret_env: \"${V}\", timeout: \"${V}\"}}}",
            "providers: {fake: {url: \"${V}\"}, other: {type: fake, url: \"http://h?${V}\"}}",
            "pools: {a: {provider: fake, instance_type: x, max_nodes: 1, autoscaling: {type: queue, source: {http: {url: \"${V}\", pointer: \"${V}\", timeout: \"${V}\", headers: {A: \"${V}\"}}}}}}",
            "pools: {a: {provider: fake, instance_type: x, max_nodes: 1, autoscaling: {type: queue, source: {http: {url: \"http://h/?${V}#\"}}}}}",
            "pools: {a: {provider: fake, instance_type: x, max_nodes: 1, autoscaling: {type: queue, source: {prometheus: {url: \"${V}\", query: \"${V}\"}}}}}",
            "pools: {a: {provider: fake, instance_type: x, max_nodes: 1, autoscaling: {type: queue, source: {prometheus: {url: \"http://h?${V}\", query: \" ${V}\"}}}}}",
            "pools: {a: {provider: fake, instance_type: x, max_nodes: 1, autoscaling: {type: scheduled, timezone: \"${V}\", schedule: [{days: [\"${V}\"], start: \"${V}\", end: \"${V}\", timezone: \"${V}\", min_nodes: \"${V}\"}]}}}",
            "pools: {a: {provider: fake, instance_type: x, max_nodes: 1, autoscaling: {type: scheduled, schedule: [{cron: \"${V}\", duration: \"${V}\", min_nodes: 1}]}}}",
            "pools: {a: {provider: fake, instance_type: x, max_nodes: 1, autoscaling: {type: scheduled, schedule: [{cron: \"* * * ${V} *\", duration: 5m, min_nodes: 1}]}}}",
            "pools: {a: {provider: fake, instance_type: x, max_nodes: 1, autoscaling: {type: \"${V}\"}, cooldown: {up: \"${V}\"}, strategy: \"${V}\"}}",
            "unknown: \"${V}\"",
            "providers: {a: {type: \"${V}\"}}",
            "pools: {a: {provider: \"${V}\", instance_type: \"${V}\", zone: \"${V}\", max_nodes: \"${V}\", automation: \"${V}\"}}",
            "pools: {a: {health: {auto_replace: \"${V}\", unhealthy_after: \"1${V}\"}, labels: \"${V}\"}}",
            "pools: \"${V}\"",
        ] {
            let mut text = place.replace("${V}", &format!("${{{variable}}}"));
            for line in POOLS.lines() {
                let section = line.split(':').next().unwrap();
                if !text.starts_with(section) {
                    text = format!("{text}\n{line}");
                }
            }
            if let Err(error) = load(&text) {
                refused += 1;
                assert!(!error.contains("hunter2"), "{text}\n{error}");
            }
        }
    }
    assert!(refused > 100, "{refused}");
}

/// The same of what stands in the file itself where no secret belongs.
#[test]
fn a_user_or_a_query_of_a_url_is_never_told() {
    for url in [
        "ftp://me:hunter2@h",
        "me:hunter2@h",
        "http://me:hunter2@h/p",
        "ftp://h/p?token=hunter2",
        "http://h/p?token=hunter2#x",
        "http://h:x/p?token=hunter2",
    ] {
        for place in [
            "server: {external_address: \"URL\"}",
            "server:\n  notifier:\n    type: webhook\n    webhook:\n      cordon_url: \"URL\"",
            "server:\n  notifier:\n    type: webhook\n    webhook:\n      drain_status_url: \"URL\"\n      drain_url: http://h",
            "more: 1",
        ] {
            let text = format!("{}\n{POOLS}", place.replace("URL", url));
            let text = match place {
                "more: 1" => format!(
                    "providers:\n  fake:\n    url: \"{url}\"\npools:\n  dev: {{provider: fake, instance_type: x, max_nodes: 5, autoscaling: {{type: queue, source: {{http: {{\n    url: \"{url}\"}}}}}}}}\n  e: {{provider: fake, instance_type: x, max_nodes: 5, autoscaling: {{type: queue, source: {{prometheus: {{\n    url: \"{url}\", query: x}}}}}}}}\n"
                ),
                _ => text,
            };
            let error = load(&text).unwrap_err();
            assert!(!error.contains("hunter2"), "{text}\n{error}");
        }
    }
}

/// A token in the query of a URL: no output shows it, every comparison sees it.
#[test]
fn the_secret_of_a_url_is_used_and_not_shown() {
    let keys = [
        "cordon_url",
        "uncordon_url",
        "drain_url",
        "drain_status_url",
    ];
    let urls = |url: &str| {
        let webhook: Vec<String> = keys.iter().map(|key| format!("{key}: \"{url}\"")).collect();
        format!(
            "server: {{notifier: {{type: webhook, webhook: {{{}}}}}}}
providers: {{fake: {{}}}}
pools:
  dev: {{provider: fake, instance_type: x, max_nodes: 5, autoscaling: {{type: queue, source: {{http: {{url: \"{url}\"}}}}}}}}
",
            webhook.join(", ")
        )
    };
    let running = load(&urls("http://h/")).unwrap();
    for (url, shown) in [
        ("http://h/?token=${SECRET}", "http://h/?token=${SECRET}"),
        ("http://h/${SECRET}", "http://h/${SECRET}"),
        ("http://h/?token=hunter2", "http://h/?(hidden)"),
        ("http://h/?c=1&token=${SECRET}", "http://h/?(hidden)"),
        ("${QUERY:-http://h/?token=hunter2}", ""),
    ] {
        let Ok(new) = load(&urls(url)) else {
            // The variable holds what is refused.
            assert_eq!(shown, "");
            continue;
        };
        let yaml = new.to_yaml();
        assert!(
            !yaml.contains("hunter2") && !format!("{new:?}").contains("hunter2"),
            "{yaml}"
        );
        assert_eq!(yaml.matches(shown).count(), 5, "{yaml}");
        let changes = Reload::new(&running, &new).live;
        let text: Vec<String> = changes.iter().map(ToString::to_string).collect();
        assert_eq!(text.len(), 5, "{text:?}");
        for change in &text {
            assert!(
                change.ends_with(&format!(": http://h/ -> {shown}")),
                "{change}"
            );
        }
        // Only what is hidden differs.
        let other = load(&urls(
            &url.replace("hunter2", "hunter3")
                .replace("SECRET", "SECRETS3"),
        ))
        .unwrap();
        let changes = Reload::new(&new, &other).live;
        assert_eq!(changes.len(), 5, "{changes:?}");
        let text: Vec<String> = changes.iter().map(ToString::to_string).collect();
        assert!(!text.concat().contains("hunter"), "{text:?}");
    }
}

/// Secrets that stand in the file: what is shown is no file until they are put back, and says so.
/// Secrets that come from variables: it is the same file.
#[test]
fn the_effective_configuration_loads_as_itself_or_says_which_secret_is_missing() {
    let file = |path: &str, query: &str, header: &str| {
        let url = format!("https://h/services/{path}?token={query}");
        format!(
            "server:
  notifier:
    type: webhook
    webhook:
      cordon_url: '{url}'
      uncordon_url: '{url}'
      drain_url: '{url}'
      drain_status_url: https://h/status
      headers: {{X-Token: '{header}'}}
providers: {{fake: {{}}}}
pools:
  dev:
    provider: fake
    instance_type: x
    max_nodes: 5
    autoscaling:
      type: queue
      source: {{http: {{url: '{url}', headers: {{Authorization: '{header}'}}}}}}
"
        )
    };
    let literal = load(&file("T0/hunter2", "hunter3", "hunter4")).unwrap();
    let shown = literal.to_yaml();
    assert!(!shown.contains("hunter"), "{shown}");
    assert!(shown.contains("https://h/status\n"), "{shown}");
    let error = load(&shown).unwrap_err();
    let keys = [
        "server.notifier.webhook.cordon_url",
        "server.notifier.webhook.uncordon_url",
        "server.notifier.webhook.drain_url",
        "server.notifier.webhook.headers.X-Token",
        "pools.dev.autoscaling.source.http.url",
        "pools.dev.autoscaling.source.http.headers.Authorization",
    ];
    for key in keys {
        let told = format!(" {key}: (hidden) is what `navarch config show` prints");
        assert!(error.contains(&told), "{key}: {error}");
    }
    assert_eq!(error.matches("put the secret back").count(), 6, "{error}");
    let mended = shown
        .replace(
            "services/(hidden)/(hidden)?(hidden)",
            "services/T0/hunter2?token=hunter3",
        )
        .replace("(hidden)", "hunter4");
    assert_eq!(load(&mended).unwrap(), literal);
    let variables = load(&file("T0/${SECRET}", "${SECRET}", "${SECRET}"));
    let variables = variables.unwrap();
    let shown = variables.to_yaml();
    // A part of the path that stands in the file may be the secret all the same.
    assert!(load(&shown).is_err(), "{shown}");
    let variables = load(&file("${SECRET}", "${SECRET}", "Bearer ${SECRET}")).unwrap();
    assert_eq!(load(&variables.to_yaml()).unwrap(), variables);
}

/// A token in the query is no part of where a receiver is; the path is.
#[test]
fn a_receiver_is_another_when_it_is_called_elsewhere() {
    let receiver = |url: &str| {
        let text = format!(
            "server: {{notifier: {{type: webhook, webhook: {{cordon_url: '{url}'}}}}}}\nproviders: {{fake: {{}}}}\npools: {{dev: {{provider: fake, instance_type: x, max_nodes: 5}}}}\n"
        );
        let (config, _) = Config::parse("f", &text).unwrap();
        config.server.notifier.receiver()
    };
    let first = receiver("http://h/cordon?token=one");
    assert_eq!(receiver("http://h/cordon?token=two"), first);
    assert_eq!(receiver("http://h/cordon"), first);
    for other in ["http://h/other", "http://i/cordon", "https://h/cordon"] {
        assert_ne!(receiver(other), first, "{other}");
    }
}

#[test]
fn the_effective_configuration_of_texts_with_dollars_loads_as_itself() {
    let text = "providers: {fake: {}}\npools: {dev: {provider: fake, instance_type: x, max_nodes: 5, labels: {'$${k}': '$${HOME} $$$$ $5', n: '${NODES}'}}}\n";
    let config = load(text).unwrap();
    assert_eq!(config.pools["dev"].labels["$${k}"], "${HOME} $$ $5");
    assert_eq!(load(&config.to_yaml()).unwrap(), config);
}
