//! The C types of libnvidia-ml and the table of its functions.
//!
//! Names and layouts follow NVIDIA's `nvml.h`; every structure used here has been
//! the same since the versioned functions that use it appeared.
#![expect(
    unsafe_code,
    reason = "the functions of a C library are found and declared here"
)]

use std::ffi::{c_char, c_int, c_longlong, c_uint, c_ulonglong, c_void};
use std::path::Path;

use libloading::Library;

/// What every function returns.
pub(crate) type Return = c_uint;

pub(crate) const SUCCESS: Return = 0;
pub(crate) const UNINITIALIZED: Return = 1;
pub(crate) const INVALID_ARGUMENT: Return = 2;
pub(crate) const NOT_SUPPORTED: Return = 3;
pub(crate) const NO_PERMISSION: Return = 4;
pub(crate) const NOT_FOUND: Return = 6;
pub(crate) const DRIVER_NOT_LOADED: Return = 9;
pub(crate) const TIMEOUT: Return = 10;
pub(crate) const FUNCTION_NOT_FOUND: Return = 13;
pub(crate) const GPU_IS_LOST: Return = 15;
pub(crate) const RESET_REQUIRED: Return = 16;
pub(crate) const NO_DATA: Return = 21;
pub(crate) const DEPRECATED: Return = 26;
pub(crate) const UNKNOWN_ERROR: Return = 999;

pub(crate) const EVENT_XID: c_ulonglong = 0x8;
pub(crate) const TEMPERATURE_GPU: c_uint = 0;
pub(crate) const ECC_CORRECTED: c_uint = 0;
pub(crate) const ECC_UNCORRECTED: c_uint = 1;
pub(crate) const ECC_VOLATILE: c_uint = 0;
/// More links than any GPU has.
pub(crate) const NVLINK_MAX_LINKS: u64 = 64;
pub(crate) const FIELD_NVLINK_CRC_FLIT: c_uint = 38;
pub(crate) const FIELD_NVLINK_CRC_DATA: c_uint = 45;
pub(crate) const FIELD_NVLINK_REPLAY: c_uint = 52;
pub(crate) const FIELD_NVLINK_RECOVERY: c_uint = 59;
pub(crate) const FIELD_NVLINK_COUNT: c_uint = 91;
pub(crate) const FIELD_REMAPPED_CORRECTABLE: c_uint = 142;
pub(crate) const FIELD_REMAPPED_UNCORRECTABLE: c_uint = 143;
pub(crate) const FIELD_REMAP_PENDING: c_uint = 144;
pub(crate) const FIELD_REMAP_FAILED: c_uint = 145;
pub(crate) const FIELD_RECOVERY_ACTION: c_uint = 230;

/// In the reasons for slow clocks: the power supply brakes the GPU.
pub(crate) const CLOCKS_POWER_BRAKE: c_ulonglong = 0x80;

pub(crate) type RawDevice = *mut c_void;
pub(crate) type RawEventSet = *mut c_void;

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct PciInfo {
    pub(crate) bus_id_legacy: [u8; 16],
    pub(crate) domain: c_uint,
    pub(crate) bus: c_uint,
    pub(crate) device: c_uint,
    pub(crate) pci_device_id: c_uint,
    pub(crate) pci_subsystem_id: c_uint,
    pub(crate) bus_id: [u8; 32],
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Memory {
    pub(crate) total: c_ulonglong,
    pub(crate) free: c_ulonglong,
    pub(crate) used: c_ulonglong,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Utilization {
    pub(crate) gpu: c_uint,
    pub(crate) memory: c_uint,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct EventData {
    pub(crate) device: RawDevice,
    pub(crate) event_type: c_ulonglong,
    pub(crate) event_data: c_ulonglong,
    pub(crate) gpu_instance: c_uint,
    pub(crate) compute_instance: c_uint,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct FieldValue {
    pub(crate) field: c_uint,
    pub(crate) scope: c_uint,
    pub(crate) timestamp: c_longlong,
    pub(crate) latency: c_longlong,
    pub(crate) value_type: c_uint,
    pub(crate) status: Return,
    /// A union of numbers, as its eight bytes in memory order.
    pub(crate) value: [u8; 8],
}

// The union is aligned like its widest member, which the fields before it ensure.
const _: () = assert!(size_of::<FieldValue>() == 40 && align_of::<FieldValue>() == 8);
const _: () = assert!(size_of::<PciInfo>() == 68);
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<EventData>() == 32);

macro_rules! functions {
    (
        required { $($required:ident = $required_symbol:literal: fn($($required_type:ty),*);)+ }
        optional { $($optional:ident = $optional_symbol:literal: fn($($optional_type:ty),*);)+ }
    ) => {
        /// The functions of the library. Those that old drivers lack are optional.
        pub(crate) struct Functions {
            $(pub(crate) $required: unsafe extern "C" fn($($required_type),*) -> Return,)+
            $(pub(crate) $optional: Option<unsafe extern "C" fn($($optional_type),*) -> Return>,)+
            pub(crate) error_string: Option<unsafe extern "C" fn(Return) -> *const c_char>,
            /// Keeps the code that the pointers above lead to.
            _library: Library,
        }

        impl Functions {
            fn find(library: Library) -> Result<Self, libloading::Error> {
                // SAFETY: each symbol is a function of NVML's documented signature,
                // which the types above repeat, and `_library` keeps its code
                // loaded for as long as the pointer can be reached.
                unsafe {
                    Ok(Self {
                        $($required: *library.get($required_symbol)?,)+
                        $($optional: library.get($optional_symbol).ok().map(|symbol| *symbol),)+
                        error_string: library.get(c"nvmlErrorString").ok().map(|symbol| *symbol),
                        _library: library,
                    })
                }
            }
        }
    };
}

functions! {
    required {
        init = c"nvmlInit_v2": fn();
        shutdown = c"nvmlShutdown": fn();
        device_count = c"nvmlDeviceGetCount_v2": fn(*mut c_uint);
        handle_by_index = c"nvmlDeviceGetHandleByIndex_v2": fn(c_uint, *mut RawDevice);
        uuid = c"nvmlDeviceGetUUID": fn(RawDevice, *mut c_char, c_uint);
        name = c"nvmlDeviceGetName": fn(RawDevice, *mut c_char, c_uint);
        pci_info = c"nvmlDeviceGetPciInfo_v3": fn(RawDevice, *mut PciInfo);
        memory_info = c"nvmlDeviceGetMemoryInfo": fn(RawDevice, *mut Memory);
    }
    optional {
        driver_version = c"nvmlSystemGetDriverVersion": fn(*mut c_char, c_uint);
        cuda_version = c"nvmlSystemGetCudaDriverVersion": fn(*mut c_int);
        temperature = c"nvmlDeviceGetTemperature": fn(RawDevice, c_uint, *mut c_uint);
        power_usage = c"nvmlDeviceGetPowerUsage": fn(RawDevice, *mut c_uint);
        clocks_reasons = c"nvmlDeviceGetCurrentClocksThrottleReasons": fn(RawDevice, *mut c_ulonglong);
        utilization = c"nvmlDeviceGetUtilizationRates": fn(RawDevice, *mut Utilization);
        total_ecc_errors = c"nvmlDeviceGetTotalEccErrors": fn(RawDevice, c_uint, c_uint, *mut c_ulonglong);
        field_values = c"nvmlDeviceGetFieldValues": fn(RawDevice, c_int, *mut FieldValue);
        nvlink_state = c"nvmlDeviceGetNvLinkState": fn(RawDevice, c_uint, *mut c_uint);
        pcie_replays = c"nvmlDeviceGetPcieReplayCounter": fn(RawDevice, *mut c_uint);
        pcie_generation = c"nvmlDeviceGetCurrPcieLinkGeneration": fn(RawDevice, *mut c_uint);
        pcie_width = c"nvmlDeviceGetCurrPcieLinkWidth": fn(RawDevice, *mut c_uint);
        supported_events = c"nvmlDeviceGetSupportedEventTypes": fn(RawDevice, *mut c_ulonglong);
        register_events = c"nvmlDeviceRegisterEvents": fn(RawDevice, c_ulonglong, RawEventSet);
        event_set_create = c"nvmlEventSetCreate": fn(*mut RawEventSet);
        event_set_free = c"nvmlEventSetFree": fn(RawEventSet);
        event_set_wait = c"nvmlEventSetWait_v2": fn(RawEventSet, *mut EventData, c_uint);
    }
}

/// Why the library could not be loaded.
pub(crate) enum LoadError {
    Missing(String),
    Unusable(String),
}

/// Loads the library and finds its functions.
pub(crate) fn load(path: &Path) -> Result<Functions, LoadError> {
    // SAFETY: loading runs the library's initialisers. They are NVIDIA's, or those
    // of a library that the machine's owner named instead.
    let library = unsafe { Library::new(path) }.map_err(|error| {
        let text = describe(&error);
        if is_missing(path, &text) {
            LoadError::Missing(text)
        } else {
            LoadError::Unusable(text)
        }
    })?;
    Functions::find(library).map_err(|error| LoadError::Unusable(describe(&error)))
}

/// Whether the loader means that the library itself is not there, as opposed to a
/// damaged file or a library that it needs in turn.
fn is_missing(path: &Path, text: &str) -> bool {
    if path.components().count() > 1 {
        return !path.exists();
    }
    let name = path.to_string_lossy();
    let about_itself = text.starts_with(&format!("{name}: "));
    let elsewhere = !cfg!(target_os = "linux");
    (about_itself && text.contains("No such file"))
        || text.contains(&format!("shared library {name}:"))
        || (elsewhere && !path.exists())
}

/// The loader's words, on one line.
fn describe(error: &libloading::Error) -> String {
    let mut text = error.to_string();
    if let Some(source) = std::error::Error::source(error) {
        text = source.to_string();
    }
    text.replace('\n', " ")
}
