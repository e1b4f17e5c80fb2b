//! The stand-in library, as tests load and drive it.
#![expect(
    unsafe_code,
    reason = "the stand-in library is loaded and told what to do"
)]

use std::ffi::{CString, c_char, c_int};
use std::path::{Path, PathBuf};
use std::time::Duration;

use libloading::{Library, Symbol};
use navarch_gpu::nvml::{NvmlBackend, NvmlOptions};
use navarch_time::RealClock;

/// Long enough that running into it is a failure.
pub const LONG: Duration = Duration::from_secs(10);

/// A copy of the stand-in library: a machine of its own.
pub struct Fake {
    library: Library,
    /// The library.
    pub path: PathBuf,
    /// The folder it is in.
    pub dir: tempfile::TempDir,
}

impl Fake {
    pub fn new() -> Self {
        let built = built_library();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("libnvidia-ml.so.1");
        std::fs::copy(&built, &path).unwrap();
        // SAFETY: the library is ours and has no initialisers.
        let library = unsafe { Library::new(&path) }.unwrap();
        Self { library, path, dir }
    }

    pub fn order(&self, text: &str) {
        let words = CString::new(text).unwrap();
        // SAFETY: the signature is that of the exported function.
        let code = unsafe {
            let order: Symbol<'_, unsafe extern "C" fn(*const c_char) -> c_int> =
                self.library.get(c"fake_nvml_order").unwrap();
            order(words.as_ptr())
        };
        assert_eq!(code, 0, "the library does not understand {text:?}");
    }

    pub fn count(&self, question: &str) -> u64 {
        let words = CString::new(question).unwrap();
        // SAFETY: the signature is that of the exported function.
        unsafe {
            let count: Symbol<'_, unsafe extern "C" fn(*const c_char) -> u64> =
                self.library.get(c"fake_nvml_count").unwrap();
            count(words.as_ptr())
        }
    }

    /// Waits until the count is in the range.
    pub fn await_count(&self, question: &str, range: std::ops::RangeInclusive<u64>) {
        let words = CString::new(question).unwrap();
        // SAFETY: the signature is that of the exported function.
        let code = unsafe {
            let wait: Symbol<'_, unsafe extern "C" fn(*const c_char, u64, u64) -> c_int> =
                self.library.get(c"fake_nvml_await").unwrap();
            wait(words.as_ptr(), *range.start(), *range.end())
        };
        let now = self.count(question);
        assert_eq!(code, 0, "{question} is {now}, not in {range:?}");
    }

    pub fn options(&self) -> NvmlOptions {
        NvmlOptions {
            library: self.path.clone(),
            event_wait: Duration::from_millis(20),
            ..NvmlOptions::new(RealClock::shared())
        }
    }

    pub fn backend(&self) -> NvmlBackend {
        NvmlBackend::new(self.options()).unwrap()
    }

    /// A backend whose event thread waits for this many GPUs.
    pub fn waiting_backend(&self, gpus: u64) -> NvmlBackend {
        let backend = self.backend();
        self.await_count("registered", gpus..=gpus);
        backend
    }
}

fn built_library() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let target = test.parent().and_then(Path::parent).unwrap();
    let name = libloading::library_filename("navarch_fake_nvml");
    let path = target.join("examples").join(name);
    assert!(
        path.exists(),
        "{} is not built; run `cargo build -p navarch-gpu --examples` first",
        path.display()
    );
    path
}
