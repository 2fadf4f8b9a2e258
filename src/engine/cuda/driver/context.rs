//! Contexts of a device, when they are current, and what they own.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::sync::Arc;

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;

use super::failure::failed;
use crate::error::Error;

/// A context of a device.
pub(in crate::engine::cuda) struct Context {
    device: sys::CUdevice,
    context: sys::CUcontext,
    kind: Kind,
}

enum Kind {
    /// Shared with everything in this process that uses the CUDA runtime.
    Primary,
    /// Used here alone, with an address space of its own.
    Own,
}

// SAFETY: contexts may be used from any thread.
unsafe impl Send for Context {}
// SAFETY: the driver locks what it must.
unsafe impl Sync for Context {}

/// The context is current on this thread as long as this lives.
pub(in crate::engine::cuda) struct Entered<'a> {
    context: PhantomData<&'a Context>,
    /// Current for the thread that entered.
    thread: PhantomData<*const ()>,
}

impl Context {
    /// Retains the primary context of `device`.
    pub fn retain(device: sys::CUdevice) -> Result<Arc<Self>, DriverError> {
        // SAFETY: a device handle from the driver.
        let context = unsafe { result::primary_ctx::retain(device) }?;
        Ok(Arc::new(Self { device, context, kind: Kind::Primary }))
    }

    /// Makes a context apart from the primary one.
    pub fn create(device: sys::CUdevice) -> Result<Arc<Self>, DriverError> {
        let mut context = std::ptr::null_mut();
        // SAFETY: writes a handle, and makes the context current, which is undone right away.
        unsafe { sys::cuCtxCreate_v2(&raw mut context, 0, device) }.result()?;
        drop(Entered { context: PhantomData, thread: PhantomData });
        Ok(Arc::new(Self { device, context, kind: Kind::Own }))
    }

    /// Makes the context current until the guard is dropped.
    pub fn enter(&self) -> Result<Entered<'_>, Error> {
        // SAFETY: retained or created, so alive.
        unsafe { sys::cuCtxPushCurrent_v2(self.context) }.result().map_err(failed("entering the CUDA context"))?;
        Ok(Entered { context: PhantomData, thread: PhantomData })
    }

    /// Free and total bytes of the device's memory.
    pub fn memory(&self) -> Result<(u64, u64), Error> {
        let _entered = self.enter()?;
        let (free, total) = result::mem_get_info().map_err(failed("asking for free memory"))?;
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
            .map_err(failed("waiting for the caller's stream"))
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
        let ask = |attribute, answer: *mut c_void| {
            // SAFETY: each answer is a variable of the attribute's type: a number of 32 bits or a handle.
            unsafe { sys::cuPointerGetAttribute(answer, attribute, address as u64) }.result().is_ok()
        };
        let mut kind: u32 = 0;
        if !ask(Attribute::CU_POINTER_ATTRIBUTE_MEMORY_TYPE, (&raw mut kind).cast())
            || kind != sys::CUmemorytype::CU_MEMORYTYPE_DEVICE as u32
        {
            return refused("not device memory");
        }
        let mut device: i32 = -1;
        let mut context: sys::CUcontext = std::ptr::null_mut();
        // Memory of a pool (cudaMallocAsync) belongs to a device, not to a context.
        let is_usable = ask(Attribute::CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, (&raw mut device).cast())
            && device == self.device
            && (!ask(Attribute::CU_POINTER_ATTRIBUTE_CONTEXT, (&raw mut context).cast())
                || context.is_null()
                || context == self.context);
        if is_usable { Ok(()) } else { refused("memory of another device or context") }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // A lost device has nothing left to release.
        let _ = match self.kind {
            // SAFETY: retained once by `retain`.
            Kind::Primary => unsafe { result::primary_ctx::release(self.device) },
            // SAFETY: made by `create`, destroyed once, current nowhere.
            Kind::Own => unsafe { sys::cuCtxDestroy_v2(self.context) }.result(),
        };
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut popped = std::ptr::null_mut();
        // SAFETY: pops what `enter` or `create` pushed on this thread.
        let _ = unsafe { sys::cuCtxPopCurrent_v2(&raw mut popped) };
    }
}

/// A handle that the driver gave out in a context, and takes back there when this is dropped.
pub(super) struct Owned<H: Copy> {
    pub context: Arc<Context>,
    pub handle: H,
    release: unsafe fn(H) -> Result<(), DriverError>,
}

// SAFETY: handles may be used from any thread, and the driver locks what it must.
unsafe impl<H: Copy> Send for Owned<H> {}
// SAFETY: as above.
unsafe impl<H: Copy> Sync for Owned<H> {}

impl<H: Copy> Owned<H> {
    /// # Safety
    /// `release` gives `handle` back, which nobody else does.
    pub unsafe fn new(context: &Arc<Context>, handle: H, release: unsafe fn(H) -> Result<(), DriverError>) -> Self {
        Self { context: Arc::clone(context), handle, release }
    }
}

impl<H: Copy> Drop for Owned<H> {
    fn drop(&mut self) {
        // Where this fails the device is lost, and what it held with it.
        if let Ok(_entered) = self.context.enter() {
            // SAFETY: by the contract of `new`, once.
            let _ = unsafe { (self.release)(self.handle) };
        }
    }
}
