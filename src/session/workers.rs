//! The session's own threads: a private pool that all arithmetic runs on.
//!
//! The host's threads only wait, so the host's floating-point modes (flush to zero, rounding) can
//! neither change results nor be changed.

use std::thread::JoinHandle;

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::Error;
use crate::memory::ensure_headroom;
use crate::panics::mark_worker_thread;

/// A pool whose threads have ended when it has been dropped: a host may unload the library then.
pub(crate) struct Workers {
    /// `None` while dropping.
    pool: Option<ThreadPool>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    pub fn new(threads: usize) -> Result<Self, Error> {
        ensure_headroom(threads.saturating_mul(THREAD_BYTES), "worker threads")?;
        let mut handles = Vec::new();
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .spawn_handler(|worker| {
                let name = format!("patchmask-{}", worker.index());
                let handle = std::thread::Builder::new().name(name).spawn(|| {
                    mark_worker_thread();
                    default_float_modes();
                    worker.run();
                })?;
                handles.push(handle);
                Ok(())
            })
            .build();
        // If one thread could not be started, dropping joins those that were.
        let workers = Self { pool: pool.ok(), threads: handles };
        if workers.pool.is_none() {
            return Err(Error::OutOfMemory(format!(
                "{threads} worker threads could not be started: free memory or ask for fewer threads"
            )));
        }
        Ok(workers)
    }

    pub fn pool(&self) -> Result<&ThreadPool, Error> {
        self.pool.as_ref().ok_or(Error::WrongProcess)
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        drop(self.pool.take());
        for thread in self.threads.drain(..) {
            // A worker that panicked has told its caller already.
            let _ = thread.join();
        }
    }
}

/// Number of workers for the caller's option; 0: one per core that this process may use.
pub(crate) fn worker_threads(asked: u32) -> Result<usize, Error> {
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    match asked as usize {
        0 => Ok(available.min(MAX_POOL_THREADS)),
        threads @ 1..=MAX_POOL_THREADS => Ok(threads),
        threads => {
            Err(Error::invalid(format!("threads {threads}: must be 0 (one per core) or 1..={MAX_POOL_THREADS}")))
        }
    }
}

/// Address space of one worker: its stack and what the system keeps for it.
const THREAD_BYTES: usize = 3 << 20;
/// Maximum worker threads of one session.
const MAX_POOL_THREADS: usize = 1024;

/// Round to nearest, denormals kept, exceptions masked: a new thread inherits its parent's modes.
fn default_float_modes() {
    #[cfg(target_arch = "x86_64")]
    {
        let modes: u32 = 0x1f80;
        // SAFETY: sets this thread's MXCSR to the value that the ABI prescribes at program start.
        unsafe { std::arch::asm!("ldmxcsr [{}]", in(reg) &modes, options(nostack, readonly)) };
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: sets this thread's FPCR to the value that the ABI prescribes at program start.
    unsafe {
        std::arch::asm!("msr fpcr, xzr", options(nostack, nomem));
    }
}
