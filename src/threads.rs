//! Threads of the library's own: with a stack of known size, no signals of the host's, and the floating-point modes that a program
//! starts with.

use std::thread::{Builder, JoinHandle};

use crate::error::Error;
use crate::float_modes::{self, DEFAULT};
use crate::panics::mark_worker_thread;

/// Whatever RUST_MIN_STACK says.
pub(crate) const STACK_BYTES: usize = 2 << 20;

/// Starts a thread.
pub(crate) fn spawn<T: Send + 'static>(
    name: String,
    body: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<JoinHandle<T>> {
    let _blocked = Blocked::signals();
    Builder::new().name(name).stack_size(STACK_BYTES).spawn(|| begin(body))
}

/// Runs `body` on a thread of its own while this one, whose stack may be small, waits.
pub(crate) fn run<T: Send>(name: &str, body: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
    std::thread::scope(|scope| {
        let builder = Builder::new().name(name.to_owned()).stack_size(STACK_BYTES);
        let thread = {
            let _blocked = Blocked::signals();
            builder.spawn_scoped(scope, || begin(body))
        };
        let thread = thread.map_err(|why| {
            Error::OutOfMemory(format!("a thread of {STACK_BYTES} bytes of stack could not be started: {why}"))
        })?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn begin<T>(body: impl FnOnce() -> T) -> T {
    mark_worker_thread();
    // A new thread inherits the modes of the one that made it.
    float_modes::set(DEFAULT);
    body()
}

/// While it lives, new threads of this one begin with all signals blocked but those of their own faults.
struct Blocked {
    #[cfg(unix)]
    before: libc::sigset_t,
}

impl Blocked {
    fn signals() -> Self {
        #[cfg(unix)]
        // SAFETY: writes sets of signals and reads them.
        unsafe {
            let (mut all, mut before) = (std::mem::zeroed(), std::mem::zeroed());
            libc::sigfillset(&raw mut all);
            for own in
                [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGSYS, libc::SIGABRT]
            {
                libc::sigdelset(&raw mut all, own);
            }
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
            Self { before }
        }
        #[cfg(not(unix))]
        Self {}
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        #[cfg(unix)]
        // SAFETY: the set that was there before.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut());
        }
    }
}
