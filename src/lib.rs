//! map

pub mod settings;
pub mod telemetry;
