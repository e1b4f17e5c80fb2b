//! The machine behind the library: its GPUs, and what they were told to do.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{c_uint, c_ulonglong, c_void};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

pub(crate) type Return = c_uint;

pub(crate) const SUCCESS: Return = 0;
pub(crate) const UNINITIALIZED: Return = 1;
pub(crate) const INVALID_ARGUMENT: Return = 2;
pub(crate) const NOT_SUPPORTED: Return = 3;
pub(crate) const INSUFFICIENT_SIZE: Return = 7;
pub(crate) const TIMEOUT: Return = 10;
pub(crate) const GPU_IS_LOST: Return = 15;
pub(crate) const UNKNOWN: Return = 999;

pub(crate) const EVENT_XID: c_ulonglong = 0x8;

/// Numbers at which handles begin, so that a wrong one is noticed.
pub(crate) const FIRST_HANDLE: usize = 0x1000;
pub(crate) const EVENT_SET: usize = 0x5e7;

pub(crate) struct Machine {
    pub(crate) gpus: u32,
    pub(crate) starts: u32,
    /// What a function answers instead, by its name and GPU; `None` is every GPU.
    pub(crate) answers: BTreeMap<(String, Option<u32>), Return>,
    pub(crate) lost: BTreeSet<u32>,
    pub(crate) registered: BTreeSet<u32>,
    pub(crate) events: VecDeque<(usize, c_ulonglong, c_uint)>,
    pub(crate) ecc: BTreeMap<(u32, c_uint), c_ulonglong>,
    pub(crate) fields: BTreeMap<(u32, c_uint), c_ulonglong>,
    /// Why the clocks of a GPU are slow.
    pub(crate) clocks: BTreeMap<u32, c_ulonglong>,
    /// Functions whose callers wait until they are let go.
    pub(crate) held: BTreeSet<String>,
    pub(crate) counts: BTreeMap<&'static str, u64>,
    pub(crate) waiting: u32,
    /// Callers that may not pass, for the moment.
    pub(crate) stuck: u32,
    pub(crate) sets: u32,
}

pub(crate) static MACHINE: Mutex<Machine> = Mutex::new(Machine {
    gpus: 2,
    starts: 0,
    answers: BTreeMap::new(),
    lost: BTreeSet::new(),
    registered: BTreeSet::new(),
    events: VecDeque::new(),
    ecc: BTreeMap::new(),
    fields: BTreeMap::new(),
    clocks: BTreeMap::new(),
    held: BTreeSet::new(),
    counts: BTreeMap::new(),
    waiting: 0,
    stuck: 0,
    sets: 0,
});
pub(crate) static CHANGED: Condvar = Condvar::new();

pub(crate) fn machine() -> MutexGuard<'static, Machine> {
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Machine {
    pub(crate) fn add(&mut self, name: &'static str) {
        *self.counts.entry(name).or_default() += 1;
    }

    /// What `function` answers about `gpu`, before it does anything.
    pub(crate) fn answer(&self, function: &str, gpu: Option<u32>) -> Return {
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
pub(crate) fn pass(function: &str) -> MutexGuard<'static, Machine> {
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
pub(crate) fn enter(
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

/// Carries out one order:
///
/// - `gpus N`: the machine has N GPUs.
/// - `answer FUNCTION GPU CODE`, with `*` for every GPU; code 0 undoes it.
/// - `lose GPU`, `find GPU`: every call about the GPU says that it is lost.
/// - `xid GPU CODE [INSTANCE]`: an XID is there for whoever waits.
/// - `stray CODE`: an XID of a handle that nobody knows.
/// - `ecc GPU KIND COUNT`, `field GPU FIELD VALUE`, `clocks GPU REASONS`.
/// - `hold FUNCTION`, `release FUNCTION`: callers wait inside it.
/// - `forget`: as if nobody had started the library.
pub(crate) fn order(text: &str) -> Option<()> {
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
        ["clocks", gpu, reasons] => {
            let gpu = gpu.parse().ok()?;
            machine.clocks.insert(gpu, reasons.parse().ok()?);
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
pub(crate) fn count(machine: &Machine, question: &str) -> Option<u64> {
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
