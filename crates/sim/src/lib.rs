//! The fleet simulator: the real core in virtual time.
