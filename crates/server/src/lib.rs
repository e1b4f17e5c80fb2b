//! The control plane's shell: it feeds the Fleet, makes its changes durable, and only then
//! answers and acts. No decision lives here.

pub mod effects;
pub mod fleet;
pub mod publish;
pub mod pulses;
