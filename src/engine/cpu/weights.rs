//! The network's fp16 parameters as f32 panels that the matrix product reads without re-packing.
//!
//! ```text
//! panels of at most 64 outputs, a multiple of 16:  weight[panel][input][output in panel]
//! input = (tap row, tap column, channel), channels padded like the activations they meet
//! ```

use crate::engine::Settings;
use crate::engine::first_layer::{INPUT_CHANNELS, first_layer_weight};
use crate::error::Error;
use crate::memory::try_filled;
use crate::network::Convolution;
use crate::weights::Model;

/// Outputs are padded to a multiple of this: one AVX-512 register of f32.
pub(super) const LANES: usize = 16;
/// Most registers of outputs in a panel: what the product's inner kernel holds.
const PANEL_LANES: usize = 4;

/// A table convolution's weights.
pub(super) struct Layer {
    /// [panel][inputs][panel width]
    panels: Vec<f32>,
    /// [outputs], padding included
    bias: Vec<f32>,
    /// First output of each panel, and the end.
    bounds: Vec<usize>,
    /// (row, column) of each tap, row by row.
    pub positions: Vec<(usize, usize)>,
    /// Channels of the activations that it reads, padding included.
    pub channels: usize,
    /// Whether negative sums become zero.
    pub relu: bool,
}

impl Layer {
    /// A layer of `side` x `side` taps; `weight(output, tap, channel)` gives each parameter.
    fn new(
        bias: impl ExactSizeIterator<Item = f32>,
        side: usize,
        channels: usize,
        relu: bool,
        weight: impl Fn(usize, usize, usize) -> f32,
    ) -> Result<Self, Error> {
        let outputs = bias.len();
        let lanes = outputs.div_ceil(LANES);
        let panels = lanes.div_ceil(PANEL_LANES);
        let bounds: Vec<usize> = (0..=panels)
            .map(|panel| LANES * (lanes * panel / panels))
            .collect();
        let positions: Vec<_> = (0..side)
            .flat_map(|row| (0..side).map(move |column| (row, column)))
            .collect();
        let inputs = positions.len() * channels;
        let mut packed = try_filled(inputs * lanes * LANES, 0.0, "packed weights")?;
        for panel in bounds.windows(2) {
            let width = panel[1] - panel[0];
            let base = panel[0] * inputs;
            for output in panel[0]..panel[1].min(outputs) {
                for tap in 0..positions.len() {
                    for channel in 0..channels {
                        let row = tap * channels + channel;
                        packed[base + row * width + output - panel[0]] =
                            weight(output, tap, channel);
                    }
                }
            }
        }
        let mut padded = try_filled(lanes * LANES, 0.0, "packed weights")?;
        for (to, from) in padded.iter_mut().zip(bias) {
            *to = from;
        }
        Ok(Self {
            panels: packed,
            bias: padded,
            bounds,
            positions,
            channels,
            relu,
        })
    }

    /// Outputs, padding included.
    pub fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// [outputs]
    pub fn bias(&self) -> &[f32] {
        &self.bias
    }

    /// Panels as (first output, width, weights [inputs][width]).
    pub fn panels(&self) -> impl Iterator<Item = (usize, usize, &[f32])> {
        let inputs = self.positions.len() * self.channels;
        self.bounds.windows(2).map(move |panel| {
            let weights = &self.panels[panel[0] * inputs..panel[1] * inputs];
            (panel[0], panel[1] - panel[0], weights)
        })
    }

    fn bytes(&self) -> u64 {
        4 * (self.panels.len() + self.bias.len()) as u64
    }
}

/// All layers.
pub(super) struct Weights {
    pub convolutions: Vec<Layer>,
    /// The first is the head: taps are the positions of the feature map.
    pub dense: Vec<Layer>,
    /// Multiply-accumulates of one output pixel of each convolution, padding and normalisation not
    /// counted.
    pub convolution_macs: Vec<u64>,
    /// Multiply-accumulates of one lattice point, all dense layers.
    pub head_macs: u64,
}

impl Weights {
    pub fn new(settings: &Settings<'_>) -> Result<Self, Error> {
        let model = settings.model;
        let mut channels = INPUT_CHANNELS;
        let mut convolutions = Vec::new();
        for (index, convolution) in model.convolutions().iter().enumerate() {
            let layer = if index == 0 {
                first_layer(convolution, settings)?
            } else {
                hidden_layer(convolution, channels)?
            };
            channels = layer.outputs();
            convolutions.push(layer);
        }
        let convolution_macs = model
            .convolutions()
            .iter()
            .map(|convolution| convolution.weight.len() as u64)
            .collect();
        let (dense, head_macs) = dense_layers(model, settings.feature_side, channels)?;
        Ok(Self {
            convolutions,
            dense,
            convolution_macs,
            head_macs,
        })
    }

    pub fn bytes(&self) -> u64 {
        let layers = self.convolutions.iter().chain(&self.dense);
        layers.map(Layer::bytes).sum()
    }
}

fn first_layer(convolution: &Convolution, settings: &Settings<'_>) -> Result<Layer, Error> {
    let bias = convolution.bias.iter().map(|bias| bias.to_f32());
    Layer::new(bias, 3, INPUT_CHANNELS, true, |output, tap, channel| {
        first_layer_weight(convolution, settings, output, tap, channel)
    })
}

fn hidden_layer(convolution: &Convolution, channels: usize) -> Result<Layer, Error> {
    let weight = &convolution.weight;
    let bias = convolution.bias.iter().map(|bias| bias.to_f32());
    Layer::new(bias, 3, channels, true, |output, tap, channel| {
        if channel < weight.shape()[1] {
            weight[[output, channel, tap / 3, tap % 3]].to_f32()
        } else {
            0.0
        }
    })
}

/// The head (a `side` x `side` convolution over the feature map) and the layers after it.
fn dense_layers(model: &Model, side: usize, channels: usize) -> Result<(Vec<Layer>, u64), Error> {
    let first = model.first_dense(side)?;
    let later = model.dense();
    let mut layers = Vec::new();
    let mut macs = first.weight.len() as u64;
    let features = first.weight.shape()[1] / (side * side);
    let bias = first.bias.iter().map(|bias| bias.to_f32());
    layers.push(Layer::new(
        bias,
        side,
        channels,
        !later.is_empty(),
        |output, tap, channel| {
            if channel < features {
                first.weight[[output, channel * side * side + tap]].to_f32()
            } else {
                0.0
            }
        },
    )?);
    for (index, dense) in later.iter().enumerate() {
        macs += dense.weight.len() as u64;
        let channels = layers[layers.len() - 1].outputs();
        let bias = dense.bias.iter().map(|bias| bias.to_f32());
        let relu = index + 1 < later.len();
        layers.push(Layer::new(
            bias,
            1,
            channels,
            relu,
            |output, _, channel| {
                if channel < dense.weight.shape()[1] {
                    dense.weight[[output, channel]].to_f32()
                } else {
                    0.0
                }
            },
        )?);
    }
    Ok((layers, macs))
}
