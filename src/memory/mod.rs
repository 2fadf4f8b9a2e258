//! Memory that a host can run out of without being aborted.
//!
//! Everything that grows with the volume, the model or the plan is allocated here, fallibly. Rust aborts
//! the process when a *small* allocation fails (a name, a job of the thread pool), so each large one
//! also makes sure that some headroom is left behind for those. Linux grants more than there is, and ends the process that
//! touches it, so each large one is also compared with the memory that is left.

mod left;

use crate::error::Error;

/// Bytes of small allocations between two large ones.
const HEADROOM: usize = 4 << 20;
/// Allocations from this size on are large.
const LARGE: usize = 64 << 10;
/// Allocations from this size on are compared with the memory that is left: some files are read for that.
const VERY_LARGE: usize = 1 << 20;
/// Least memory for tiles beside the weights, however small the machine, in an automatic budget.
const MIN_FOR_TILES: u64 = 256 << 20;

/// `vec![value; len]` that reports a failed allocation. `what` names the buffer in the error.
pub(crate) fn try_filled<T: Clone>(len: usize, value: T, what: &str) -> Result<Vec<T>, Error> {
    let mut vec = try_with_capacity(len, what)?;
    vec.resize(len, value);
    Ok(vec)
}

/// `Vec::with_capacity` that reports a failed allocation.
pub(crate) fn try_with_capacity<T>(len: usize, what: &str) -> Result<Vec<T>, Error> {
    let bytes = len.saturating_mul(size_of::<T>());
    ensure_left(bytes, what)?;
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

/// Fails where touching `bytes` more would be the end of the process.
pub(crate) fn ensure_left(bytes: usize, what: &str) -> Result<(), Error> {
    if bytes < VERY_LARGE {
        return Ok(());
    }
    match left::bytes_left() {
        Some((left, of)) if (bytes.saturating_add(HEADROOM) as u64) > left => Err(Error::OutOfMemory(format!(
            "{what}: {bytes} bytes, and {left} are left of {of}; free memory, raise the limit, or lower the memory budget"
        ))),
        _ => Ok(()),
    }
}

/// Fails unless `bytes` and the headroom for small allocations could be allocated now.
pub(crate) fn ensure_headroom(bytes: usize, what: &str) -> Result<(), Error> {
    ensure_left(bytes, what)?;
    let bytes = bytes.saturating_add(HEADROOM);
    Vec::<u8>::new().try_reserve_exact(bytes).map_err(|_| out_of_memory(bytes, what))
}

/// The error for a buffer that could not be had.
pub(crate) fn out_of_memory(bytes: usize, what: &str) -> Error {
    Error::OutOfMemory(format!("{what}: {bytes} bytes could not be allocated; free memory, or lower the memory budget"))
}

/// A budget for a session whose caller names none and that holds `fixed` bytes anyhow: a quarter of the memory that this process may
/// use, at most `max`; where less is left, half of that. The smallest tiles may need more: then the call says so.
pub(crate) fn automatic_budget(max: u64, fixed: u64) -> u64 {
    let usable = [machine_bytes(), left::group_limit()].into_iter().flatten().min();
    let (left, _) = left::bytes_left().unwrap_or((u64::MAX, ""));
    let bytes = usable.map_or(max, |bytes| bytes / 4).min(max);
    bytes.max(fixed + MIN_FOR_TILES).min(fixed + left / 2)
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
