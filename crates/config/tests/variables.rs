//! Variables in values: what they become, and that nobody reads what they hold.

use std::ffi::OsString;
use std::time::Duration;

use navarch_config::{Automation, Budget, Config, Percent};

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
        "URL" => "ftp://hunter2.example",
        "USER" => "http://me:hunter2@host",
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
    let variables = ["SECRET", "SECRETS", "URL", "USER", "DAYS", "LINES"];
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
            "unknown: \"${V}\"",
            "providers: {a: {type: \"${V}\"}}",
            "pools: {a: {provider: \"${V}\", instance_type: \"${V}\", zone: \"${V}\", max_nodes: \"${V}\", automation: \"${V}\"}}",
            "pools: {a: {health: {auto_replace: \"${V}\", unhealthy_after: \"1${V}\"}, labels: \"${V}\"}}",
            "pools: \"${V}\"",
        ] {
            let mut text = place.replace("${V}", &format!("${{{variable}}}"));
            for line in POOLS.lines() {
                if !text.starts_with(line.split(':').next().unwrap()) {
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

#[test]
fn the_effective_configuration_of_texts_with_dollars_loads_as_itself() {
    let text = "providers: {fake: {}}\npools: {dev: {provider: fake, instance_type: x, max_nodes: 5, labels: {'$${k}': '$${HOME} $$$$ $5', n: '${NODES}'}}}\n";
    let config = load(text).unwrap();
    assert_eq!(config.pools["dev"].labels["$${k}"], "${HOME} $$ $5");
    assert_eq!(load(&config.to_yaml()).unwrap(), config);
}
