//! Memory that a host can run out of without being aborted.
//!
//! Everything that grows with the volume, the model or the plan is allocated here, fallibly. Rust aborts
//! the process when a *small* allocation fails (a name, a job of the thread pool), so each large one
//! also makes sure that some headroom is left behind for those.

mod cgroup;

use crate::error::Error;

/// Bytes of small allocations between two large ones.
const HEADROOM: usize = 4 << 20;
/// Allocations from this size on are large.
const LARGE: usize = 64 << 10;

/// `vec![value; len]` that reports a failed allocation. `what` names the buffer in the error.
pub(crate) fn try_filled<T: Clone>(len: usize, value: T, what: &str) -> Result<Vec<T>, Error> {
    let mut vec = try_with_capacity(len, what)?;
    vec.resize(len, value);
    Ok(vec)
}

/// `Vec::with_capacity` that reports a failed allocation.
pub(crate) fn try_with_capacity<T>(len: usize, what: &str) -> Result<Vec<T>, Error> {
    let bytes = len.saturating_mul(size_of::<T>());
    let mut vec = Vec::new();
    vec.try_reserve_exact(len).map_err(|_| out_of_memory(bytes, what))?;
    if bytes >= LARGE {
        ensure_headroom(0, what)?;
    }
    Ok(vec)
}

/// `Vec::push` that reports a failed allocation.
pub(crate) fn try_push<T>(vec: &mut Vec<T>, value: T, what: &str) -> Result<(), Error> {
    vec.try_reserve(1).map_err(|_| out_of_memory((vec.len() + 1).saturating_mul(2 * size_of::<T>()), what))?;
    vec.push(value);
    Ok(())
}

/// Fails unless `bytes` and the headroom for small allocations could be allocated now.
pub(crate) fn ensure_headroom(bytes: usize, what: &str) -> Result<(), Error> {
    let bytes = bytes.saturating_add(HEADROOM);
    Vec::<u8>::new().try_reserve_exact(bytes).map_err(|_| out_of_memory(bytes, what))
}

/// The error for a buffer that could not be had.
pub(crate) fn out_of_memory(bytes: usize, what: &str) -> Error {
    Error::OutOfMemory(format!("{what}: {bytes} bytes could not be allocated; free memory, or lower the memory budget"))
}

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
