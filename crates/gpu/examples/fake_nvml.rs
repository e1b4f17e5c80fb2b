//! A stand-in for libnvidia-ml: it exports the same C functions, and tests tell it
//! what its GPUs do.
//!
//! Each copy of the built library is a machine of its own. Besides NVML's functions
//! it exports `fake_nvml_order`, which takes one order as text, `fake_nvml_count`,
//! which answers one question with a number, and `fake_nvml_await`, which waits for
//! an answer. See [`order`] and [`count`] for what they know.
#![expect(
    unsafe_code,
    reason = "a C interface is exported, and its pointers are written through"
)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{CStr, c_char, c_int, c_longlong, c_uint, c_ulonglong, c_void};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

type Return = c_uint;

const SUCCESS: Return = 0;
const UNINITIALIZED: Return = 1;
const INVALID_ARGUMENT: Return = 2;
const NOT_SUPPORTED: Return = 3;
const INSUFFICIENT_SIZE: Return = 7;
const TIMEOUT: Return = 10;
const GPU_IS_LOST: Return = 15;
const UNKNOWN: Return = 999;

const EVENT_XID: c_ulonglong = 0x8;

/// Numbers at which handles begin, so that a wrong one is noticed.
const FIRST_HANDLE: usize = 0x1000;
const EVENT_SET: usize = 0x5e7;

struct Machine {
    gpus: u32,
    starts: u32,
    /// What a function answers instead, by its name and GPU; `None` is every GPU.
    answers: BTreeMap<(String, Option<u32>), Return>,
    lost: BTreeSet<u32>,
    registered: BTreeSet<u32>,
    events: VecDeque<(usize, c_ulonglong, c_uint)>,
    ecc: BTreeMap<(u32, c_uint), c_ulonglong>,
    fields: BTreeMap<(u32, c_uint), c_ulonglong>,
    /// Functions whose callers wait until they are let go.
    held: BTreeSet<String>,
    counts: BTreeMap<&'static str, u64>,
    waiting: u32,
    /// Callers that may not pass, for the moment.
    stuck: u32,
    sets: u32,
}

static MACHINE: Mutex<Machine> = Mutex::new(Machine {
    gpus: 2,
    starts: 0,
    answers: BTreeMap::new(),
    lost: BTreeSet::new(),
    registered: BTreeSet::new(),
    events: VecDeque::new(),
    ecc: BTreeMap::new(),
    fields: BTreeMap::new(),
    held: BTreeSet::new(),
    counts: BTreeMap::new(),
    waiting: 0,
    stuck: 0,
    sets: 0,
});
static CHANGED: Condvar = Condvar::new();

fn machine() -> MutexGuard<'static, Machine> {
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Machine {
    fn add(&mut self, name: &'static str) {
        *self.counts.entry(name).or_default() += 1;
    }

    /// What `function` answers about `gpu`, before it does anything.
    fn answer(&self, function: &str, gpu: Option<u32>) -> Return {
        if self.starts == 0 {
            return UNINITIALIZED;
        }
        let ordered = |gpu| self.answers.get(&(function.to_owned(), gpu)).copied();
        if let Some(code) = ordered(gpu).or_else(|| ordered(None)) {
            return code;
        }
        if gpu.is_some_and(|gpu| self.lost.contains(&gpu)) {
            return GPU_IS_LOST;
        }
        SUCCESS
    }
}

/// Waits while `function` is held.
fn pass(function: &str) -> MutexGuard<'static, Machine> {
    let mut machine = machine();
    machine.stuck += 1;
    CHANGED.notify_all();
    let mut machine = CHANGED
        .wait_while(machine, |machine| machine.held.contains(function))
        .unwrap_or_else(PoisonError::into_inner);
    machine.stuck -= 1;
    machine
}

/// The GPU behind a handle, and the machine, if `function` answers about it.
fn enter(
    function: &str,
    device: *mut c_void,
) -> Result<(MutexGuard<'static, Machine>, u32), Return> {
    let machine = pass(function);
    let gpu = device.addr().checked_sub(FIRST_HANDLE);
    let gpu = gpu.and_then(|gpu| u32::try_from(gpu).ok());
    let gpu = gpu.filter(|gpu| *gpu < machine.gpus);
    let gpu = gpu.ok_or(INVALID_ARGUMENT)?;
    match machine.answer(function, Some(gpu)) {
        SUCCESS => Ok((machine, gpu)),
        code => Err(code),
    }
}

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

/// Carries out one order:
///
/// - `gpus N`: the machine has N GPUs.
/// - `answer FUNCTION GPU CODE`, with `*` for every GPU; code 0 undoes it.
/// - `lose GPU`, `find GPU`: every call about the GPU says that it is lost.
/// - `xid GPU CODE [INSTANCE]`: an XID is there for whoever waits.
/// - `stray CODE`: an XID of a handle that nobody knows.
/// - `ecc GPU KIND COUNT`, `field GPU FIELD VALUE`.
/// - `hold FUNCTION`, `release FUNCTION`: callers wait inside it.
/// - `forget`: as if nobody had started the library.
fn order(text: &str) -> Option<()> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut machine = machine();
    match words[..] {
        ["gpus", count] => machine.gpus = count.parse().ok()?,
        ["answer", function, gpu, code] => {
            let gpu = match gpu {
                "*" => None,
                gpu => Some(gpu.parse().ok()?),
            };
            let key = (function.to_owned(), gpu);
            match code.parse().ok()? {
                SUCCESS => machine.answers.remove(&key),
                code => machine.answers.insert(key, code),
            };
        }
        ["lose", gpu] => {
            machine.lost.insert(gpu.parse().ok()?);
        }
        ["find", gpu] => {
            machine.lost.remove(&gpu.parse().ok()?);
        }
        ["xid", gpu, code] => {
            let gpu: u32 = gpu.parse().ok()?;
            let event = (FIRST_HANDLE + gpu as usize, code.parse().ok()?, u32::MAX);
            machine.events.push_back(event);
        }
        ["xid", gpu, code, instance] => {
            let gpu: u32 = gpu.parse().ok()?;
            let instance = instance.parse().ok()?;
            let event = (FIRST_HANDLE + gpu as usize, code.parse().ok()?, instance);
            machine.events.push_back(event);
        }
        ["stray", code] => {
            let event = (FIRST_HANDLE - 1, code.parse().ok()?, u32::MAX);
            machine.events.push_back(event);
        }
        ["ecc", gpu, kind, count] => {
            let key = (gpu.parse().ok()?, kind.parse().ok()?);
            machine.ecc.insert(key, count.parse().ok()?);
        }
        ["field", gpu, field, value] => {
            let key = (gpu.parse().ok()?, field.parse().ok()?);
            machine.fields.insert(key, value.parse().ok()?);
        }
        ["hold", function] => {
            machine.held.insert(function.to_owned());
        }
        ["release", function] => {
            machine.held.remove(function);
        }
        ["forget"] => machine.starts = 0,
        _ => return None,
    }
    drop(machine);
    CHANGED.notify_all();
    Some(())
}

/// Answers one question: `starts` (less shutdowns), `registered` (GPUs in the set),
/// `sets` (not yet freed), `waits`, `waiting`, `stuck` (callers of held functions), `freed_while_waiting`,
/// `shut_down_with_sets`.
fn count(machine: &Machine, question: &str) -> Option<u64> {
    Some(match question {
        "starts" => machine.starts.into(),
        "registered" => machine.registered.len() as u64,
        "sets" => machine.sets.into(),
        "waiting" => machine.waiting.into(),
        "stuck" => machine.stuck.into(),
        "waits" | "freed_while_waiting" | "shut_down_with_sets" => {
            machine.counts.get(question).copied().unwrap_or(0)
        }
        _ => return None,
    })
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
