//! A started libnvidia-ml, with each call made safe.
#![expect(unsafe_code, reason = "the calls into a C library are made here")]

use std::ffi::{CStr, c_char, c_int, c_uint, c_ulonglong};
use std::path::Path;
use std::ptr;

use super::ffi::{self, Functions, LoadError, RawDevice, RawEventSet, Return};
use crate::GpuError;

/// The longest text that the library writes for us, with its final zero.
const TEXT_BYTES: usize = 96;

/// A GPU, as the library names it while it is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Handle(RawDevice);

// SAFETY: a handle is an opaque value that the library alone follows, and NVML's
// functions may be called from several threads at once.
unsafe impl Send for Handle {}
// SAFETY: as above; a shared handle is only copied.
unsafe impl Sync for Handle {}

/// What an event said.
pub(crate) struct Event {
    pub(crate) handle: Handle,
    pub(crate) event_type: c_ulonglong,
    pub(crate) data: c_ulonglong,
    pub(crate) gpu_instance: Option<u32>,
}

/// The library, started. Dropping it shuts it down and unloads it.
pub(crate) struct Nvml {
    functions: Functions,
}

impl Nvml {
    /// Loads the library and starts it.
    pub(crate) fn start(path: &Path) -> Result<Self, GpuError> {
        let library = || path.display().to_string();
        let functions = ffi::load(path).map_err(|error| match error {
            LoadError::Missing(detail) => GpuError::LibraryMissing {
                library: library(),
                detail,
            },
            LoadError::Unusable(detail) => GpuError::LibraryUnusable {
                library: library(),
                detail,
            },
        })?;
        // SAFETY: `init` takes nothing.
        let code = unsafe { (functions.init)() };
        if code != ffi::SUCCESS {
            return Err(failure(&functions, "nvmlInit_v2", None, code));
        }
        Ok(Self { functions })
    }

    pub(crate) fn device_count(&self) -> Result<u32, GpuError> {
        let mut count: c_uint = 0;
        // SAFETY: `count` is where the function writes one `unsigned int`.
        let code = unsafe { (self.functions.device_count)(&raw mut count) };
        self.check("nvmlDeviceGetCount_v2", None, code)?;
        Ok(count)
    }

    pub(crate) fn handle(&self, index: u32) -> Result<Handle, GpuError> {
        let mut device: RawDevice = ptr::null_mut();
        // SAFETY: `device` is where the function writes one handle.
        let code = unsafe { (self.functions.handle_by_index)(index, &raw mut device) };
        self.check("nvmlDeviceGetHandleByIndex_v2", Some(index), code)?;
        Ok(Handle(device))
    }

    /// A view of one GPU; `index` is for messages only.
    pub(crate) fn gpu(&self, handle: Handle, index: Option<u32>) -> Gpu<'_> {
        Gpu {
            nvml: self,
            device: handle.0,
            index,
        }
    }

    /// The driver's version, empty if it does not say.
    pub(crate) fn driver_version(&self) -> String {
        let Some(function) = self.functions.driver_version else {
            return String::new();
        };
        let fill = |buffer: *mut c_char, length| {
            // SAFETY: the function writes at most `length` bytes to `buffer`.
            unsafe { function(buffer, length) }
        };
        self.text("nvmlSystemGetDriverVersion", None, fill)
            .unwrap_or_default()
    }

    /// The newest CUDA version that the driver supports, empty if it does not say.
    pub(crate) fn cuda_version(&self) -> String {
        let Some(function) = self.functions.cuda_version else {
            return String::new();
        };
        let mut version: c_int = 0;
        // SAFETY: `version` is where the function writes one `int`.
        let code = unsafe { function(&raw mut version) };
        if code != ffi::SUCCESS || version <= 0 {
            return String::new();
        }
        format!("{}.{}", version / 1000, version % 1000 / 10)
    }

    /// Makes a set to wait for events with.
    pub(crate) fn event_set(&self) -> Result<EventSet<'_>, GpuError> {
        let call = "nvmlEventSetCreate";
        let create = self.need(call, None, self.functions.event_set_create)?;
        let free = self.need("nvmlEventSetFree", None, self.functions.event_set_free)?;
        let wait = self.need("nvmlEventSetWait_v2", None, self.functions.event_set_wait)?;
        let mut set: RawEventSet = ptr::null_mut();
        // SAFETY: `set` is where the function writes one event set.
        let code = unsafe { create(&raw mut set) };
        self.check(call, None, code)?;
        Ok(EventSet {
            nvml: self,
            set,
            free,
            wait,
        })
    }

    fn check(&self, call: &'static str, index: Option<u32>, code: Return) -> Result<(), GpuError> {
        if code == ffi::SUCCESS {
            return Ok(());
        }
        Err(failure(&self.functions, call, index, code))
    }

    fn need<F>(
        &self,
        call: &'static str,
        index: Option<u32>,
        function: Option<F>,
    ) -> Result<F, GpuError> {
        function.ok_or_else(|| failure(&self.functions, call, index, ffi::FUNCTION_NOT_FOUND))
    }

    fn text(
        &self,
        call: &'static str,
        index: Option<u32>,
        fill: impl FnOnce(*mut c_char, c_uint) -> Return,
    ) -> Result<String, GpuError> {
        let mut buffer = [0_u8; TEXT_BYTES];
        let code = fill(buffer.as_mut_ptr().cast(), TEXT_BYTES as c_uint);
        self.check(call, index, code)?;
        Ok(until_zero(&buffer))
    }
}

impl Drop for Nvml {
    fn drop(&mut self) {
        // SAFETY: `shutdown` takes nothing; nobody else can call the library now.
        unsafe { (self.functions.shutdown)() };
    }
}

/// One GPU of a started library.
pub(crate) struct Gpu<'a> {
    nvml: &'a Nvml,
    device: RawDevice,
    index: Option<u32>,
}

impl Gpu<'_> {
    pub(crate) fn uuid(&self) -> Result<String, GpuError> {
        let function = self.nvml.functions.uuid;
        self.nvml
            .text("nvmlDeviceGetUUID", self.index, |buffer, length| {
                // SAFETY: the handle came from the library, and the function writes at
                // most `length` bytes to `buffer`.
                unsafe { function(self.device, buffer, length) }
            })
    }

    pub(crate) fn name(&self) -> Result<String, GpuError> {
        let function = self.nvml.functions.name;
        self.nvml
            .text("nvmlDeviceGetName", self.index, |buffer, length| {
                // SAFETY: the handle came from the library, and the function writes at
                // most `length` bytes to `buffer`.
                unsafe { function(self.device, buffer, length) }
            })
    }

    /// The PCI address as the library writes it.
    pub(crate) fn pci_bus_id(&self) -> Result<String, GpuError> {
        let mut info = ffi::PciInfo {
            bus_id_legacy: [0; 16],
            domain: 0,
            bus: 0,
            device: 0,
            pci_device_id: 0,
            pci_subsystem_id: 0,
            bus_id: [0; 32],
        };
        // SAFETY: the handle came from the library, and `info` is where the function
        // writes one structure of version 3.
        let code = unsafe { (self.nvml.functions.pci_info)(self.device, &raw mut info) };
        self.nvml
            .check("nvmlDeviceGetPciInfo_v3", self.index, code)?;
        Ok(until_zero(&info.bus_id))
    }

    pub(crate) fn memory(&self) -> Result<ffi::Memory, GpuError> {
        let function = self.nvml.functions.memory_info;
        self.read("nvmlDeviceGetMemoryInfo", Some(function))
    }

    pub(crate) fn temperature(&self) -> Result<u32, GpuError> {
        let call = "nvmlDeviceGetTemperature";
        let function = self.need(call, self.nvml.functions.temperature)?;
        let mut celsius: c_uint = 0;
        // SAFETY: the handle came from the library, and `celsius` is where the
        // function writes one `unsigned int`.
        let code = unsafe { function(self.device, ffi::TEMPERATURE_GPU, &raw mut celsius) };
        self.nvml.check(call, self.index, code)?;
        Ok(celsius)
    }

    pub(crate) fn power_milliwatts(&self) -> Result<u32, GpuError> {
        self.read("nvmlDeviceGetPowerUsage", self.nvml.functions.power_usage)
    }

    /// Why the clocks are slower than they could be, as bits.
    pub(crate) fn clocks_reasons(&self) -> Result<u64, GpuError> {
        self.read(
            "nvmlDeviceGetCurrentClocksThrottleReasons",
            self.nvml.functions.clocks_reasons,
        )
    }

    pub(crate) fn utilization(&self) -> Result<ffi::Utilization, GpuError> {
        self.read(
            "nvmlDeviceGetUtilizationRates",
            self.nvml.functions.utilization,
        )
    }

    /// Volatile ECC errors over all memories; `kind` is one of `ffi::ECC_*CORRECTED`.
    pub(crate) fn ecc_errors(&self, kind: c_uint) -> Result<u64, GpuError> {
        let call = "nvmlDeviceGetTotalEccErrors";
        let function = self.need(call, self.nvml.functions.total_ecc_errors)?;
        let mut count: c_ulonglong = 0;
        // SAFETY: the handle came from the library, and `count` is where the function
        // writes one `unsigned long long`.
        let code = unsafe { function(self.device, kind, ffi::ECC_VOLATILE, &raw mut count) };
        self.nvml.check(call, self.index, code)?;
        Ok(count)
    }

    /// The values of `fields`, each on its own a value or nothing.
    pub(crate) fn fields<const N: usize>(
        &self,
        fields: [c_uint; N],
    ) -> Result<[Option<u64>; N], GpuError> {
        let call = "nvmlDeviceGetFieldValues";
        let function = self.need(call, self.nvml.functions.field_values)?;
        let mut values = fields.map(|field| ffi::FieldValue {
            field,
            status: ffi::NOT_SUPPORTED,
            ..ffi::FieldValue::default()
        });
        let count = c_int::try_from(N).unwrap_or(0);
        // SAFETY: the handle came from the library, and `values` holds `count`
        // structures that the function reads and writes.
        let code = unsafe { function(self.device, count, values.as_mut_ptr()) };
        self.nvml.check(call, self.index, code)?;
        Ok(values.map(|value| number(&value)))
    }

    /// Whether NVLink link `link` is up; `None` when the GPU has no such link.
    pub(crate) fn nvlink_active(&self, link: c_uint) -> Result<Option<bool>, GpuError> {
        let call = "nvmlDeviceGetNvLinkState";
        let function = self.need(call, self.nvml.functions.nvlink_state)?;
        let mut active: c_uint = 0;
        // SAFETY: the handle came from the library, and `active` is where the
        // function writes one enumerator, an `unsigned int`.
        let code = unsafe { function(self.device, link, &raw mut active) };
        if code == ffi::INVALID_ARGUMENT || code == ffi::NOT_SUPPORTED {
            return Ok(None);
        }
        self.nvml.check(call, self.index, code)?;
        Ok(Some(active == 1))
    }

    pub(crate) fn pcie_replays(&self) -> Result<u32, GpuError> {
        self.read(
            "nvmlDeviceGetPcieReplayCounter",
            self.nvml.functions.pcie_replays,
        )
    }

    pub(crate) fn pcie_generation(&self) -> Result<u32, GpuError> {
        self.read(
            "nvmlDeviceGetCurrPcieLinkGeneration",
            self.nvml.functions.pcie_generation,
        )
    }

    pub(crate) fn pcie_width(&self) -> Result<u32, GpuError> {
        self.read(
            "nvmlDeviceGetCurrPcieLinkWidth",
            self.nvml.functions.pcie_width,
        )
    }

    /// The kinds of event that the GPU can report, as bits.
    pub(crate) fn supported_events(&self) -> Result<u64, GpuError> {
        self.read(
            "nvmlDeviceGetSupportedEventTypes",
            self.nvml.functions.supported_events,
        )
    }

    /// Makes one of the calls that fill one plain value.
    fn read<T: Default>(
        &self,
        call: &'static str,
        function: Option<unsafe extern "C" fn(RawDevice, *mut T) -> Return>,
    ) -> Result<T, GpuError> {
        let function = self.need(call, function)?;
        let mut value = T::default();
        // SAFETY: the handle came from the library, and `value` is where the function
        // writes one `T`: its declaration says so.
        let code = unsafe { function(self.device, &raw mut value) };
        self.nvml.check(call, self.index, code)?;
        Ok(value)
    }

    fn need<F>(&self, call: &'static str, function: Option<F>) -> Result<F, GpuError> {
        self.nvml.need(call, self.index, function)
    }
}

/// A set of GPUs to wait for events of. Only its owner waits, so it is never freed
/// while somebody is inside the wait.
pub(crate) struct EventSet<'a> {
    nvml: &'a Nvml,
    set: RawEventSet,
    free: unsafe extern "C" fn(RawEventSet) -> Return,
    wait: unsafe extern "C" fn(RawEventSet, *mut ffi::EventData, c_uint) -> Return,
}

impl EventSet<'_> {
    /// Adds a GPU, for events of these kinds.
    pub(crate) fn register(&mut self, gpu: &Gpu<'_>, events: c_ulonglong) -> Result<(), GpuError> {
        let call = "nvmlDeviceRegisterEvents";
        let function = gpu.need(call, self.nvml.functions.register_events)?;
        // SAFETY: handle and set both came from the library.
        let code = unsafe { function(gpu.device, events, self.set) };
        self.nvml.check(call, gpu.index, code)
    }

    /// Waits for the next event; `None` when none came in time.
    pub(crate) fn wait(&mut self, milliseconds: u32) -> Result<Option<Event>, GpuError> {
        let mut data = ffi::EventData {
            device: ptr::null_mut(),
            event_type: 0,
            event_data: 0,
            gpu_instance: u32::MAX,
            compute_instance: u32::MAX,
        };
        // SAFETY: the set came from the library and is not freed before this returns,
        // and `data` is where the function writes one structure.
        let code = unsafe { (self.wait)(self.set, &raw mut data, milliseconds) };
        if code == ffi::TIMEOUT {
            return Ok(None);
        }
        self.nvml.check("nvmlEventSetWait_v2", None, code)?;
        Ok(Some(Event {
            handle: Handle(data.device),
            event_type: data.event_type,
            data: data.event_data,
            gpu_instance: (data.gpu_instance != u32::MAX).then_some(data.gpu_instance),
        }))
    }
}

impl Drop for EventSet<'_> {
    fn drop(&mut self) {
        // SAFETY: the set came from the library, and its owner is not waiting.
        unsafe { (self.free)(self.set) };
    }
}

fn failure(
    functions: &Functions,
    call: &'static str,
    index: Option<u32>,
    code: Return,
) -> GpuError {
    let text = functions.error_string.map_or(ptr::null(), |function| {
        // SAFETY: the function takes any number.
        unsafe { function(code) }
    });
    let text = if text.is_null() {
        "no description".to_owned()
    } else {
        // SAFETY: the library's descriptions are constant texts that end with a zero.
        let text = unsafe { CStr::from_ptr(text) };
        text.to_string_lossy().into_owned()
    };
    GpuError::Call {
        call,
        index,
        code,
        text,
    }
}

/// The bytes before the first zero, as text.
fn until_zero(bytes: &[u8]) -> String {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// The whole number in a field value, if it holds one.
fn number(value: &ffi::FieldValue) -> Option<u64> {
    if value.status != ffi::SUCCESS {
        return None;
    }
    let [a, b, c, d, ..] = value.value;
    match value.value_type {
        // unsigned int
        1 => Some(u32::from_ne_bytes([a, b, c, d]).into()),
        // unsigned long, unsigned long long
        2 | 3 => Some(u64::from_ne_bytes(value.value)),
        // signed long long
        4 => u64::try_from(i64::from_ne_bytes(value.value)).ok(),
        // int
        5 => u64::try_from(i32::from_ne_bytes([a, b, c, d])).ok(),
        // unsigned short
        6 => Some(u16::from_ne_bytes([a, b]).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::ffi::FieldValue;
    use super::{number, until_zero};

    #[test]
    fn field_values_by_type() {
        let all_ones = [0xff_u8; 8];
        let mut seven = [0xee_u8; 8];
        seven[..4].copy_from_slice(&7_u32.to_ne_bytes());
        let cases = [
            (1, seven, Some(7)),
            (5, seven, Some(7)),
            (1, all_ones, Some(u64::from(u32::MAX))),
            (3, all_ones, Some(u64::MAX)),
            (4, all_ones, None),
            (5, all_ones, None),
            (0, seven, None),
            (99, seven, None),
        ];
        for (value_type, value, expected) in cases {
            let field = FieldValue {
                value_type,
                value,
                ..FieldValue::default()
            };
            assert_eq!(number(&field), expected, "type {value_type}");
            let failed = FieldValue { status: 3, ..field };
            assert_eq!(number(&failed), None);
        }
    }

    #[test]
    fn texts_end_at_the_zero_or_at_the_end() {
        assert_eq!(until_zero(b"GPU-1\0rest"), "GPU-1");
        assert_eq!(until_zero(b"GPU-1"), "GPU-1");
        assert_eq!(until_zero(b""), "");
        // A driver that writes another encoding, or cuts a character in two.
        assert_eq!(until_zero(b"GPU-\xff\xfe"), "GPU-\u{fffd}\u{fffd}");
        assert_eq!(
            until_zero("GPU-é".as_bytes().split_last().expect("text").1),
            "GPU-\u{fffd}"
        );
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_of_the_driver_are_a_text_and_perhaps_a_number(
            bytes: [u8; 24],
            value: [u8; 8],
            value_type in 0..9_u32,
            status in 0..4_u32,
        ) {
            let text = until_zero(&bytes);
            proptest::prop_assert!(!text.contains('\0') && text.chars().count() <= bytes.len());
            let field = FieldValue { value_type, status, value, ..FieldValue::default() };
            let found = number(&field);
            proptest::prop_assert!(found.is_none() || (status == 0 && (1..=6).contains(&value_type)));
        }
    }
}
