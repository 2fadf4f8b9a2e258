//! Owners of what the CUDA driver hands out: contexts, memory, streams, events, modules, graphs.
//!
//! Built on the `result` layer of cudarc rather than its `safe` layer, whose owners record errors to raise them at
//! some later call, allocate from pools that keep what is freed, and bind their context to the calling thread. Here
//! every error is reported by the call that had it, memory goes back to the device at once, and a context is current
//! only between [`Context::enter`] and the end of its guard: whatever context the thread had is current again then.

use std::ffi::{CStr, CString, c_void};
use std::marker::PhantomData;
use std::sync::Arc;

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;

use crate::error::Error;

/// What a failed driver call becomes. `what` names the action in the error's text.
pub(super) fn failed(what: &str, error: DriverError) -> Error {
    let text = format!("{what}: {}", describe(error));
    match error.0 {
        sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => Error::DeviceOutOfMemory(format!(
            "{text}; close other programs that use the device, or lower the memory budget"
        )),
        _ => Error::DeviceFailed(text),
    }
}

/// Name and number of an error. The driver's library is there: it gave the error.
pub(super) fn describe(error: DriverError) -> String {
    let name = error.error_name().map(CStr::to_string_lossy);
    format!(
        "{} ({})",
        name.as_deref().unwrap_or("CUDA error"),
        error.0 as u32
    )
}

/// The primary context of a device, shared with everything in this process that uses the CUDA runtime.
pub(super) struct Context {
    device: sys::CUdevice,
    context: sys::CUcontext,
}

// SAFETY: contexts may be used from any thread.
unsafe impl Send for Context {}
// SAFETY: the driver locks what it must.
unsafe impl Sync for Context {}

/// The context is current on this thread as long as this lives.
pub(super) struct Entered<'a> {
    context: PhantomData<&'a Context>,
    /// Current for the thread that entered.
    thread: PhantomData<*const ()>,
}

impl Context {
    /// Retains the primary context of `device`.
    pub fn retain(device: sys::CUdevice) -> Result<Arc<Self>, DriverError> {
        // SAFETY: a device handle from the driver.
        let context = unsafe { result::primary_ctx::retain(device) }?;
        Ok(Arc::new(Self { device, context }))
    }

    /// Makes the context current until the guard is dropped.
    pub fn enter(&self) -> Result<Entered<'_>, Error> {
        // SAFETY: retained, so alive.
        unsafe { sys::cuCtxPushCurrent_v2(self.context) }
            .result()
            .map_err(|error| failed("entering the CUDA context", error))?;
        Ok(Entered {
            context: PhantomData,
            thread: PhantomData,
        })
    }

    /// Free and total bytes of the device's memory.
    pub fn memory(&self) -> Result<(u64, u64), Error> {
        let _entered = self.enter()?;
        let (free, total) =
            result::mem_get_info().map_err(|error| failed("asking for free memory", error))?;
        Ok((free as u64, total as u64))
    }

    /// Waits for the work of a stream of the caller; 0 is the default stream.
    pub fn wait_for_callers_stream(&self, stream: usize) -> Result<(), Error> {
        // Means another stream on every thread, and this thread is not the caller's.
        const PER_THREAD: usize = 2;
        if stream == PER_THREAD {
            return Err(Error::invalid(
                "stream cudaStreamPerThread: synchronize it and pass NULL, or use a stream of your own".into(),
            ));
        }
        let _entered = self.enter()?;
        // SAFETY: a live stream by the contract of the C interface.
        unsafe { result::stream::synchronize(stream as sys::CUstream) }
            .map_err(|error| failed("waiting for the caller's stream", error))
    }

    /// Fails unless `address` is memory of this device that this context can use. `name` is the caller's buffer.
    pub fn check_address(&self, address: usize, name: &str) -> Result<(), Error> {
        use sys::CUpointer_attribute as Attribute;
        let _entered = self.enter()?;
        let refused = |why: &str| {
            Err(Error::invalid(format!(
                "{name} {address:#x}: {why}; allocate it on the session's device in its primary context, as \
                 the CUDA runtime does, or hand over host memory"
            )))
        };
        let mut kind: u32 = 0;
        // SAFETY: writes a number of 32 bits.
        let asked = unsafe {
            sys::cuPointerGetAttribute(
                (&raw mut kind).cast(),
                Attribute::CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
                address as u64,
            )
        };
        if asked.result().is_err() || kind != sys::CUmemorytype::CU_MEMORYTYPE_DEVICE as u32 {
            return refused("not device memory");
        }
        let mut device: i32 = -1;
        let mut context: sys::CUcontext = std::ptr::null_mut();
        // SAFETY: write a number of 32 bits and a handle.
        let asked = unsafe {
            (
                sys::cuPointerGetAttribute(
                    (&raw mut device).cast(),
                    Attribute::CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL,
                    address as u64,
                ),
                sys::cuPointerGetAttribute(
                    (&raw mut context).cast(),
                    Attribute::CU_POINTER_ATTRIBUTE_CONTEXT,
                    address as u64,
                ),
            )
        };
        // Memory of a pool (cudaMallocAsync) belongs to a device, not to a context.
        let usable = asked.0.result().is_ok()
            && device == self.device
            && (asked.1.result().is_err() || context.is_null() || context == self.context);
        if !usable {
            return refused("memory of another device or context");
        }
        Ok(())
    }

    /// Runs `release` with the context current; when even that fails the device is lost, and what it held with it.
    fn release(&self, release: impl FnOnce() -> Result<(), DriverError>) {
        if let Ok(_entered) = self.enter() {
            let _ = release();
        }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: retained once by `retain`. A lost device has nothing left to release.
        let _ = unsafe { result::primary_ctx::release(self.device) };
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut popped = std::ptr::null_mut();
        // SAFETY: pops what `enter` pushed on this thread.
        let _ = unsafe { sys::cuCtxPopCurrent_v2(&raw mut popped) };
    }
}

/// Memory of the device, not initialised.
pub(super) struct DeviceMemory {
    context: Arc<Context>,
    address: sys::CUdeviceptr,
    bytes: usize,
}

impl DeviceMemory {
    /// Allocates `bytes`, at least 1. `what` names the buffer in the error.
    pub fn new(context: &Arc<Context>, bytes: usize, what: &str) -> Result<Self, Error> {
        let _entered = context.enter()?;
        // SAFETY: never read before it is written.
        let address = unsafe { result::malloc_sync(bytes.max(1)) }
            .map_err(|error| failed(&format!("{what}: {bytes} bytes of device memory"), error))?;
        Ok(Self {
            context: Arc::clone(context),
            address,
            bytes,
        })
    }

    /// Allocates and fills from the host, and waits for the copy.
    pub fn from_slice<T: Copy>(
        context: &Arc<Context>,
        values: &[T],
        what: &str,
    ) -> Result<Self, Error> {
        let memory = Self::new(context, size_of_val(values), what)?;
        if !values.is_empty() {
            let _entered = context.enter()?;
            // SAFETY: the buffer has the size of `values`.
            unsafe { result::memcpy_htod_sync(memory.address, values) }
                .map_err(|error| failed(what, error))?;
            // The copy returns when `values` has been staged; other streams do not wait for its end.
            // SAFETY: the default stream.
            unsafe { result::stream::synchronize(result::stream::null()) }
                .map_err(|error| failed(what, error))?;
        }
        Ok(memory)
    }

    /// Where it lies, `offset` bytes on.
    pub fn at(&self, offset: usize) -> u64 {
        self.address + offset as u64
    }

    /// Where it lies.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Copies bytes from `offset` on to `values` and waits for it.
    pub fn read<T: Copy>(&self, offset: usize, values: &mut [T]) -> Result<(), Error> {
        assert!(offset + size_of_val(values) <= self.bytes);
        let _entered = self.context.enter()?;
        // SAFETY: in bounds, as just checked.
        unsafe { result::memcpy_dtoh_sync(values, self.at(offset)) }
            .map_err(|error| failed("copying from the device", error))
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        let address = self.address;
        // SAFETY: allocated by `new`, freed once.
        self.context
            .release(|| unsafe { result::free_sync(address) });
    }
}

/// Page-locked memory of the host, which copies to and from the device go through.
pub(super) struct HostMemory {
    context: Arc<Context>,
    data: *mut c_void,
    bytes: usize,
}

// SAFETY: plain memory with one owner.
unsafe impl Send for HostMemory {}

impl HostMemory {
    /// Allocates `bytes` zeros, at least 1.
    pub fn new(context: &Arc<Context>, bytes: usize, what: &str) -> Result<Self, Error> {
        let _entered = context.enter()?;
        let len = bytes.max(1);
        // SAFETY: filled right away.
        let data = unsafe { result::malloc_host(len, 0) }.map_err(|error| match error.0 {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => Error::OutOfMemory(format!(
                "{what}: {bytes} bytes of page-locked host memory could not be allocated"
            )),
            _ => failed(what, error),
        })?;
        // SAFETY: just allocated.
        unsafe { data.cast::<u8>().write_bytes(0, len) };
        Ok(Self {
            context: Arc::clone(context),
            data,
            bytes,
        })
    }

    /// Its bytes. The device must not be using them.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: allocated with this size, initialised, borrowed like a Vec.
        unsafe { std::slice::from_raw_parts_mut(self.data.cast(), self.bytes) }
    }

    /// Its bytes. The device must not be writing them.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts(self.data.cast(), self.bytes) }
    }
}

impl Drop for HostMemory {
    fn drop(&mut self) {
        let data = self.data;
        // SAFETY: allocated by `new`, freed once.
        self.context.release(|| unsafe { result::free_host(data) });
    }
}

/// A queue of work that is done in order.
pub(super) struct Stream {
    context: Arc<Context>,
    stream: sys::CUstream,
}

// SAFETY: streams may be used from any thread.
unsafe impl Send for Stream {}

impl Stream {
    pub fn new(context: &Arc<Context>) -> Result<Self, Error> {
        let _entered = context.enter()?;
        let stream = result::stream::create(result::stream::StreamKind::NonBlocking)
            .map_err(|error| failed("a CUDA stream", error))?;
        Ok(Self {
            context: Arc::clone(context),
            stream,
        })
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
        unsafe { result::memcpy_htod_async(to, bytes, self.stream) }
            .map_err(|error| failed("copying to the device", error))
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
        unsafe { result::memcpy_dtoh_async(bytes, from, self.stream) }
            .map_err(|error| failed("copying from the device", error))
    }

    /// Copies within the device, later.
    ///
    /// # Safety
    /// Both ends have `bytes` bytes and live until the work is done.
    pub unsafe fn copy(&self, to: u64, from: u64, bytes: usize) -> Result<(), Error> {
        // SAFETY: by contract.
        unsafe { result::memcpy_dtod_async(to, from, bytes, self.stream) }
            .map_err(|error| failed("copying on the device", error))
    }

    /// Fills `words` words of 32 bits with `value`, later.
    ///
    /// # Safety
    /// `to` has room, and lives until the work is done.
    pub unsafe fn fill(&self, to: u64, value: u32, words: usize) -> Result<(), Error> {
        // SAFETY: by contract.
        unsafe { sys::cuMemsetD32Async(to, value, words, self.stream) }
            .result()
            .map_err(|error| failed("filling device memory", error))
    }

    /// Starts a kernel, later, with one struct as its parameter.
    ///
    /// # Safety
    /// `parameters` is the struct that the kernel declares, and everything it points to lives until the work is done.
    pub unsafe fn launch<P: Copy>(
        &self,
        kernel: &Kernel,
        blocks: [usize; 2],
        parameters: &P,
    ) -> Result<(), Error> {
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
                self.stream,
                &mut pointers,
            )
        }
        .map_err(|error| failed(&format!("starting the kernel {}", kernel.name), error))
    }

    /// Later work waits for `event`.
    pub fn wait_for(&self, event: &Event) -> Result<(), Error> {
        let flags = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
        // SAFETY: both are alive.
        unsafe { result::stream::wait_event(self.stream, event.event, flags) }
            .map_err(|error| failed("ordering streams", error))
    }

    /// Waits until all its work is done.
    pub fn synchronize(&self) -> Result<(), Error> {
        // SAFETY: alive.
        unsafe { result::stream::synchronize(self.stream) }
            .map_err(|error| failed("waiting for the device", error))
    }

    /// Records the work that `enqueue` asks for, instead of doing it.
    pub fn record(&self, enqueue: impl FnOnce() -> Result<(), Error>) -> Result<Graph, Error> {
        let what = "recording a CUDA graph";
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: alive.
        unsafe { result::stream::begin_capture(self.stream, mode) }
            .map_err(|error| failed(what, error))?;
        let enqueued = enqueue();
        // SAFETY: capturing, as just begun.
        let graph = unsafe { result::stream::end_capture(self.stream) };
        let graph = match (enqueued, graph) {
            (Ok(()), graph) => graph.map_err(|error| failed(what, error))?,
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
        .map_err(|error| failed(what, error))?;
        Ok(Graph {
            context: Arc::clone(&self.context),
            executable,
        })
    }

    /// Does what was recorded, later.
    ///
    /// # Safety
    /// Everything that the graph's work points to lives until it is done.
    pub unsafe fn replay(&self, graph: &Graph) -> Result<(), Error> {
        // SAFETY: both are alive.
        unsafe { result::graph::launch(graph.executable, self.stream) }
            .map_err(|error| failed("starting a CUDA graph", error))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let stream = self.stream;
        // SAFETY: made by `new`, destroyed once.
        self.context
            .release(|| unsafe { result::stream::destroy(stream) });
    }
}

/// A point in the work of a stream.
pub(super) struct Event {
    context: Arc<Context>,
    event: sys::CUevent,
}

// SAFETY: events may be used from any thread.
unsafe impl Send for Event {}

impl Event {
    pub fn new(context: &Arc<Context>) -> Result<Self, Error> {
        let _entered = context.enter()?;
        let event = result::event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING)
            .map_err(|error| failed("a CUDA event", error))?;
        Ok(Self {
            context: Arc::clone(context),
            event,
        })
    }

    /// Marks the work that `stream` has been given so far.
    pub fn record(&self, stream: &Stream) -> Result<(), Error> {
        // SAFETY: both are alive.
        unsafe { result::event::record(self.event, stream.stream) }
            .map_err(|error| failed("recording an event", error))
    }

    /// Whether the work up to this point is done.
    pub fn is_done(&self) -> Result<bool, Error> {
        // SAFETY: alive.
        match unsafe { result::event::query(self.event) } {
            Ok(()) => Ok(true),
            Err(DriverError(sys::CUresult::CUDA_ERROR_NOT_READY)) => Ok(false),
            Err(error) => Err(failed("the device's work", error)),
        }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        let event = self.event;
        // SAFETY: made by `new`, destroyed once.
        self.context
            .release(|| unsafe { result::event::destroy(event) });
    }
}

/// Recorded work.
pub(super) struct Graph {
    context: Arc<Context>,
    executable: sys::CUgraphExec,
}

// SAFETY: graphs may be used from any thread.
unsafe impl Send for Graph {}

impl Drop for Graph {
    fn drop(&mut self) {
        let executable = self.executable;
        // SAFETY: made by `Stream::record`, destroyed once.
        self.context
            .release(|| unsafe { result::graph::exec_destroy(executable) });
    }
}

/// Compiled device code.
pub(super) struct Module {
    context: Arc<Context>,
    module: sys::CUmodule,
}

// SAFETY: modules may be used from any thread.
unsafe impl Send for Module {}
// SAFETY: the driver locks what it must.
unsafe impl Sync for Module {}

impl Module {
    /// Compiles PTX for the device.
    pub fn new(context: &Arc<Context>, ptx: &str) -> Result<Self, Error> {
        let _entered = context.enter()?;
        let ptx = CString::new(ptx).map_err(|_| Error::Panic("PTX with a NUL".into()))?;
        // SAFETY: a NUL-terminated text.
        let module = unsafe { result::module::load_data(ptx.as_ptr().cast()) }
            .map_err(|error| failed("loading the CUDA kernels", error))?;
        Ok(Self {
            context: Arc::clone(context),
            module,
        })
    }

    /// A kernel that is launched with `threads` threads and `shared_bytes` of dynamic shared memory.
    pub fn kernel(
        &self,
        name: &'static str,
        threads: u32,
        shared_bytes: u32,
    ) -> Result<Kernel, Error> {
        let what = |error| failed(&format!("the kernel {name}"), error);
        let _entered = self.context.enter()?;
        let symbol = CString::new(name).map_err(|_| Error::Panic("a name with a NUL".into()))?;
        // SAFETY: the module is alive.
        let function =
            unsafe { result::module::get_function(self.module, symbol) }.map_err(what)?;
        let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        // SAFETY: a function that was just found.
        unsafe {
            result::function::set_function_attribute(function, attribute, shared_bytes as i32)
        }
        .map_err(what)?;
        Ok(Kernel {
            name,
            function,
            threads,
            shared_bytes,
        })
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        let module = self.module;
        // SAFETY: loaded by `new`, unloaded once.
        self.context
            .release(|| unsafe { result::module::unload(module) });
    }
}

/// A kernel of a module, which must outlive it, and how it is launched.
pub(super) struct Kernel {
    pub name: &'static str,
    function: sys::CUfunction,
    threads: u32,
    shared_bytes: u32,
}

// SAFETY: functions may be used from any thread.
unsafe impl Send for Kernel {}
// SAFETY: as above.
unsafe impl Sync for Kernel {}
