//! Which convolution kernel a layer gets: the one that should take least time, by the rate of each on GPUs of each compute
//! capability.
//!
//! ```text
//! time ~ outputs, up to the next multiple of the kernel's / rate        of kernels whose chunk divides the inputs
//! ```
//! Above the rows of a capability stands where they come from. Predicted: `python benches/rates.py` computes them from
//! products a clock, bytes of shared memory, and what barriers cost with the blocks that fit a multiprocessor. Measured, with
//! GPU and date: `tests/gpu/convolutions.rs` prints them in the same form, to be pasted here.
//!
//! That test includes this file, which therefore uses nothing else of the library.

/// A convolution kernel, as a layer sees it.
#[derive(Clone, Copy)]
pub struct Shape {
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
pub const OF_EVERY_GPU: [Shape; 6] = [
    shape("conv3_64_128", 64, 128),
    shape("conv3_64_64", 64, 64),
    shape("conv3_32_128", 32, 128),
    shape("conv3_32_64", 32, 64),
    shape("conv3_16_128", 16, 128),
    shape("conv3_16_64", 16, 64),
];

/// Hopper's own.
pub const OF_HOPPER: [Shape; 2] = [shape("conv3_wgmma_128", 64, 128), shape("conv3_wgmma_64", 64, 64)];

/// The kernels' rates on GPUs of one compute capability, as (major, minor): TFLOP/s of the GPU that is named, outputs in vain
/// included. Only how they compare counts. What does not fit such a GPU has none.
struct Rates {
    capability: (i32, i32),
    tflops: &'static [(&'static str, f64)],
}

/// Oldest first.
const RATES: [Rates; 4] = [
    // A100, predicted
    Rates {
        capability: (8, 0),
        tflops: &[
            ("conv3_64_128", 216.7),
            ("conv3_64_64", 168.2),
            ("conv3_32_128", 220.8),
            ("conv3_32_64", 188.9),
            ("conv3_16_128", 194.0),
            ("conv3_16_64", 175.9),
        ],
    },
    // RTX 3090, predicted
    Rates {
        capability: (8, 6),
        tflops: &[
            ("conv3_64_64", 62.0),
            ("conv3_32_128", 63.5),
            ("conv3_32_64", 62.8),
            ("conv3_16_128", 63.9),
            ("conv3_16_64", 63.1),
        ],
    },
    // RTX 4090, predicted
    Rates {
        capability: (8, 9),
        tflops: &[
            ("conv3_64_64", 143.5),
            ("conv3_32_128", 146.9),
            ("conv3_32_64", 145.3),
            ("conv3_16_128", 147.8),
            ("conv3_16_64", 146.1),
        ],
    },
    // H100, predicted
    Rates {
        capability: (9, 0),
        tflops: &[
            ("conv3_64_128", 370.9),
            ("conv3_64_64", 298.7),
            ("conv3_32_128", 343.8),
            ("conv3_32_64", 304.0),
            ("conv3_16_128", 300.0),
            ("conv3_16_64", 269.2),
            ("conv3_wgmma_128", 573.5),
            ("conv3_wgmma_64", 498.6),
        ],
    },
];

impl Rates {
    /// Those of the nearest capability that is not newer: 8.6's for 8.7, for Blackwell what is for every GPU of Hopper's.
    fn of_gpu(capability: (i32, i32)) -> Option<&'static Self> {
        RATES.iter().rev().find(|rates| rates.capability <= capability)
    }

    fn of_kernel(&self, name: &str) -> Option<f64> {
        let row = self.tflops.iter().find(|(kernel, _)| *kernel == name);
        row.map(|&(_, tflops)| tflops)
    }
}

/// The index of the kernel for a layer, of equally fast ones the first; none where no kernel takes so many inputs at a time.
/// A kernel without a rate is never chosen.
///
/// It depends on capability and channels alone, never on tiles or load: another kernel adds up in another order and gives
/// other last bits.
pub fn fastest(
    capability: (i32, i32),
    kernels: impl Iterator<Item = Shape>,
    input_channels: usize,
    output_channels: usize,
) -> Option<usize> {
    let rates = Rates::of_gpu(capability)?;
    let time = |kernel: Shape| {
        let made = output_channels.next_multiple_of(kernel.outputs);
        Some(made as f64 / rates.of_kernel(kernel.name)?)
    };
    kernels
        .enumerate()
        .filter(|(_, kernel)| input_channels.is_multiple_of(kernel.chunk))
        .filter_map(|(index, kernel)| Some((index, time(kernel)?)))
        .min_by(|(_, a), (_, b)| a.total_cmp(b))
        .map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AMPERE: (i32, i32) = (8, 0);
    const HOPPER: (i32, i32) = (9, 0);
    /// Of 100 KiB of shared memory, which two halos of 64 channels and the weights for 128 outputs do not fit.
    const SMALL: [(i32, i32); 2] = [(8, 6), (8, 9)];
    /// Inputs and outputs of VGG16's convolutions after the first.
    const VGG16: [(usize, usize); 8] =
        [(64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512), (512, 512), (512, 64)];

    fn loaded(capability: (i32, i32)) -> Vec<Shape> {
        let own = OF_HOPPER.iter().filter(|_| capability == HOPPER);
        OF_EVERY_GPU.iter().chain(own).copied().collect()
    }

    /// The name of what a layer gets where the kernels `refused` are left out.
    fn chosen(capability: (i32, i32), refused: &[&str], (inputs, outputs): (usize, usize)) -> Option<&'static str> {
        let mut kernels = loaded(capability);
        kernels.retain(|kernel| !refused.contains(&kernel.name));
        let index = fastest(capability, kernels.iter().copied(), inputs, outputs)?;
        Some(kernels[index].name)
    }

    #[test]
    fn all_that_is_loaded_has_a_rate() {
        assert!(RATES.is_sorted_by(|a, b| a.capability < b.capability));
        for rates in &RATES {
            let small = SMALL.contains(&rates.capability);
            let loaded = loaded(rates.capability);
            let names = loaded.iter().map(|kernel| kernel.name);
            let names: Vec<_> = names.filter(|&name| !small || name != "conv3_64_128").collect();
            let rows: Vec<_> = rates.tflops.iter().map(|(name, _)| *name).collect();
            assert_eq!(rows, names, "{:?}", rates.capability);
            assert!(rates.tflops.iter().all(|(_, rate)| *rate > 0.0));
        }
    }

    /// By the rows above: other rows may say otherwise.
    #[test]
    fn what_vgg16_gets() {
        for layer in VGG16 {
            let wide = layer.1 % 128 == 0;
            let hopper = if wide { "conv3_wgmma_128" } else { "conv3_wgmma_64" };
            let ampere = if wide { "conv3_32_128" } else { "conv3_32_64" };
            let small = if wide { "conv3_16_128" } else { "conv3_16_64" };
            assert_eq!(chosen(HOPPER, &[], layer), Some(hopper), "{layer:?}");
            assert_eq!(chosen(AMPERE, &[], layer), Some(ampere), "{layer:?}");
            for capability in SMALL {
                assert_eq!(chosen(capability, &[], layer), Some(small), "{layer:?}");
            }
        }
    }

    #[test]
    fn chunks_divide_the_inputs() {
        for rates in &RATES {
            let kernels = loaded(rates.capability);
            for inputs in (16..=320).step_by(16) {
                let all = kernels.iter().copied();
                let index = fastest(rates.capability, all, inputs, 96).unwrap();
                assert_eq!(inputs % kernels[index].chunk, 0, "{inputs} inputs");
            }
            assert_eq!(chosen(rates.capability, &[], (24, 64)), None);
        }
    }

    #[test]
    fn refused_kernels_are_never_chosen() {
        let first = chosen(HOPPER, &[], (128, 128)).unwrap();
        let second = chosen(HOPPER, &[first], (128, 128)).unwrap();
        assert_eq!([first, second], ["conv3_wgmma_128", "conv3_wgmma_64"]);
        let third = chosen(HOPPER, &[first, second], (128, 128)).unwrap();
        assert_eq!(third, "conv3_64_128");
        let none = OF_EVERY_GPU.map(|kernel| kernel.name);
        assert_eq!(chosen(AMPERE, &none, (128, 128)), None);
    }

    #[test]
    fn other_gpus_use_the_rates_of_an_older_one() {
        let of = |capability| Rates::of_gpu(capability).map(|rates| rates.capability);
        assert_eq!(of((8, 7)), Some((8, 6)));
        assert_eq!(of((12, 0)), Some((9, 0)));
        assert_eq!(of((7, 5)), None);
    }

    #[test]
    fn of_equally_fast_ones_the_first() {
        let twice = [OF_EVERY_GPU[3]; 2];
        assert_eq!(fastest(AMPERE, twice.into_iter(), 64, 64), Some(0));
    }
}
