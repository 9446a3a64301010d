//! What a process has cost so far: time on a core, and how much of that in user code; memory.

use anyhow::{Context, Result};
use std::fs;

/// Time of all threads of a process, since it began.
#[derive(Clone, Copy)]
pub(crate) struct Cost {
    /// Time on a core, exact (`schedstat`).
    nanoseconds: u64,
    /// The same as the kernel's clock sampled it: coarse, but told apart (`/proc/<pid>/stat`).
    user_ticks: u64,
    system_ticks: u64,
}

/// What was spent between two looks.
#[derive(Clone, Copy, Default)]
pub(crate) struct Spent {
    pub(crate) nanoseconds: f64,
    pub(crate) user_ticks: f64,
    pub(crate) system_ticks: f64,
}

impl Cost {
    pub(crate) fn of(process: u32) -> Result<Self> {
        let mut nanoseconds = 0;
        for thread in fs::read_dir(format!("/proc/{process}/task")).context("the server has ended")? {
            // A thread of a pool may end between the two calls; what it had cost is then missing here and below.
            let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) else { continue };
            nanoseconds += text.split_whitespace().next().context("schedstat has three numbers")?.parse::<u64>()?;
        }
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).context("the server has ended")?;
        let (user_ticks, system_ticks) = ticks(&stat).context("/proc/<pid>/stat has its fields")?;
        Ok(Self { nanoseconds, user_ticks, system_ticks })
    }

    /// What was spent since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Spent {
        Spent {
            nanoseconds: self.nanoseconds.saturating_sub(earlier.nanoseconds) as f64,
            user_ticks: self.user_ticks.saturating_sub(earlier.user_ticks) as f64,
            system_ticks: self.system_ticks.saturating_sub(earlier.system_ticks) as f64,
        }
    }
}

/// Fields 14 and 15, counted behind the name in parentheses, which may hold spaces.
fn ticks(stat: &str) -> Option<(u64, u64)> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Resident memory in bytes.
pub(crate) fn resident_bytes(process: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).context("the server has ended")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<f64>()? * 1024.0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn ticks_are_found_behind_a_name_with_spaces() {
        let stat = "7 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 41 42 0 0";
        assert_eq!(super::ticks(stat), Some((41, 42)));
        assert_eq!(super::ticks("nothing"), None);
    }
}
