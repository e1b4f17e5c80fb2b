//! The control plane's shell: API, effects, fleet loop.
