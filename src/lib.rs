//! map
pub mod bus;
pub mod model;
pub mod network;
pub mod stream;
pub mod telemetry;
pub mod wire;
