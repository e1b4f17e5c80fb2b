//! Why a backend could not answer.

/// Why a backend could not answer.
///
/// A reading that a GPU does not have is not an error; it is `None` in
/// [`Readings`](crate::Readings).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GpuError {
    /// The NVIDIA management library is not installed.
    #[error(
        "no GPU library: {library} is not there ({detail}); install the NVIDIA driver if this machine has GPUs"
    )]
    LibraryMissing {
        /// The name or path that was tried.
        library: String,
        /// What the loader said.
        detail: String,
    },
    /// The NVIDIA management library is there and cannot be used.
    #[error("the GPU library {library} cannot be used: {detail}; install the driver again")]
    LibraryUnusable {
        /// The name or path that was tried.
        library: String,
        /// What is wrong with it.
        detail: String,
    },
    /// Another thread is inside the library's start and has not come back.
    #[error("another call is still starting the GPU library; the driver may hang")]
    Starting,
    /// There is no GPU with this index.
    #[error("there is no GPU {index}; this machine has {count}")]
    NoSuchDevice {
        /// The index that was asked for.
        index: u32,
        /// How many GPUs there are.
        count: u32,
    },
    /// A call to the driver failed.
    #[error("{call}{} failed: {text} ({code})", on_gpu(*.index))]
    Call {
        /// The call, by its name in the library.
        call: &'static str,
        /// The GPU that the call was about, if it was about one.
        index: Option<u32>,
        /// The driver's return code.
        code: u32,
        /// The driver's words for the code.
        text: String,
    },
}

impl GpuError {
    /// The driver's return code, if a call to the driver failed.
    pub fn code(&self) -> Option<u32> {
        match self {
            Self::Call { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// The name of the driver call that failed, if one did.
    pub fn call(&self) -> Option<&'static str> {
        match self {
            Self::Call { call, .. } => Some(call),
            _ => None,
        }
    }

    /// Whether the driver says that the GPU is gone.
    pub fn is_lost(&self) -> bool {
        self.code() == Some(crate::nvml::GPU_IS_LOST)
    }
}

fn on_gpu(index: Option<u32>) -> String {
    index.map_or_else(String::new, |index| format!(" on GPU {index}"))
}

#[cfg(test)]
mod tests {
    use super::GpuError;

    #[test]
    fn messages_say_what_where_and_why() {
        let call = |index| GpuError::Call {
            call: "nvmlDeviceGetTemperature",
            index,
            code: 15,
            text: "GPU is lost".into(),
        };
        let cases = [
            (
                call(Some(3)),
                "nvmlDeviceGetTemperature on GPU 3 failed: GPU is lost (15)",
            ),
            (
                call(None),
                "nvmlDeviceGetTemperature failed: GPU is lost (15)",
            ),
            (
                GpuError::NoSuchDevice { index: 8, count: 8 },
                "there is no GPU 8; this machine has 8",
            ),
        ];
        for (error, text) in cases {
            assert_eq!(error.to_string(), text);
        }
        assert!(call(None).is_lost());
    }
}
