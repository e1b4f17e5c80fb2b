//! Rules that the repository keeps, as tests.
