//! The few calls to the operating system that the standard library lacks. All `unsafe` of the bench is here.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Where the first line feed in `bytes` is.
///
/// The generator looks at every byte that a server sends, up to some gigabytes a second; the C library's search uses
/// the widest registers there are, which the standard library's does not.
pub fn find_line_feed(bytes: &[u8]) -> Option<usize> {
    // SAFETY: the pointer and the length are those of a live slice, and memchr only reads within them.
    let found = unsafe { libc::memchr(bytes.as_ptr().cast(), i32::from(b'\n'), bytes.len()) };
    if found.is_null() { None } else { Some(found as usize - bytes.as_ptr() as usize) }
}

/// The cores that this thread may run on, in ascending order.
pub fn allowed_cores() -> io::Result<Vec<usize>> {
    let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed();
    // SAFETY: the set is as large as we say, and a cpu_set_t is plain bits, so zeroed or filled in it is initialised.
    let (result, set) = unsafe {
        let result = libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), set.as_mut_ptr());
        (result, set.assume_init())
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the index stays below the number of bits in the set.
    Ok((0..libc::CPU_SETSIZE as usize).filter(|&core| unsafe { libc::CPU_ISSET(core, &set) }).collect())
}

/// Keeps the calling thread, and the threads and processes it starts from now on, on one core.
pub fn pin_to_core(core: usize) -> io::Result<()> {
    if core >= libc::CPU_SETSIZE as usize {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed();
    // SAFETY: a cpu_set_t is plain bits, so zeroed is initialised; the core is within the set; the size is its own.
    let result = unsafe {
        libc::CPU_SET(core, set.assume_init_mut());
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), set.as_ptr())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has a command run on one core, if one is named, and end when the thread that started it ends, so that an
/// interrupted bench leaves no server behind.
pub fn confine(command: &mut Command, core: Option<usize>) {
    let confine = move || {
        if let Some(core) = core {
            pin_to_core(core)?;
        }
        // SAFETY: PR_SET_PDEATHSIG takes a signal number and touches no memory of ours.
        match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: between fork and exec the closure only makes system calls: it allocates nothing and takes no lock.
    unsafe { command.pre_exec(confine) };
}

/// Lets so many connections wait to be accepted; the standard library and mio ask for 128, and what comes in above that
/// tries again after a second.
pub fn set_backlog(listener: &impl AsRawFd, connections: i32) -> io::Result<()> {
    // SAFETY: the descriptor is open as long as the reference; listening again only changes the length of the queue.
    match unsafe { libc::listen(listener.as_raw_fd(), connections) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Raises the number of files this process may open to what the system allows it, and returns that number.
///
/// Children inherit it, so one call serves the generator and the server.
pub fn raise_file_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a pointer to a live rlimit.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) != 0 {
            return Err(io::Error::last_os_error());
        }
        limit.rlim_cur = limit.rlim_max;
        if libc::setrlimit(libc::RLIMIT_NOFILE, &limit) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(limit.rlim_cur)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_feed_is_found() {
        assert_eq!(find_line_feed(b"one\ntwo\n"), Some(3));
        assert_eq!(find_line_feed(b"\n"), Some(0));
        assert_eq!(find_line_feed(b"no end"), None);
        assert_eq!(find_line_feed(b""), None);
    }

    #[test]
    fn a_thread_may_run_on_at_least_one_core() {
        assert!(!allowed_cores().unwrap().is_empty());
    }
}
