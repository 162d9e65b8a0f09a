//! map
pub mod admin;
pub mod bus;
pub mod cli;
pub mod identity;
pub mod model;
pub mod network;
pub mod node;
pub mod pubsub;
pub mod settings;
pub mod store;
pub mod stream;
pub mod telemetry;
pub mod wire;
