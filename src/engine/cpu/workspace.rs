//! A buffer for each thread, taken when the engine is made.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::simd::Instructions;
use crate::error::Error;
use crate::memory::Zeros;
use crate::memory::try_filled;

/// Buffers of all threads of the pool.
pub(super) struct Workspace {
    pub instructions: Instructions,
    /// As many as any layer has channels, for taps that read nothing.
    pub zeros: Vec<f32>,
    buffers: Vec<Mutex<Zeros<f32>>>,
    /// Size of one buffer.
    floats: usize,
}

impl Workspace {
    /// Buffers of `floats`, for layers that read up to `channels` channels.
    pub fn new(instructions: Instructions, threads: usize, floats: usize, channels: usize) -> Result<Self, Error> {
        let buffers = (0..threads).map(|_| Ok(Mutex::new(Zeros::new(floats, "gathered inputs")?)));
        Ok(Self {
            instructions,
            zeros: try_filled(channels, 0.0, "packed weights")?,
            buffers: buffers.collect::<Result<_, Error>>()?,
            floats,
        })
    }

    pub fn threads(&self) -> usize {
        self.buffers.len()
    }

    /// The buffer of the thread of the pool that asks.
    pub fn of_this_thread(&self) -> MutexGuard<'_, Zeros<f32>> {
        let thread = rayon::current_thread_index().unwrap_or(0);
        (self.buffers[thread].lock()).unwrap_or_else(PoisonError::into_inner)
    }

    pub fn bytes(&self) -> u64 {
        4 * (self.buffers.len() * self.floats + self.zeros.len()) as u64
    }
}
