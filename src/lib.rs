//! map

pub mod telemetry;
