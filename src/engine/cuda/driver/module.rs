//! Compiled device code and its kernels.

use std::ffi::CString;
use std::sync::Arc;

use cudarc::driver::{result, sys};

use super::context::Context;
use super::failure::failed;
use crate::error::Error;

/// Compiled device code.
pub(in crate::engine::cuda) struct Module {
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
        Ok(Self { context: Arc::clone(context), module })
    }

    /// A kernel that is launched with `threads` threads and `shared_bytes` of dynamic shared memory.
    pub fn kernel(&self, name: &'static str, threads: u32, shared_bytes: u32) -> Result<Kernel, Error> {
        let what = |error| failed(&format!("the kernel {name}"), error);
        let _entered = self.context.enter()?;
        let symbol = CString::new(name).map_err(|_| Error::Panic("a name with a NUL".into()))?;
        // SAFETY: the module is alive.
        let function = unsafe { result::module::get_function(self.module, symbol) }.map_err(what)?;
        let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        // SAFETY: a function that was just found.
        unsafe { result::function::set_function_attribute(function, attribute, shared_bytes as i32) }.map_err(what)?;
        Ok(Kernel { name, function, threads, shared_bytes })
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        let module = self.module;
        // SAFETY: loaded by `new`, unloaded once.
        self.context.release(|| unsafe { result::module::unload(module) });
    }
}

/// A kernel of a module, which must outlive it, and how it is launched.
pub(in crate::engine::cuda) struct Kernel {
    pub name: &'static str,
    pub(super) function: sys::CUfunction,
    pub(super) threads: u32,
    pub(super) shared_bytes: u32,
}

// SAFETY: functions may be used from any thread.
unsafe impl Send for Kernel {}
// SAFETY: as above.
unsafe impl Sync for Kernel {}
