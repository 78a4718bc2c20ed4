//! What processes, and the whole machine, have used: time and memory, by `/proc`.

use std::fs;
use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};

/// User and system time of a process, all threads; nothing of one that is gone.
pub(crate) fn cpu_time(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Counted from the field after the parenthesised name: utime is the 12th, stime the 13th (proc(5): 14 and 15).
    let fields: Vec<_> = stat.rsplit(')').next()?.split_whitespace().collect();
    of_ticks(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

/// Time in which the processors did anything, interrupts too, whoever it was for.
pub(crate) fn machine_time() -> Option<Duration> {
    of_ticks(busy_in(&fs::read_to_string("/proc/stat").ok()?)?)
}

/// Bytes of a process that are in memory.
pub(crate) fn resident(pid: u32) -> Option<u64> {
    resident_in(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?)
}

/// The sum over processes; nothing where there is none, or one is gone.
pub(crate) fn sum<T: std::iter::Sum>(pids: &[u32], of: fn(u32) -> Option<T>) -> Option<T> {
    if pids.is_empty() { None } else { pids.iter().map(|pid| of(*pid)).sum() }
}

fn of_ticks(ticks: u64) -> Option<Duration> {
    let per_second = sysconf(SysconfVar::CLK_TCK).ok()??;
    Some(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}

/// Of the line `cpu`: user, nice, system, irq, softirq. proc_stat(5); guests are in user, and what the hypervisor stole was
/// not this machine's.
fn busy_in(stat: &str) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields: Vec<u64> = line.split_whitespace().map_while(|field| field.parse().ok()).collect();
    [0, 1, 2, 5, 6].into_iter().map(|at| fields.get(at)).sum()
}

/// The `Rss` line of a process's sums. Exact, unlike that of its `status`, which lags by up to 64 pages a thread.
fn resident_in(sums: &str) -> Option<u64> {
    let line = sums.lines().find_map(|line| line.strip_prefix("Rss:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_bytes_are_read_from_a_process_s_sums() {
        let sums = "5600-7ffd ---p 00000000 00:00 0   [rollup]\nRss:    1524 kB\nPss:      91 kB\n";
        assert_eq!(resident_in(sums), Some(1524 * 1024));
        assert_eq!(resident_in("Pss: 91 kB"), None);
    }

    #[test]
    fn idle_waiting_and_stolen_time_is_not_busy() {
        let stat = "cpu  100 20 3 7777 888 400 5000 66 9 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(busy_in(stat), Some(5523));
        assert_eq!(busy_in("cpu0 1 1 1 1 1 1 1 1 1 1\n"), None);
    }

    #[test]
    fn this_process_has_time_and_memory_and_so_has_the_machine() {
        let own = std::process::id();
        assert!(cpu_time(own).is_some());
        assert!(resident(own).is_some_and(|bytes| bytes > 4096));
        assert!(machine_time() > Some(Duration::ZERO));
    }

    #[test]
    fn a_process_that_is_gone_has_neither_nor_has_nobody() {
        assert_eq!((cpu_time(u32::MAX), resident(u32::MAX)), (None, None));
        assert_eq!(sum(&[], resident), None);
        assert_eq!(sum(&[std::process::id(), u32::MAX], resident), None);
    }
}
