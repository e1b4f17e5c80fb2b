//! A policy file: YAML to rules, with the place of everything that is wrong.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use navarch_model::{FaultKind, HealthStatus, Repair};
use serde::Deserialize;
use serde_saphyr::{Location, Spanned};

use super::condition::{Condition, Outcome, Problem, context};
use super::limits::{MAX_FILE_BYTES, MAX_FILE_STEPS, MAX_NAME_CHARS, MAX_RULES};
use super::place::Placed;
use super::value::{Pattern, Scope};
use super::{HealthPolicy, Rule, sample};

/// One thing that is wrong with a policy file, or odd; shown as `FILE:LINE:COLUMN: message`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PolicyError {
    /// The file, as the caller named it.
    pub source: String,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            source,
            line,
            column,
            message,
        } = self;
        write!(f, "{source}:{line}:{column}: {message}")
    }
}

impl std::error::Error for PolicyError {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPolicy {
    version: Option<String>,
    metadata: Option<RawMetadata>,
    rules: Option<Spanned<Vec<Spanned<RawRule>>>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMetadata {
    name: Option<String>,
    description: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    name: Option<Spanned<String>>,
    description: Option<String>,
    condition: Option<Spanned<String>>,
    result: Option<Spanned<String>>,
    class: Option<Spanned<String>>,
    action: Option<Spanned<String>>,
    clear_after: Option<Spanned<String>>,
}

/// Reads a file; see [`HealthPolicy::parse`].
pub(super) fn parse(source: &str, text: &str) -> Result<HealthPolicy, Vec<PolicyError>> {
    let mut log = Log {
        source,
        errors: Vec::new(),
        warnings: Vec::new(),
    };
    match log.read(text) {
        Some(policy) if log.errors.is_empty() => Ok(policy),
        _ => {
            log.errors.sort();
            log.errors.dedup();
            Err(log.errors)
        }
    }
}

struct Log<'s> {
    source: &'s str,
    errors: Vec<PolicyError>,
    warnings: Vec<PolicyError>,
}

impl Log<'_> {
    fn entry(&self, (line, column): (usize, usize), message: impl Into<String>) -> PolicyError {
        PolicyError {
            source: self.source.to_owned(),
            line,
            column,
            message: message.into(),
        }
    }

    fn error(&mut self, at: (usize, usize), message: impl Into<String>) {
        let entry = self.entry(at, message);
        self.errors.push(entry);
    }

    fn warn(&mut self, at: (usize, usize), message: impl Into<String>) {
        let entry = self.entry(at, message);
        self.warnings.push(entry);
    }

    fn read(&mut self, text: &str) -> Option<HealthPolicy> {
        if text.len() > MAX_FILE_BYTES {
            let message = format!(
                "the file has {} bytes, more than the {MAX_FILE_BYTES} of a health policy",
                text.len()
            );
            self.error((1, 1), message);
            return None;
        }
        let options = serde_saphyr::options! {
            with_snippet: false,
        };
        // A file of comments alone is a policy without rules.
        let raw = match serde_saphyr::from_str_with_options::<Option<RawPolicy>>(text, options) {
            Ok(raw) => raw,
            Err(error) => {
                let at = error.location().map_or((1, 1), place);
                self.error(at, yaml_message(error.without_snippet()));
                return None;
            }
        };
        let raw = raw.unwrap_or(RawPolicy {
            version: None,
            metadata: None,
            rules: None,
        });
        let (at, rules) = match raw.rules {
            Some(rules) => (place(rules.referenced), rules.value),
            None => ((1, 1), Vec::new()),
        };
        if rules.is_empty() {
            self.error(at, "policy must have at least one rule");
            return None;
        }
        if rules.len() > MAX_RULES {
            let message = format!(
                "policy has {} rules, more than the {MAX_RULES} allowed",
                rules.len()
            );
            self.error(at, message);
            return None;
        }
        let lines: Vec<&str> = text.lines().collect();
        let mut patterns = Vec::new();
        let mut names = BTreeMap::new();
        let mut ready = Vec::new();
        for (index, rule) in rules.into_iter().enumerate() {
            let at = place(rule.referenced);
            ready.extend(self.rule(index, at, rule.value, &lines, &mut names, &mut patterns));
        }
        self.look_over(&ready, &patterns);
        self.warnings.sort();
        self.warnings.dedup();
        let metadata = raw.metadata.unwrap_or_default();
        Some(HealthPolicy {
            source: Arc::from(self.source),
            version: raw.version.unwrap_or_default(),
            name: metadata.name.unwrap_or_default(),
            description: metadata.description.unwrap_or_default(),
            rules: ready,
            patterns,
            warnings: std::mem::take(&mut self.warnings),
        })
    }

    fn rule(
        &mut self,
        index: usize,
        at: (usize, usize),
        raw: RawRule,
        lines: &[&str],
        names: &mut BTreeMap<String, (usize, usize)>,
        patterns: &mut Vec<Pattern>,
    ) -> Option<Rule> {
        let before = self.errors.len();
        let Some(name) = raw.name.filter(|name| !name.value.is_empty()) else {
            self.error(at, format!("rule {index}: name is required"));
            return None;
        };
        let name_at = place(name.referenced);
        let name = name.value;
        if name.chars().count() > MAX_NAME_CHARS || name.chars().any(char::is_control) {
            let message =
                format!("rule {index}: a name is one line of at most {MAX_NAME_CHARS} characters");
            self.error(name_at, message);
            return None;
        }
        let of = |message: &str| format!("rule \"{name}\": {message}");
        if let Some(&(line, _)) = names.get(&name) {
            self.error(
                name_at,
                of(&format!("duplicate rule name, first in line {line}")),
            );
        } else {
            names.insert(name.clone(), name_at);
        }
        let result = match raw.result {
            None => {
                let message = "invalid result \"\" (must be healthy, degraded, or unhealthy)";
                self.error(at, of(message));
                None
            }
            Some(word) => {
                let result = HealthStatus::from_short(&word.value)
                    .filter(|result| *result != HealthStatus::Unknown);
                if result.is_none() {
                    let message = format!(
                        "invalid result {:?} (must be healthy, degraded, or unhealthy)",
                        word.value
                    );
                    self.error(place(word.referenced), of(&message));
                }
                result
            }
        };
        let (kind, class) = self.class(raw.class, &of);
        let action = raw.action.and_then(|word| {
            let action = Repair::from_word(&word.value);
            if action.is_none() {
                let words: Vec<_> = Repair::ALL.iter().map(|it| it.word()).collect();
                let message = format!("invalid action {:?}: use {}", word.value, words.join(", "));
                self.error(place(word.referenced), of(&message));
            }
            if result == Some(HealthStatus::Healthy) {
                let message = "an action of a healthy result is never taken";
                self.warn(place(word.referenced), of(message));
            }
            action
        });
        let clear_after = raw
            .clear_after
            .and_then(|text| self.clear_after(&text, &of));
        let condition = match raw.condition.filter(|it| !it.value.trim().is_empty()) {
            None => {
                self.error(at, of("condition is required"));
                None
            }
            Some(source) => {
                let placed = Placed::new(place(source.defined), &source.value, lines);
                let mut odd = Vec::new();
                let compiled = Condition::compile(&source.value, patterns, &mut odd);
                for Problem { offset, message } in odd {
                    self.warn(placed.place(offset), of(&message));
                }
                match compiled {
                    Ok(condition) => {
                        let at = placed.place(0);
                        Some((condition, source.value, at))
                    }
                    Err(problems) => {
                        for Problem { offset, message } in problems {
                            self.error(placed.place(offset), of(&message));
                        }
                        None
                    }
                }
            }
        };
        let (compiled, condition, condition_at) = condition?;
        if self.errors.len() > before {
            return None;
        }
        Some(Rule {
            name: Arc::from(name),
            description: raw.description.unwrap_or_default(),
            condition,
            result: result?,
            kind,
            class,
            action,
            clear_after,
            line: at.0,
            column: at.1,
            condition_at,
            compiled,
        })
    }

    /// `class: latched` and `class: condition` say how the fault ends; another word names its class.
    fn class(
        &mut self,
        word: Option<Spanned<String>>,
        of: &dyn Fn(&str) -> String,
    ) -> (Option<FaultKind>, Option<Arc<str>>) {
        let Some(word) = word else {
            return (None, None);
        };
        let text = word.value.as_str();
        let good = text.len() <= MAX_NAME_CHARS
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b));
        match text {
            "latched" => (Some(FaultKind::Latched), None),
            "condition" => (Some(FaultKind::Condition), None),
            _ if good => (None, Some(Arc::from(text))),
            _ => {
                let message = format!(
                    "invalid class {text:?}: use latched, condition, or a name of lower-case letters, digits, - and _"
                );
                self.error(place(word.referenced), of(&message));
                (None, None)
            }
        }
    }

    fn clear_after(
        &mut self,
        text: &Spanned<String>,
        of: &dyn Fn(&str) -> String,
    ) -> Option<Duration> {
        let problem = match navarch_config::duration::parse(&text.value) {
            Ok(Duration::ZERO) => "must be longer than 0s".to_owned(),
            Ok(duration) => return Some(duration),
            Err(error) => error.to_string(),
        };
        let message = format!("invalid clear_after {:?}: {problem}", text.value);
        self.error(place(text.referenced), of(&message));
        None
    }

    /// Runs every rule on the samples and looks for rules that are never reached.
    fn look_over(&mut self, rules: &[Rule], patterns: &[Pattern]) {
        let steps: u64 = rules.iter().map(|rule| rule.compiled.steps).sum();
        if steps > MAX_FILE_STEPS {
            let message = format!(
                "the conditions together may take {steps} steps for one event, more than the {MAX_FILE_STEPS} allowed"
            );
            self.error((1, 1), message);
            return;
        }
        let mut certain: Option<&Rule> = None;
        for rule in rules {
            let of = |message: &str| format!("rule \"{}\": {message}", rule.name);
            if let Some(earlier) = certain {
                let message = format!(
                    "never reached: rule \"{}\" matches everything",
                    earlier.name
                );
                self.warn((rule.line, rule.column), of(&message));
            } else if rule.compiled.is_always() {
                certain = Some(rule);
            }
        }
        let samples = sample::events();
        for rule in rules {
            self.try_out(rule, &samples, patterns);
        }
    }

    fn try_out(
        &mut self,
        rule: &Rule,
        samples: &[(&str, super::EventFactsOwned)],
        patterns: &[Pattern],
    ) {
        let of = |message: &str| format!("rule \"{}\": {message}", rule.name);
        let mut decided = false;
        let mut other: Option<String> = None;
        let mut failed: Option<String> = None;
        for (name, event) in samples {
            let facts = event.facts();
            let scope = Scope::new(facts, facts.advice(), patterns);
            match rule.compiled.run(&context(&scope)) {
                Outcome::True | Outcome::False => decided = true,
                Outcome::Missing(_) => {}
                Outcome::Undeclared(what) => {
                    self.error(rule.condition_at, of(&format!("unknown name {what:?}")));
                    return;
                }
                Outcome::NotBoolean(of_type) => {
                    other.get_or_insert_with(|| {
                        format!("for a sample {name} event it gives a value of type {of_type}")
                    });
                }
                Outcome::Failed(error) => {
                    failed.get_or_insert_with(|| {
                        format!("it fails on a sample {name} event: {error}")
                    });
                }
            }
        }
        match (decided, other.or(failed)) {
            (_, None) => {}
            (false, Some(why)) => {
                let message = format!("condition is never true or false: {why}");
                self.error(rule.condition_at, of(&message));
            }
            (true, Some(why)) => {
                let message = format!("condition is not always true or false: {why}");
                self.warn(rule.condition_at, of(&message));
            }
        }
    }
}

fn place(location: Location) -> (usize, usize) {
    (
        usize::try_from(location.line()).unwrap_or(1).max(1),
        usize::try_from(location.column()).unwrap_or(1).max(1),
    )
}

/// The parser's message in one line, without the place, which stands in front.
fn yaml_message(error: &serde_saphyr::Error) -> String {
    if let serde_saphyr::Error::SerdeUnknownField {
        field, expected, ..
    } = error
    {
        let nearest = expected
            .iter()
            .map(|known| (strsim::damerau_levenshtein(field, known), *known))
            .min();
        let hint = match nearest {
            Some((distance, known)) if distance <= known.len() / 2 => {
                format!("; did you mean {known:?}?")
            }
            _ => format!("; known keys: {}", expected.join(", ")),
        };
        return format!("unknown key {field:?}{hint}");
    }
    let text = error.to_string();
    let text = text.lines().next().unwrap_or_default();
    let text = text.split(" at line ").next().unwrap_or_default();
    let text = text
        .split(", set DuplicateKeyPolicy")
        .next()
        .unwrap_or_default();
    text.trim_end_matches([':', ' '])
        .replace("sequence start", "a list")
        .replace("mapping start", "a mapping")
}
