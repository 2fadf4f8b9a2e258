//! Compiled device code and its kernels.

use std::ffi::{CString, c_void};
use std::sync::Arc;

use cudarc::driver::{result, sys};

use super::context::{Context, Owned};
use super::failure::failed;
use crate::error::Error;

/// Compiled device code.
pub(in crate::engine::cuda) struct Module {
    pub name: &'static str,
    module: Owned<sys::CUmodule>,
    /// The driver's compiler's remarks, mostly none.
    pub remarks: String,
}

impl Module {
    /// Compiles PTX for the device. `name` is the module's in errors, which carry the compiler's log.
    pub fn new(context: &Arc<Context>, name: &'static str, ptx: &str) -> Result<Self, Error> {
        use sys::CUjit_option as Jit;
        const LOG_BYTES: usize = 4096;
        let _entered = context.enter()?;
        let ptx = CString::new(ptx).map_err(|_| Error::Panic("PTX with a NUL".into()))?;
        let mut logs = [[0_u8; LOG_BYTES]; 2];
        let [errors, remarks] = &mut logs;
        let mut options = [
            Jit::CU_JIT_ERROR_LOG_BUFFER,
            Jit::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES,
            Jit::CU_JIT_INFO_LOG_BUFFER,
            Jit::CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES,
        ];
        // A size stands in the pointer itself.
        let size = LOG_BYTES as *mut c_void;
        let mut values = [errors.as_mut_ptr().cast(), size, remarks.as_mut_ptr().cast(), size];
        let mut module = std::ptr::null_mut();
        // SAFETY: a NUL-terminated text; as many options as values; the buffers have the sizes that are said.
        let loaded = unsafe {
            let (options, values) = (options.as_mut_ptr(), values.as_mut_ptr());
            sys::cuModuleLoadDataEx(&raw mut module, ptx.as_ptr().cast(), 4, options, values)
        };
        let [errors, remarks] = logs.each_ref().map(|log| text(log));
        loaded.result().map_err(|error| {
            let log = if errors.is_empty() { String::new() } else { format!(" [{errors}]") };
            failed(format_args!("loading the CUDA kernels {name}{log}"))(error)
        })?;
        // SAFETY: just loaded.
        Ok(Self { name, module: unsafe { Owned::new(context, module, result::module::unload) }, remarks })
    }

    /// A kernel that is launched with `threads` threads and `shared_bytes` of dynamic shared memory.
    pub fn kernel(&self, name: &'static str, threads: u32, shared_bytes: u32) -> Result<Kernel, Error> {
        let what = format!("the kernel {name}");
        let _entered = self.module.context.enter()?;
        let symbol = CString::new(name).map_err(|_| Error::Panic("a name with a NUL".into()))?;
        // SAFETY: the module is alive.
        let function = unsafe { result::module::get_function(self.module.handle, symbol) }.map_err(failed(&what))?;
        let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        // SAFETY: a function that was just found.
        unsafe { result::function::set_function_attribute(function, attribute, shared_bytes as i32) }
            .map_err(failed(&what))?;
        Ok(Kernel { name, function, threads, shared_bytes })
    }
}

/// A log of the driver's compiler in one line.
fn text(log: &[u8]) -> String {
    let end = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
    let text = String::from_utf8_lossy(&log[..end]);
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
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
