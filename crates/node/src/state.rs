//! The state directory: what outlives the agent.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::AgentError;

/// A directory that this agent alone uses.
#[derive(Debug)]
pub(crate) struct StateDir {
    path: PathBuf,
    _lock: File,
}

/// What a file held.
#[derive(Debug)]
pub(crate) enum Found<T> {
    /// There is no such file.
    Nothing,
    /// This.
    Value(T),
    /// Nothing that could be understood; the file was set aside.
    Damaged,
}

impl StateDir {
    /// Opens the directory, makes it if it is missing, and locks it.
    ///
    /// # Errors
    ///
    /// When it cannot be made or opened, or another agent uses it.
    pub(crate) fn open(path: &Path) -> Result<Self, AgentError> {
        private_directory(path).map_err(AgentError::io("make the state directory", path))?;
        let lock_path = path.join("lock");
        let lock = private_file()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(AgentError::io("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(AgentError::StateInUse(path.to_owned()));
            }
            Err(std::fs::TryLockError::Error(error)) => {
                return Err(AgentError::io("lock", &lock_path)(error));
            }
        }
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// The path of one of its files.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Replaces a file, whole or not at all, and makes that durable.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> io::Result<()> {
        write_whole(&self.file(name), content)?;
        File::open(&self.path)?.sync_all()
    }

    /// Reads a file that [`write`](Self::write) wrote as JSON. One that cannot be understood is
    /// set aside, so that it is looked at by a person and not again by every start.
    pub(crate) fn read<T: serde::de::DeserializeOwned>(
        &self,
        name: &str,
    ) -> Result<Found<T>, AgentError> {
        let path = self.file(name);
        let content = match std::fs::read(&path) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(error) => return Err(AgentError::io("read", &path)(error)),
        };
        match serde_json::from_slice(&content) {
            Ok(value) => Ok(Found::Value(value)),
            Err(error) => {
                self.set_aside(name, &error)?;
                Ok(Found::Damaged)
            }
        }
    }

    /// Renames a damaged file, and says so.
    pub(crate) fn set_aside(
        &self,
        name: &str,
        why: &dyn std::fmt::Display,
    ) -> Result<PathBuf, AgentError> {
        let path = self.file(name);
        let aside = self.file(&format!("{name}.damaged"));
        std::fs::rename(&path, &aside).map_err(AgentError::io("set aside", &path))?;
        tracing::warn!(
            path = %path.display(), aside = %aside.display(), error = %why,
            "damaged file was set aside; what it held is lost to the agent"
        );
        Ok(aside)
    }
}

/// Replaces a file, whole or not at all.
pub(crate) fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    let mut file = private_file()
        .write(true)
        .create(true)
        .truncate(true)
        .open(&fresh)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)
}

/// How files are opened that others need not read.
pub(crate) fn private_file() -> OpenOptions {
    #[cfg_attr(not(unix), expect(unused_mut, reason = "only Unix has modes"))]
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn private_directory(path: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_agent_at_a_time() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a/b");
        let first = StateDir::open(&path).expect("nobody uses it");
        let error = StateDir::open(&path)
            .expect_err("the first uses it")
            .to_string();
        assert!(
            error.contains("another agent uses") && error.contains("--state-dir"),
            "{error}"
        );
        drop(first);
        StateDir::open(&path).expect("nobody uses it any more");
    }

    #[test]
    fn a_damaged_file_is_set_aside_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let state = StateDir::open(dir.path()).expect("it opens");
        assert!(matches!(
            state.read::<Vec<u8>>("x.json"),
            Ok(Found::Nothing)
        ));
        state.write("x.json", b"[1,2").expect("it is written");
        assert!(matches!(
            state.read::<Vec<u8>>("x.json"),
            Ok(Found::Damaged)
        ));
        assert!(matches!(
            state.read::<Vec<u8>>("x.json"),
            Ok(Found::Nothing)
        ));
        assert_eq!(
            std::fs::read(dir.path().join("x.json.damaged")).expect("it is kept"),
            b"[1,2"
        );
        state.write("x.json", b"[1,2]").expect("it is written");
        assert!(
            matches!(state.read::<Vec<u8>>("x.json"), Ok(Found::Value(found)) if found == [1, 2])
        );
    }

    #[test]
    fn a_state_directory_that_cannot_be_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        std::fs::write(&path, "").expect("it is written");
        let error = StateDir::open(&path.join("x")).expect_err("a file is in the way");
        assert!(error.to_string().contains("file/x"), "{error}");
        assert_eq!(error.exit_code(), 1);
    }

    /// Reads a file twice: what is no value is damaged once, and gone then.
    fn opened_twice<T: serde::de::DeserializeOwned>(state: &StateDir, content: &[u8]) -> bool {
        std::fs::write(state.file("x.json"), content).expect("it is written");
        match state.read::<T>("x.json").expect("a file is no failure") {
            Found::Value(_) => matches!(state.read::<T>("x.json"), Ok(Found::Value(_))),
            Found::Damaged => matches!(state.read::<T>("x.json"), Ok(Found::Nothing)),
            Found::Nothing => false,
        }
    }

    /// Files as this agent writes them.
    fn samples() -> [Vec<u8>; 4] {
        let machine = navarch_gpu::fake::FakeState::new("m", 8, "NVIDIA H100");
        let finished = crate::commands::Finished::new(
            navarch_model::CommandId::new("cmd-1"),
            true,
            "fine".to_owned(),
        );
        let position = crate::shell::KernelLogPosition {
            boot: "b".to_owned(),
            position: 7,
        };
        let json = |made: Result<Vec<u8>, serde_json::Error>| made.expect("plain data");
        [
            json(serde_json::to_vec_pretty(&machine)),
            json(serde_json::to_vec(&[finished])),
            json(serde_json::to_vec(&position)),
            b"\"0123456789abcdef0123456789abcdef\"".to_vec(),
        ]
    }

    /// As many cases as are asked for, or the usual number.
    fn cases(usual: u32) -> u32 {
        let asked = std::env::var("PROPTEST_CASES").ok();
        asked.and_then(|count| count.parse().ok()).unwrap_or(usual)
    }

    proptest::proptest! {
        #![proptest_config(ProptestConfig { cases: cases(64), failure_persistence: None, ..ProptestConfig::default() })]

        /// Any file in place of any of ours is read or set aside.
        #[test]
        fn any_file_is_read_or_set_aside_once(
            which in 0..4_usize,
            bytes in vec(any::<u8>(), 0..60),
            places in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            deep in proptest::bool::weighted(0.05),
        ) {
            let dir = tempfile::tempdir().expect("a directory");
            let state = StateDir::open(dir.path()).expect("it opens");
            let mut content = samples()[which].clone();
            for (place, byte) in &places {
                *place.get_mut(&mut content) = *byte;
            }
            let deep = deep.then(|| b"[".repeat(100_000));
            for content in [Some(content), Some(bytes), deep].into_iter().flatten() {
                let read = [
                    opened_twice::<navarch_gpu::fake::FakeState>(&state, &content),
                    opened_twice::<Vec<crate::commands::Finished>>(&state, &content),
                    opened_twice::<crate::shell::KernelLogPosition>(&state, &content),
                    opened_twice::<String>(&state, &content),
                ];
                prop_assert_eq!(read, [true; 4]);
            }
        }
    }
}
