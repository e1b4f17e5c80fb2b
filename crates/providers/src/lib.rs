//! Cloud providers behind one trait, and the fake cloud.
