//! The session's own threads: a private pool that all arithmetic runs on.
//!
//! The host's threads only wait, so the host's floating-point modes (flush to zero, rounding) can
//! neither change results nor be changed.

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::Error;
use crate::memory::ensure_headroom;
use crate::threads::{STACK_BYTES, Thread};

/// A pool whose threads have ended when it has been dropped: a host may unload the library then.
pub(crate) struct Workers {
    /// `None` while dropping.
    pool: Option<ThreadPool>,
    threads: Vec<Thread>,
}

impl Workers {
    pub fn new(threads: usize) -> Result<Self, Error> {
        ensure_headroom(threads.saturating_mul(THREAD_BYTES), "worker threads")?;
        let mut handles = Vec::new();
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .spawn_handler(|worker| {
                let name = format!("patchmask-{}", worker.index());
                let thread = Thread::spawn(&name, Box::new(|| worker.run()))
                    .map_err(|why| std::io::Error::other(why.to_string()))?;
                handles.push(thread);
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
        self.threads.clear(); // waits for them
    }
}

/// Number of workers for the caller's option; 0: one per core that this process may use.
pub(crate) fn worker_threads(asked: u32) -> Result<usize, Error> {
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    match asked as usize {
        0 => Ok(available.min(MAX_THREADS)),
        threads @ 1..=MAX_THREADS => Ok(threads),
        threads => Err(Error::invalid(format!("threads {threads}: must be 0 (one per core) or 1..={MAX_THREADS}"))),
    }
}

/// Address space of one worker: its stack and what the system keeps for it.
const THREAD_BYTES: usize = STACK_BYTES + (1 << 20);
/// Maximum worker threads of one session.
const MAX_THREADS: usize = 1024;
