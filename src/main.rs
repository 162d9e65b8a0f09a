//! The process: its start is noted, the rest is the command line's.

use std::process::ExitCode;

fn main() -> ExitCode {
    oc_discovery::telemetry::process_start();
    oc_discovery::cli::main(std::env::args_os())
}
