//! The `navarch` command.

fn main() {}
