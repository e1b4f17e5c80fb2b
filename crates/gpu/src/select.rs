//! Chooses the backend of this machine.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::fake::{DEFAULT_MODEL, FakeOptions, MAX_GPUS, StateError};
use crate::nvml::NvmlOptions;
use crate::{FakeBackend, GpuBackend, GpuError, NoneBackend, NvmlBackend};

/// How many GPUs a fake machine has unless it is told.
const DEFAULT_COUNT: u32 = 8;

/// That somebody asked for fake GPUs, and which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FakeRequest {
    /// How many.
    pub count: u32,
    /// Of which model.
    pub model: String,
}

/// Why fake GPUs were asked for in vain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// A value means nothing.
    #[error("{name}={value:?}: use {wanted}")]
    BadValue {
        /// The flag or environment variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        wanted: String,
    },
    /// The stored state of the fake machine cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
}

impl FakeRequest {
    /// Whether fake GPUs are asked for: by the flag `--fake-gpus N`, which wins, or
    /// by `NAVARCH_FAKE_GPU=true` in the environment, with `NAVARCH_GPU_COUNT` and
    /// `NAVARCH_GPU_TYPE`.
    ///
    /// # Errors
    ///
    /// When a value means nothing.
    pub fn read(
        flag: Option<u32>,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, SelectError> {
        let given = |name| environment(name).filter(|value| !value.is_empty());
        let model = || given("NAVARCH_GPU_TYPE").unwrap_or_else(|| DEFAULT_MODEL.to_owned());
        if let Some(count) = flag {
            if count > MAX_GPUS {
                return Err(bad_count("--fake-gpus", &count.to_string()));
            }
            let model = model();
            return Ok(Some(Self { count, model }));
        }
        let asked = given("NAVARCH_FAKE_GPU");
        match asked.as_deref() {
            None | Some("false" | "0") => Ok(None),
            Some("true" | "1") => {
                let name = "NAVARCH_GPU_COUNT";
                let count = match given(name) {
                    None => DEFAULT_COUNT,
                    Some(text) => match text.parse() {
                        Ok(count) if count <= MAX_GPUS => count,
                        _ => return Err(bad_count(name, &text)),
                    },
                };
                let model = model();
                Ok(Some(Self { count, model }))
            }
            Some(value) => Err(SelectError::BadValue {
                name: "NAVARCH_FAKE_GPU",
                value: value.chars().take(64).collect(),
                wanted: "true or false".to_owned(),
            }),
        }
    }
}

fn bad_count(name: &'static str, value: &str) -> SelectError {
    SelectError::BadValue {
        name,
        value: value.chars().take(64).collect(),
        wanted: format!("a number from 0 to {MAX_GPUS}"),
    }
}

/// What to choose from.
#[derive(Debug, Clone)]
pub enum Options {
    /// Fake GPUs were asked for.
    Fake(FakeOptions),
    /// Real GPUs, or none.
    Real(NvmlOptions),
}

/// The backend of this machine.
pub struct Selected {
    /// The backend.
    pub backend: Arc<dyn GpuBackend>,
    /// The same backend, if it is the fake one, to inject faults into.
    pub fake: Option<Arc<FakeBackend>>,
    /// Lines for the log, one each.
    pub notices: Vec<String>,
}

/// Chooses: fake GPUs only when they are asked for, else the NVIDIA management
/// library, else, when that is not installed, no GPUs.
///
/// # Errors
///
/// When the fake machine cannot be set up.
pub fn select(options: Options) -> Result<Selected, SelectError> {
    match options {
        Options::Fake(options) => {
            let fake = Arc::new(FakeBackend::new(options)?);
            let state = fake.state();
            let notice = format!("using {} fake GPUs ({})", state.gpu_count, state.model);
            Ok(Selected {
                backend: fake.clone(),
                fake: Some(fake),
                notices: vec![notice],
            })
        }
        Options::Real(options) => Ok(real(options)),
    }
}

fn real(options: NvmlOptions) -> Selected {
    let pci_devices = options.pci_devices.clone();
    match NvmlBackend::new(options) {
        Ok(backend) => Selected {
            notices: backend.notices().to_vec(),
            backend: Arc::new(backend),
            fake: None,
        },
        Err(error) => Selected {
            backend: Arc::new(NoneBackend::new()),
            fake: None,
            notices: vec![zero_gpus(&error, nvidia_gpus(&pci_devices))],
        },
    }
}

fn zero_gpus(error: &GpuError, on_the_bus: usize) -> String {
    match on_the_bus {
        0 => format!("reporting zero GPUs: {error}"),
        count => format!(
            "reporting zero GPUs although the PCI bus has {count} of NVIDIA's, which nobody watches: {error}"
        ),
    }
}

/// How many NVIDIA GPUs the kernel sees, whatever drives them.
fn nvidia_gpus(pci_devices: &Path) -> usize {
    let Ok(devices) = std::fs::read_dir(pci_devices) else {
        return 0;
    };
    let begins = |path: PathBuf, texts: &[&str]| {
        let content = std::fs::read_to_string(path).unwrap_or_default();
        texts.iter().any(|text| content.starts_with(text))
    };
    devices
        .flatten()
        .map(|device| device.path())
        // VGA and 3D controllers; the same cards also have audio and USB functions.
        .filter(|path| begins(path.join("class"), &["0x0300", "0x0302"]))
        .filter(|path| begins(path.join("vendor"), &["0x10de"]))
        .count()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{FakeRequest, nvidia_gpus};

    #[test]
    fn fake_gpus_only_when_asked_for() {
        let request = |count, model: &str| {
            Ok(Some(FakeRequest {
                count,
                model: model.to_owned(),
            }))
        };
        let h100 = "NVIDIA H100 80GB HBM3";
        let error = |text: &str| Err(text.to_owned());
        let long = "9".repeat(5000);
        let cases = [
            (None, "", Ok(None)),
            (None, "NAVARCH_GPU_COUNT=4 NAVARCH_GPU_TYPE=A100", Ok(None)),
            (None, "NAVARCH_FAKE_GPU=false NAVARCH_GPU_COUNT=x", Ok(None)),
            (None, "NAVARCH_FAKE_GPU=", Ok(None)),
            (None, "NAVARCH_FAKE_GPU=true", request(8, h100)),
            (
                None,
                "NAVARCH_FAKE_GPU=1 NAVARCH_GPU_COUNT=0",
                request(0, h100),
            ),
            (
                None,
                "NAVARCH_FAKE_GPU=true NAVARCH_GPU_COUNT=4 NAVARCH_GPU_TYPE=A100",
                request(4, "A100"),
            ),
            (Some(2), "", request(2, h100)),
            (
                Some(2),
                "NAVARCH_FAKE_GPU=false NAVARCH_GPU_COUNT=4 NAVARCH_GPU_TYPE=A100",
                request(2, "A100"),
            ),
            (
                Some(65),
                "",
                error("--fake-gpus=\"65\": use a number from 0 to 64"),
            ),
            (
                None,
                "NAVARCH_FAKE_GPU=yes",
                error("NAVARCH_FAKE_GPU=\"yes\": use true or false"),
            ),
            (
                None,
                "NAVARCH_FAKE_GPU=true NAVARCH_GPU_COUNT=-1",
                error("NAVARCH_GPU_COUNT=\"-1\": use a number from 0 to 64"),
            ),
        ];
        for (flag, environment, expected) in cases {
            let variables: BTreeMap<_, _> = environment
                .split_whitespace()
                .map(|pair| pair.split_once('=').unwrap())
                .collect();
            let get = |name: &str| variables.get(name).map(|value| (*value).to_owned());
            let read = FakeRequest::read(flag, get).map_err(|error| error.to_string());
            assert_eq!(read, expected, "{flag:?} {environment}");
        }
        let get = |name: &str| {
            Some(
                if name == "NAVARCH_FAKE_GPU" {
                    "true"
                } else {
                    &long
                }
                .to_owned(),
            )
        };
        let message = FakeRequest::read(None, get).unwrap_err().to_string();
        assert!(message.len() < 200, "{message}");
    }

    #[test]
    fn gpus_on_the_bus() {
        let dir = tempfile::tempdir().unwrap();
        let devices = [
            ("0000:3b:00.0", "0x10de\n", "0x030200\n"),
            ("0000:3c:00.0", "0x10de\n", "0x030000\n"),
            ("0000:3c:00.1", "0x10de\n", "0x040300\n"),
            ("0000:00:02.0", "0x8086\n", "0x030000\n"),
        ];
        for (address, vendor, class) in devices {
            let device = dir.path().join(address);
            std::fs::create_dir(&device).unwrap();
            std::fs::write(device.join("vendor"), vendor).unwrap();
            std::fs::write(device.join("class"), class).unwrap();
        }
        std::fs::create_dir(dir.path().join("empty")).unwrap();
        assert_eq!(nvidia_gpus(dir.path()), 2);
        assert_eq!(nvidia_gpus(&dir.path().join("nowhere")), 0);
    }
}
