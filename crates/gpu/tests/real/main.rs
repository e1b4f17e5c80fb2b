//! The backend of real GPUs, against a library of ours with the C interface of
//! libnvidia-ml and a file in place of the kernel log.
#![cfg(test)]

#[cfg(unix)]
mod kernel_log;
mod nvml;
mod support;
