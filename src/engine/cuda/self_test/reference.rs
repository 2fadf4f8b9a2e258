//! The layers in f64, by plain loops over the tap tables.
//!
//! ```text
//! at a pixel:  sums[output] = bias[output]
//!              for each tap that exists, for each input channel that is not 0:
//!                  sums[..] += input[tap][channel] * weights[tap][channel][..]
//! ```
//! The loop over the outputs is the innermost, because they lie side by side: a host waits for this whenever it opens a
//! device.

use half::f16;
use ndarray::Array1;

use super::model::{DENSE, SIDE, WIDTH, WIDTHS};
use crate::axes::Axes;
use crate::engine::Settings;
use crate::engine::cuda::forward::Launches;
use crate::engine::cuda::params::CHANNEL_GRAIN;
use crate::engine::first_layer::{INPUT_CHANNELS, first_layer_weight};
use crate::error::Error;
use crate::patch_grid::PatchGrid;
use crate::plan::{PlannedTile, STEPS, Step};
use crate::weights::Model;

/// Taps of a convolution along each axis.
const CONV_SIDE: usize = 3;
const CONV_TAPS: usize = CONV_SIDE * CONV_SIDE;

/// The first layer in f64, [rows][columns][channels].
pub(super) fn first_layer(tile: &PlannedTile, grid: &PatchGrid, image: &[f32], settings: &Settings<'_>) -> Vec<f64> {
    let (rows, columns) = (&tile.plan.axes.rows, &tile.plan.axes.columns);
    let (top, left) = tile.starts[0];
    let convolution = &settings.model.convolutions()[0];
    let weight = |output, tap, channel| first_layer_weight(convolution, settings, output, tap, channel).into();
    let outputs = padded(WIDTHS[0]);
    let filters = Filters::new([CONV_TAPS, INPUT_CHANNELS, WIDTHS[0]], weight, &convolution.bias);
    let pixel = |r: i32, c: i32| {
        let y = rows.pixel(r as usize, top, grid.y.len);
        let x = columns.pixel(c as usize, left, grid.x.len);
        let intensity = y.zip(x).map_or(0.0, |(y, x)| image[y * WIDTH + x]);
        [intensity, 1.0]
    };
    relu(convolve(tile, 0, &filters, outputs, pixel))
}

/// Layer `index`, not the first, in f64, from the device's input [pixels][channels]. The last one gives logits, without
/// padding.
pub(super) fn layer(launches: &Launches<'_>, index: usize, input: &[f32], model: &Model) -> Result<Vec<f64>, Error> {
    let tile = launches.tile;
    let inputs = launches.channels_of(index - 1);
    let outputs = launches.channels_of(index);
    let at = |r: i32, c: i32| {
        let width = tile.plan.input_of(index.min(STEPS.len() - 1)).columns;
        &input[(r as usize * width + c as usize) * inputs..][..inputs]
    };
    Ok(match STEPS.get(index) {
        Some(&Step::Convolution(i)) => {
            let convolution = &model.convolutions()[i];
            let (made, read, ..) = convolution.weight.dim();
            let weight = |output, tap, channel| {
                let tap = (tap / CONV_SIDE, tap % CONV_SIDE);
                convolution.weight[[output, channel, tap.0, tap.1]].to_f64()
            };
            let filters = Filters::new([CONV_TAPS, read, made], weight, &convolution.bias);
            relu(convolve(tile, index, &filters, outputs, at))
        }
        Some(Step::Pool) => {
            let Axes { rows, columns } = tile.plan.axes.layer(index);
            let mut values = Vec::new();
            for r in 0..rows.len() {
                for c in 0..columns.len() {
                    for channel in 0..outputs {
                        let taps =
                            (rows.taps_of(r).iter()).flat_map(|&r| columns.taps_of(c).iter().map(move |&c| (r, c)));
                        let largest = taps.map(|(r, c)| f64::from(at(r, c)[channel]));
                        values.push(largest.fold(f64::NEG_INFINITY, f64::max));
                    }
                }
            }
            values
        }
        _ => {
            let number = index + 1 - STEPS.len();
            let first = model.first_dense(SIDE)?;
            let (dense, taps) = match number {
                0 => (&first, SIDE * SIDE),
                _ => (&model.dense()[number - 1], 1),
            };
            let (made, features) = dense.weight.dim();
            let weight = |output, tap, channel| dense.weight[[output, channel * taps + tap]].into();
            let filters = Filters::new([taps, features / taps, made], weight, &dense.bias);
            let is_last = number + 1 == DENSE.len();
            let outputs = if is_last { made } else { outputs };
            let values = match number {
                0 => convolve(tile, index, &filters, outputs, at),
                _ => (input.chunks_exact(inputs))
                    .flat_map(|features| {
                        let mut sums = filters.bias.clone();
                        filters.add(0, features, &mut sums);
                        sums.resize(outputs, 0.0);
                        sums
                    })
                    .collect(),
            };
            if is_last { values } else { relu(values) }
        }
    })
}

/// Parameters of a layer, in f64.
struct Filters {
    /// [taps][inputs][outputs]
    weights: Vec<f64>,
    bias: Vec<f64>,
    inputs: usize,
}

impl Filters {
    /// Of `weight(output, tap, input)`.
    fn new(
        [taps, inputs, outputs]: [usize; 3],
        weight: impl Fn(usize, usize, usize) -> f64,
        bias: &Array1<f16>,
    ) -> Self {
        let mut weights = Vec::with_capacity(taps * inputs * outputs);
        for tap in 0..taps {
            for input in 0..inputs {
                weights.extend((0..outputs).map(|output| weight(output, tap, input)));
            }
        }
        Self { weights, bias: bias.iter().map(|bias| bias.to_f64()).collect(), inputs }
    }

    /// Adds what a pixel's channels, perhaps padded, are worth at this tap.
    fn add(&self, tap: usize, channels: &[f32], sums: &mut [f64]) {
        let outputs = self.bias.len();
        let weights = &self.weights[tap * self.inputs * outputs..];
        for (&value, weights) in channels[..self.inputs].iter().zip(weights.chunks_exact(outputs)) {
            if value != 0.0 {
                for (sum, weight) in sums.iter_mut().zip(weights) {
                    *sum += f64::from(value) * weight;
                }
            }
        }
    }
}

/// Bias and the sum over the taps that exist, [rows][columns][`outputs`], 0 beyond those that the layer has.
fn convolve<Pixel: AsRef<[f32]>>(
    tile: &PlannedTile,
    index: usize,
    filters: &Filters,
    outputs: usize,
    pixel: impl Fn(i32, i32) -> Pixel,
) -> Vec<f64> {
    let Axes { rows, columns } = tile.plan.axes.layer(index);
    let mut values = vec![0.0; rows.len() * columns.len() * outputs];
    for (at, sums) in values.chunks_exact_mut(outputs).enumerate() {
        let (row, column) = (at / columns.len(), at % columns.len());
        let sums = &mut sums[..filters.bias.len()];
        sums.copy_from_slice(&filters.bias);
        let taps = (rows.taps_of(row).iter()).flat_map(|&r| columns.taps_of(column).iter().map(move |&c| (r, c)));
        for (tap, (r, c)) in taps.enumerate() {
            if r >= 0 && c >= 0 {
                filters.add(tap, pixel(r, c).as_ref(), sums);
            }
        }
    }
    values
}

fn relu(mut values: Vec<f64>) -> Vec<f64> {
    for value in &mut values {
        *value = value.max(0.0);
    }
    values
}

fn padded(channels: usize) -> usize {
    channels.next_multiple_of(CHANNEL_GRAIN)
}
