//! What a process has used, as the kernel tells it.

use anyhow::{Context, Result};
use std::time::Duration;

/// Kernel ticks in a second on Linux, whatever the hardware.
const TICKS: u64 = 100;

/// Resident memory in KiB.
pub fn resident_kib(pid: i32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("no VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

/// Processor time used so far.
pub fn cpu(pid: i32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, after_name) = stat.rsplit_once(')').context("no name in stat")?;
    let mut fields = after_name.split_whitespace().skip(11);
    let mut tick = || -> Result<u64> { Ok(fields.next().context("no times in stat")?.parse()?) };
    let ticks = tick()? + tick()?;
    Ok(Duration::from_millis(ticks * 1000 / TICKS))
}
