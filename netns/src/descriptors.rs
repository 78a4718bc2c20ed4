//! A forked process lets go of the descriptors it inherited.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use nix::errno::Errno;

/// Closes every descriptor above the standard three except `keep`.
///
/// For a process that was forked and never returns to the code that owned them: that code must not run any more, its
/// numbers mean nothing or something else from here on.
pub fn close_all_but(keep: &[BorrowedFd<'_>]) {
    let mut kept: Vec<RawFd> = keep.iter().map(AsRawFd::as_raw_fd).filter(|&fd| fd > libc::STDERR_FILENO).collect();
    kept.sort_unstable();
    let mut first = libc::STDERR_FILENO + 1;
    for &fd in kept.iter().chain([&RawFd::MAX]) {
        if first < fd && close_range(first, fd - 1).is_err() {
            return close_each(&kept);
        }
        first = fd.saturating_add(1);
    }
}

fn close_range(first: RawFd, last: RawFd) -> nix::Result<()> {
    // SAFETY: touches no memory; see `close_all_but` about the descriptors' owners.
    Errno::result(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).map(drop)
}

/// For a kernel before 5.9, which has no close_range.
fn close_each(kept: &[RawFd]) {
    let numbers = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let open: Vec<RawFd> = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for fd in open.into_iter().filter(|fd| *fd > libc::STDERR_FILENO && !kept.contains(fd)) {
        // SAFETY: touches no memory; see `close_all_but`. The directory's own number is closed already: EBADF.
        unsafe { libc::close(fd) };
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::time::Duration;

    use crate::child::in_child;

    use super::*;

    #[test]
    fn an_old_kernel_closes_the_same() {
        let kept = File::open("/dev/null").unwrap();
        let other = File::open("/dev/null").unwrap();
        let keep = [kept.as_fd(), other.as_fd()];
        let (open, _) = in_child("test", &keep, Duration::from_secs(10), || {
            // The child's own way home is kept with the rest of what it opened by now.
            let all = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
            let mut all: Vec<RawFd> = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
            all.retain(|fd| *fd != other.as_raw_fd());
            close_each(&all);
            let open = |fd: RawFd| std::fs::symlink_metadata(format!("/proc/self/fd/{fd}")).is_ok();
            Ok(((open(kept.as_raw_fd()), open(other.as_raw_fd())), None))
        })
        .unwrap();
        assert_eq!(open, (true, false));
    }
}
