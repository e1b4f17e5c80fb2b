//! GPU backends behind one trait: NVML, kernel log, fake.
