//! The network's fp16 parameters as f32 panels that the matrix product reads as they lie.
//!
//! ```text
//! panels of 32 outputs:  weight[panel][input][output in panel], zeros where there is no output
//! input = (tap row, tap column, channel), channels padded like the activations they meet
//! ```

use super::arena::Floats;
use super::product::PANEL;
use super::table_conv;
use super::winograd::WinogradLayer;
use crate::engine::Settings;
use crate::engine::first_layer::{INPUT_CHANNELS, first_layer_weight};
use crate::error::Error;
use crate::memory::try_filled;
use crate::network::Convolution;
use crate::plan::MOST_CHAIN;
use crate::weights::Model;

/// Outputs are padded to a multiple of this: the widest register of f32.
const LANES: usize = 16;

/// `values`, and zeros up to the next multiple of [`LANES`].
pub(super) fn padded(values: impl ExactSizeIterator<Item = f32>) -> Result<Vec<f32>, Error> {
    let len = values.len().next_multiple_of(LANES);
    let mut padded = try_filled(len, 0.0, "packed weights")?;
    padded.iter_mut().zip(values).for_each(|(to, from)| *to = from);
    Ok(padded)
}

/// A table convolution's weights, as they are.
pub(super) struct Layer {
    /// [panel][inputs][PANEL]
    panels: Floats,
    /// [outputs], padding included
    bias: Vec<f32>,
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
        let rows = 0..side;
        let positions: Vec<_> = rows.flat_map(|row| (0..side).map(move |column| (row, column))).collect();
        let panel = positions.len() * channels * PANEL;
        let mut panels = Floats::new(outputs.div_ceil(PANEL) * panel, "packed weights")?;
        for (number, panel) in panels.chunks_exact_mut(panel).enumerate() {
            for (input, weights) in panel.chunks_exact_mut(PANEL).enumerate() {
                let (tap, channel) = (input / channels, input % channels);
                for (output, into) in (number * PANEL..outputs).zip(weights) {
                    *into = weight(output, tap, channel);
                }
            }
        }
        Ok(Self { panels, bias: padded(bias)?, positions, channels, relu })
    }

    /// Outputs, padding included.
    pub fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// [outputs]
    pub fn bias(&self) -> &[f32] {
        &self.bias
    }

    /// Weights of each panel of outputs, [inputs][PANEL].
    pub fn panels(&self) -> impl Iterator<Item = &[f32]> {
        let inputs = self.positions.len() * self.channels;
        self.panels.chunks_exact(inputs * PANEL)
    }

    fn bytes(&self) -> u64 {
        4 * (self.panels.len() + self.bias.len()) as u64
    }
}

/// All layers.
pub(super) struct Weights {
    /// The first convolution.
    pub first: Layer,
    /// The convolutions after it.
    pub convolutions: Vec<WinogradLayer>,
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
        let [first, later @ ..] = model.convolutions() else {
            return Err(Error::bad_model("the model has no convolution".into()));
        };
        let first = first_layer(first, settings)?;
        let mut channels = first.outputs();
        let mut convolutions = Vec::new();
        for convolution in later {
            let layer = WinogradLayer::new(convolution, channels)?;
            channels = layer.outputs();
            convolutions.push(layer);
        }
        let convolution_macs = model.convolutions().iter().map(|convolution| convolution.weight.len() as u64).collect();
        let (dense, head_macs) = dense_layers(model, settings.feature_side, channels)?;
        Ok(Self { first, convolutions, dense, convolution_macs, head_macs })
    }

    /// Longer chains need fewer products and round more. Sums over few channels do not even that out, nor do they
    /// take much time.
    pub fn most_chain(&self) -> usize {
        const WIDE: usize = 128;
        let widest = self.convolutions.iter().map(WinogradLayer::outputs).max();
        if widest < Some(WIDE) { 4 } else { MOST_CHAIN }
    }

    /// Layers whose weights are not transformed.
    fn plain(&self) -> impl Iterator<Item = &Layer> {
        std::iter::once(&self.first).chain(&self.dense)
    }

    pub fn bytes(&self) -> u64 {
        let transformed: u64 = self.convolutions.iter().map(WinogradLayer::bytes).sum();
        transformed + self.plain().map(Layer::bytes).sum::<u64>()
    }

    /// Floats that a thread needs to gather inputs.
    pub fn gathered_floats(&self) -> usize {
        let plain = self.plain().map(table_conv::gathered_floats);
        plain.max().unwrap_or(0)
    }

    /// Floats that all threads together need for a block of tiles.
    pub fn room(&self) -> usize {
        let rooms = self.convolutions.iter().map(WinogradLayer::room);
        rooms.max().unwrap_or(0)
    }

    /// Channels of the activations that any layer reads.
    pub fn most_channels(&self) -> usize {
        let outputs = self.convolutions.iter().map(WinogradLayer::outputs);
        outputs.chain(self.plain().map(Layer::outputs)).max().unwrap_or(0)
    }
}

fn first_layer(convolution: &Convolution, settings: &Settings<'_>) -> Result<Layer, Error> {
    let bias = convolution.bias.iter().map(|bias| bias.to_f32());
    Layer::new(bias, 3, INPUT_CHANNELS, true, |output, tap, channel| {
        first_layer_weight(convolution, settings, output, tap, channel)
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
    layers.push(Layer::new(bias, side, channels, !later.is_empty(), |output, tap, channel| {
        if channel < features { first.weight[[output, channel * side * side + tap]].to_f32() } else { 0.0 }
    })?);
    for (index, dense) in later.iter().enumerate() {
        macs += dense.weight.len() as u64;
        let channels = layers[layers.len() - 1].outputs();
        let bias = dense.bias.iter().map(|bias| bias.to_f32());
        let relu = index + 1 < later.len();
        layers.push(Layer::new(bias, 1, channels, relu, |output, _, channel| {
            if channel < dense.weight.shape()[1] { dense.weight[[output, channel]].to_f32() } else { 0.0 }
        })?);
    }
    Ok((layers, macs))
}
