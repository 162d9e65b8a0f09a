//! The process: its start is noted, the rest is the command line's.

use std::process::ExitCode;

/// Each event is a dozen short-lived buffers: with the system's allocator they cost a tenth of the daemon's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    oc_discovery::telemetry::process_start();
    oc_discovery::cli::main(std::env::args_os())
}
