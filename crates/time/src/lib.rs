//! Clocks, randomness and task groups, real and virtual.
