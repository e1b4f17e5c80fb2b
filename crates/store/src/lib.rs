//! Durable storage: SQLite and memory behind one trait.
