//! map

pub mod admin;
pub mod cli;
pub mod identity;
pub mod settings;
pub mod telemetry;
