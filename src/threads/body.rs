//! What every kind of thread does.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::Error;
use crate::float_modes::{self, DEFAULT};
use crate::panics::mark_worker_thread;

pub(crate) const STACK_BYTES: usize = 2 << 20;

pub(super) type Body = Box<dyn FnOnce() + Send>;

/// Runs on the new thread.
pub(super) fn begin(body: Body) {
    mark_worker_thread();
    // A new thread inherits the modes of the one that made it.
    float_modes::set(DEFAULT);
    let _ = catch_unwind(AssertUnwindSafe(body));
}

pub(super) fn not_started(why: impl std::fmt::Display) -> Error {
    Error::OutOfMemory(format!(
        "a thread with {STACK_BYTES} bytes of stack could not be started ({why}): free memory, or ask for fewer threads"
    ))
}
