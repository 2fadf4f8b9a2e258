//! Threads of the library's own: with a stack of known size, no signals of the host's, and the floating-point modes that a program
//! starts with.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::error::Error;

mod body;
#[cfg(not(unix))]
mod other;
#[cfg(unix)]
mod posix;

use body::Body;
pub(crate) use body::STACK_BYTES;
#[cfg(not(unix))]
pub(crate) use other::Thread;
#[cfg(unix)]
pub(crate) use posix::Thread;

/// Runs `body` on a thread of its own while this one, whose stack may be small, waits.
pub(crate) fn run<T: Send>(body: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
    let mut outcome: Option<Result<Result<T, Error>, Box<dyn Any + Send>>> = None;
    let slot = &mut outcome;
    let work: Box<dyn FnOnce() + Send + '_> = Box::new(move || *slot = Some(catch_unwind(AssertUnwindSafe(body))));
    // SAFETY: the thread has ended before what it borrows goes away: it is waited for in the next line.
    drop(Thread::spawn("patchmask-load", unsafe { std::mem::transmute::<Box<dyn FnOnce() + Send + '_>, Body>(work) })?);
    match outcome {
        Some(Ok(outcome)) => outcome,
        Some(Err(panic)) => resume_unwind(panic),
        None => Err(Error::Panic("a thread ended without an outcome".into())),
    }
}
