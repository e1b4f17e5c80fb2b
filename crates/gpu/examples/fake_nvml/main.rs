//! A stand-in for libnvidia-ml: it exports the same C functions, and tests tell it
//! what its GPUs do.
//!
//! Each copy of the built library is a machine of its own. Besides NVML's functions
//! it exports `fake_nvml_order`, which takes one order as text, `fake_nvml_count`,
//! which answers one question with a number, and `fake_nvml_await`, which waits for
//! an answer. The module [`machine`] says what they know.
#![expect(
    unsafe_code,
    reason = "a C interface is exported, and its pointers are written through"
)]

mod machine;

use std::ffi::{CStr, c_char, c_int, c_longlong, c_uint, c_ulonglong, c_void};
use std::sync::PoisonError;
use std::time::Duration;

use machine::*;

/// Writes a value through a pointer of the caller.
///
/// # Safety
///
/// The pointer is null or leads to memory for one `T`.
unsafe fn put<T>(target: *mut T, value: T) -> Return {
    if target.is_null() {
        return INVALID_ARGUMENT;
    }
    // SAFETY: it is not null, and the caller vouches for the rest.
    unsafe { target.write(value) };
    SUCCESS
}

/// Writes a text and its final zero through a pointer of the caller.
///
/// # Safety
///
/// The pointer is null or leads to `length` bytes.
unsafe fn put_text(target: *mut c_char, length: c_uint, text: &str) -> Return {
    if target.is_null() {
        return INVALID_ARGUMENT;
    }
    if text.len() >= length as usize {
        return INSUFFICIENT_SIZE;
    }
    // SAFETY: the text and its zero fit, as was just checked.
    unsafe {
        target
            .cast::<u8>()
            .copy_from_nonoverlapping(text.as_ptr(), text.len());
        target.add(text.len()).write(0);
    }
    SUCCESS
}

/// Carries out an order; 0 when it was understood.
///
/// # Safety
///
/// `text` ends with a zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fake_nvml_order(text: *const c_char) -> c_int {
    // SAFETY: the caller vouches for it.
    let text = unsafe { CStr::from_ptr(text) };
    match text.to_str().ok().and_then(order) {
        Some(()) => 0,
        None => 1,
    }
}

/// Answers a question; the largest number when it was not understood.
///
/// # Safety
///
/// `text` ends with a zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fake_nvml_count(text: *const c_char) -> u64 {
    // SAFETY: the caller vouches for it.
    let text = unsafe { CStr::from_ptr(text) };
    let question = text.to_str().ok();
    question
        .and_then(|question| count(&machine(), question))
        .unwrap_or(u64::MAX)
}

/// Waits until the answer to a question is at least `least` and at most `most`, for
/// ten seconds; 0 when it came to be so.
///
/// # Safety
///
/// `text` ends with a zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fake_nvml_await(text: *const c_char, least: u64, most: u64) -> c_int {
    // SAFETY: the caller vouches for it.
    let text = unsafe { CStr::from_ptr(text) };
    let Ok(question) = text.to_str() else {
        return 1;
    };
    let elsewhere = |machine: &mut Machine| {
        !count(machine, question).is_some_and(|count| (least..=most).contains(&count))
    };
    let (_machine, result) = CHANGED
        .wait_timeout_while(machine(), Duration::from_secs(10), elsewhere)
        .unwrap_or_else(PoisonError::into_inner);
    result.timed_out().into()
}

/// As in NVML.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit_v2() -> Return {
    let mut machine = pass("nvmlInit_v2");
    let key = ("nvmlInit_v2".to_owned(), None);
    if let Some(code) = machine.answers.get(&key) {
        return *code;
    }
    machine.starts += 1;
    CHANGED.notify_all();
    SUCCESS
}

/// As in NVML.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlShutdown() -> Return {
    let mut machine = machine();
    if machine.sets > 0 {
        machine.add("shut_down_with_sets");
    }
    machine.starts = machine.starts.saturating_sub(1);
    CHANGED.notify_all();
    SUCCESS
}

/// As in NVML.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlErrorString(code: Return) -> *const c_char {
    let text = match code {
        SUCCESS => c"Success",
        UNINITIALIZED => c"Uninitialized",
        INVALID_ARGUMENT => c"Invalid Argument",
        NOT_SUPPORTED => c"Not Supported",
        TIMEOUT => c"Timeout",
        GPU_IS_LOST => c"GPU is lost",
        _ => c"Unknown Error",
    };
    text.as_ptr()
}

/// As in NVML.
///
/// # Safety
///
/// As in NVML.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetDriverVersion(text: *mut c_char, length: c_uint) -> Return {
    match pass("nvmlSystemGetDriverVersion").answer("nvmlSystemGetDriverVersion", None) {
        // SAFETY: the caller vouches for it.
        SUCCESS => unsafe { put_text(text, length, "570.86.15") },
        code => code,
    }
}

/// As in NVML.
///
/// # Safety
///
/// As in NVML.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetCudaDriverVersion(version: *mut c_int) -> Return {
    // SAFETY: the caller vouches for it.
    unsafe { put(version, 12080) }
}

/// As in NVML.
///
/// # Safety
///
/// As in NVML.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetCount_v2(count: *mut c_uint) -> Return {
    let machine = pass("nvmlDeviceGetCount_v2");
    match machine.answer("nvmlDeviceGetCount_v2", None) {
        // SAFETY: the caller vouches for it.
        SUCCESS => unsafe { put(count, machine.gpus) },
        code => code,
    }
}

/// As in NVML.
///
/// # Safety
///
/// As in NVML.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetHandleByIndex_v2(
    index: c_uint,
    device: *mut *mut c_void,
) -> Return {
    let function = "nvmlDeviceGetHandleByIndex_v2";
    let machine = pass(function);
    if machine.starts > 0 && index >= machine.gpus {
        return INVALID_ARGUMENT;
    }
    match machine.answer(function, Some(index)) {
        SUCCESS => {
            let handle = std::ptr::without_provenance_mut(FIRST_HANDLE + index as usize);
            // SAFETY: the caller vouches for it.
            unsafe { put(device, handle) }
        }
        code => code,
    }
}

/// As in NVML.
///
/// # Safety
///
/// As in NVML.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetUUID(
    device: *mut c_void,
    text: *mut c_char,
    length: c_uint,
) -> Return {
    match enter("nvmlDeviceGetUUID", device) {
        Ok((_, gpu)) => {
            let uuid = format!("GPU-{gpu:08x}-1111-2222-3333-444455556666");
            // SAFETY: the caller vouches for it.
            unsafe { put_text(text, length, &uuid) }
        }
        Err(code) => code,
    }
}

/// As in NVML.
///
/// # Safety
///
/// As in NVML.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetName(
    device: *mut c_void,
    text: *mut c_char,
    length: c_uint,
) -> Return {
    match enter("nvmlDeviceGetName", device) {
        // SAFETY: the caller vouches for it.
        Ok(_) => unsafe { put_text(text, length, "NVIDIA H100 80GB HBM3") },
        Err(code) => code,
    }
}

/// `nvmlPciInfo_t`.
#[repr(C)]
pub struct PciInfo {
    bus_id_legacy: [u8; 16],
    domain: c_uint,
    bus: c_uint,
    device: c_uint,
    pci_device_id: c_uint,
    pci_subsystem_id: c_uint,
    bus_id: [u8; 32],
}

/// As in NVML.
///
/// # Safety
///
/// As in NVML.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetPciInfo_v3(
    device: *mut c_void,
    info: *mut PciInfo,
) -> Return {
    let gpu = match enter("nvmlDeviceGetPciInfo_v3", device) {
        Ok((_, gpu)) => gpu,
        Err(code) => return code,
    };
    let bus = 0x3a + gpu;
    let mut bus_id = [0; 32];
    let text = format!("00000000:{bus:02X}:00.0");
    bus_id[..text.len()].copy_from_slice(text.as_bytes());
    let filled = PciInfo {
        bus_id_legacy: [0; 16],
        domain: 0,
        bus,
        device: 0,
        pci_device_id: 0x2330_10de,
        pci_subsystem_id: 0,
        bus_id,
    };
    // SAFETY: the caller vouches for it.
    unsafe { put(info, filled) }
}

/// `nvmlMemory_t`.
#[repr(C)]
pub struct Memory {
    total: c_ulonglong,
    free: c_ulonglong,
    used: c_ulonglong,
}

/// As in NVML.
///
/// # Safety
///
/// As in NVML.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMemoryInfo(
    device: *mut c_void,
    memory: *mut Memory,
) -> Return {
    let filled = Memory {
        total: 80 << 30,
        free: 60 << 30,
        used: 20 << 30,
    };
    match enter("nvmlDeviceGetMemoryInfo", device) {
        // SAFETY: the caller vouches for it.
        Ok(_) => unsafe { put(memory, filled) },
        Err(code) => code,
    }
}

/// As in NVML.
///
/// # Safety
///
/// As in NVML.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetTemperature(
    device: *mut c_void,
    sensor: c_uint,
    celsius: *mut c_uint,
) -> Return {
    match enter("nvmlDeviceGetTemperature", device) {
        Ok(_) if sensor != 0 => INVALID_ARGUMENT,
        // SAFETY: the caller vouches for it.
        Ok((_, gpu)) => unsafe { put(celsius, 40 + gpu) },
        Err(code) => code,
    }
}

/// `nvmlUtilization_t`.
#[repr(C)]
pub struct Utilization {
    gpu: c_uint,
    memory: c_uint,
}

/// As in NVML.
///
/// # Safety
///
/// As in NVML.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetUtilizationRates(
    device: *mut c_void,
    utilization: *mut Utilization,
) -> Return {
    match enter("nvmlDeviceGetUtilizationRates", device) {
        // SAFETY: the caller vouches for it.
        Ok(_) => unsafe {
            put(
                utilization,
                Utilization {
                    gpu: 87,
                    memory: 31,
                },
            )
        },
        Err(code) => code,
    }
}

macro_rules! numbers {
    ($($name:ident = $value:literal;)+) => {$(
        /// As in NVML.
        ///
        /// # Safety
        ///
        /// As in NVML.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(device: *mut c_void, value: *mut c_uint) -> Return {
            match enter(stringify!($name), device) {
                // SAFETY: the caller vouches for it.
                Ok(_) => unsafe { put(value, $value) },
                Err(code) => code,
            }
        }
    )+};
}

numbers! {
    nvmlDeviceGetPowerUsage = 345_678;
    nvmlDeviceGetPcieReplayCounter = 3;
    nvmlDeviceGetCurrPcieLinkGeneration = 5;
    nvmlDeviceGetCurrPcieLinkWidth = 16;
}

/// As in NVML.
///
/// # Safety
///
/// As in NVML.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetCurrentClocksThrottleReasons(
    device: *mut c_void,
    reasons: *mut c_ulonglong,
) -> Return {
    match enter("nvmlDeviceGetCurrentClocksThrottleReasons", device) {
        Ok((machine, gpu)) => {
            let bits = machine.clocks.get(&gpu).copied().unwrap_or(0);
            // SAFETY: the caller vouches for it.
            unsafe { put(reasons, bits) }
        }
        Err(code) => code,
    }
}

/// As in NVML.
///
/// # Safety
///
/// As in NVML.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetTotalEccErrors(
    device: *mut c_void,
    kind: c_uint,
    counter: c_uint,
    count: *mut c_ulonglong,
) -> Return {
    match enter("nvmlDeviceGetTotalEccErrors", device) {
        Ok(_) if counter != 0 || kind > 1 => INVALID_ARGUMENT,
        Ok((machine, gpu)) => {
            let total = machine.ecc.get(&(gpu, kind)).copied().unwrap_or(0);
            // SAFETY: the caller vouches for it.
            unsafe { put(count, total) }
        }
        Err(code) => code,
    }
}

/// `nvmlFieldValue_t`, with the union as its widest integer.
#[repr(C)]
pub struct FieldValue {
    field: c_uint,
    scope: c_uint,
    timestamp: c_longlong,
    latency: c_longlong,
    value_type: c_uint,
    status: Return,
    value: c_ulonglong,
}

/// As in NVML.
///
/// # Safety
///
/// As in NVML.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetFieldValues(
    device: *mut c_void,
    count: c_int,
    values: *mut FieldValue,
) -> Return {
    let (machine, gpu) = match enter("nvmlDeviceGetFieldValues", device) {
        Ok(entered) => entered,
        Err(code) => return code,
    };
    let Ok(count) = usize::try_from(count) else {
        return INVALID_ARGUMENT;
    };
    if values.is_null() {
        return INVALID_ARGUMENT;
    }
    // SAFETY: it is not null, and the caller vouches for `count` structures there.
    let values = unsafe { std::slice::from_raw_parts_mut(values, count) };
    for value in values {
        match machine.fields.get(&(gpu, value.field)) {
            Some(number) => {
                value.status = SUCCESS;
                value.value_type = 3;
                value.value = *number;
            }
            None => value.status = NOT_SUPPORTED,
        }
    }
    SUCCESS
}

/// As in NVML. Odd links are down.
///
/// # Safety
///
/// As in NVML.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetNvLinkState(
    device: *mut c_void,
    link: c_uint,
    active: *mut c_uint,
) -> Return {
    match enter("nvmlDeviceGetNvLinkState", device) {
        // SAFETY: the caller vouches for it.
        Ok(_) => unsafe { put(active, 1 - link % 2) },
        Err(code) => code,
    }
}

/// As in NVML.
///
/// # Safety
///
/// As in NVML.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetSupportedEventTypes(
    device: *mut c_void,
    types: *mut c_ulonglong,
) -> Return {
    match enter("nvmlDeviceGetSupportedEventTypes", device) {
        // SAFETY: the caller vouches for it.
        Ok(_) => unsafe { put(types, EVENT_XID | 0x1 | 0x2) },
        Err(code) => code,
    }
}

/// As in NVML.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceRegisterEvents(
    device: *mut c_void,
    types: c_ulonglong,
    set: *mut c_void,
) -> Return {
    match enter("nvmlDeviceRegisterEvents", device) {
        Ok(_) if types != EVENT_XID || set.addr() != EVENT_SET => INVALID_ARGUMENT,
        Ok((mut machine, gpu)) => {
            machine.registered.insert(gpu);
            CHANGED.notify_all();
            SUCCESS
        }
        Err(code) => code,
    }
}

/// As in NVML.
///
/// # Safety
///
/// As in NVML.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlEventSetCreate(set: *mut *mut c_void) -> Return {
    let mut machine = pass("nvmlEventSetCreate");
    match machine.answer("nvmlEventSetCreate", None) {
        SUCCESS => {
            machine.sets += 1;
            machine.registered.clear();
            CHANGED.notify_all();
            let made = std::ptr::without_provenance_mut(EVENT_SET);
            // SAFETY: the caller vouches for it.
            unsafe { put(set, made) }
        }
        code => code,
    }
}

/// As in NVML.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlEventSetFree(set: *mut c_void) -> Return {
    let mut machine = machine();
    if set.addr() != EVENT_SET || machine.sets == 0 {
        return INVALID_ARGUMENT;
    }
    if machine.waiting > 0 {
        machine.add("freed_while_waiting");
    }
    machine.sets -= 1;
    machine.registered.clear();
    CHANGED.notify_all();
    SUCCESS
}

/// `nvmlEventData_t`.
#[repr(C)]
pub struct EventData {
    device: *mut c_void,
    event_type: c_ulonglong,
    event_data: c_ulonglong,
    gpu_instance: c_uint,
    compute_instance: c_uint,
}

/// As in NVML.
///
/// # Safety
///
/// As in NVML.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlEventSetWait_v2(
    set: *mut c_void,
    data: *mut EventData,
    milliseconds: c_uint,
) -> Return {
    let function = "nvmlEventSetWait_v2";
    if set.addr() != EVENT_SET {
        return INVALID_ARGUMENT;
    }
    let mut machine = machine();
    machine.add("waits");
    machine.waiting += 1;
    CHANGED.notify_all();
    let patience = Duration::from_millis(milliseconds.into());
    let idle = |machine: &mut Machine| {
        machine.answer(function, None) == SUCCESS && machine.events.is_empty()
    };
    let (machine, _) = CHANGED
        .wait_timeout_while(machine, patience, idle)
        .unwrap_or_else(PoisonError::into_inner);
    let mut machine = CHANGED
        .wait_while(machine, |machine| machine.held.contains(function))
        .unwrap_or_else(PoisonError::into_inner);
    machine.waiting -= 1;
    CHANGED.notify_all();
    match machine.answer(function, None) {
        SUCCESS => {}
        code => return code,
    }
    let Some((device, code, instance)) = machine.events.pop_front() else {
        return TIMEOUT;
    };
    let filled = EventData {
        device: std::ptr::without_provenance_mut(device),
        event_type: EVENT_XID,
        event_data: if code == 0 { UNKNOWN.into() } else { code },
        gpu_instance: instance,
        compute_instance: u32::MAX,
    };
    // SAFETY: the caller vouches for it.
    unsafe { put(data, filled) }
}
