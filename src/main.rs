//! The process: its start is noted, the rest is the command line's.

use std::process::ExitCode;

/// The system's allocator keeps most of what a burst has needed; a daemon that runs for months must give it back.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    oc_discovery::telemetry::process_start();
    oc_discovery::cli::main(std::env::args_os())
}
