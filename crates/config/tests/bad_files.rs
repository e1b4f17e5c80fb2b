//! Files that are refused, with the whole text of every error.
//!
//! `bad_files.txt` holds the cases: a title, the file, and what is printed. The line `+pools`
//! stands for a provider and a pool that are sound. `UPDATE_GOLDEN=1 cargo test` writes the
//! answers anew; read the difference before you keep it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use navarch_config::Config;

const POOLS: &str = "\
providers: {fake: {}}
pools: {dev: {provider: fake, instance_type: fake-8x, max_nodes: 5}}
";

fn answer(text: &str) -> String {
    match Config::parse("f.yaml", text) {
        Ok((_, warnings)) => panic!("loaded with {warnings:?}:\n{text}"),
        Err(errors) => errors.to_string(),
    }
}

#[test]
fn bad_files_get_their_answers() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad_files.txt");
    let golden = std::fs::read_to_string(&path).unwrap();
    let mut fresh = String::new();
    let mut count = 0;
    for case in golden.split("=== ").skip(1) {
        let (title, rest) = case.split_once('\n').unwrap();
        let (file, _) = rest.split_once("--- answer\n").unwrap();
        let answer = answer(&file.replace("+pools\n", POOLS));
        let _ = write!(fresh, "=== {title}\n{file}--- answer\n{answer}\n\n");
        count += 1;
        for line in answer.lines().filter(|line| !line.starts_with("and ")) {
            let place = line.strip_prefix("f.yaml:").unwrap();
            let mut parts = place.splitn(3, ':');
            let number = |part: Option<&str>| part.unwrap().parse::<u32>().unwrap();
            assert!(
                number(parts.next()) >= 1 && number(parts.next()) >= 1,
                "{line}"
            );
        }
    }
    assert!(count >= 60, "{count} cases");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &fresh).unwrap();
    }
    for (fresh, golden) in fresh.split("=== ").zip(golden.split("=== ")) {
        assert_eq!(fresh, golden);
    }
    assert_eq!(fresh.len(), golden.len());
}

/// The same answers with the lines of the file, as a person at a terminal gets them.
#[test]
fn errors_show_the_line_that_they_are_about() {
    let text =
        "server:\n  address: nowhere\n  auth: {token_env: \" \"}\nguards: {budget: [\n  1]}\n";
    let errors = Config::parse("f.yaml", text).unwrap_err();
    assert_eq!(
        format!("{errors:#}"),
        "\
f.yaml:1:1: at least one pool is required: add one with provider, instance_type and max_nodes under pools
  1 | server:
    | ^
f.yaml:2:12: server.address: \"nowhere\": the port is missing: write host:port, for example :50051
  2 |   address: nowhere
    |            ^
f.yaml:3:21: server.auth.token_env: the value is empty: give one or remove the key
f.yaml:4:18: guards.budget: expected a count such as 1 or a percentage such as 10%, found a list
  4 | guards: {budget: [
    |                  ^"
    );
}

/// What does not belong in a text file of cases.
#[test]
fn hostile_texts_get_their_answers() {
    let deep = "[".repeat(100_000);
    let nested: String = (0..100)
        .map(|level| format!("{}a:\n", " ".repeat(level)))
        .collect();
    let bomb: String = std::iter::once("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned())
        .chain((1..12).map(|level| {
            let aliases = vec![format!("*a{}", level - 1); 10].join(",");
            format!("a{level}: &a{level} [{aliases}]\n")
        }))
        .collect();
    let wide: String = (0..200).map(|key| format!("key{key}: 1\n")).collect();
    let long_key = format!("{}: 1\n{POOLS}", "k".repeat(1000));
    let long_value = format!("server: {{address: '{}'}}\n{POOLS}", "v".repeat(100_000));
    let huge = format!("# {}\n{POOLS}", "x".repeat(10 << 20));
    let cases: &[(&str, &str)] = &[
        (
            "server:\n  address: \"a\0b\"\n",
            "f.yaml:2:14: control character U+0000: remove it",
        ),
        (
            "# \u{7f}\u{1b}[31m\n",
            "f.yaml:1:3: control character U+007F: remove it",
        ),
        (
            &huge,
            "f.yaml:1:1: the file is larger than 1048576 bytes: is it a configuration?",
        ),
        (
            &deep,
            "f.yaml:1:256: nested deeper than 32 levels: no key of the configuration is that deep",
        ),
        (
            &nested,
            "f.yaml:33:33: nested deeper than 32 levels: no key of the configuration is that deep",
        ),
        (
            &bomb,
            "f.yaml:5:18: more than 50000 values, counting each use of an alias: no configuration is that large",
        ),
        (
            "a: &a [*a]\n",
            "f.yaml:1:8: not valid YAML: recursive references require weak recursion types",
        ),
        (
            &long_value,
            "f.yaml:1:19: server.address: \"vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv…\": the port is missing: write host:port, for example :50051",
        ),
        (
            &long_key,
            "f.yaml:1:1: unknown key \"kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk…\" at the top level: the keys here are server, store, instance_manager, guards, planner, providers, pools, defaults",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(answer(text), *expected);
    }
    let many = answer(&wide);
    assert_eq!(many.lines().count(), 101, "{many}");
    assert!(
        many.ends_with("\nand 101 more; fix these first and check again"),
        "{many}"
    );
}

#[test]
fn files_that_cannot_be_read_say_why() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| -> PathBuf {
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let huge = vec![b'\n'; 10 << 20];
    for (path, expected) in [
        (
            directory.path().join("absent.yaml"),
            ": cannot read the configuration: No such file or directory (os error 2); check the path and its permissions",
        ),
        (
            directory.path().to_owned(),
            ": cannot read the configuration: Is a directory (os error 21); check the path and its permissions",
        ),
        (
            write("latin1.yaml", b"# fine\nserver: # caf\xe9\n"),
            ":2:14: not UTF-8: save the file as UTF-8 text",
        ),
        (
            write("utf16.yaml", b"\xff\xfes\0e\0"),
            ":1:1: not UTF-8: save the file as UTF-8 text",
        ),
        (
            write("huge.yaml", &huge),
            ":1:1: the file is larger than 1048576 bytes: is it a configuration?",
        ),
        (
            write("empty.yaml", b""),
            ":1:1: at least one pool is required: add one with provider, instance_type and max_nodes under pools",
        ),
    ] {
        let error = Config::load(&path).unwrap_err().to_string();
        assert_eq!(error, format!("{}{expected}", path.display()));
    }
}
