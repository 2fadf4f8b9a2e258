//! Convolution kernels launched as kernels/params.h describes, by the driver's calls alone: without the library, which would
//! choose one of them.

use std::ffi::{CString, c_int, c_void};

use half::f16;

use crate::driver::{Driver, call};

const SHARED_BYTES: c_int = 8; // CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES

/// ConvParams.
#[repr(C)]
pub struct Params {
    /// input, output, weights, bias, row_sections, column_sections, subtiles, cancel, overflow
    pub addresses: [u64; 9],
    /// column_section_count, input_columns, input_channels, columns, output_channels, layer, subtile_count, unused
    pub numbers: [i32; 8],
}

/// A convolution kernel.
#[derive(Clone, Copy)]
pub struct Shape {
    pub name: &'static str,
    /// Input channels at a time.
    pub chunk: usize,
    /// Output channels of a block.
    pub outputs: usize,
    shared_bytes: u32,
}

impl Shape {
    pub const fn new(name: &'static str, chunk: usize, outputs: usize, shared_bytes: u32) -> Self {
        Self { name, chunk, outputs, shared_bytes }
    }

    /// Whether a block goes from item to item, as wgmma's do.
    pub fn goes_on(&self) -> bool {
        self.chunk == 64
    }
}

/// A kernel that is loaded.
pub struct Kernel {
    pub shape: Shape,
    function: usize,
}

/// The driver's calls that are needed here.
pub struct Gpu<'a>(pub &'a Driver);

impl Gpu<'_> {
    pub fn memory(&self, bytes: usize) -> Result<u64, String> {
        let mut address = 0;
        call!(self.0.library(), "cuMemAlloc_v2", (&raw mut address => *mut u64, bytes => usize))?;
        Ok(address)
    }

    pub fn free(&self, address: u64) -> Result<(), String> {
        call!(self.0.library(), "cuMemFree_v2", (address => u64))
    }

    fn upload<T: Copy>(&self, to: u64, values: &[T]) -> Result<(), String> {
        call!(self.0.library(), "cuMemcpyHtoD_v2",
            (to => u64, values.as_ptr().cast() => *const c_void, size_of_val(values) => usize))
    }

    pub fn memory_of<T: Copy>(&self, values: &[T]) -> Result<u64, String> {
        let address = self.memory(size_of_val(values))?;
        self.upload(address, values)?;
        Ok(address)
    }

    /// So many halves, the same few again and again.
    pub fn halves(&self, count: usize, pattern: &[f16]) -> Result<u64, String> {
        let address = self.memory(count * 2)?;
        let mut done = pattern.len().min(count);
        self.upload(address, &pattern[..done])?;
        while done < count {
            let more = done.min(count - done);
            call!(self.0.library(), "cuMemcpyDtoD_v2",
                (address + done as u64 * 2 => u64, address => u64, more * 2 => usize))?;
            done += more;
        }
        Ok(address)
    }

    pub fn download(&self, from: u64, values: &mut [f16]) -> Result<(), String> {
        call!(self.0.library(), "cuMemcpyDtoH_v2",
            (values.as_mut_ptr().cast() => *mut c_void, from => u64, size_of_val(values) => usize))
    }

    pub fn module(&self, ptx: &str) -> Result<usize, String> {
        let text = CString::new(ptx).unwrap();
        let mut module = 0;
        call!(self.0.library(), "cuModuleLoadData",
            (&raw mut module => *mut usize, text.as_ptr().cast() => *const c_void))?;
        Ok(module)
    }

    pub fn unload(&self, module: usize) -> Result<(), String> {
        call!(self.0.library(), "cuModuleUnload", (module => usize))
    }

    fn function(&self, module: usize, name: &str, shared_bytes: u32) -> Result<usize, String> {
        let name = CString::new(name).unwrap();
        let mut function = 0;
        call!(self.0.library(), "cuModuleGetFunction",
            (&raw mut function => *mut usize, module => usize, name.as_ptr() => *const std::ffi::c_char))?;
        call!(self.0.library(), "cuFuncSetAttribute",
            (function => usize, SHARED_BYTES => c_int, shared_bytes as c_int => c_int))?;
        Ok(function)
    }

    /// Those of a module.
    pub fn kernels(&self, module: usize, shapes: &[Shape]) -> Result<Vec<Kernel>, String> {
        let kernel =
            |&shape: &Shape| Ok(Kernel { shape, function: self.function(module, shape.name, shape.shared_bytes)? });
        shapes.iter().map(kernel).collect()
    }

    pub fn synchronize(&self) -> Result<(), String> {
        call!(self.0.library(), "cuCtxSynchronize", ())
    }

    pub fn launch(&self, kernel: &Kernel, grid: [usize; 2], params: &Params) -> Result<(), String> {
        let threads = if kernel.shape.goes_on() { 384 } else { 128 };
        let mut pointers = [(&raw const *params).cast_mut().cast::<c_void>()];
        call!(self.0.library(), "cuLaunchKernel",
            (kernel.function => usize, grid[0] as u32 => u32, grid[1] as u32 => u32, 1 => u32, threads => u32,
             1 => u32, 1 => u32, kernel.shape.shared_bytes => u32, 0 => usize, pointers.as_mut_ptr() => *mut *mut c_void, 0 => usize))
    }

    fn event(&self) -> Result<usize, String> {
        let mut event = 0;
        call!(self.0.library(), "cuEventCreate", (&raw mut event => *mut usize, 0 => u32))?;
        call!(self.0.library(), "cuEventRecord", (event => usize, 0 => usize))?;
        Ok(event)
    }

    /// Seconds of `work`.
    pub fn seconds(&self, work: impl FnOnce() -> Result<(), String>) -> Result<f64, String> {
        let begin = self.event()?;
        work()?;
        let end = self.event()?;
        let mut milliseconds = 0.0_f32;
        call!(self.0.library(), "cuEventSynchronize", (end => usize))?;
        call!(self.0.library(), "cuEventElapsedTime",
            (&raw mut milliseconds => *mut f32, begin => usize, end => usize))?;
        for event in [begin, end] {
            call!(self.0.library(), "cuEventDestroy_v2", (event => usize))?;
        }
        Ok(f64::from(milliseconds) / 1e3)
    }
}
