//! `navarch policy`.

use std::path::Path;

use navarch_api::v1;
use navarch_policy::{HealthPolicy, parse_event};
use serde_json::json;

use crate::args::{Global, Policy};
use crate::client::{Doing as _, Failure, connect};
use crate::output::{counted, for_programs, remark, say};
use crate::values;

/// `navarch policy`.
pub async fn run(global: &Global, order: Policy) -> Result<(), Failure> {
    match order {
        Policy::Show => {
            let client = connect(global)?;
            let policy = client
                .get_policy(v1::GetPolicyRequest::default())
                .await
                .doing("get the health policy")?;
            if for_programs(global.output, &values::policy(&policy))? {
                return Ok(());
            }
            remark(&format!(
                "# {} ({})",
                policy.source,
                counted(policy.rules.len(), "rule")
            ));
            if let Some(refused) = policy.refused.as_option() {
                remark(&format!("# A newer text was refused: {}", refused.error));
            }
            say(policy.text.trim_end());
            Ok(())
        }
        Policy::Check { file } => {
            let policy = load(&file)?;
            for warning in policy.warnings() {
                remark(&format!("Warning: {warning}"));
            }
            let shown = json!({
                "file": file.display().to_string(),
                "valid": true,
                "rules": policy.rules().len(),
                "warnings": texts(policy.warnings()),
            });
            if !for_programs(global.output, &shown)? {
                say(&format!(
                    "{}: {}, valid",
                    file.display(),
                    counted(policy.rules().len(), "rule")
                ));
            }
            Ok(())
        }
        Policy::Test { file, event } => {
            let policy = load(&file)?;
            if !event.iter().any(|(key, _)| key == "event_type") {
                remark("Warning: without --event event_type=TYPE the event is a quiet reading");
            }
            let pairs: Vec<(&str, &str)> = event
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_str()))
                .collect();
            let event = parse_event(&pairs).map_err(Failure::Usage)?;
            let verdict = policy.evaluate(&event.facts());
            let rule = verdict.rule.as_deref().unwrap_or("");
            let shown = json!({
                "result": verdict.result.name(),
                "rule": rule,
                "class": &*verdict.class,
                "required_repair": verdict.repair.word(),
                "source": verdict.citation,
            });
            if !for_programs(global.output, &shown)? {
                say(&format!("result: {}", verdict.result.short()));
                say(&format!(
                    "rule:   {}",
                    if rule.is_empty() {
                        "(none matched)"
                    } else {
                        rule
                    }
                ));
                say(&format!("class:  {}", verdict.class));
                say(&format!("repair: {}", verdict.repair.word()));
                if let Some(source) = &verdict.citation {
                    say(&format!("source: {source}"));
                }
            }
            for finding in &verdict.findings {
                remark(&format!("Warning: {finding}"));
            }
            Ok(())
        }
    }
}

pub fn load(file: &Path) -> Result<std::sync::Arc<HealthPolicy>, Failure> {
    if file == Path::new("built-in") {
        return Ok(HealthPolicy::builtin());
    }
    read(file).map(|(policy, _)| policy)
}

/// A health policy and the text of its file.
pub fn read(file: &Path) -> Result<(std::sync::Arc<HealthPolicy>, String), Failure> {
    let text =
        std::fs::read_to_string(file).map_err(|error| Failure::File(file.to_owned(), error))?;
    match HealthPolicy::parse(&file.display().to_string(), &text) {
        Ok(policy) => Ok((std::sync::Arc::new(policy), text)),
        Err(errors) => {
            for error in errors {
                remark(&format!("Error: {error}"));
            }
            Err(Failure::Quiet)
        }
    }
}

fn texts(items: &[impl std::fmt::Display]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}
