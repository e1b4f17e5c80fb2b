//! Chooses the backend of this machine.

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
    match NvmlBackend::new(options) {
        Ok(backend) => Selected {
            notices: backend.notices().to_vec(),
            backend: Arc::new(backend),
            fake: None,
        },
        Err(error) => Selected {
            backend: Arc::new(NoneBackend::new()),
            fake: None,
            notices: vec![zero_gpus(&error)],
        },
    }
}

fn zero_gpus(error: &GpuError) -> String {
    format!("reporting zero GPUs: {error}")
}
