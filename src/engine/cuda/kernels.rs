//! The kernels of a device: loaded from the PTX that is part of this library, tried out, chosen.

use std::cmp::Reverse;
use std::sync::Arc;

use super::device::Limits;
use super::driver::{Context, Kernel, Module};
use super::params::{
    DENSE_SHARED_BYTES, EQUALIZE_SHARED_BYTES, FIRST_SHARED_BYTES, HISTOGRAM_SHARED_BYTES,
    HISTOGRAM_THREADS, LEVELS, THREADS, WGMMA_CHUNK, WGMMA_THREADS, WGMMA_TILES, conv_shared_bytes,
    wgmma_shared_bytes,
};
use crate::error::Error;

/// The compiled kernels: `make kernels` writes them.
macro_rules! ptx {
    ($name:literal) => {
        ptx!($name, "compute_80")
    };
    ($name:literal, $virtual:literal) => {
        include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/kernels/ptx/",
            $name,
            ".",
            $virtual,
            ".ptx"
        ))
    };
}

/// The only GPUs that run PTX for compute_90a, as (major, minor).
const HOPPER: (i32, i32) = (9, 0);

/// A convolution kernel: what it keeps in shared memory and what it makes.
pub(super) struct Convolution {
    pub kernel: Kernel,
    /// Input channels at a time.
    pub chunk: usize,
    /// Output channels of a block.
    pub outputs: usize,
    /// As many blocks as there are multiprocessors go from tile to tile; else each tile has blocks of its own.
    goes_on: bool,
}

impl Convolution {
    /// The grid for a layer.
    pub fn blocks(
        &self,
        tiles: usize,
        output_channels: usize,
        multiprocessors: usize,
    ) -> [usize; 2] {
        let across = output_channels.div_ceil(self.outputs);
        if self.goes_on {
            let items = tiles.div_ceil(WGMMA_TILES).saturating_mul(across);
            [items.min(multiprocessors), 1]
        } else {
            [tiles, across]
        }
    }
}

/// See the module. The kernels come before the modules that they are in.
pub(super) struct Kernels {
    convolutions: Vec<Convolution>,
    pub first: Kernel,
    pub histogram: Kernel,
    pub equalize: Kernel,
    pub table_max: Kernel,
    pub dense_f16: Kernel,
    pub dense_f32: Kernel,
    pub scores: Kernel,
    pub paint: Kernel,
    /// Why the kernels for Hopper could not be loaded on one.
    pub unloaded: Option<String>,
    _modules: Vec<Module>,
}

impl Kernels {
    /// Loads everything but the convolutions `refused`.
    pub fn new(
        context: &Arc<Context>,
        limits: Limits,
        refused: &[&'static str],
    ) -> Result<Self, Error> {
        let conv3 = Module::new(context, ptx!("conv3_mma"))?;
        let first = Module::new(context, ptx!("conv3_first"))?;
        let dense = Module::new(context, ptx!("dense_mma"))?;
        let intensity = Module::new(context, ptx!("intensity"))?;
        let max = Module::new(context, ptx!("table_max"))?;
        let mask = Module::new(context, ptx!("mask"))?;
        let (wgmma, unloaded) = match limits.capability {
            HOPPER => match Module::new(context, ptx!("conv3_wgmma", "compute_90a")) {
                Ok(module) => (Some(module), None),
                Err(Error::DeviceFailed(why)) => (None, Some(why)),
                Err(other) => return Err(other),
            },
            _ => (None, None),
        };
        let mut convolutions = Vec::new();
        for (name, chunk, outputs) in [
            ("conv3_64_128", 64, 128),
            ("conv3_64_64", 64, 64),
            ("conv3_32_128", 32, 128),
            ("conv3_32_64", 32, 64),
            ("conv3_16_128", 16, 128),
            ("conv3_16_64", 16, 64),
        ] {
            let shared_bytes = conv_shared_bytes(chunk, outputs);
            if shared_bytes <= limits.shared_bytes && !refused.contains(&name) {
                convolutions.push(Convolution {
                    kernel: conv3.kernel(name, THREADS, shared_bytes)?,
                    chunk,
                    outputs,
                    goes_on: false,
                });
            }
        }
        for (name, outputs) in [("conv3_wgmma_128", 128), ("conv3_wgmma_64", 64)] {
            let shared_bytes = wgmma_shared_bytes(outputs);
            let usable = shared_bytes <= limits.shared_bytes && !refused.contains(&name);
            if let Some(module) = wgmma.as_ref().filter(|_| usable) {
                convolutions.push(Convolution {
                    kernel: module.kernel(name, WGMMA_THREADS, shared_bytes)?,
                    chunk: WGMMA_CHUNK,
                    outputs,
                    goes_on: true,
                });
            }
        }
        Ok(Self {
            convolutions,
            first: first.kernel("conv3_first", THREADS, FIRST_SHARED_BYTES)?,
            histogram: intensity.kernel("histogram", HISTOGRAM_THREADS, HISTOGRAM_SHARED_BYTES)?,
            equalize: intensity.kernel("equalize", LEVELS as u32, EQUALIZE_SHARED_BYTES)?,
            table_max: max.kernel("table_max", THREADS, 0)?,
            dense_f16: dense.kernel("dense_f16", THREADS, DENSE_SHARED_BYTES)?,
            dense_f32: dense.kernel("dense_f32", THREADS, DENSE_SHARED_BYTES)?,
            scores: mask.kernel("scores", THREADS, 0)?,
            paint: mask.kernel("paint", THREADS, 0)?,
            unloaded,
            _modules: [conv3, first, dense, intensity, max, mask]
                .into_iter()
                .chain(wgmma)
                .collect(),
        })
    }

    /// All convolution kernels that this device can run.
    pub fn convolutions(&self) -> &[Convolution] {
        &self.convolutions
    }

    /// Whether a convolution kernel has this name.
    pub fn is_convolution(&self, name: &str) -> bool {
        self.convolutions.iter().any(|c| c.kernel.name == name)
    }

    /// The index of the kernel for a layer: the most channels at a time, Hopper's own instructions, the fewest outputs
    /// in vain, the largest blocks.
    pub fn choose(&self, input_channels: usize, output_channels: usize) -> Result<usize, Error> {
        let fits = |kernel: &Convolution| input_channels.is_multiple_of(kernel.chunk);
        (0..self.convolutions.len())
            .filter(|&index| fits(&self.convolutions[index]))
            .min_by_key(|&index| {
                let kernel = &self.convolutions[index];
                let made = output_channels.next_multiple_of(kernel.outputs);
                let others = !kernel.goes_on;
                (Reverse(kernel.chunk), others, made, Reverse(kernel.outputs))
            })
            .ok_or_else(|| {
                Error::NoDevice(format!(
                    "no CUDA kernel for {input_channels} input channels passed its test on this \
                     device"
                ))
            })
    }
}
