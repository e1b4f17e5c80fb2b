//! Events and policies in few words.

use navarch_policy::{EventFactsOwned, EventVerdict, HealthPolicy, parse_event};

/// An event from `key=value` words; a word may not hold spaces.
pub fn event(words: &str) -> EventFactsOwned {
    let pairs: Vec<(&str, &str)> = words
        .split_whitespace()
        .map(|word| word.split_once('=').expect("key=value"))
        .collect();
    parse_event(&pairs).expect("a good event")
}

/// A policy that loads.
pub fn policy(text: &str) -> HealthPolicy {
    HealthPolicy::parse("policy.yaml", text).unwrap_or_else(|errors| {
        let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
        panic!("{}", lines.join("\n"))
    })
}

/// A policy of one rule, `unhealthy` where the condition holds.
pub fn one_rule(condition: &str) -> HealthPolicy {
    let lines: Vec<String> = condition
        .lines()
        .map(|line| format!("      {line}"))
        .collect();
    policy(&format!(
        "rules:\n  - name: it\n    result: unhealthy\n    condition: |\n{}\n",
        lines.join("\n")
    ))
}

/// What a policy concludes from an event in words.
pub fn verdict(policy: &HealthPolicy, words: &str) -> EventVerdict {
    policy.evaluate(&event(words).facts())
}

/// Compares a text with the file that holds what it should be. With `UPDATE_GOLDEN=1` in the
/// environment, it writes the file instead.
pub fn compare(name: &str, actual: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, actual).expect("write the golden file");
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    for (line, (expected, actual)) in expected.lines().zip(actual.lines()).enumerate() {
        assert_eq!(actual, expected, "{name} line {}", line + 1);
    }
    assert_eq!(
        actual.lines().count(),
        expected.lines().count(),
        "{name}: number of lines; UPDATE_GOLDEN=1 writes it anew"
    );
}
