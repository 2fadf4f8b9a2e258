//! Memory that a host can run out of without being aborted.
//!
//! Everything that grows with the volume, the model or the plan is allocated here, fallibly. Rust aborts
//! the process when a *small* allocation fails (a name, a job of the thread pool), so each large one
//! also makes sure that some headroom is left behind for those.

mod cgroup;
mod fallible;
mod zeros;

pub(crate) use fallible::{ensure_headroom, try_filled, try_insert, try_push, try_reserve, try_with_capacity};
pub(crate) use zeros::Zeros;

/// Bytes of memory that this process may use at most: what the machine has, or its container or batch job if that is less.
pub(crate) fn usable_bytes() -> Option<u64> {
    [machine_bytes(), cgroup::memory_limit()].into_iter().flatten().min()
}

/// Bytes of memory that the machine has, where the system tells.
fn machine_bytes() -> Option<u64> {
    #[cfg(unix)]
    {
        // SAFETY: sysconf only reads.
        let (pages, page) = unsafe { (libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE)) };
        if pages > 0 && page > 0 {
            return Some((pages as u64).saturating_mul(page as u64));
        }
    }
    None
}
