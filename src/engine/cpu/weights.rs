//! All layers' fp16 parameters, packed as f32 panels that the matrix product reads as they lie.

use super::gather_conv::GatherLayer;
use super::max_pool::MaxPool;
use super::product::LANES;
use super::winograd::WinogradLayer;
use crate::axes::Axes;
use crate::engine::Settings;
use crate::engine::first_layer::{INPUT_CHANNELS, first_layer_weight};
use crate::error::Error;
use crate::network::{CONVOLUTIONS, Convolution};
use crate::plan::{AxisSizes, HEAD, MAX_RUN, MacsPerOutput, MaxRuns, STEPS, Step, TilePlan, values_of_a_patch};
use crate::weights::Model;

pub(super) struct PackedWeights {
    pub first: GatherLayer,
    /// The convolutions after it.
    pub convolutions: Vec<WinogradLayer>,
    pub max_runs: Axes<MaxRuns>,
    /// The first is the head: taps are the positions of the feature map.
    pub dense: Vec<GatherLayer>,
    /// Padding and normalisation not counted.
    pub macs_per_output: MacsPerOutput,
}

impl PackedWeights {
    /// Sessions of the model with the same have these weights in common.
    pub fn key(settings: &Settings<'_>) -> String {
        settings.key(&format!("cpu, runs {:?}", max_runs(settings.model, settings.patch_size)))
    }

    pub fn new(settings: &Settings<'_>) -> Result<Self, Error> {
        let model = settings.model;
        let [first, later @ ..] = model.convolutions() else {
            return Err(Error::bad_model("the model has no convolution".into()));
        };
        let first = first_layer(first, settings)?;
        let max_runs = max_runs(model, settings.patch_size);
        let mut channels = first.outputs();
        let mut convolutions = Vec::new();
        for (number, convolution) in (1..).zip(later) {
            let layer = WinogradLayer::new(convolution, channels, max_runs.map(|max_runs| max_runs[number]))?;
            channels = layer.outputs();
            convolutions.push(layer);
        }
        let dense = dense_layers(model, settings.feature_side(), channels)?;
        Ok(Self { first, convolutions, max_runs, dense, macs_per_output: settings.macs_per_output() })
    }

    /// Layers whose weights are not transformed.
    fn plain(&self) -> impl Iterator<Item = &GatherLayer> {
        std::iter::once(&self.first).chain(&self.dense)
    }

    pub fn bytes(&self) -> u64 {
        let transformed: u64 = self.convolutions.iter().map(WinogradLayer::bytes).sum();
        transformed + self.plain().map(GatherLayer::bytes).sum::<u64>()
    }

    /// Floats that a thread needs to gather inputs.
    pub fn gathered_floats(&self) -> usize {
        self.plain().map(GatherLayer::gathered_floats).max().unwrap_or(0)
    }

    /// Floats that all threads together need for a chunk of Winograd run pairs.
    pub fn scratch_floats(&self, threads: usize) -> usize {
        self.convolutions.iter().map(|layer| layer.scratch_floats(threads)).max().unwrap_or(0)
    }

    /// Channels of the activations that any layer reads.
    pub fn max_channels(&self) -> usize {
        let outputs = self.convolutions.iter().map(WinogradLayer::outputs);
        outputs.chain(self.plain().map(GatherLayer::outputs)).max().unwrap_or(0)
    }

    /// Channels that a step writes, padding included, if it reads so many.
    pub fn channels_after(&self, step: Step, channels: usize) -> usize {
        match step {
            Step::Convolution(0) => self.first.outputs(),
            Step::Convolution(i) => self.convolutions[i - 1].outputs(),
            Step::Pool => channels,
            Step::Head => self.dense[0].outputs(),
        }
    }

    /// Bytes of a tile's activations.
    pub fn activation_bytes(&self, plan: &TilePlan) -> u64 {
        let black = if plan.patches().listed().is_some() { 0 } else { black_bytes(pixels_of(plan)) };
        float_bytes(self.activation_floats(plan)).saturating_add(black)
    }

    /// Bytes of the activations of a tile of these axes when all its pixels are stored.
    pub fn activation_bytes_of_axes(&self, axes: &Axes<AxisSizes>) -> u64 {
        let pixels = |image| match image {
            0 => axes.inputs().product(),
            _ => axes.output(image - 1).product(),
        };
        float_bytes(self.floats(pixels)).saturating_add(black_bytes(pixels))
    }

    /// Floats of a tile's activations.
    pub fn activation_floats(&self, plan: &TilePlan) -> usize {
        self.floats(pixels_of(plan))
    }

    /// The same, given how many pixels each image stores: the most that any layer reads and writes. The dense layers follow the
    /// head as further images of its size.
    fn floats(&self, pixels: impl Fn(usize) -> usize) -> usize {
        let mut channels = INPUT_CHANNELS;
        let (mut read, mut most) = (pixels(0) * INPUT_CHANNELS, 0);
        let mut writes = |pixels: usize, channels: usize| {
            let written = pixels.saturating_mul(channels);
            most = most.max(written.saturating_add(read));
            read = written;
        };
        for (index, &step) in STEPS.iter().enumerate() {
            channels = self.channels_after(step, channels);
            if !MaxPool::follows(index) {
                writes(pixels(index + 1), channels);
            }
        }
        for dense in &self.dense[1..] {
            writes(pixels(STEPS.len()), dense.outputs());
        }
        most.next_multiple_of(LANES)
    }
}

/// Longer runs need fewer products and round more. Sums over few channels do not even that out, nor do they take much time. Where
/// all that a patch needs of a layer is one of the longest runs, that saves a sixth of the products (elsewhere a hundredth), and
/// with runs half as long on the other axis it rounds no more than runs of 6 on both.
fn max_runs(model: &Model, patch_size: usize) -> Axes<MaxRuns> {
    const WIDE: usize = 128;
    const WIDER: usize = 256;
    let widths = || model.convolutions().iter().map(|convolution| convolution.weight.dim());
    let max = if widths().any(|(outputs, ..)| outputs >= WIDE) { 6 } else { 4 };
    let mut max_runs = Axes { rows: [max; CONVOLUTIONS], columns: [max; CONVOLUTIONS] };
    for (number, ((_, inputs, ..), values)) in widths().zip(values_of_a_patch(patch_size)).enumerate() {
        if inputs >= WIDER && (max + 1..=MAX_RUN).contains(&values) {
            (max_runs.rows[number], max_runs.columns[number]) = (MAX_RUN, MAX_RUN / 2);
        }
    }
    max_runs
}

/// Pixels of a plan's images.
fn pixels_of(plan: &TilePlan) -> impl Fn(usize) -> usize {
    |image| match image {
        0 => plan.input_of(0).len(),
        _ => plan.output_of(image - 1).len(),
    }
}

/// Bytes of what is known of black pixels, see [`super::black`]: flags of a step's input and output, and of its pairs.
fn black_bytes(pixels: impl Fn(usize) -> usize) -> u64 {
    let pooled = |index| if MaxPool::follows(index) { pixels(index + 2) as u64 } else { 0 };
    let step = |index| 2 * pixels(index) as u64 + 6 * (pixels(index + 1) as u64 + pooled(index));
    (0..HEAD).map(step).max().unwrap_or(0)
}

fn float_bytes(floats: usize) -> u64 {
    (floats as u64).saturating_mul(4)
}

fn first_layer(convolution: &Convolution, settings: &Settings<'_>) -> Result<GatherLayer, Error> {
    let bias = convolution.bias.iter().map(|bias| bias.to_f32());
    GatherLayer::new(bias, 3, INPUT_CHANNELS, true, |output, tap, channel| {
        first_layer_weight(convolution, settings, output, tap, channel)
    })
}

/// The head (a `side` x `side` convolution over the feature map) and the layers after it.
fn dense_layers(model: &Model, side: usize, channels: usize) -> Result<Vec<GatherLayer>, Error> {
    let first = model.first_dense(side)?;
    let later = model.dense();
    let mut layers = Vec::new();
    let features = first.weight.shape()[1] / (side * side);
    let bias = first.bias.iter().map(|bias| bias.to_f32());
    layers.push(GatherLayer::new(bias, side, channels, !later.is_empty(), |output, tap, channel| {
        if channel < features { first.weight[[output, channel * side * side + tap]].to_f32() } else { 0.0 }
    })?);
    for (index, dense) in later.iter().enumerate() {
        let channels = layers[layers.len() - 1].outputs();
        let bias = dense.bias.iter().map(|bias| bias.to_f32());
        let relu = index + 1 < later.len();
        layers.push(GatherLayer::new(bias, 1, channels, relu, |output, _, channel| {
            if channel < dense.weight.shape()[1] { dense.weight[[output, channel]].to_f32() } else { 0.0 }
        })?);
    }
    Ok(layers)
}
