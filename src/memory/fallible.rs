//! Collections that report a failed allocation.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use crate::error::Error;

/// Bytes of small allocations between two large ones.
const HEADROOM: usize = 4 << 20;
/// Allocations from this size on are large.
pub(super) const LARGE: usize = 64 << 10;

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

/// `HashMap::reserve` that reports a failed allocation.
pub(crate) fn try_reserve<K: Eq + Hash, V>(map: &mut HashMap<K, V>, more: usize, what: &str) -> Result<(), Error> {
    let bytes = (map.len() + more).saturating_mul(2 * size_of::<(K, V)>());
    map.try_reserve(more).map_err(|_| out_of_memory(bytes, what))
}

/// `HashSet::insert` that reports a failed allocation.
pub(crate) fn try_insert<T: Eq + Hash>(set: &mut HashSet<T>, value: T, what: &str) -> Result<bool, Error> {
    let bytes = (set.len() + 1).saturating_mul(2 * size_of::<T>());
    set.try_reserve(1).map_err(|_| out_of_memory(bytes, what))?;
    Ok(set.insert(value))
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
