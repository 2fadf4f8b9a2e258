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

use super::model::{SIDE, WIDTH};
use crate::axes::Axes;
use crate::engine::Settings;
use crate::engine::cuda::forward::Launches;
use crate::engine::first_layer::{INPUT_CHANNELS, first_layer_weight};
use crate::error::Error;
use crate::plan::{HEAD, STEPS, Step};

/// The first layer's input, [pixels][intensity, 1].
pub(super) fn first_input(launches: &Launches<'_>, image: &[f32]) -> Vec<f32> {
    let Axes { rows, columns } = &launches.tile.plan.axes;
    let (top, left) = launches.tile.starts[0];
    let mut input = Vec::new();
    for r in 0..rows.inputs() {
        for c in 0..columns.inputs() {
            let y = rows.pixel(r, top, launches.grid.y.len);
            let x = columns.pixel(c, left, launches.grid.x.len);
            input.extend([y.zip(x).map_or(0.0, |(y, x)| image[y * WIDTH + x]), 1.0]);
        }
    }
    input
}

/// Layer `index` in f64, [pixels][channels], from the device's input [pixels][channels]. The last one gives logits, the others have
/// zeros in the channels that are padding.
pub(super) fn layer(
    launches: &Launches<'_>,
    index: usize,
    input: &[f32],
    settings: &Settings<'_>,
) -> Result<Vec<f64>, Error> {
    let model = settings.model;
    let inputs = if index == 0 { INPUT_CHANNELS } else { launches.channels_of(index - 1) };
    let pixel = |number: usize| &input[number * inputs..][..inputs];
    let pixels = launches.tile.plan.output_of(index.min(HEAD)).len();
    let filters = match STEPS.get(index) {
        Some(Step::Pool) => {
            let largest = |number, channel| {
                let values =
                    taps(launches, index, number).into_iter().flatten().map(|tap| f64::from(pixel(tap)[channel]));
                values.fold(f64::NEG_INFINITY, f64::max)
            };
            let outputs = (0..pixels).flat_map(|number| (0..inputs).map(move |channel| (number, channel)));
            return Ok(outputs.map(|(number, channel)| largest(number, channel)).collect());
        }
        Some(&Step::Convolution(i)) => {
            let convolution = &model.convolutions()[i];
            let weight = &convolution.weight;
            match i {
                0 => Filters::new(9, INPUT_CHANNELS, &convolution.bias, |output, tap, channel| {
                    first_layer_weight(convolution, settings, output, tap, channel).into()
                }),
                _ => Filters::new(9, weight.dim().1, &convolution.bias, |output, tap, channel| {
                    weight[[output, channel, tap / 3, tap % 3]].into()
                }),
            }
        }
        _ => {
            let first = model.first_dense(SIDE)?;
            let (dense, taps) = match index - HEAD {
                0 => (&first, SIDE * SIDE),
                number => (&model.dense()[number - 1], 1),
            };
            Filters::new(taps, dense.weight.dim().1 / taps, &dense.bias, |output, tap, channel| {
                dense.weight[[output, channel * taps + tap]].into()
            })
        }
    };
    let is_last = index == launches.last();
    let outputs = if is_last { filters.bias.len() } else { launches.channels_of(index) };
    let mut values = vec![0.0; pixels * outputs];
    for (number, values) in values.chunks_exact_mut(outputs).enumerate() {
        let sums = &mut values[..filters.bias.len()];
        sums.copy_from_slice(&filters.bias);
        for (tap, read) in taps(launches, index, number).into_iter().enumerate() {
            if let Some(read) = read {
                filters.add(tap, pixel(read), sums);
            }
        }
        if !is_last {
            sums.iter_mut().for_each(|sum| *sum = sum.max(0.0));
        }
    }
    Ok(values)
}

/// The pixels of layer `index`'s input that pixel `number` of its output reads, tap by tap; `None`: zeros.
fn taps(launches: &Launches<'_>, index: usize, number: usize) -> Vec<Option<usize>> {
    if index > HEAD {
        return vec![Some(number)];
    }
    let Axes { rows, columns } = launches.tile.plan.axes.layer(index);
    let width = launches.tile.plan.input_of(index).columns;
    let (row, column) = (number / columns.len(), number % columns.len());
    let taps = rows.taps_of(row).iter().flat_map(|&r| columns.taps_of(column).iter().map(move |&c| (r, c)));
    taps.map(|(r, c)| (r >= 0 && c >= 0).then(|| r as usize * width + c as usize)).collect()
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
    fn new(taps: usize, inputs: usize, bias: &Array1<f16>, weight: impl Fn(usize, usize, usize) -> f64) -> Self {
        let outputs = bias.len();
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
