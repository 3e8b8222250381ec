//! What processes have used, from `/proc`.

use std::fs;

use serde_json::{Value, json};

/// The process to watch beside this one.
#[derive(Debug, Clone, Copy)]
pub struct Watched(pub u32);

impl Watched {
    /// What it and this process have used up to now, for the listener on standard error.
    ///
    /// CPU time in ticks of the kernel's clock (`getconf CLK_TCK`), resident memory in kB.
    pub fn usage(self) -> Value {
        json!({"server": usage(&self.0.to_string()), "generator": usage("self")})
    }
}

/// User and system time of all threads, and `VmRSS`; nothing of a process that has ended.
fn usage(process: &str) -> Value {
    json!({"cpu_ticks": cpu_ticks(process), "resident_kb": resident_kb(process)})
}

fn cpu_ticks(process: &str) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // Behind the name, which may hold anything, stands the third field of proc(5).
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn resident_kb(process: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}
