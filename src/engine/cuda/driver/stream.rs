//! Queues of work, marks in them, and work that is recorded to be done again.

use std::ffi::c_void;
use std::sync::Arc;

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;

use super::context::{Context, Owned};
use super::failure::failed;
use super::module::Kernel;
use crate::error::Error;

/// A queue of work that is done in order.
pub(in crate::engine::cuda) struct Stream(Owned<sys::CUstream>);

impl Stream {
    pub fn new(context: &Arc<Context>) -> Result<Self, Error> {
        let _entered = context.enter()?;
        let stream =
            result::stream::create(result::stream::StreamKind::NonBlocking).map_err(failed("a CUDA stream"))?;
        // SAFETY: just made.
        Ok(Self(unsafe { Owned::new(context, stream, result::stream::destroy) }))
    }

    /// Copies to the device, later.
    ///
    /// # Safety
    /// `bytes` stays as it is until the work is done, and `to` has room.
    pub unsafe fn upload(&self, to: u64, bytes: &[u8]) -> Result<(), Error> {
        if bytes.is_empty() {
            return Ok(());
        }
        // SAFETY: by contract.
        unsafe { result::memcpy_htod_async(to, bytes, self.0.handle) }.map_err(failed("copying to the device"))
    }

    /// Copies to the host, later.
    ///
    /// # Safety
    /// `bytes` is not touched until the work is done, and lives until then.
    pub unsafe fn download(&self, bytes: &mut [u8], from: u64) -> Result<(), Error> {
        if bytes.is_empty() {
            return Ok(());
        }
        // SAFETY: by contract.
        unsafe { result::memcpy_dtoh_async(bytes, from, self.0.handle) }.map_err(failed("copying from the device"))
    }

    /// Copies within the device, later.
    ///
    /// # Safety
    /// Both ends have `bytes` bytes and live until the work is done.
    pub unsafe fn copy(&self, to: u64, from: u64, bytes: usize) -> Result<(), Error> {
        // SAFETY: by contract.
        unsafe { result::memcpy_dtod_async(to, from, bytes, self.0.handle) }.map_err(failed("copying on the device"))
    }

    /// Fills `words` words of 32 bits with `value`, later.
    ///
    /// # Safety
    /// `to` has room, and lives until the work is done.
    pub unsafe fn fill(&self, to: u64, value: u32, words: usize) -> Result<(), Error> {
        // SAFETY: by contract.
        unsafe { sys::cuMemsetD32Async(to, value, words, self.0.handle) }
            .result()
            .map_err(failed("filling device memory"))
    }

    /// Starts a kernel, later, with one struct as its parameter.
    ///
    /// # Safety
    /// `parameters` is the struct that the kernel declares, and everything it points to lives until the work is done.
    pub unsafe fn launch<P: Copy>(&self, kernel: &Kernel, blocks: [usize; 2], parameters: &P) -> Result<(), Error> {
        if blocks.contains(&0) {
            return Ok(());
        }
        let [x, y] = blocks.map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        let mut pointers = [(&raw const *parameters).cast_mut().cast::<c_void>()];
        // SAFETY: by contract; the driver copies the struct before it returns.
        unsafe {
            result::launch_kernel(
                kernel.function,
                (x, y, 1),
                (kernel.threads, 1, 1),
                kernel.shared_bytes,
                self.0.handle,
                &mut pointers,
            )
        }
        .map_err(failed(format_args!("starting the kernel {}", kernel.name)))
    }

    /// Later work waits for `event`.
    pub fn wait_for(&self, event: &Event) -> Result<(), Error> {
        let flags = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
        // SAFETY: both are alive.
        unsafe { result::stream::wait_event(self.0.handle, event.0.handle, flags) }.map_err(failed("ordering streams"))
    }

    /// Waits until all its work is done.
    pub fn synchronize(&self) -> Result<(), Error> {
        // SAFETY: alive.
        unsafe { result::stream::synchronize(self.0.handle) }.map_err(failed("waiting for the device"))
    }

    /// Records the work that `enqueue` asks for, instead of doing it.
    pub fn record(&self, enqueue: impl FnOnce() -> Result<(), Error>) -> Result<Graph, Error> {
        let what = "recording a CUDA graph";
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: alive.
        unsafe { result::stream::begin_capture(self.0.handle, mode) }.map_err(failed(what))?;
        let enqueued = enqueue();
        // SAFETY: capturing, as just begun.
        let graph = unsafe { result::stream::end_capture(self.0.handle) };
        let graph = match (enqueued, graph) {
            (Ok(()), graph) => graph.map_err(failed(what))?,
            (Err(error), graph) => {
                if let Ok(graph) = graph {
                    // SAFETY: a graph that nothing uses.
                    let _ = unsafe { result::graph::destroy(graph) };
                }
                return Err(error);
            }
        };
        let flags = sys::CUgraphInstantiate_flags(0);
        // SAFETY: a graph that was just made; it is not needed once it has been instantiated.
        let executable = unsafe {
            let executable = result::graph::instantiate(graph, flags);
            let _ = result::graph::destroy(graph);
            executable
        }
        .map_err(failed(what))?;
        // SAFETY: just made.
        Ok(Graph(unsafe { Owned::new(&self.0.context, executable, result::graph::exec_destroy) }))
    }

    /// Does what was recorded, later.
    ///
    /// # Safety
    /// Everything that the graph's work points to lives until it is done.
    pub unsafe fn replay(&self, graph: &Graph) -> Result<(), Error> {
        // SAFETY: both are alive.
        unsafe { result::graph::launch(graph.0.handle, self.0.handle) }.map_err(failed("starting a CUDA graph"))
    }
}

/// A mark in the work of a stream.
pub(in crate::engine::cuda) struct Event(Owned<sys::CUevent>);

impl Event {
    pub fn new(context: &Arc<Context>) -> Result<Self, Error> {
        Self::with(context, sys::CUevent_flags::CU_EVENT_DISABLE_TIMING)
    }

    /// One that knows when it was reached.
    pub fn timed(context: &Arc<Context>) -> Result<Self, Error> {
        Self::with(context, sys::CUevent_flags::CU_EVENT_DEFAULT)
    }

    fn with(context: &Arc<Context>, flags: sys::CUevent_flags) -> Result<Self, Error> {
        let _entered = context.enter()?;
        let event = result::event::create(flags).map_err(failed("a CUDA event"))?;
        // SAFETY: just made.
        Ok(Self(unsafe { Owned::new(context, event, result::event::destroy) }))
    }

    /// Marks the work that `stream` has been given so far.
    pub fn record(&self, stream: &Stream) -> Result<(), Error> {
        // SAFETY: both are alive.
        unsafe { result::event::record(self.0.handle, stream.0.handle) }.map_err(failed("recording an event"))
    }

    /// Seconds from this mark to `later`; both are timed and have been reached.
    pub fn seconds_until(&self, later: &Event) -> Result<f64, Error> {
        // SAFETY: both are alive.
        let milliseconds = unsafe { result::event::elapsed(self.0.handle, later.0.handle) }
            .map_err(failed("reading the time of an event"))?;
        Ok(f64::from(milliseconds) / 1e3)
    }

    /// Whether the work up to this mark is done.
    pub fn is_done(&self) -> Result<bool, Error> {
        // SAFETY: alive.
        match unsafe { result::event::query(self.0.handle) } {
            Ok(()) => Ok(true),
            Err(DriverError(sys::CUresult::CUDA_ERROR_NOT_READY)) => Ok(false),
            Err(error) => Err(failed("the device's work")(error)),
        }
    }
}

/// Recorded work.
pub(in crate::engine::cuda) struct Graph(Owned<sys::CUgraphExec>);
