//! The fleet's types: ids, states, transitions, derived status, invariants.
