//! `navarch config`.

use std::path::Path;

use navarch_api::v1;
use navarch_config::{Config, ConfigErrors, Warning};
use serde_json::{Value, json};

use crate::args::{Format, Global};
use crate::client::{Doing as _, Failure, connect};
use crate::output::{counted, for_programs, remark, say};

/// `navarch config check`.
pub fn check(global: &Global, file: &Path) -> Result<(), Failure> {
    let (config, warnings) = match Config::load(file) {
        Ok(loaded) => loaded,
        Err(errors) => return refuse(global, file, &errors),
    };
    for warning in &warnings {
        remark(&format!("Warning: {warning}"));
    }
    let (providers, pools) = (config.providers.len(), config.pools.len());
    let shown = json!({
        "file": file.display().to_string(),
        "valid": true,
        "providers": providers,
        "pools": pools,
        "errors": [],
        "unreported_errors": 0,
        "warnings": told(&warnings),
    });
    if !for_programs(global.output, &shown)? {
        say(&format!(
            "{}: {}, {}, valid",
            file.display(),
            counted(providers, "provider"),
            counted(pools, "pool")
        ));
    }
    Ok(())
}

fn refuse(global: &Global, file: &Path, errors: &ConfigErrors) -> Result<(), Failure> {
    let failures: Vec<Value> = errors
        .errors()
        .iter()
        .map(|error| {
            json!({
                "line": error.position.map(|position| position.line),
                "column": error.position.map(|position| position.column),
                "message": error.message,
            })
        })
        .collect();
    let shown = json!({
        "file": file.display().to_string(),
        "valid": false,
        "providers": null,
        "pools": null,
        "errors": failures,
        "unreported_errors": errors.unreported(),
        "warnings": told(errors.warnings()),
    });
    for warning in errors.warnings() {
        remark(&format!("Warning: {warning}"));
    }
    if for_programs(global.output, &shown)? {
        return Err(Failure::Quiet);
    }
    Err(Failure::Said(format!("{errors:#}")))
}

fn told(warnings: &[Warning]) -> Vec<Value> {
    warnings
        .iter()
        .map(|warning| {
            json!({
                "line": warning.position.line,
                "column": warning.position.column,
                "message": warning.message,
            })
        })
        .collect()
}

/// `navarch config show`: of the server.
pub async fn show_server(global: &Global) -> Result<(), Failure> {
    let client = connect(global)?;
    let held = client
        .get_config(v1::GetConfigRequest::default())
        .await
        .doing("get the configuration")?;
    if !held.source.is_empty() {
        remark(&format!("# {}", held.source));
    }
    if let Some(refused) = held.refused.as_option() {
        remark("# A newer file was refused:");
        for problem in &refused.problems {
            remark(&format!("#   {problem}"));
        }
    }
    match global.output {
        Format::Json => {
            let shown: Value = serde_saphyr::from_str(&held.text)
                .map_err(|error| Failure::Said(error.to_string()))?;
            for_programs(Format::Json, &as_values(shown)).map(drop)
        }
        Format::Table | Format::Wide | Format::Yaml => {
            say(held.text.trim_end());
            Ok(())
        }
    }
}

/// The values of a file: `$$` in it is a plain `$`, and variables stay variables.
fn as_values(file: Value) -> Value {
    match file {
        Value::String(text) => Value::String(text.replace("$$", "$")),
        Value::Array(list) => list.into_iter().map(as_values).collect(),
        Value::Object(map) => map
            .into_iter()
            .map(|(key, value)| (key, as_values(value)))
            .collect(),
        other => other,
    }
}

/// `navarch config show FILE`.
pub fn show(global: &Global, file: &Path) -> Result<(), Failure> {
    let (config, warnings) =
        Config::load(file).map_err(|errors| Failure::Said(format!("{errors:#}")))?;
    for warning in &warnings {
        remark(&format!("Warning: {warning}"));
    }
    match global.output {
        Format::Json => {
            let shown = serde_json::to_value(config.effective())
                .map_err(|error| Failure::Said(error.to_string()))?;
            for_programs(Format::Json, &shown)?;
        }
        // It is a file of YAML to begin with.
        Format::Table | Format::Wide | Format::Yaml => say(config.to_yaml().trim_end()),
    }
    Ok(())
}

/// A schema for editors, as `navarch config schema` and `navarch sim schema` print it.
pub fn schema(global: &Global, schema: &Value) -> Result<(), Failure> {
    let format = match global.output {
        Format::Yaml => Format::Yaml,
        // It is JSON to begin with.
        Format::Table | Format::Wide | Format::Json => Format::Json,
    };
    for_programs(format, schema).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_for_programs_is_the_same_from_a_server_and_from_a_file() {
        let variable = |_: &str| Some("held".into());
        let text = "server: {notifier: {type: webhook, webhook: {cordon_url: 'http://h/?t=${T}'}}}
providers: {fake: {}}
pools: {dev: {provider: fake, instance_type: x, max_nodes: 5, labels: {n: '$$5 $${HOME} $$$$'}}}
";
        let (config, _) = Config::parse_with("f", text, &variable).unwrap();
        let file = serde_json::to_value(config.effective()).unwrap();
        assert_eq!(file["pools"]["dev"]["labels"]["n"], "$5 ${HOME} $$");
        let url = &file["server"]["notifier"]["webhook"]["cordon_url"];
        assert_eq!(url, "http://h/?t=${T}");
        let server: Value = serde_saphyr::from_str(&config.to_yaml()).unwrap();
        assert_eq!(as_values(server), file);
    }
}
