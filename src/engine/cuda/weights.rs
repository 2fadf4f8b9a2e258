//! A model's parameters in the kernels' layout: fp16 (the first layer f32), in the order of shared memory.
//!
//! ```text
//! convolution  [panel of outputs][chunk of inputs][tap][output][channel, 16-byte pieces swizzled]
//! dense        [panel of 64 outputs][tap][chunk of 32 inputs][output][channel, swizzled]
//! ```
//! The swizzle is what keeps the kernels' reads of shared memory free of bank conflicts; kernels/fragments.cuh derives
//! it. Channels that do not exist are zeros.
//!
//! The first layer has two inputs, intensity and "inside the patch", as on the CPU (see `engine::first_layer`).

use std::sync::Arc;

use half::f16;

use super::device::Device;
use super::driver::DeviceMemory;
use super::params::{CHANNEL_GRAIN, GEMM_CHUNK, GEMM_PACKED};
use crate::engine::Settings;
use crate::engine::first_layer::{INPUT_CHANNELS, first_layer_weight};
use crate::error::Error;
use crate::memory::try_filled;
use crate::network::Convolution;
use crate::plan::MacsPerOutput;

/// Weights and bias of a layer on the device.
pub(super) struct PackedLayer {
    pub weights: DeviceMemory,
    pub bias: DeviceMemory,
    /// Index of the kernel among the device's convolutions; the other layers have one kernel.
    pub kernel: usize,
    /// Channels, padding included.
    pub inputs: usize,
    pub outputs: usize,
}

/// A dense layer, the head among them.
pub(super) struct PackedDense {
    pub layer: PackedLayer,
    /// Taps along each axis, and the rows of them in a split of its sums (split-K).
    pub side: usize,
    pub split_rows: usize,
}

impl PackedDense {
    pub fn splits(&self) -> usize {
        self.side.div_ceil(self.split_rows)
    }
}

/// So many splits that a slice of some thousand patches has blocks for a whole GPU; not more, for every split takes
/// memory. It depends on the layer alone: another split gives other last bits.
fn split_rows(side: usize, outputs: usize) -> usize {
    const OUTPUTS_OF_ALL_SPLITS: usize = 2048;
    side.div_ceil((OUTPUTS_OF_ALL_SPLITS / outputs).clamp(1, side))
}

pub(super) struct PackedWeights {
    pub first: PackedLayer,
    /// Convolutions 1..13.
    pub convolutions: Vec<PackedLayer>,
    /// The first is the head.
    pub dense: Vec<PackedDense>,
    pub macs_per_output: MacsPerOutput,
}

impl PackedWeights {
    pub fn new(device: &Arc<Device>, settings: &Settings<'_>) -> Result<Self, Error> {
        let model = settings.model;
        let convolutions = model.convolutions();
        let first = first_layer(device, &convolutions[0], settings)?;
        let mut layers: Vec<PackedLayer> = Vec::new();
        for convolution in &convolutions[1..] {
            let inputs = layers.last().unwrap_or(&first).outputs;
            layers.push(hidden_layer(device, convolution, inputs)?);
        }
        let inputs = layers.last().unwrap_or(&first).outputs;
        let dense = dense_layers(device, settings, inputs)?;
        Ok(Self { first, convolutions: layers, dense, macs_per_output: settings.macs_per_output() })
    }

    pub fn bytes(&self) -> u64 {
        let dense = self.dense.iter().map(|dense| &dense.layer);
        let layers = self.convolutions.iter().chain(dense);
        let layers = layers.chain([&self.first]);
        layers.map(|layer| (layer.weights.bytes() + layer.bias.bytes()) as u64).sum()
    }
}

fn padded(channels: usize) -> usize {
    channels.next_multiple_of(CHANNEL_GRAIN)
}

/// The bias, zeros behind it.
fn bias(device: &Arc<Device>, bias: impl Iterator<Item = f16>, len: usize) -> Result<DeviceMemory, Error> {
    let mut values = try_filled(len, 0.0_f32, "packed weights")?;
    for (value, bias) in values.iter_mut().zip(bias) {
        *value = bias.to_f32();
    }
    DeviceMemory::from_slice(&device.context, &values, "weights")
}

fn first_layer(device: &Arc<Device>, convolution: &Convolution, settings: &Settings<'_>) -> Result<PackedLayer, Error> {
    let outputs = convolution.bias.len();
    let channels = padded(outputs);
    // [tap][input][output]
    let mut packed = try_filled(9 * INPUT_CHANNELS * channels, 0.0_f32, "packed weights")?;
    for (row, values) in packed.chunks_exact_mut(channels).enumerate() {
        for (output, value) in values.iter_mut().enumerate().take(outputs) {
            *value = first_layer_weight(convolution, settings, output, row / INPUT_CHANNELS, row % INPUT_CHANNELS);
        }
    }
    Ok(PackedLayer {
        weights: DeviceMemory::from_slice(&device.context, &packed, "weights")?,
        bias: bias(device, convolution.bias.iter().copied(), channels)?,
        kernel: 0,
        inputs: INPUT_CHANNELS,
        outputs: channels,
    })
}

/// Offset of channel `channel` of output `output` in a panel of `chunk` channels per output.
fn swizzled(output: usize, channel: usize, chunk: usize) -> usize {
    let swizzle = match chunk {
        16 => output / 4 % 2,
        32 => output / 2 % 4,
        _ => output % 8,
    };
    output * chunk + ((channel / 8) ^ swizzle) * 8 + channel % 8
}

/// The packing of a layer.
struct Packing {
    taps: usize,
    /// Existing inputs, and those with padding.
    inputs: usize,
    padded_inputs: usize,
    outputs: usize,
    /// Inputs at a time, and outputs of a panel.
    chunk: usize,
    panel: usize,
    /// Chunks outside, taps inside, as convolutions walk; else the other way round.
    chunks_outside: bool,
}

impl Packing {
    /// `weight(output, tap, input)` gives each parameter that exists.
    fn pack(&self, weight: impl Fn(usize, usize, usize) -> f16) -> Result<Vec<u16>, Error> {
        let panels = self.outputs.div_ceil(self.panel);
        let chunks = self.padded_inputs.div_ceil(self.chunk);
        let step = self.panel * self.chunk;
        let mut packed = try_filled(panels * chunks * self.taps * step, 0, "packed weights")?;
        for (number, values) in packed.chunks_exact_mut(step).enumerate() {
            let panel = number / (chunks * self.taps);
            let within = number % (chunks * self.taps);
            let (chunk, tap) = if self.chunks_outside {
                (within / self.taps, within % self.taps)
            } else {
                (within % chunks, within / chunks)
            };
            let first_output = panel * self.panel;
            let first_input = chunk * self.chunk;
            for output in first_output..(first_output + self.panel).min(self.outputs) {
                for input in first_input..(first_input + self.chunk).min(self.inputs) {
                    let offset = swizzled(output - first_output, input - first_input, self.chunk);
                    values[offset] = weight(output, tap, input).to_bits();
                }
            }
        }
        Ok(packed)
    }
}

/// A convolution after the first, which reads `inputs` channels, padding included.
fn hidden_layer(device: &Arc<Device>, convolution: &Convolution, inputs: usize) -> Result<PackedLayer, Error> {
    let weight = &convolution.weight;
    let outputs = convolution.bias.len();
    let index = device.kernels.choose(inputs, padded(outputs))?;
    let kernel = device.kernels.convolutions[index].shape;
    let packed = Packing {
        taps: 9,
        inputs: weight.dim().1,
        padded_inputs: inputs,
        outputs,
        chunk: kernel.chunk,
        panel: kernel.outputs,
        chunks_outside: true,
    }
    .pack(|output, tap, input| weight[[output, input, tap / 3, tap % 3]])?;
    Ok(PackedLayer {
        weights: DeviceMemory::from_slice(&device.context, &packed, "weights")?,
        bias: bias(device, convolution.bias.iter().copied(), outputs.next_multiple_of(kernel.outputs))?,
        kernel: index,
        inputs,
        outputs: padded(outputs),
    })
}

/// The head (a convolution over the whole feature map) and the layers after it.
fn dense_layers(device: &Arc<Device>, settings: &Settings<'_>, inputs: usize) -> Result<Vec<PackedDense>, Error> {
    let side = settings.feature_side();
    let taps = side * side;
    let first = settings.model.first_dense(side)?;
    let channels = first.weight.dim().1 / taps;
    let mut layers =
        vec![dense_layer(device, [side, channels, inputs], first.bias.iter().copied(), |output, tap, input| {
            first.weight[[output, input * taps + tap]]
        })?];
    for dense in settings.model.dense() {
        let inputs = layers[layers.len() - 1].layer.outputs;
        layers.push(dense_layer(
            device,
            [1, dense.weight.dim().1, inputs],
            dense.bias.iter().copied(),
            |output, _, input| dense.weight[[output, input]],
        )?);
    }
    Ok(layers)
}

/// A layer of `side` x `side` taps; `inputs` and those with padding.
fn dense_layer(
    device: &Arc<Device>,
    [side, inputs, padded_inputs]: [usize; 3],
    biases: impl ExactSizeIterator<Item = f16>,
    weight: impl Fn(usize, usize, usize) -> f16,
) -> Result<PackedDense, Error> {
    let outputs = biases.len();
    let packed = Packing {
        taps: side * side,
        inputs,
        padded_inputs,
        outputs,
        chunk: GEMM_CHUNK,
        panel: GEMM_PACKED,
        chunks_outside: false,
    }
    .pack(weight)?;
    Ok(PackedDense {
        layer: PackedLayer {
            weights: DeviceMemory::from_slice(&device.context, &packed, "weights")?,
            bias: bias(device, biases, padded(outputs))?,
            kernel: 0,
            inputs: padded_inputs,
            outputs: padded(outputs),
        },
        side,
        split_rows: split_rows(side, padded(outputs)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_layers_have_few_splits() {
        for (side, outputs, rows) in
            [(8, 256, 1), (8, 16, 1), (8, 512, 2), (8, 1024, 4), (7, 4096, 7), (7, 1024, 4), (1, 256, 1), (2, 8192, 2)]
        {
            assert_eq!(split_rows(side, outputs), rows, "{side}, {outputs}");
        }
    }
}
