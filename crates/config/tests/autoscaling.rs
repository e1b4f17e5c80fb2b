//! Autoscaling sections: what each is read as, what is warned of, and what is refused.
//!
//! `autoscaling.txt` holds the cases: a title, the keys of a pool, and what becomes of them.
//! `UPDATE_GOLDEN=1 cargo test` writes the answers anew; read the difference before you keep it.

use std::fmt::Write as _;
use std::path::Path;

use navarch_config::{Clock, Config, Cron, Zone};
use proptest::prelude::*;

fn file(keys: &str) -> String {
    let mut text =
        "providers: {fake: {}}\npools:\n  dev:\n    provider: fake\n    instance_type: fake-8x\n"
            .to_owned();
    for line in keys.lines() {
        let _ = writeln!(text, "    {line}");
    }
    if !keys.contains("max_nodes: ") || !keys.lines().any(|line| line.starts_with("max_nodes")) {
        text.push_str("    max_nodes: 8\n");
    }
    text
}

/// What becomes of the keys of a pool.
fn answer(keys: &str) -> String {
    let (config, warnings) = match Config::parse("f.yaml", &file(keys)) {
        Err(errors) => return errors.to_string(),
        Ok(loaded) => loaded,
    };
    let mut told = String::new();
    for warning in warnings {
        let _ = writeln!(told, "warning: {warning}");
    }
    let yaml = config.to_yaml();
    match Config::parse("again.yaml", &yaml) {
        Ok((again, _)) => assert_eq!(again, config, "the effective configuration is the same"),
        Err(error) => assert!(yaml.contains("(hidden)"), "{error}"),
    }
    let within = |line: &&str| line.starts_with("      ");
    let lines = yaml
        .lines()
        .skip_while(|line| !line.starts_with("    cooldown:"));
    let mut lines = lines.peekable();
    while let Some(line) = lines.next() {
        if !["    cooldown:", "    autoscaling:"].contains(&line) {
            break;
        }
        let _ = writeln!(told, "{}", &line[4..]);
        while let Some(line) = lines.next_if(within) {
            let _ = writeln!(told, "{}", &line[4..]);
        }
    }
    told.trim_end().to_owned()
}

#[test]
fn sections_get_their_answers() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/autoscaling.txt");
    let golden = std::fs::read_to_string(&path).unwrap();
    let mut fresh = String::new();
    for case in golden.split("=== ").skip(1) {
        let (title, rest) = case.split_once('\n').unwrap();
        let (keys, _) = rest.split_once("--- answer\n").unwrap();
        let _ = write!(fresh, "=== {title}\n{keys}--- answer\n{}\n\n", answer(keys));
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &fresh).unwrap();
    }
    for (fresh, golden) in fresh.split("=== ").zip(golden.split("=== ")) {
        assert_eq!(fresh, golden);
    }
    assert_eq!(fresh.len(), golden.len());
}

#[test]
fn times_of_the_day_are_hours_and_minutes() {
    let cases = [
        ("9", Some("09:00")),
        ("09:30", Some("09:30")),
        ("0", Some("00:00")),
        ("24", Some("24:00")),
        ("24:00", Some("24:00")),
        ("24:01", None),
        ("25", None),
        ("9:5", None),
        ("9:60", None),
        ("-1", None),
        ("+9", None),
        ("9.5", None),
        ("9:30:00", None),
        ("", None),
        ("noon", None),
    ];
    for (text, wanted) in cases {
        let found = Clock::parse(text).map(|clock| clock.to_string());
        assert_eq!(found.as_deref(), wanted, "{text:?}");
    }
}

#[test]
fn zones_come_from_the_program_and_no_path_leads_out_of_it() {
    for name in [
        "UTC",
        "Europe/Berlin",
        "Australia/Lord_Howe",
        "america/new_york",
    ] {
        assert!(Zone::named(name).is_some(), "{name}");
    }
    for name in [
        "",
        "Mars/Base",
        "../etc/passwd",
        "/etc/localtime",
        "Europe/Berlin\0",
        "CET5",
    ] {
        assert!(Zone::named(name).is_none(), "{name:?}");
    }
    assert!(Zone::named(&"A".repeat(1 << 20)).is_none());
    assert!(Zone::names().len() > 400);
}

proptest! {
    #[test]
    fn any_text_is_a_cron_expression_or_refused(text in "[0-9*/,LW#a-zA-Z? -]{0,40}|.{0,40}") {
        if let Ok(cron) = Cron::parse(&text) {
            prop_assert_eq!(cron.text().split(' ').count(), 5);
        }
    }

    #[test]
    fn any_text_is_a_time_of_the_day_or_refused(text in ".{0,10}") {
        if let Some(clock) = Clock::parse(&text) {
            let shown = clock.to_string();
            prop_assert_eq!(Clock::parse(&shown), Some(clock));
        }
    }
}
