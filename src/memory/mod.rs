//! Memory that a host can run out of without being aborted.
//!
//! Everything that grows with the volume, the model or the plan is allocated here, fallibly. Rust aborts
//! the process when a *small* allocation fails (a name, a job of the thread pool), so each large one
//! also makes sure that some headroom is left behind for those. Linux grants more than there is, and ends the process that
//! touches it, so each large one is also compared with the memory that is left.

mod fallible;
mod left;
mod zeros;

pub(crate) use fallible::{ensure_headroom, try_filled, try_insert, try_push, try_reserve, try_with_capacity};
pub(crate) use zeros::Zeros;

/// Least memory for tiles beside the weights, however small the machine, in an automatic budget.
const MIN_FOR_TILES: u64 = 256 << 20;

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
