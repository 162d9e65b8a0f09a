//! map
pub mod bus;
pub mod model;
pub mod store;
pub mod wire;
