//! The streams of a pipeline, and how their work is waited for or told to stop.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::timeline::Lane;
use crate::cancel::Cancel;
use crate::engine::cuda::buffers::{SLOTS, of_each_slot};
use crate::engine::cuda::driver::{Context, DeviceMemory, Event, HostMemory, Stream};
use crate::error::Error;

pub(in crate::engine::cuda) struct Streams {
    pub upload: Stream,
    /// One for each slot.
    pub compute: [Stream; SLOTS],
    pub download: Stream,
    signal: Stream,
    /// All work of a compute stream is done.
    computed: Event,
    /// A word of the device, and on the host the value that makes kernels leave: 1.
    cancel: DeviceMemory,
    one: HostMemory,
}

impl Streams {
    pub fn new(context: &Arc<Context>) -> Result<Self, Error> {
        let mut one = HostMemory::new(context, 4, "cancel")?;
        one.as_mut_slice().copy_from_slice(&1_u32.to_ne_bytes());
        Ok(Self {
            upload: Stream::new(context)?,
            compute: of_each_slot(|| Stream::new(context))?,
            download: Stream::new(context)?,
            signal: Stream::new(context)?,
            computed: Event::new(context)?,
            cancel: DeviceMemory::new(context, 4, "cancel")?,
            one,
        })
    }

    pub fn of_lane(&self, lane: Lane, slot: usize) -> &Stream {
        match lane {
            Lane::Upload => &self.upload,
            Lane::Compute => &self.compute[slot],
            Lane::Download => &self.download,
        }
    }

    /// Address of the word that kernels check.
    pub fn cancel_word(&self) -> u64 {
        self.cancel.address()
    }

    /// Tells running kernels to leave.
    pub fn signal_cancel(&self) -> Result<(), Error> {
        // SAFETY: neither end changes or goes away while the streams live.
        unsafe { self.signal.upload(self.cancel_word(), self.one.as_slice()) }?;
        self.signal.synchronize()
    }

    /// Waits for `event`; a request to stop makes the kernels leave, and is reported once they have.
    pub fn wait_for(&self, event: &Event, cancel: &Cancel) -> Result<(), Error> {
        let began = Instant::now();
        let mut signalled = false;
        while !event.is_done()? {
            if !signalled && cancel.check().is_err() {
                self.signal_cancel()?;
                signalled = true;
            }
            if began.elapsed() > Duration::from_micros(200) {
                std::thread::sleep(Duration::from_micros(50));
            } else {
                std::thread::yield_now();
            }
        }
        cancel.check()
    }

    /// Waits for all compute streams.
    pub fn wait_for_computing(&self, cancel: &Cancel) -> Result<(), Error> {
        self.compute.iter().try_for_each(|stream| {
            self.computed.record(stream)?;
            self.wait_for(&self.computed, cancel)
        })
    }

    /// Waits for everything, whatever becomes of it.
    pub fn synchronize(&self) {
        for stream in self.compute.iter().chain([&self.signal, &self.upload, &self.download]) {
            // The first error may be that of earlier work.
            let _ = stream.synchronize().or_else(|_| stream.synchronize());
        }
    }
}
