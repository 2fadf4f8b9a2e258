//! The kernels of a device: loaded from the PTX that is part of this library, chosen for each layer.
//!
//! ```text
//! a convolution gets, of the kernels that are loaded and whose chunk divides its input channels:
//!     the largest chunk: wgmma's 64 on Hopper, else 32, else 16
//!     and 128 outputs a block where that divides its output channels, else 64
//! ```
//! It depends on the GPU and on channels alone, never on tiles or load: another kernel adds up in another order and gives
//! other last bits.

use std::sync::Arc;

use super::driver::{Context, Kernel, Module};
use super::params::{
    EQUALIZE_SHARED_BYTES, FIRST_SHARED_BYTES, GEMM_SHARED_BYTES, GEMM_THREADS, HISTOGRAM_SHARED_BYTES,
    HISTOGRAM_THREADS, LEVELS, THREADS, WGMMA_SUBTILES, WGMMA_THREADS, conv_shared_bytes, wgmma_shared_bytes,
};
use crate::error::Error;

/// Loads compiled kernels, which `make kernels` writes.
macro_rules! load {
    ($context:ident, $name:literal) => {
        load!($context, $name, "compute_80")
    };
    ($context:ident, $name:literal, $virtual:literal) => {{
        let ptx = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/ptx/", $name, ".", $virtual, ".ptx"));
        Module::new($context, $name, ptx)
    }};
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

/// A convolution kernel, as a layer sees it.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub name: &'static str,
    /// Input channels at a time.
    pub chunk: usize,
    /// Output channels of a block.
    pub outputs: usize,
}

const fn shape(name: &'static str, chunk: usize, outputs: usize) -> Shape {
    Shape { name, chunk, outputs }
}

/// The kernels for every GPU.
pub(super) const FOR_EVERY_GPU: [Shape; 4] = [
    shape("conv3_32_128", 32, 128),
    shape("conv3_32_64", 32, 64),
    shape("conv3_16_128", 16, 128),
    shape("conv3_16_64", 16, 64),
];

/// Hopper's own.
pub(super) const FOR_HOPPER: [Shape; 2] = [shape("conv3_wgmma_128", 64, 128), shape("conv3_wgmma_64", 64, 64)];

/// The index of the kernel for a layer; none where no kernel's chunk divides the inputs.
pub(super) fn choose(
    kernels: impl Iterator<Item = Shape>,
    input_channels: usize,
    output_channels: usize,
) -> Option<usize> {
    let outputs = if output_channels.is_multiple_of(128) { 128 } else { 64 };
    kernels
        .enumerate()
        .filter(|(_, kernel)| input_channels.is_multiple_of(kernel.chunk))
        .min_by_key(|(_, kernel)| (usize::MAX - kernel.chunk, kernel.outputs != outputs))
        .map(|(index, _)| index)
}

/// A convolution kernel that this device could run and does not use.
#[derive(Clone, Debug)]
pub(super) struct LeftOut {
    pub kernel: &'static str,
    pub why: String,
}

/// A convolution kernel that is loaded.
pub(super) struct Convolution {
    pub kernel: Kernel,
    pub shape: Shape,
    /// As many blocks as there are multiprocessors go from subtile to subtile; else each has blocks of its own.
    goes_on: bool,
}

impl Convolution {
    /// The grid for a layer.
    pub fn blocks(&self, subtiles: usize, output_channels: usize, multiprocessors: usize) -> [usize; 2] {
        let across = output_channels.div_ceil(self.shape.outputs);
        if self.goes_on {
            let items = subtiles.div_ceil(WGMMA_SUBTILES).saturating_mul(across);
            [items.min(multiprocessors), 1]
        } else {
            [subtiles, across]
        }
    }
}

/// See the module. The kernels come before the modules that they are in.
pub(super) struct Kernels {
    /// All that this device can run.
    pub convolutions: Vec<Convolution>,
    pub first: Kernel,
    pub resample: Kernel,
    pub histogram: Kernel,
    pub equalize: Kernel,
    pub gather_max_pool: Kernel,
    pub gemm: Kernel,
    pub split_k_reduce: Kernel,
    pub scores: Kernel,
    pub write_mask: Kernel,
    /// Those that were to be left out, and those that could not be loaded.
    pub left_out: Vec<LeftOut>,
    pub modules: Vec<Module>,
}

impl Kernels {
    /// Loads everything but the convolutions `left_out`.
    pub fn new(context: &Arc<Context>, limits: Limits, mut left_out: Vec<LeftOut>) -> Result<Self, Error> {
        let conv3 = load!(context, "conv3_mma")?;
        let first = load!(context, "conv3_first")?;
        let dense = load!(context, "gemm")?;
        let intensity = load!(context, "intensity")?;
        let max = load!(context, "gather_max_pool")?;
        let mask = load!(context, "mask")?;
        let is_left_out = |left_out: &[LeftOut], shape: &Shape| left_out.iter().any(|out| out.kernel == shape.name);
        let mut convolutions = Vec::new();
        let mut wgmma = None;
        let fits = |shape: &Shape| wgmma_shared_bytes(shape.outputs) <= limits.shared_bytes;
        let wanted: Vec<Shape> = match limits.capability {
            HOPPER => FOR_HOPPER.into_iter().filter(|shape| fits(shape) && !is_left_out(&left_out, shape)).collect(),
            _ => Vec::new(),
        };
        if !wanted.is_empty() {
            match load!(context, "conv3_wgmma", "compute_90a") {
                Ok(module) => {
                    for shape in wanted {
                        let kernel = module.kernel(shape.name, WGMMA_THREADS, wgmma_shared_bytes(shape.outputs))?;
                        convolutions.push(Convolution { kernel, shape, goes_on: true });
                    }
                    wgmma = Some(module);
                }
                Err(Error::DeviceFailed(why)) => {
                    left_out.extend(wanted.iter().map(|shape| LeftOut { kernel: shape.name, why: why.clone() }));
                }
                Err(other) => return Err(other),
            }
        }
        for shape in FOR_EVERY_GPU {
            let shared_bytes = conv_shared_bytes(shape.chunk, shape.outputs);
            if shared_bytes <= limits.shared_bytes && !is_left_out(&left_out, &shape) {
                let kernel = conv3.kernel(shape.name, THREADS, shared_bytes)?;
                convolutions.push(Convolution { kernel, shape, goes_on: false });
            }
        }
        Ok(Self {
            convolutions,
            first: first.kernel("conv3_first", THREADS, FIRST_SHARED_BYTES)?,
            resample: intensity.kernel("resample", THREADS, 0)?,
            histogram: intensity.kernel("histogram", HISTOGRAM_THREADS, HISTOGRAM_SHARED_BYTES)?,
            equalize: intensity.kernel("equalize", LEVELS as u32, EQUALIZE_SHARED_BYTES)?,
            gather_max_pool: max.kernel("gather_max_pool", THREADS, 0)?,
            gemm: dense.kernel("gemm", GEMM_THREADS, GEMM_SHARED_BYTES)?,
            split_k_reduce: dense.kernel("split_k_reduce", THREADS, 0)?,
            scores: mask.kernel("scores", THREADS, 0)?,
            write_mask: mask.kernel("write_mask", THREADS, 0)?,
            left_out,
            modules: [conv3, first, dense, intensity, max, mask].into_iter().chain(wgmma).collect(),
        })
    }

    /// The name of this convolution kernel, if there is one.
    pub fn convolution(&self, name: &str) -> Option<&'static str> {
        self.convolutions.iter().map(|c| c.kernel.name).find(|known| *known == name)
    }

    /// The index of the kernel for a layer.
    pub fn choose(&self, input_channels: usize, output_channels: usize) -> Result<usize, Error> {
        let shapes = self.convolutions.iter().map(|c| c.shape);
        choose(shapes, input_channels, output_channels).ok_or_else(|| {
            let left_out: Vec<&str> = self.left_out.iter().map(|out| out.kernel).collect();
            Error::NoDevice(format!(
                "no CUDA kernel is left for {input_channels} input channels; left out: {}",
                left_out.join(", ")
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(kernels: &[Shape], inputs: usize, outputs: usize) -> Option<&'static str> {
        choose(kernels.iter().copied(), inputs, outputs).map(|index| kernels[index].name)
    }

    #[test]
    fn the_rule() {
        let hopper = [&FOR_HOPPER[..], &FOR_EVERY_GPU].concat();
        for (inputs, outputs, on_hopper, elsewhere) in [
            (64, 64, "conv3_wgmma_64", "conv3_32_64"),
            (64, 128, "conv3_wgmma_128", "conv3_32_128"),
            (512, 512, "conv3_wgmma_128", "conv3_32_128"),
            (128, 160, "conv3_wgmma_64", "conv3_32_64"),
            (96, 128, "conv3_32_128", "conv3_32_128"),
            (48, 128, "conv3_16_128", "conv3_16_128"),
            (16, 16, "conv3_16_64", "conv3_16_64"),
        ] {
            assert_eq!(chosen(&hopper, inputs, outputs), Some(on_hopper), "{inputs} x {outputs}");
            assert_eq!(chosen(&FOR_EVERY_GPU, inputs, outputs), Some(elsewhere), "{inputs} x {outputs}");
        }
        assert_eq!(chosen(&hopper, 24, 64), None);
        // What is left out has a neighbour of the same chunk take its place, then one of a smaller chunk.
        assert_eq!(chosen(&hopper[1..], 64, 128), Some("conv3_wgmma_64"));
        assert_eq!(chosen(&hopper[2..], 64, 128), Some("conv3_32_128"));
        assert_eq!(chosen(&hopper[3..], 64, 128), Some("conv3_32_64"));
        assert_eq!(chosen(&hopper[4..], 64, 128), Some("conv3_16_128"));
        assert_eq!(chosen(&[], 64, 128), None);
    }
}
