//! map

pub mod identity;
pub mod settings;
pub mod telemetry;
