//! Pointers from the caller: NULL, alignment, `struct_size`.

use crate::error::Error;

/// An out pointer to a struct, and the size of it that the caller knows.
pub(super) fn check_init<T>(out: *mut T, struct_size: usize, name: &str) -> Result<(), Error> {
    check_out(out, name)?;
    expect_size::<T>(struct_size, name, "pass sizeof of the struct")
}

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

/// Fails unless the caller knows the struct as this version does.
pub(super) fn expect_size<T>(struct_size: usize, name: &str, remedy: &str) -> Result<(), Error> {
    if struct_size == size_of::<T>() {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{name}: struct_size {struct_size}, but patchmask {} knows {}: {remedy}, with the header of \
         this version",
        env!("CARGO_PKG_VERSION"),
        size_of::<T>()
    )))
}

/// Borrows a handle or struct for the time of a call.
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

/// Checks a struct that an `_init` function must have prepared.
///
/// # Safety
/// NULL, or readable for its first field at least.
pub(super) unsafe fn check_struct_size<T>(pointer: *const T, name: &str, init: &str) -> Result<(), Error> {
    if pointer.is_null() {
        return Err(invalid_null(name));
    }
    check_aligned(pointer, name)?;
    // SAFETY: every struct of the interface starts with struct_size.
    let struct_size = unsafe { pointer.cast::<usize>().read() };
    expect_size::<T>(struct_size, name, &format!("initialise it with {init}"))
}
