//! Rules about the crates: who depends on whom, and what comes from outside.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::licences::{DenyFile, permitted};
use crate::{File, Finding};

/// The crates in the order of their dependencies: each may use only those before it. The last is
/// this one, which compares generated documents with the crates that they describe.
pub const ORDER: &[&str] = &[
    "model",
    "time",
    "config",
    "policy",
    "core",
    "api",
    "store",
    "gpu",
    "providers",
    "node",
    "server",
    "sim",
    "cli",
    "bench",
    "tidy",
];

/// Crates without input or output, clock or randomness. What they depend on must not tempt them.
const PURE: &[&str] = &["model", "config", "policy", "core"];

/// What a pure crate does not need: time, tasks, randomness, network and disk.
const IMPURE: &[&str] = &[
    "navarch-time",
    "axum",
    "getrandom",
    "hyper",
    "rand",
    "reqwest",
    "rusqlite",
    "tokio",
    "tokio-util",
    "tower",
];

/// The one crate that knows protobuf messages, and the one that measures Navarch beside the library
/// alone.
const WIRE_HOMES: &[&str] = &["api", "bench"];
const WIRE: &[&str] = &["buffa", "buffa-types", "connectrpc"];

/// What `cargo metadata` says about the workspace and everything it is built from.
#[derive(Debug, Deserialize)]
pub struct Metadata {
    /// Ours and others'.
    pub packages: Vec<Package>,
}

impl Metadata {
    /// The crates of the workspace, in the order of their names.
    pub fn ours(&self) -> impl Iterator<Item = &Package> {
        self.packages
            .iter()
            .filter(|package| package.source.is_none())
    }
}

/// One package of the metadata.
#[derive(Debug, Deserialize)]
pub struct Package {
    /// The name that others depend on, `navarch-...` for ours.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it holds, in one line.
    pub description: Option<String>,
    /// An SPDX expression.
    pub license: Option<String>,
    /// The registry or repository that it comes from; none for the crates of the workspace.
    pub source: Option<String>,
    /// Its `Cargo.toml`.
    pub manifest_path: PathBuf,
    /// What it depends on directly, for every purpose.
    pub dependencies: Vec<Dependency>,
}

impl Package {
    /// The name of the folder below `crates`: the package name without its prefix.
    pub fn folder(&self) -> &str {
        self.name.strip_prefix("navarch-").unwrap_or(&self.name)
    }

    /// The manifest's path relative to the root of the repository.
    pub fn manifest(&self) -> PathBuf {
        Path::new("crates").join(self.folder()).join("Cargo.toml")
    }
}

/// One direct dependency of a package.
#[derive(Debug, Deserialize)]
pub struct Dependency {
    /// The name of the package depended on.
    pub name: String,
    /// `dev` or `build`; none for what the crate itself uses.
    pub kind: Option<String>,
}

/// Asks cargo about the workspace, for the platform that this crate was built on.
///
/// # Errors
///
/// When cargo cannot be run or fails; the message holds what it said.
pub fn metadata(root: &Path) -> Result<Metadata, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let run = |arguments: &[&str]| {
        let output = Command::new(&cargo)
            .args(arguments)
            .current_dir(root)
            .output()
            .map_err(|error| format!("cannot run cargo: {error}"))?;
        if output.status.success() {
            Ok(output.stdout)
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    };
    let version = String::from_utf8_lossy(&run(&["-vV"])?).into_owned();
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .ok_or("`cargo -vV` names no host")?;
    let json = run(&[
        "metadata",
        "--format-version",
        "1",
        "--filter-platform",
        host,
    ])?;
    serde_json::from_slice(&json).map_err(|error| format!("cannot read cargo's metadata: {error}"))
}

/// Every crate has a place in the order, and depends only on crates before it.
pub fn depends_upwards(metadata: &Metadata) -> Vec<Finding> {
    let place = |folder: &str| ORDER.iter().position(|name| *name == folder);
    let mut findings = Vec::new();
    for package in metadata.ours() {
        let folder = package.folder();
        let Some(own) = place(folder) else {
            findings.push(Finding::about(
                &package.manifest(),
                "the crate has no place in the order of dependencies; add it to ORDER in \
                 crates/tidy/src/workspace.rs and to ARCHITECTURE.md",
            ));
            continue;
        };
        for dependency in &package.dependencies {
            let Some(other) = dependency.name.strip_prefix("navarch-") else {
                continue;
            };
            if place(other).is_none_or(|other| other >= own) {
                findings.push(Finding::about(
                    &package.manifest(),
                    format!(
                        "`{folder}` must not depend on `{other}`: dependencies go up the list \
                         {}; move the shared part to a crate above both",
                        ORDER.join(" < ")
                    ),
                ));
            }
        }
    }
    findings
}

/// A pure crate has no dependency that performs input or output or knows the time.
pub fn stays_pure(metadata: &Metadata) -> Vec<Finding> {
    forbid(
        metadata,
        |folder, name| PURE.contains(&folder) && IMPURE.contains(&name),
        |folder, name| {
            format!(
                "`{folder}` is pure and must not depend on `{name}`: take the fact as an input, \
                 or move the code to a shell (store, providers, node, server)"
            )
        },
    )
}

/// Protobuf messages stay inside the crate that converts them.
pub fn keeps_the_wire_in_one_crate(metadata: &Metadata) -> Vec<Finding> {
    forbid(
        metadata,
        |folder, name| !WIRE_HOMES.contains(&folder) && WIRE.contains(&name),
        |folder, name| {
            format!(
                "`{folder}` must not depend on `{name}`: only `{}` knows protobuf messages; add a \
                 conversion or a wrapper there",
                WIRE_HOMES[0]
            )
        },
    )
}

/// Normal dependencies of our crates that `wrong` picks; tests may use what they like.
fn forbid(
    metadata: &Metadata,
    wrong: impl Fn(&str, &str) -> bool,
    message: impl Fn(&str, &str) -> String,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in metadata.ours() {
        for dependency in &package.dependencies {
            if dependency.kind.is_none() && wrong(package.folder(), &dependency.name) {
                findings.push(Finding::about(
                    &package.manifest(),
                    message(package.folder(), &dependency.name),
                ));
            }
        }
    }
    findings
}

/// Every crate says in one line what it holds.
pub fn describes_itself(metadata: &Metadata) -> Vec<Finding> {
    metadata
        .ours()
        .filter(|package| {
            let description = package.description.as_deref().unwrap_or_default();
            description.is_empty() || description.contains('\n') || description.len() > 100
        })
        .map(|package| {
            Finding::about(
                &package.manifest(),
                "`description` must say in one line of at most 100 characters what the crate holds",
            )
        })
        .collect()
}

/// Every manifest takes the lints, and what all crates share, from the workspace.
pub fn inherits_from_the_workspace(file: &File) -> Vec<Finding> {
    const SHARED: &[&str] = &["version", "edition", "rust-version", "license", "publish"];
    if !file.path.starts_with("crates") || !file.path.ends_with("Cargo.toml") {
        return Vec::new();
    }
    let manifest: toml::Table = match toml::from_str(&file.text) {
        Ok(manifest) => manifest,
        Err(error) => return vec![Finding::about(&file.path, error.to_string())],
    };
    let inherits = |value: Option<&toml::Value>| {
        value
            .and_then(|value| value.get("workspace"))
            .and_then(toml::Value::as_bool)
            == Some(true)
    };
    let mut findings = Vec::new();
    if !inherits(manifest.get("lints")) {
        findings.push(Finding::about(
            &file.path,
            "add `[lints]` with `workspace = true`",
        ));
    }
    for key in SHARED {
        if !inherits(manifest.get("package").and_then(|package| package.get(key))) {
            findings.push(Finding::about(
                &file.path,
                format!("write `{key}.workspace = true`"),
            ));
        }
    }
    findings
}

/// Everything that is built in comes under a permitted licence.
pub fn has_permitted_licences(metadata: &Metadata, deny: &DenyFile) -> Vec<Finding> {
    let lock = Path::new("Cargo.lock");
    let mut findings = Vec::new();
    for package in &metadata.packages {
        let name = format!("{} {}", package.name, package.version);
        let Some(expression) = package.license.as_deref() else {
            findings.push(Finding::about(
                lock,
                format!("{name} names no licence; replace it by a package that does"),
            ));
            continue;
        };
        match permitted(expression, &deny.licenses.allow) {
            Ok(true) => {}
            Ok(false) => findings.push(Finding::about(
                lock,
                format!(
                    "{name} comes under `{expression}`, which the list in deny.toml does not \
                     permit; replace the package, or argue for the licence"
                ),
            )),
            Err(error) => findings.push(Finding::about(lock, format!("{name}: {error}"))),
        }
    }
    findings
}

/// Everything that is built in comes from a permitted registry.
pub fn has_permitted_sources(metadata: &Metadata, deny: &DenyFile) -> Vec<Finding> {
    metadata
        .packages
        .iter()
        .filter_map(|package| {
            let source = package.source.as_deref()?;
            let registry = source.strip_prefix("registry+");
            let permitted = registry.is_some_and(|registry| {
                deny.sources
                    .allow_registry
                    .iter()
                    .any(|allowed| allowed == registry)
            });
            (!permitted).then(|| {
                Finding::about(
                    Path::new("Cargo.lock"),
                    format!(
                        "{} {} comes from `{source}`; use a release from the registry in deny.toml",
                        package.name, package.version
                    ),
                )
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::licences::{Licenses, Sources};

    /// Our crate of this name with these dependencies, `NAME` or `NAME@KIND`.
    fn ours(name: &str, dependencies: &[&str]) -> Package {
        let dependencies = dependencies
            .iter()
            .map(|text| {
                let (name, kind) = text.split_once('@').unzip();
                Dependency {
                    name: name.unwrap_or(text).to_owned(),
                    kind: kind.map(str::to_owned),
                }
            })
            .collect();
        Package {
            name: name.to_owned(),
            version: "0.1.0".to_owned(),
            description: Some("A crate".to_owned()),
            license: Some("MIT".to_owned()),
            source: None,
            manifest_path: PathBuf::new(),
            dependencies,
        }
    }

    fn theirs(license: Option<&str>, source: &str) -> Package {
        Package {
            license: license.map(str::to_owned),
            source: Some(source.to_owned()),
            ..ours("other", &[])
        }
    }

    fn deny() -> DenyFile {
        DenyFile {
            licenses: Licenses {
                allow: vec!["MIT".to_owned()],
            },
            sources: Sources {
                allow_registry: vec!["https://good".to_owned()],
            },
        }
    }

    fn messages(findings: &[Finding]) -> Vec<&str> {
        findings
            .iter()
            .map(|finding| finding.message.as_str())
            .collect()
    }

    #[test]
    fn a_dependency_downwards_is_found() {
        let metadata = Metadata {
            packages: vec![
                ours("navarch-model", &["serde"]),
                ours("navarch-policy", &["navarch-model", "navarch-core"]),
                ours("navarch-core", &["navarch-core@dev"]),
                ours("navarch-store", &["navarch-server@dev"]),
                ours("navarch-cli", &["navarch-tidy", "navarch-gone"]),
                ours("navarch-tidy", &["navarch-model"]),
            ],
        };
        let findings = depends_upwards(&metadata);
        let found = messages(&findings);
        assert_eq!(found.len(), 5, "{found:?}");
        assert!(
            found[0].contains("`policy` must not depend on `core`"),
            "{}",
            found[0]
        );
        assert!(
            found[1].contains("`core` must not depend on `core`"),
            "{}",
            found[1]
        );
        assert!(
            found[2].contains("`store` must not depend on `server`"),
            "{}",
            found[2]
        );
        assert!(
            found[3].contains("`cli` must not depend on `tidy`"),
            "{}",
            found[3]
        );
        assert!(
            found[4].contains("`cli` must not depend on `gone`"),
            "{}",
            found[4]
        );
    }

    #[test]
    fn a_crate_without_a_place_is_found() {
        let metadata = Metadata {
            packages: vec![ours("navarch-extra", &[])],
        };
        let findings = depends_upwards(&metadata);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].path, Path::new("crates/extra/Cargo.toml"));
    }

    #[test]
    fn an_impure_dependency_is_found() {
        let metadata = Metadata {
            packages: vec![
                ours("navarch-core", &["navarch-time", "tokio@dev", "serde"]),
                ours("navarch-server", &["tokio"]),
            ],
        };
        let findings = stays_pure(&metadata);
        assert_eq!(findings.len(), 1);
        assert!(
            findings[0].message.contains("`core` is pure"),
            "{}",
            findings[0].message
        );
    }

    #[test]
    fn the_wire_outside_its_home_is_found() {
        let metadata = Metadata {
            packages: vec![
                ours("navarch-api", &["connectrpc", "buffa"]),
                ours("navarch-server", &["connectrpc"]),
                ours("navarch-cli", &["connectrpc@dev"]),
            ],
        };
        let findings = keeps_the_wire_in_one_crate(&metadata);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].path, Path::new("crates/server/Cargo.toml"));
    }

    #[test]
    fn a_crate_without_description_is_found() {
        let mut packages: Vec<Package> = (0..4).map(|_| ours("navarch-core", &[])).collect();
        packages[0].description = None;
        packages[1].description = Some("two\nlines".to_owned());
        packages[2].description = Some("x".repeat(101));
        assert_eq!(describes_itself(&Metadata { packages }).len(), 3);
    }

    #[test]
    fn a_manifest_of_its_own_mind_is_found() {
        let shared = "version.workspace = true\nedition.workspace = true\n\
                      rust-version.workspace = true\nlicense.workspace = true\n";
        let rule =
            |path: &str, text: String| inherits_from_the_workspace(&File::new(path, text)).len();
        let good =
            format!("[package]\n{shared}publish.workspace = true\n[lints]\nworkspace = true\n");
        assert_eq!(rule("crates/a/Cargo.toml", good), 0);
        let own =
            format!("[package]\n{shared}publish = true\n[lints.rust]\nunsafe_code = \"allow\"\n");
        assert_eq!(rule("crates/a/Cargo.toml", own), 2);
        assert_eq!(rule("crates/a/Cargo.toml", "[package\n".to_owned()), 1);
        assert_eq!(rule("Cargo.toml", "[workspace]\n".to_owned()), 0);
    }

    #[test]
    fn a_licence_outside_the_list_is_found() {
        let metadata = Metadata {
            packages: vec![
                theirs(Some("MIT"), "registry+https://good"),
                theirs(Some("GPL-3.0-only"), "registry+https://good"),
                theirs(None, "registry+https://good"),
                theirs(Some("MIT OR"), "registry+https://good"),
            ],
        };
        assert_eq!(has_permitted_licences(&metadata, &deny()).len(), 3);
    }

    #[test]
    fn a_source_outside_the_list_is_found() {
        let metadata = Metadata {
            packages: vec![
                ours("navarch-core", &[]),
                theirs(Some("MIT"), "registry+https://good"),
                theirs(Some("MIT"), "registry+https://bad"),
                theirs(Some("MIT"), "git+https://good"),
            ],
        };
        assert_eq!(has_permitted_sources(&metadata, &deny()).len(), 2);
    }
}
