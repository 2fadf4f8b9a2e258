//! Pointers from the caller: NULL, alignment, and structs of other versions.
//!
//! A struct's first field says how large the caller's header has it. Fields are only appended, so that every size from the first
//! release's on is good: what a shorter one lacks has its default, what a longer one has beyond is not looked at, and nothing is
//! written past the caller's end.

use super::types::*;
use crate::error::Error;

/// A struct of the interface.
///
/// # Safety
/// `repr(C)`, its first field `struct_size: usize`, no padding at its end, every combination of bytes from another value or zero
/// is valid.
pub(super) unsafe trait Versioned: Copy {
    /// Its size in the first release.
    const FIRST_SIZE: usize;
    /// The function that initialises it.
    const INIT: &str;
}

macro_rules! versioned {
    ($($name:ty, $first_size:literal, $init:literal;)+) => {$(
        // SAFETY: see `types`; the test below says that there is no padding at the end.
        unsafe impl Versioned for $name {
            const FIRST_SIZE: usize = $first_size;
            const INIT: &str = $init;
        }
        const _: () = assert!(size_of::<$name>() >= $first_size);
    )+};
}

// First sizes stay for ever.
versioned! {
    patchmask_volume, 104, "patchmask_volume_init";
    patchmask_outputs, 160, "patchmask_outputs_init";
    patchmask_options, 192, "patchmask_options_init";
    patchmask_model_info, 112, "patchmask_model_info_init";
    patchmask_estimate, 80, "patchmask_estimate_init";
    patchmask_result, 112, "patchmask_result_init";
}

/// Larger structs than any version will have: a field that was not initialised.
const MAX_SIZE: usize = 4096;

/// An out pointer that is not NULL and aligned.
pub(super) fn check_out<T>(out: *mut T, name: &str) -> Result<(), Error> {
    if out.is_null() {
        return Err(invalid_null(name));
    }
    check_aligned(out, name)
}

fn check_aligned<T>(pointer: *const T, name: &str) -> Result<(), Error> {
    if pointer.is_aligned() {
        return Ok(());
    }
    Err(Error::invalid(format!("{name} {pointer:p}: must be aligned to {} bytes", align_of::<T>())))
}

pub(super) fn invalid_null(name: &str) -> Error {
    Error::invalid(format!("{name} is NULL: a valid pointer is needed"))
}

/// Borrows a handle for the time of a call.
///
/// # Safety
/// NULL or valid for `'a`.
pub(super) unsafe fn borrow<'a, T>(pointer: *const T, name: &str) -> Result<&'a T, Error> {
    if !pointer.is_null() {
        check_aligned(pointer, name)?;
    }
    // SAFETY: NULL or valid by contract, aligned by the check.
    unsafe { pointer.as_ref() }.ok_or_else(|| invalid_null(name))
}

fn check_size<T: Versioned>(struct_size: usize, name: &str, remedy: &str) -> Result<(), Error> {
    if (T::FIRST_SIZE..=MAX_SIZE).contains(&struct_size) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{name}: struct_size {struct_size}: must be at least {}, as in the first version's header: {remedy}",
        T::FIRST_SIZE
    )))
}

/// The size of a struct that an `_init` function has prepared.
///
/// # Safety
/// NULL, or readable for its first field at least.
pub(super) unsafe fn struct_size<T: Versioned>(pointer: *const T, name: &str) -> Result<usize, Error> {
    if pointer.is_null() {
        return Err(invalid_null(name));
    }
    check_aligned(pointer, name)?;
    // SAFETY: every struct of the interface starts with struct_size.
    let struct_size = unsafe { pointer.cast::<usize>().read() };
    check_size::<T>(struct_size, name, &format!("initialise it with {}", T::INIT))?;
    Ok(struct_size)
}

/// The caller's struct over `defaults`.
///
/// # Safety
/// NULL or valid for its own size.
pub(super) unsafe fn read_struct<T: Versioned>(pointer: *const T, name: &str, defaults: T) -> Result<T, Error> {
    // SAFETY: by contract.
    let known = unsafe { struct_size(pointer, name) }?.min(size_of::<T>());
    let mut value = defaults;
    // SAFETY: both have so many bytes, and the trait promises that they are a value together.
    unsafe { std::ptr::copy_nonoverlapping(pointer.cast::<u8>(), (&raw mut value).cast(), known) };
    Ok(value)
}

/// Writes as much of `value` as the caller's struct has, but for `struct_size`, which is the caller's.
///
/// # Safety
/// Writable for its own size, which `struct_size` has checked.
pub(super) unsafe fn write_struct<T: Versioned>(out: *mut T, value: &T) {
    let header = size_of::<usize>();
    // SAFETY: by contract; not more than both have.
    unsafe {
        let known = out.cast::<usize>().read().min(size_of::<T>());
        std::ptr::copy_nonoverlapping(
            (&raw const *value).cast::<u8>().add(header),
            out.cast::<u8>().add(header),
            known - header,
        );
    }
}

/// Initialises a struct of the caller's size: `value` as far as it goes, then zeros.
///
/// # Safety
/// NULL, or writable for `struct_size` bytes.
pub(super) unsafe fn init_struct<T: Versioned>(
    out: *mut T,
    struct_size: usize,
    name: &str,
    value: &T,
) -> Result<(), Error> {
    check_out(out, name)?;
    check_size::<T>(struct_size, name, "pass sizeof of the struct")?;
    // SAFETY: by contract.
    unsafe {
        out.cast::<u8>().write_bytes(0, struct_size);
        out.cast::<usize>().write(struct_size);
        write_struct(out, value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::types::patchmask_estimate;
    use super::*;

    /// In memory of exactly the caller's size, which Miri watches.
    #[test]
    fn structs_of_every_size_are_used_as_far_as_they_go() {
        let own = size_of::<patchmask_estimate>();
        // SAFETY: numbers.
        let zeros: patchmask_estimate = unsafe { std::mem::zeroed() };
        for size in [own, own + 8, MAX_SIZE] {
            let mut memory = vec![0x5555_5555_5555_5555_u64; size / 8];
            let out = memory.as_mut_ptr().cast::<patchmask_estimate>();
            // SAFETY: memory of that size.
            let read = unsafe {
                let value = patchmask_estimate { struct_size: 1, grid_width: 2, device_peak_bytes: 3, ..zeros };
                init_struct(out, size, "out", &value).unwrap();
                read_struct(out, "out", zeros).unwrap()
            };
            assert_eq!((read.struct_size, read.grid_width, read.device_peak_bytes), (size, 2, 3));
            assert!(memory[own / 8..].iter().all(|&word| word == 0));
        }
        let mut small = [0_u64; 64];
        let out = small.as_mut_ptr().cast::<patchmask_estimate>();
        for size in [0, patchmask_estimate::FIRST_SIZE - 8, MAX_SIZE + 8] {
            // SAFETY: refused for their sizes.
            unsafe {
                out.cast::<usize>().write(size);
                assert!(init_struct(out, size, "out", &zeros).is_err());
                assert!(read_struct(out, "out", zeros).is_err());
            }
        }
        let odd = out.cast::<u8>().wrapping_add(1).cast::<patchmask_estimate>();
        assert!(check_out(odd, "out").is_err() && check_out(std::ptr::null_mut::<u64>(), "out").is_err());
    }
}
