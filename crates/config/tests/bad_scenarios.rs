//! Scenarios that are refused, with the whole text of every error.
//!
//! `bad_scenarios.txt` holds the cases: a title, the file, and what is printed. `+node` stands for
//! a name and a node that are sound, `+stress` for a name and the head of a sound stress section.
//! `UPDATE_GOLDEN=1 cargo test` writes the answers anew; read the difference before you keep it.

use std::fmt::Write as _;
use std::path::Path;

use navarch_config::scenario::Scenario;

const NODE: &str = "name: n\nfleet: [{id: node-1, zone: z-a, gpu_count: 4}]\n";

const STRESS: &str = "name: n
stress:
  duration: 10m
  fleet_gen: {total_nodes: 9, templates: [{name: h100, weight: 1, gpu_count: 8}], providers: {gcp: 1}, regions: {eu: 1}}
";

fn answer(text: &str) -> String {
    match Scenario::parse("f.yaml", text) {
        Ok((_, warnings)) => panic!("loaded with {warnings:?}:\n{text}"),
        Err(errors) => {
            let mut answer = format!("{errors:#}");
            for warning in errors.warnings() {
                let _ = write!(answer, "\nwarning: {warning}");
            }
            answer
        }
    }
}

#[test]
fn bad_scenarios_get_their_answers() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad_scenarios.txt");
    let golden = std::fs::read_to_string(&path).expect("the cases");
    let mut fresh = String::new();
    let mut count = 0;
    for case in golden.split("=== ").skip(1) {
        let (title, rest) = case.split_once('\n').expect("a title");
        let (file, _) = rest.split_once("--- answer\n").expect("an answer");
        let text = file.replace("+node\n", NODE).replace("+stress\n", STRESS);
        let _ = write!(
            fresh,
            "=== {title}\n{file}--- answer\n{}\n\n",
            answer(&text)
        );
        count += 1;
    }
    assert!(count >= 60, "{count} cases");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &fresh).expect("the cases can be written");
    }
    for (fresh, golden) in fresh.split("=== ").zip(golden.split("=== ")) {
        assert_eq!(fresh, golden);
    }
    assert_eq!(fresh.len(), golden.len());
}

#[test]
fn files_that_cannot_be_read_say_why() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("absent.yaml");
    let error = Scenario::load(&path).expect_err("no file").to_string();
    assert_eq!(
        error,
        format!(
            "{}: cannot read the scenario: No such file or directory (os error 2); check the path and its permissions",
            path.display()
        )
    );
    let large = format!("# {}", "x".repeat(8 << 20));
    assert_eq!(
        answer(&large),
        "f.yaml:1:1: the file is larger than 8388608 bytes: is it a scenario?"
    );
    assert_eq!(
        answer(&"[".repeat(1000)),
        format!(
            "f.yaml:1:256: nested deeper than 32 levels: no key of the scenario is that deep\n  1 | …{}…\n    |  {}^",
            "[".repeat(100),
            " ".repeat(60)
        )
    );
}

#[test]
fn variables_are_expanded_and_what_they_hold_is_not_told() {
    let text = "name: ${NAME}\nfleet: [{id: n, gpu_count: '${GPUS}'}]\n";
    let environment = |gpus: &'static str| {
        move |name: &str| match name {
            "NAME" => Some("named".into()),
            "GPUS" => Some(gpus.into()),
            _ => None,
        }
    };
    let (scenario, _) =
        Scenario::parse_with("f.yaml", text, &environment("2")).expect("a sound file");
    assert_eq!(
        (scenario.name.as_str(), scenario.fleet[0].gpu_count),
        ("named", 2)
    );
    let errors = Scenario::parse_with("f.yaml", text, &environment("hunter2")).expect_err("a word");
    let said = errors.to_string();
    assert!(
        said.contains("${GPUS}") && !said.contains("hunter2"),
        "{said}"
    );
}

/// A fleet as large as anyone lists, and as many events about nodes that do not exist.
#[test]
fn large_files_are_answered_soon() {
    let mut text = "name: n\nfleet:\n".to_owned();
    for node in 0..3_000 {
        let _ = writeln!(
            text,
            "- {{id: node-{node:05}, provider: gcp, region: eu, zone: eu-a, rack: r, gpu_count: 8}}"
        );
    }
    let (scenario, _) = Scenario::parse("f.yaml", &text).expect("a sound file");
    assert_eq!(scenario.fleet.len(), 3_000);
    text.push_str("events:\n");
    for node in 0..3_000 {
        let _ = writeln!(
            text,
            "- {{action: recover_failure, target: nobody-{node:05}}}"
        );
    }
    let errors = Scenario::parse("f.yaml", &text).expect_err("nobody is there");
    assert_eq!(errors.errors().len() + errors.unreported(), 3_000);
}
