//! Every rule, on the real repository.

use std::fs;
use std::path::Path;

use navarch_tidy::licences::DenyFile;
use navarch_tidy::workspace::Metadata;
use navarch_tidy::{File, Finding, documents, report, scripts, source, text, tree, workspace};

#[track_caller]
fn check(findings: &[Finding]) {
    assert!(findings.is_empty(), "{}", report(findings));
}

fn files() -> Vec<File> {
    tree::load(&tree::root()).expect("the repository can be read")
}

fn metadata() -> Metadata {
    workspace::metadata(&tree::root()).expect("cargo describes the workspace")
}

fn deny() -> DenyFile {
    let text = fs::read_to_string(tree::root().join("deny.toml")).expect("deny.toml can be read");
    toml::from_str(&text).expect("deny.toml has the sections that the rules read")
}

/// Runs a rule on every file for which `wanted` is true.
#[track_caller]
fn check_files(wanted: impl Fn(&File) -> bool, rule: fn(&File) -> Vec<Finding>) {
    let files: Vec<File> = files().into_iter().filter(|file| wanted(file)).collect();
    assert!(
        !files.is_empty(),
        "the rule looked at no file: is the selection right?"
    );
    check(&files.iter().flat_map(rule).collect::<Vec<_>>());
}

fn all(_: &File) -> bool {
    true
}

#[test]
fn every_rust_file_says_what_it_holds() {
    check_files(File::is_rust, source::says_what_it_holds);
}

#[test]
fn nothing_sleeps_outside_the_clocks_and_the_polling_helper() {
    check_files(File::is_rust, source::waits_without_sleeping);
}

#[test]
fn no_test_is_ignored() {
    check_files(File::is_rust, source::ignores_no_test);
}

#[test]
fn lints_are_set_aside_with_a_reason() {
    check_files(File::is_rust, source::sets_lints_aside_with_reason);
}

#[test]
fn banned_methods_are_used_in_their_homes() {
    check_files(File::is_rust, source::banned_methods_have_homes);
}

#[test]
fn unfinished_work_has_an_issue() {
    check_files(|file| !file.is_tidy(), source::unfinished_work_has_an_issue);
}

#[test]
fn source_files_stay_short() {
    let in_src = |file: &File| {
        file.path
            .components()
            .nth(2)
            .is_some_and(|part| part.as_os_str() == "src")
    };
    check_files(in_src, source::stays_short);
}

#[test]
fn unsafe_has_one_home() {
    check_files(File::is_rust, source::unsafe_has_one_home);
}

#[test]
fn no_file_has_stray_blanks() {
    check_files(all, text::has_no_stray_blanks);
}

#[test]
fn no_file_names_a_machine() {
    let ours = |file: &File| {
        ![Path::new("Cargo.lock"), Path::new("deny.toml")].contains(&file.path.as_path())
    };
    check_files(ours, text::names_no_machine);
}

#[test]
fn scripts_stop_at_errors() {
    check_files(
        |file| file.text.starts_with("#!"),
        scripts::stops_at_errors_and_says_why,
    );
}

#[test]
fn crates_depend_only_upwards() {
    check(&workspace::depends_upwards(&metadata()));
}

#[test]
fn pure_crates_stay_pure() {
    check(&workspace::stays_pure(&metadata()));
}

#[test]
fn the_wire_stays_in_one_crate() {
    check(&workspace::keeps_the_wire_in_one_crate(&metadata()));
}

#[test]
fn every_crate_describes_itself() {
    check(&workspace::describes_itself(&metadata()));
}

#[test]
fn manifests_inherit_from_the_workspace() {
    check_files(
        |file| file.path.ends_with("Cargo.toml"),
        workspace::inherits_from_the_workspace,
    );
}

#[test]
fn licences_are_permitted() {
    check(&workspace::has_permitted_licences(&metadata(), &deny()));
}

#[test]
fn sources_are_permitted() {
    check(&workspace::has_permitted_sources(&metadata(), &deny()));
}

#[test]
fn links_lead_somewhere() {
    check(&documents::links_lead_somewhere(&files()));
}

#[test]
fn documents_write_words_out() {
    check_files(|file| file.has_extension("md"), documents::writes_words_out);
}

#[test]
fn the_architecture_has_every_crate() {
    check(&documents::the_table_has_every_crate(&files()));
}

/// Compares a generated document with what the code says, or writes it where
/// `UPDATE_GOLDEN` is set.
#[track_caller]
fn check_generated(path: &str, generated: &str) {
    let place = tree::root().join(path);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&place, generated).expect("the document can be written");
    }
    let found = fs::read_to_string(&place).ok();
    check(&documents::is_current(
        Path::new(path),
        found.as_deref(),
        generated,
    ));
}

#[test]
fn the_configuration_reference_is_current() {
    let intro = "\
# Configuration reference

This page is generated from the tables that the loader reads. Do not edit it: run
`UPDATE_GOLDEN=1 cargo test -p navarch-tidy` after you change a key.

The configuration is one YAML file. It is strict: an unknown key is an error that names the line,
the column and the nearest known key. Durations are written as in `30s`, `1m30s` or `500ms`.

A value may have variables of the server's environment: `${NAME}`, or `${NAME:-default}` where the
variable may be absent or empty. Write `$$` for a plain `$`. What a variable holds is one value and
never YAML. Keys have no variables. No message about a mistake shows what a variable holds; once the
file is sound, `navarch config show` and the log of a reload show the values in force.

Secrets are shown nowhere. Headers are `(hidden)`. Of the URL of a notifier or a source, people see
the scheme, the host and the words of the path, which are up to 20 lower-case letters, `-`, `_` and
`.`, or a version such as `v1`; the rest is `(hidden)`. Where a header, the value of a query or a
part of a path is a variable, the variable is shown in its place. A file that has `(hidden)` in such
a place is refused: put the secret back.

The server reads the file again when it changes and on SIGHUP. A new file applies as a whole or not
at all: one change that needs a restart, or one error, and the running configuration stays, with
the reasons in the log and in `navarch config show`. The column \"Change while running\" says which
is which. A pool that is new in the file is there at once. A pool that leaves it loses nothing: its
machines stay as they are, and nothing is bought, repaired or ended for them until a file has the
pool again, or an operator ends them with `navarch terminate`.

`navarch config check FILE` names every error and warning of a file with its place,
`navarch config show` prints what runs with every default, and `navarch config schema` prints a JSON
Schema for editors.
";
    let reference = navarch_config::schema::reference();
    let old = navarch_config::schema::old_spellings();
    check_generated(
        "docs/configuration.md",
        &format!("{intro}\n{}\n\n{}\n", reference.trim_end(), old.trim_end()),
    );
}

#[test]
fn the_scenario_reference_is_current() {
    let intro = "\
# Scenario reference

This page is generated from the tables that the loader reads. Do not edit it: run
`UPDATE_GOLDEN=1 cargo test -p navarch-tidy` after you change a key.

A scenario is one YAML file for the fleet simulator. It says which nodes there are, what happens to
them, and what must hold at the end. The files in `examples/scenarios` are a place to begin. This one
has one node, breaks a GPU of it, and expects the control plane to notice:

```yaml
name: broken-gpu
fleet:
  - {id: node-1, provider: gcp, region: us-central1, zone: us-central1-a, gpu_count: 8}
events:
  - {at: 0s, action: start_fleet}
  - {at: 10s, action: inject_failure, target: node-1, params: {failure_type: xid_error, xid_code: 79}}
  - {at: 11s, action: wait_for_status, target: node-1, params: {expected_status: unhealthy}}
assertions:
  - {type: node_status, target: node-1, expected: unhealthy}
  - {type: invariants}
```

The nodes come from one of three places:

- `fleet` lists external nodes, which the control plane watches and does not buy.
- `stress.fleet_gen` generates external nodes.
- `pools` are those of the control plane's configuration. The control plane buys their machines from
  the simulated cloud, and autoscaling, replacement and placement run as they do in production.

A scenario with a `stress` section runs for its `duration`, and things break by themselves as its
`chaos` says. One without ends after its last event. In both, time is virtual: a run takes as long as
the work that it makes, and its events come at their times exactly.

The file is strict: an unknown key is an error that names the line, the column and the nearest known
key. All errors are found before anything runs. Durations are written as in `30s`, `1m30s` or
`500ms`, and a bare `0` is one, too. A share is a number from 0 to 1, or a percentage such as `10%`.
A value may have variables of the environment, as in the
[configuration](configuration.md): `${NAME}`, or `${NAME:-default}`.

The sections `server`, `instance_manager`, `planner`, `guards`, `providers`, `pools` and `defaults`
are those of the control plane, and the [configuration reference](configuration.md) has their keys.
Two defaults are shorter here: `server.heartbeat_interval` is `3s` and `server.health_check_interval`
is `5s`. With `pools` and without `providers`, there is one provider, `fake`, whose machines have 8
GPUs. A relative path of `server.health_policy` begins at the folder of the scenario file. The URLs
of `server.notifier` and of the sources of queues are never called: `scheduler` and `load` say what
they would answer.

Scenarios of the Go project load as they are. Some mean more than they did there:
`correlated_failures`, zones, racks, `node_count`, `uncordon` and the kinds of failures that did
nothing work here. A `node_count` is compared, so that `expected: \"800\"` means exactly 800 and
`\">=800\"` at least 800. A section that is present counts unless its `enabled` is `false`; in the Go
project it counted only with `enabled: true`.
";
    let reference = navarch_config::schema::scenario_reference();
    check_generated(
        "docs/scenarios.md",
        &format!("{intro}\n{}\n", reference.trim_end()),
    );
}

#[test]
fn the_metrics_reference_is_current() {
    let intro = "\
# Metrics reference

This page is generated from `crates/server/src/metrics.rs`. Do not edit it: run
`UPDATE_GOLDEN=1 cargo test -p navarch-tidy` after you change a metric.

The control plane writes its metrics at `/metrics`, in the text format of Prometheus, from the
state as of the last commit.
";
    let source = tree::root().join("crates/server/src/metrics.rs");
    let source = fs::read_to_string(source).expect("the metrics are written in one file");
    let table = documents::metrics_table(&source);
    assert!(
        table.contains("navarch_nodes_total"),
        "no metric is found in the source: {table}"
    );
    check_generated("docs/metrics.md", &format!("{intro}\n{table}"));
}

#[test]
fn every_example_is_tested() {
    check(&documents::examples_are_tested(&files()));
}
