//! map

pub mod wire;
