//! The configuration file: schema, parsing, located errors.
