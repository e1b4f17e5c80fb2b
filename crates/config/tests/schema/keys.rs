//! What the tests of the tables share: every key, values for it, and files around it.

use navarch_config::schema::{Form, Key, ROOT, Section, Status};

const POOL: &str = "provider: fake, instance_type: fake-8x, max_nodes: 5";

/// Every working key with the names of the sections above it; a list stands as `name[]`. A section
/// within itself is followed once.
pub fn keys() -> Vec<(Vec<&'static str>, &'static Key)> {
    below(&ROOT)
}

/// The same of another document.
pub fn below(root: &'static Section) -> Vec<(Vec<&'static str>, &'static Key)> {
    fn collect(
        path: &[&'static str],
        above: &mut Vec<&'static Section>,
        section: &'static Section,
        found: &mut Vec<(Vec<&'static str>, &'static Key)>,
    ) {
        if above.iter().any(|above| std::ptr::eq(*above, section)) {
            return;
        }
        above.push(section);
        for key in section.keys {
            if !matches!(key.status, Status::Works | Status::NoEffect(_)) {
                continue;
            }
            found.push((path.to_vec(), key));
            let below = |more: &[&'static str]| [path, &[key.name], more].concat();
            match key.form {
                // What is within depends on the type: tests/autoscaling.rs has its cases.
                Form::Section(_) if key.name == "autoscaling" => {}
                Form::Section(section) => collect(&below(&[]), above, section, found),
                Form::List(section) => collect(&below(&["[]"]), above, section, found),
                Form::Named(section) => {
                    let pool = matches!(key.name, "pools" | "load");
                    let name = if pool { "dev" } else { "fake" };
                    collect(&below(&[name]), above, section, found);
                }
                _ => {}
            }
        }
        above.pop();
    }
    let mut found = Vec::new();
    collect(&[], &mut Vec::new(), root, &mut found);
    found
}

/// A file that sets one key to a value and is sound otherwise.
pub fn file(path: &[&str], key: &str, value: &str) -> String {
    let mut text = format!("{key}: {value}");
    for (depth, section) in path.iter().enumerate().rev() {
        let beside = match (depth, path[0]) {
            (1, "pools") => {
                let others: Vec<_> = POOL
                    .split(", ")
                    .filter(|pair| !pair.starts_with(&format!("{key}:")) || path.len() > 2)
                    // One provider or several, never both.
                    .filter(|pair| {
                        let several = key == "providers" || path.get(2) == Some(&"providers");
                        !(several && pair.starts_with("provider:"))
                    })
                    .collect();
                let beside = if key == "setup_commands" {
                    "ssh_private_key_path: k, "
                } else {
                    ""
                };
                format!("{}, {beside}", others.join(", "))
            }
            (3, "pools") if path[3] == "[]" && key != "name" => "name: fake, ".to_owned(),
            (1, "server") if key == "cert_file" => "key_file: k, ".to_owned(),
            (1, "server") if key == "key_file" => "cert_file: c, ".to_owned(),
            (1, "server") if key == "ca_file" => "cert_file: c, key_file: k, ".to_owned(),
            (3, "server") if key == "role" => "token_env: T, ".to_owned(),
            (3, "server") => "role: viewer, ".to_owned(),
            _ => String::new(),
        };
        text = match *section {
            "[]" => format!("[{{{beside}{text}}}]"),
            _ if path.get(depth + 1) == Some(&"[]") => format!("{section}: {text}"),
            _ => format!("{section}: {{{beside}{text}}}"),
        };
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

/// Values of the right form.
pub fn right(key: &Key) -> Vec<String> {
    let values: &[&str] = match key.form {
        Form::Text => &["'some-text'", "12", "'${V}'"],
        Form::Prose => &["'some text'", "''", "12", "\"a\\nb\""],
        Form::Duration => &["30s", "1h30m", "500ms", "1.5h", "'${V}s'"],
        Form::DurationOrNever => &["15m", "never", "'${V}m'"],
        Form::Paces => &["30s", "{up: 1m}", "{up: 30s, down: 1h}", "'${V}m'"],
        Form::Number => &["1", "5", "'${V}'"],
        Form::Decimal => &["1", "1.5", "'${V}'"],
        Form::Price => &["1", "24.50", "'$3.5'", "'${V}'"],
        Form::Flag => &["true", "false", "yes", "Off"],
        Form::Budget => &["0", "3", "10%", "2.5%", "'${V}'"],
        Form::Percent => &["10%", "2.5%", "'${V}%'"],
        Form::Size => &["256MiB", "2GiB", "'${V}GiB'"],
        Form::Word(words) => return words.iter().map(|word| format!("'{word}'")).collect(),
        Form::Labels => &["{a: b, c: 1, d: true, e: '${V}'}", "{}", "~"],
        Form::Headers => &["{X-A: b, Authorization: 'Bearer ${V}'}", "{}"],
        Form::Texts => &["[a, b]", "[]", "['${V}']"],
        Form::Section(_) if key.name == "autoscaling" => &["{type: reactive}"],
        Form::Section(_) => &["{}", "~"],
        Form::Named(_) | Form::List(_) => &["~"],
        Form::Share => &["0", "1", "0.25", "15%", "2.5%", "'${V}%'"],
        Form::Failure => &["xid_error", "network", "machine_hang"],
        Form::Bound => &["5", "'5'", "95%", "5m", "'${V}'"],
        Form::Weights => &["{79: 1, 48: 0}", "{79: 0.5}", "{79: '${V}'}", "{}", "~"],
        Form::Counts => &["{fake: 1, fake/local: 0}", "{}", "~"],
        Form::Prices => &["{fake: 1, fake/local: 24.50}", "{fake: '$3.5'}", "~"],
        Form::TextsByName => &["{us-east1: [a, b]}", "{}", "~"],
    };
    values.iter().map(|value| (*value).to_owned()).collect()
}

/// Values of a wrong form.
pub fn wrong(key: &Key) -> Vec<String> {
    let values: &[&str] = match key.form {
        Form::Text => &["[a]", "{a: b}", "''"],
        Form::Prose => &["[a]", "{a: b}", "~"],
        Form::Duration => &[
            "5", "1d", "soon", "[30s]", "{s: 1}", "~", "never", "-5s", "1 s",
        ],
        Form::DurationOrNever => &["5", "1d", "soon", "[30s]", "~", "nevermore"],
        Form::Paces => &["5", "soon", "[30s]", "~", "{sideways: 1m}", "{up: soon}"],
        Form::Price => &["dear", "[1]", "{a: 1}", "~", "-1", "1,50"],
        Form::Decimal => &["many", "[1]", "{a: 1}", "~", "5s", "true", ".nan"],
        Form::Number => &["many", "1.5", "[1]", "{a: 1}", "~", "'5'", "5s", "true"],
        Form::Flag => &["1", "'sometimes'", "[true]", "~"],
        Form::Budget => &["-1", "some", "[1]", "~", "1.5"],
        Form::Percent => &["10", "some", "[10%]", "~", "-1%", "1.234%"],
        Form::Size => &["1MB", "some", "[1MiB]", "~", "12"],
        Form::Word(_) => &["no-such-word", "[a]", "7", "~"],
        Form::Labels | Form::Headers => &["{a: [b]}", "{a: {b: c}}", "[a]", "text", "{a: }"],
        Form::Texts => &["text", "[[a]]", "[{a: b}]", "{a: b}", "7"],
        Form::Section(_) => &["text", "7", "[a]", "{no_such_key: 1}"],
        Form::Named(_) => &[
            "text",
            "7",
            "[a]",
            "{a: 7}",
            "{'a b': {}}",
            "{a: {no_such_key: 1}}",
        ],
        Form::List(_) => &["text", "7", "{a: b}", "[a]", "[{no_such_key: 1}]"],
        Form::Share => &["2", "-0.1", "some", "[1]", "~", "true"],
        Form::Failure => &["[a]", "{a: b}", "~", "''", "no-such-kind", "1.5", "true"],
        Form::Bound => &["[1]", "{a: 1}", "~", "''"],
        Form::Weights => &["{79: -1}", "{79: many}", "{79: [1]}", "[1]", "text", "7"],
        Form::Counts => &[
            "{fake: -1}",
            "{fake: 1.5}",
            "{fake: [1]}",
            "[1]",
            "text",
            "7",
        ],
        Form::Prices => &[
            "{fake: dear}",
            "{fake: -1}",
            "{fake: [1]}",
            "[1]",
            "text",
            "7",
        ],
        Form::TextsByName => &["{us-east1: text}", "{us-east1: [[a]]}", "[a]", "text", "7"],
    };
    values.iter().map(|value| (*value).to_owned()).collect()
}
