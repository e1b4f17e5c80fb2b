//! Tables of the guards, written by hand.
