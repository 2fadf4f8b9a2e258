//! Memory of the device, and page-locked memory of the host.

use std::ffi::c_void;
use std::sync::Arc;

use cudarc::driver::{result, sys};

use super::context::{Context, Owned};
use super::failure::failed;
use crate::error::Error;

/// Memory of the device, not initialised.
pub(in crate::engine::cuda) struct DeviceMemory {
    address: Owned<sys::CUdeviceptr>,
    bytes: usize,
}

impl DeviceMemory {
    /// Allocates `bytes`, at least 1. `what` names the buffer in the error.
    pub fn new(context: &Arc<Context>, bytes: usize, what: &str) -> Result<Self, Error> {
        let _entered = context.enter()?;
        // SAFETY: never read before it is written.
        let address = unsafe { result::malloc_sync(bytes.max(1)) }
            .map_err(failed(format_args!("{what}: {bytes} bytes of device memory")))?;
        // SAFETY: just allocated.
        Ok(Self { address: unsafe { Owned::new(context, address, result::free_sync) }, bytes })
    }

    /// Allocates and fills from the host, and waits for the copy.
    pub fn from_slice<T: Copy>(context: &Arc<Context>, values: &[T], what: &str) -> Result<Self, Error> {
        let memory = Self::new(context, size_of_val(values), what)?;
        if !values.is_empty() {
            let _entered = context.enter()?;
            // SAFETY: the buffer has the size of `values`.
            unsafe { result::memcpy_htod_sync(memory.address(), values) }.map_err(failed(what))?;
            // The copy returns when `values` has been staged; other streams do not wait for its end.
            // SAFETY: the default stream.
            unsafe { result::stream::synchronize(result::stream::null()) }.map_err(failed(what))?;
        }
        Ok(memory)
    }

    /// Where it lies, `offset` bytes on.
    pub fn at(&self, offset: usize) -> u64 {
        self.address() + offset as u64
    }

    /// Where it lies.
    pub fn address(&self) -> u64 {
        self.address.handle
    }

    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Copies bytes from `offset` on to `values` and waits for it.
    pub fn read<T: Copy>(&self, offset: usize, values: &mut [T]) -> Result<(), Error> {
        assert!(offset + size_of_val(values) <= self.bytes);
        let _entered = self.address.context.enter()?;
        // SAFETY: in bounds, as just checked.
        unsafe { result::memcpy_dtoh_sync(values, self.at(offset)) }.map_err(failed("copying from the device"))
    }
}

/// Page-locked memory of the host, which copies to and from the device go through.
pub(in crate::engine::cuda) struct HostMemory {
    data: Owned<*mut c_void>,
    bytes: usize,
}

impl HostMemory {
    /// Allocates `bytes` zeros, at least 1.
    pub fn new(context: &Arc<Context>, bytes: usize, what: &str) -> Result<Self, Error> {
        let _entered = context.enter()?;
        let len = bytes.max(1);
        // SAFETY: filled right away.
        let data = unsafe { result::malloc_host(len, 0) }.map_err(|error| match error.0 {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => Error::OutOfMemory(format!(
                "{what}: {bytes} bytes of page-locked host memory could not be allocated; free memory, or lower the \
                 memory budget"
            )),
            _ => failed(what)(error),
        })?;
        // SAFETY: just allocated.
        unsafe { data.cast::<u8>().write_bytes(0, len) };
        // SAFETY: as above.
        Ok(Self { data: unsafe { Owned::new(context, data, result::free_host) }, bytes })
    }

    /// Its bytes. The device must not be using them.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: allocated with this size, initialised, borrowed like a Vec.
        unsafe { std::slice::from_raw_parts_mut(self.data.handle.cast(), self.bytes) }
    }

    /// Its bytes. The device must not be writing them.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts(self.data.handle.cast(), self.bytes) }
    }
}
