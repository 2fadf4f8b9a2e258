//! A tiny network with widths for every kernel, made of random numbers.

use half::f16;
use safetensors::tensor::{Dtype, TensorView};

use crate::error::Error;
use crate::network::CONVOLUTIONS;
use crate::weights::Model;

/// Of the slice, which has 2 x 2 patches.
pub(super) const WIDTH: usize = 20;
pub(super) const HEIGHT: usize = 17;
/// Side of the last feature map.
pub(super) const SIDE: usize = 2;
pub(super) const CLASSES: usize = 3;
/// Inputs that chunks of 64, of 32 and only of 16 channels divide, each with outputs for a block of 64 and of 128: what any
/// layer of any model gets, one of these gets too. One chunk of input channels and several, and tails; the most work where
/// the images are small.
pub(super) const WIDTHS: [usize; CONVOLUTIONS] = [16, 16, 72, 32, 24, 128, 64, 128, 128, 96, 128, 48, 128];
/// More than one panel of outputs, and steps enough to go round the stages of shared memory.
pub(super) const DENSE: [usize; 2] = [272, CLASSES];
/// torchvision's indices of the convolutions.
const FEATURES: [usize; CONVOLUTIONS] = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28];

/// Numbers from -0.5 to 0.5 (Knuth's MMIX generator).
pub(super) struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> f64 {
        self.0 = (self.0).wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64 - 0.5
    }
}

/// A network of one input channel, scaled so that activations stay near 1.
pub(super) fn tiny_model() -> Result<Model, Error> {
    let mut random = Random(3);
    let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    let mut layer = |name: String, outputs: usize, shape: Vec<usize>| {
        let inputs: usize = shape.iter().product();
        let scale = (24.0 / inputs as f64).sqrt();
        let mut numbers = |count: usize, scale: f64| {
            let number = |_| f16::from_f64(scale * random.next()).to_bits().to_le_bytes();
            (0..count).flat_map(number).collect::<Vec<u8>>()
        };
        let weights = numbers(outputs * inputs, scale);
        let biases = numbers(outputs, 0.2);
        let shape = [vec![outputs], shape].concat();
        tensors.push((format!("{name}.weight"), shape, weights));
        tensors.push((format!("{name}.bias"), vec![outputs], biases));
    };
    let mut inputs = 1;
    for (index, outputs) in FEATURES.into_iter().zip(WIDTHS) {
        layer(format!("features.{index}"), outputs, vec![inputs, 3, 3]);
        inputs = outputs;
    }
    inputs *= SIDE * SIDE;
    for (number, outputs) in DENSE.into_iter().enumerate() {
        layer(format!("classifier.{}", 3 * number), outputs, vec![inputs]);
        inputs = outputs;
    }
    let failed = |error: safetensors::SafeTensorError| Error::Panic(error.to_string());
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| {
            let view = TensorView::new(Dtype::F16, shape.clone(), bytes).map_err(failed)?;
            Ok((name.as_str(), view))
        })
        .collect::<Result<Vec<_>, Error>>()?;
    let bytes = safetensors::serialize(views, None).map_err(failed)?;
    Model::from_bytes(&bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::engine::cuda::kernels::{FOR_EVERY_GPU, FOR_HOPPER, Shape, choose};
    use crate::engine::cuda::params::CHANNEL_GRAIN;

    /// On every GPU, whatever kernels it has and whatever is left out.
    #[test]
    fn no_layer_gets_a_kernel_that_was_not_tried() {
        let padded = WIDTHS.map(|width| width.next_multiple_of(CHANNEL_GRAIN));
        let all: Vec<Shape> = FOR_HOPPER.into_iter().chain(FOR_EVERY_GPU).collect();
        for kept in 0..1_u32 << all.len() {
            let kernels = all.iter().enumerate().filter(|(i, _)| kept >> i & 1 == 1);
            let kernels: Vec<Shape> = kernels.map(|(_, shape)| *shape).collect();
            let chosen = |inputs, outputs| choose(kernels.iter().copied(), inputs, outputs);
            let tried: BTreeSet<_> = padded.windows(2).map(|w| chosen(w[0], w[1])).collect();
            for inputs in (16..=128).step_by(16) {
                for outputs in (16..=1024).step_by(16) {
                    assert!(tried.contains(&chosen(inputs, outputs)), "{kept:b}: {inputs} x {outputs}");
                }
            }
        }
    }
}
