//! The tables of keys against the loader: they say the same.

use navarch_config::Config;
use navarch_config::schema::{Form, Key, ROOT, Section, Status, reference};

const POOL: &str = "provider: fake, instance_type: fake-8x, max_nodes: 5";

/// Every working key with the names of the sections above it.
fn keys() -> Vec<(Vec<&'static str>, &'static Key)> {
    fn collect(
        path: &[&'static str],
        section: &'static Section,
        found: &mut Vec<(Vec<&'static str>, &'static Key)>,
    ) {
        for key in section.keys {
            if !matches!(key.status, Status::Works | Status::NoEffect(_)) {
                continue;
            }
            found.push((path.to_vec(), key));
            let below = |more: &[&'static str]| [path, &[key.name], more].concat();
            match key.form {
                // What is within depends on the type: tests/autoscaling.rs has its cases.
                Form::Section(_) if key.name == "autoscaling" => {}
                Form::Section(section) => collect(&below(&[]), section, found),
                Form::Named(section) => {
                    let name = if key.name == "pools" { "dev" } else { "fake" };
                    collect(&below(&[name]), section, found);
                }
                _ => {}
            }
        }
    }
    let mut found = Vec::new();
    collect(&[], &ROOT, &mut found);
    found
}

/// A file that sets one key to a value and is sound otherwise.
fn file(path: &[&str], key: &str, value: &str) -> String {
    let mut text = format!("{key}: {value}");
    for (depth, section) in path.iter().enumerate().rev() {
        let beside = match (depth, path[0]) {
            (1, "pools") => {
                let others: Vec<_> = POOL
                    .split(", ")
                    .filter(|pair| !pair.starts_with(&format!("{key}:")) || path.len() > 2)
                    .collect();
                format!("{}, ", others.join(", "))
            }
            (1, "server") if key == "cert_file" => "key_file: k, ".to_owned(),
            (1, "server") if key == "key_file" => "cert_file: c, ".to_owned(),
            (1, "server") if key == "ca_file" => "cert_file: c, key_file: k, ".to_owned(),
            (3, "server") if key == "role" => "token_env: T, ".to_owned(),
            (3, "server") => "role: viewer, ".to_owned(),
            _ => String::new(),
        };
        text = format!("{section}: {{{beside}{text}}}");
    }
    let top = path.first().copied().unwrap_or(key);
    for (name, sound) in [
        ("providers", "providers: {fake: {}}".to_owned()),
        ("pools", format!("pools: {{dev: {{{POOL}}}}}")),
    ] {
        if top != name {
            text = format!("{text}\n{sound}");
        }
    }
    text
}

#[test]
fn every_key_is_read_and_refuses_a_value_of_another_kind() {
    for (path, key) in keys() {
        let text = file(&path, key.name, "[[]]");
        let column = text.find("[[]]").unwrap() + 1;
        let errors = Config::parse("f", &text).expect_err(&text);
        let place = format!("f:1:{column}: ");
        let found = errors.errors().iter().any(|error| {
            let error = error.to_string();
            error.starts_with(&place) && error.contains(key.name)
        });
        assert!(found, "{text}\n{errors}");
        assert_eq!(errors.errors().len(), 1, "{text}\n{errors}");
    }
}

#[test]
fn every_default_is_what_an_absent_key_means() {
    let absent = Config::parse("f", &file(&["server"], "health_check_interval", "60s")).unwrap();
    let mut checked = 0;
    for (path, key) in keys() {
        // The rest has no default, or one that follows another key.
        if key.default.is_empty()
            || key.default.contains([' ', '('])
            || key.default.contains("guards.")
        {
            continue;
        }
        let quoted = format!("\"{}\"", key.default);
        let value = match key.form {
            Form::Text | Form::Word(_) => &quoted,
            _ => key.default,
        };
        let text = file(&path, key.name, value);
        let (config, _) =
            Config::parse("f", &text).unwrap_or_else(|error| panic!("{text}\n{error}"));
        assert_eq!(config, absent.0, "{text}");
        checked += 1;
    }
    assert!(checked > 50, "{checked}");
}

#[test]
fn the_reference_has_a_row_for_every_key() {
    let reference = reference();
    let sections = reference.split("\n## ");
    let rows: usize = sections
        .filter(|section| !section.starts_with("`pools.<name>.autoscaling"))
        .map(|section| {
            section
                .lines()
                .filter(|line| line.starts_with("| `"))
                .count()
        })
        .sum();
    assert_eq!(rows, keys().len());
    for line in reference.lines().filter(|line| line.starts_with('|')) {
        assert_eq!(line.matches('|').count(), 5, "{line}");
    }
    for (_, key) in keys() {
        assert!(key.about.ends_with('.'), "{}: {}", key.name, key.about);
    }
}
