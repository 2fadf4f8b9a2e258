//! Panics stay inside the library: caught, kept as an error's text, and not printed.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Error;

thread_local! {
    /// Set while this thread runs the library's code: its panics are reported, not printed.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `body`; a panic becomes [`Error::Panic`].
pub(crate) fn guarded<T>(body: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    silence_own_panics();
    let outer = GUARDED.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(body));
    GUARDED.set(outer);
    outcome.unwrap_or_else(|payload| {
        let text = said(payload.as_ref());
        Err(Error::Panic(format!("defect in patchmask {}: {text}", env!("CARGO_PKG_VERSION"))))
    })
}

/// Marks a thread of the library, whose panics the pool carries to the caller.
pub(crate) fn mark_worker_thread() {
    silence_own_panics();
    GUARDED.set(true);
}

/// Chains a panic hook to the host's: silent for the library's own code, the host's for all other.
fn silence_own_panics() {
    // No thread waits for another here: after a fork that one may be missing.
    static INSTALLED: AtomicBool = AtomicBool::new(false);
    if !INSTALLED.swap(true, Ordering::AcqRel) {
        let host = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !GUARDED.try_with(Cell::get).unwrap_or(false) {
                host(info);
            }
        }));
    }
}

/// The text of a panic.
pub(crate) fn said(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_with_its_text() {
        let outcome: Result<(), Error> = guarded(|| panic!("tile {} is missing", 7));
        let text = outcome.unwrap_err().to_string();
        assert!(text.contains("tile 7 is missing"), "{text}");
    }
}
