//! The tables of keys against the loader: they say the same.

use navarch_config::Config;
use navarch_config::schema::{Form, reference};

use crate::keys::{file, keys};

#[test]
fn every_key_is_read_and_refuses_a_value_of_another_kind() {
    for (path, key) in keys() {
        let wrong = match key.form {
            Form::List(_) | Form::Texts => "{w: w}",
            _ => "[[]]",
        };
        let text = file(&path, key.name, wrong);
        let column = text.find(wrong).unwrap() + 1;
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
            let lines = section.lines();
            lines.filter(|line| line.starts_with("| `")).count()
        })
        .sum();
    assert_eq!(rows, keys().len());
    for line in reference.lines().filter(|line| line.starts_with('|')) {
        assert_eq!(line.matches('|').count(), 6, "{line}");
    }
    for (_, key) in keys() {
        assert!(key.about.ends_with('.'), "{}: {}", key.name, key.about);
    }
}

/// The smallest and largest values that can be written, for every key that takes a number: each is
/// taken, or refused at its place with the bounds or what is needed.
#[test]
fn every_extreme_is_answered() {
    for (path, key) in keys() {
        let extremes: &[&str] = match key.form {
            Form::Duration | Form::DurationOrNever => &["0s", "1ns", "2562047h", "-1s", "+5s"],
            Form::Number => &[
                "-1",
                "0",
                "4294967295",
                "4294967296",
                "-170141183460469231731",
            ],
            Form::Budget => &["0", "4294967296", "0%", "100%", "100.01%", "-1%"],
            Form::Percent => &["0%", "100%", "100.01%", "999999999999%"],
            Form::Size => &["0", "1KiB", "17179869183TiB", "99999999999999999999TiB"],
            _ => &[],
        };
        for value in extremes {
            let text = file(&path, key.name, value);
            let column = text.find(value).unwrap() + 1;
            if let Err(errors) = Config::parse("f", &text) {
                let place = format!("f:1:{column}: ");
                for error in errors.errors() {
                    let said = error.to_string();
                    let about_it = said.starts_with(&place) || said.contains(key.name);
                    assert!(about_it, "{text}\n{said}");
                }
            }
        }
    }
}
