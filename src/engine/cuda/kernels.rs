//! The kernels of a device: loaded from the PTX that is part of this library, tried out, chosen.

use std::sync::Arc;

use super::driver::{Context, Kernel, Module};
use super::params::{
    DENSE_SHARED_BYTES, DENSE_THREADS, EQUALIZE_SHARED_BYTES, FIRST_SHARED_BYTES, HISTOGRAM_SHARED_BYTES,
    HISTOGRAM_THREADS, LEVELS, THREADS, WGMMA_THREADS, WGMMA_TILES, conv_shared_bytes, wgmma_shared_bytes,
};
use super::rates::{OF_EVERY_GPU, OF_HOPPER, Shape, fastest};
use crate::error::Error;

/// The compiled kernels: `make kernels` writes them.
macro_rules! ptx {
    ($name:literal) => {
        ptx!($name, "compute_80")
    };
    ($name:literal, $virtual:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/ptx/", $name, ".", $virtual, ".ptx"))
    };
}

/// The only GPUs that run PTX for compute_90a, as (major, minor).
const HOPPER: (i32, i32) = (9, 0);

/// Limits of a device.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub capability: (i32, i32),
    /// Maximum dynamic shared memory of a block, in bytes.
    pub shared_bytes: u32,
    pub multiprocessors: usize,
}

/// A convolution kernel that is loaded.
pub(super) struct Convolution {
    pub kernel: Kernel,
    pub shape: Shape,
    /// As many blocks as there are multiprocessors go from tile to tile; else each tile has blocks of its own.
    goes_on: bool,
}

impl Convolution {
    /// The grid for a layer.
    pub fn blocks(&self, tiles: usize, output_channels: usize, multiprocessors: usize) -> [usize; 2] {
        let across = output_channels.div_ceil(self.shape.outputs);
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
    capability: (i32, i32),
    convolutions: Vec<Convolution>,
    pub first: Kernel,
    pub histogram: Kernel,
    pub equalize: Kernel,
    pub table_max: Kernel,
    pub dense_products: Kernel,
    pub dense_sums: Kernel,
    pub scores: Kernel,
    pub paint: Kernel,
    /// Why the kernels for Hopper could not be loaded on one.
    pub unloaded: Option<String>,
    _modules: Vec<Module>,
}

impl Kernels {
    /// Loads everything but the convolutions `refused`.
    pub fn new(context: &Arc<Context>, limits: Limits, refused: &[&'static str]) -> Result<Self, Error> {
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
        let usable =
            |shape: &Shape, shared_bytes| shared_bytes <= limits.shared_bytes && !refused.contains(&shape.name);
        for shape in OF_EVERY_GPU {
            let shared_bytes = conv_shared_bytes(shape.chunk, shape.outputs);
            if usable(&shape, shared_bytes) {
                convolutions.push(Convolution {
                    kernel: conv3.kernel(shape.name, THREADS, shared_bytes)?,
                    shape,
                    goes_on: false,
                });
            }
        }
        for shape in OF_HOPPER {
            let shared_bytes = wgmma_shared_bytes(shape.outputs);
            if let Some(module) = wgmma.as_ref().filter(|_| usable(&shape, shared_bytes)) {
                convolutions.push(Convolution {
                    kernel: module.kernel(shape.name, WGMMA_THREADS, shared_bytes)?,
                    shape,
                    goes_on: true,
                });
            }
        }
        Ok(Self {
            capability: limits.capability,
            convolutions,
            first: first.kernel("conv3_first", THREADS, FIRST_SHARED_BYTES)?,
            histogram: intensity.kernel("histogram", HISTOGRAM_THREADS, HISTOGRAM_SHARED_BYTES)?,
            equalize: intensity.kernel("equalize", LEVELS as u32, EQUALIZE_SHARED_BYTES)?,
            table_max: max.kernel("table_max", THREADS, 0)?,
            dense_products: dense.kernel("dense_products", DENSE_THREADS, DENSE_SHARED_BYTES)?,
            dense_sums: dense.kernel("dense_sums", THREADS, 0)?,
            scores: mask.kernel("scores", THREADS, 0)?,
            paint: mask.kernel("paint", THREADS, 0)?,
            unloaded,
            _modules: [conv3, first, dense, intensity, max, mask].into_iter().chain(wgmma).collect(),
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

    /// The index of the kernel for a layer (`rates`).
    pub fn choose(&self, input_channels: usize, output_channels: usize) -> Result<usize, Error> {
        let shapes = self.convolutions.iter().map(|c| c.shape);
        fastest(self.capability, shapes, input_channels, output_channels).ok_or_else(|| {
            Error::NoDevice(format!(
                "no CUDA kernel for {input_channels} input channels passed its test on this device"
            ))
        })
    }
}
