//! map
pub mod network;
pub mod telemetry;
