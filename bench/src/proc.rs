//! Process information from the kernel: processor time and peak memory, from `/proc` (proc(5)). Linux only.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// A clock tick is a hundredth of a second on all supported Linux systems (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// Fields of `/proc/PID/stat` that are used here.
#[derive(Debug, Clone, Copy)]
struct Stat {
    parent: u32,
    own: Duration,
    children: Duration,
}

/// Peak resident memory of a running process, in KiB.
pub(crate) fn peak_memory_kib(pid: u32) -> Result<u64> {
    memory_kib(pid, "VmHWM:")
}

/// Resident memory of a running process now, in KiB.
pub(crate) fn resident_memory_kib(pid: u32) -> Result<u64> {
    memory_kib(pid, "VmRSS:")
}

fn memory_kib(pid: u32, field: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let text = line.context("the kernel does not report the memory of this process")?;
    Ok(text.trim().trim_end_matches("kB").trim().parse()?)
}

/// User and system time of a process, also if it has ended and was not waited for.
pub(crate) fn cpu(pid: u32) -> Result<Duration> {
    Ok(stat(pid)?.own)
}

/// User and system time of a process, of all its descendants, and of their descendants that were waited for.
pub(crate) fn cpu_of_tree(root: u32) -> Duration {
    let all: HashMap<u32, Stat> = pids().into_iter().filter_map(|pid| Some((pid, stat(pid).ok()?))).collect();
    all.iter().filter(|(pid, _)| is_below(&all, **pid, root)).map(|(_, stat)| stat.own + stat.children).sum()
}

/// Busy time of all processors together since the machine started.
pub(crate) fn busy() -> Result<Duration> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().and_then(|line| line.strip_prefix("cpu ")).context("/proc/stat")?;
    let fields: Vec<u32> = line.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
    // user nice system idle iowait irq softirq; steal and later fields are not used.
    let busy = fields.iter().enumerate().filter(|(index, _)| matches!(index, 0..=2 | 5 | 6));
    Ok(busy.map(|(_, ticks)| TICK * *ticks).sum())
}

fn is_below(all: &HashMap<u32, Stat>, pid: u32, root: u32) -> bool {
    let mut at = pid;
    // The limit guards against a process table that changes while it is read.
    for _ in 0..64 {
        if at == root {
            return true;
        }
        match all.get(&at) {
            Some(stat) => at = stat.parent,
            None => return false,
        }
    }
    false
}

fn pids() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn stat(pid: u32) -> Result<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses can contain any character, so fields are counted from its end.
    let (_, rest) = text.rsplit_once(')').context("/proc/PID/stat")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |index: usize| -> u32 { fields.get(index).and_then(|it| it.parse().ok()).unwrap_or(0) };
    Ok(Stat {
        parent: number(1),
        own: TICK * number(11) + TICK * number(12),
        children: TICK * number(13) + TICK * number(14),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_is_in_its_own_tree() {
        let me = std::process::id();
        assert!(peak_memory_kib(me).unwrap() > 100);
        assert!(resident_memory_kib(me).unwrap() > 100);
        assert!(cpu_of_tree(me) >= cpu(me).unwrap());
        assert!(busy().unwrap() > Duration::ZERO);
    }
}
