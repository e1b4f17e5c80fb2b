//! Who this machine is.

use std::collections::BTreeMap;
use std::path::Path;

use navarch_model::ids::check_id;
use navarch_model::{IdSource, InstanceId, NodeId};
use navarch_time::Rng;

use crate::state::{Found, StateDir};
use crate::{AgentError, Args};

/// The file of the state directory with the machine id of a fake machine.
const MACHINE_ID: &str = "machine-id.json";

/// Where the files are that say who the machine is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sources<'a> {
    /// `/proc`, or what plays it in a test.
    pub(crate) proc: &'a Path,
    /// `/etc`, or what plays it in a test.
    pub(crate) etc: &'a Path,
}

impl Default for Sources<'_> {
    fn default() -> Self {
        Self {
            proc: Path::new("/proc"),
            etc: Path::new("/etc"),
        }
    }
}

/// What an agent says of its machine, GPUs aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) node: NodeId,
    pub(crate) instance: Option<InstanceId>,
    pub(crate) provider: String,
    pub(crate) region: String,
    pub(crate) zone: String,
    pub(crate) instance_type: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) hostname: String,
    pub(crate) kernel_version: String,
    /// Stable over reboots; empty if the system does not say.
    pub(crate) machine_id: String,
}

impl Identity {
    /// From the flags and the system.
    ///
    /// # Errors
    ///
    /// When an id cannot be one, or there is neither `--node-id` nor a host name.
    pub(crate) fn read(args: &Args, sources: Sources<'_>) -> Result<Self, AgentError> {
        let proc = |name: &str| line(&sources.proc.join("sys/kernel").join(name));
        let hostname = proc("hostname").or_else(|| line(&sources.etc.join("hostname")));
        let given = args.node_id.clone().filter(|id| !id.is_empty());
        let flag = given.is_some();
        let Some(node) = given.or_else(|| hostname.clone()) else {
            return Err(AgentError::Usage(
                "this machine has no host name; give --node-id".to_owned(),
            ));
        };
        let node = NodeId::parse(&node).map_err(|problem| {
            AgentError::Usage(if flag {
                format!("--node-id {problem}")
            } else {
                format!("the host name {problem}; give --node-id")
            })
        })?;
        let instance = args.instance_id.as_deref().filter(|id| !id.is_empty());
        let instance = instance
            .map(InstanceId::parse)
            .transpose()
            .map_err(|problem| AgentError::Usage(format!("--instance-id {problem}")))?;
        let mut labels: BTreeMap<_, _> = args
            .labels
            .iter()
            .map(|label| (label.key.clone(), label.value.clone()))
            .collect();
        if !args.pool.is_empty() {
            labels.insert("pool".to_owned(), args.pool.clone());
        }
        let machine_id = line(&sources.etc.join("machine-id"))
            .filter(|id| check_id(id).is_ok())
            .unwrap_or_default();
        Ok(Self {
            node,
            instance,
            provider: args.provider.clone(),
            region: args.region.clone(),
            zone: args.zone.clone(),
            instance_type: args.instance_type.clone(),
            labels,
            hostname: hostname.unwrap_or_default(),
            kernel_version: proc("osrelease").unwrap_or_default(),
            machine_id,
        })
    }

    /// What makes a fake machine the one it is.
    pub(crate) fn seed(&self) -> &str {
        let instance = self.instance.as_ref().map(InstanceId::as_str);
        instance.unwrap_or(self.node.as_str())
    }

    /// Gives a fake machine an id of its own, since many of them share a real one: a stored one,
    /// else, without a place to store it, one that depends on the host and the node's id.
    ///
    /// # Errors
    ///
    /// When it cannot be stored.
    pub(crate) fn become_fake(
        &mut self,
        state: Option<&StateDir>,
        ids: &mut dyn IdSource,
    ) -> Result<(), AgentError> {
        let Some(state) = state else {
            let seed = self.seed();
            let id = format!("fake-{}-{seed}", self.machine_id);
            self.machine_id = id.chars().take(navarch_model::ids::MAX_ID_BYTES).collect();
            return Ok(());
        };
        if let Found::Value(id) = state.read::<String>(MACHINE_ID)?
            && check_id(&id).is_ok()
        {
            self.machine_id = id;
            return Ok(());
        }
        let id = navarch_model::ids::fresh("fake", ids);
        let text = serde_json::to_vec(&id).expect("a text is JSON");
        let path = state.file(MACHINE_ID);
        state
            .write(MACHINE_ID, &text)
            .map_err(AgentError::io("write", &path))?;
        self.machine_id = id;
        Ok(())
    }
}

/// The id of this boot, as the kernel says it.
pub(crate) fn kernel_boot_id(sources: Sources<'_>) -> String {
    line(&sources.proc.join("sys/kernel/random/boot_id"))
        .filter(|id| check_id(id).is_ok())
        .unwrap_or_default()
}

/// The first line of a file, if there is one with something in it.
fn line(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().next()?.trim();
    (!line.is_empty()).then(|| line.to_owned())
}

/// Ids from randomness.
pub(crate) struct Ids(pub(crate) Box<dyn Rng>);

impl IdSource for Ids {
    fn next_bits(&mut self) -> u64 {
        self.0.next_u64()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use navarch_time::SeededRng;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    /// A system with these files, by their path below the root.
    fn system(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().expect("below the root")).expect("it is made");
            std::fs::write(path, text).expect("it is written");
        }
        dir
    }

    fn read(flags: &str, files: &[(&str, &str)]) -> Result<Identity, String> {
        let dir = system(files);
        let words = std::iter::once("x").chain(flags.split_whitespace());
        let args = Cli::try_parse_from(words).expect("the flags are good").args;
        let sources = Sources {
            proc: &dir.path().join("proc"),
            etc: &dir.path().join("etc"),
        };
        Identity::read(&args, sources).map_err(|error| error.to_string())
    }

    const HOST: (&str, &str) = ("proc/sys/kernel/hostname", "gpu-7\n");

    #[test]
    fn a_machine_is_known_by_its_files() {
        let identity = read(
            "--pool=train --label=a=1 --label=a=2 --label=pool=other",
            &[
                HOST,
                ("proc/sys/kernel/osrelease", "6.1.0-18-amd64\n"),
                ("etc/machine-id", "4c4c4544003051108056b4c04f4d3532\n"),
            ],
        )
        .expect("it is known");
        assert_eq!(identity.node.as_str(), "gpu-7");
        assert_eq!(identity.hostname, "gpu-7");
        assert_eq!(identity.kernel_version, "6.1.0-18-amd64");
        assert_eq!(identity.machine_id, "4c4c4544003051108056b4c04f4d3532");
        let labels = [("a", "2"), ("pool", "train")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(identity.labels, labels.into());
    }

    #[test]
    fn ids_that_cannot_be_are_refused_by_flag() {
        let long = format!("--node-id={}", "n".repeat(10_000));
        for (flags, files, part) in [
            ("", &[][..], "give --node-id"),
            (
                "",
                &[("proc/sys/kernel/hostname", "a b")],
                "the host name has the character ' '",
            ),
            (
                "--node-id=a;b",
                &[HOST],
                "--node-id has the character ';' at byte 1",
            ),
            (&long, &[HOST], "--node-id is 10000 bytes long"),
            (
                "--instance-id=<x>",
                &[HOST],
                "--instance-id has the character '<'",
            ),
        ] {
            let error = read(flags, files).expect_err(part);
            assert!(error.contains(part), "{error}");
        }
        let odd = read("--node-id=n", &[("etc/machine-id", "\u{1b}[2J")]).expect("it is ignored");
        assert_eq!(odd.machine_id, "");
    }

    #[test]
    fn a_fake_machine_keeps_its_id() {
        let dir = tempfile::tempdir().expect("a directory");
        let state = StateDir::open(dir.path()).expect("it opens");
        let fake = |state: Option<&StateDir>, seed| {
            let mut identity = read("--node-id=n1", &[("etc/machine-id", "host")]).expect("known");
            let mut ids = Ids(Box::new(SeededRng::named(seed, "ids")));
            identity.become_fake(state, &mut ids).expect("it is stored");
            identity.machine_id
        };
        assert_eq!(fake(None, 1), "fake-host-n1");
        let first = fake(Some(&state), 1);
        assert!(
            first.starts_with("fake-") && first != "fake-host-n1",
            "{first}"
        );
        assert_eq!(fake(Some(&state), 2), first);
        std::fs::write(state.file(MACHINE_ID), "{").expect("it is written");
        assert_ne!(fake(Some(&state), 3), first);
    }
}
