//! The layers in f64, by plain loops over the tap tables.

use super::WIDTH;
use super::model::{DENSE, SIDE, WIDTHS};
use crate::engine::Settings;
use crate::engine::cuda::network::Launches;
use crate::engine::cuda::params::CHANNEL_GRAIN;
use crate::engine::first_layer::first_layer_weight;
use crate::error::Error;
use crate::lattice::Lattice;
use crate::plan::{PlannedPiece, STEPS, Step};
use crate::weights::Model;

/// The first layer in f64, [rows][columns][channels].
pub(super) fn first_layer(
    piece: &PlannedPiece,
    lattice: &Lattice,
    image: &[f32],
    settings: &Settings<'_>,
) -> Vec<f64> {
    let (rows, columns) = (&piece.plan.rows, &piece.plan.columns);
    let (top, left) = piece.starts[0];
    let convolution = &settings.model.convolutions()[0];
    let intensity = |r: i32, c: i32| {
        let y = rows.pixel(r as usize, top, lattice.y.len);
        let x = columns.pixel(c as usize, left, lattice.x.len);
        y.zip(x)
            .map_or(0.0, |(y, x)| f64::from(image[y * WIDTH + x]))
    };
    convolve(piece, 0, 3, padded(WIDTHS[0]), |output, tap, r, c| {
        if output >= WIDTHS[0] {
            return 0.0;
        }
        let weight = |channel| {
            f64::from(first_layer_weight(
                convolution,
                settings,
                output,
                tap,
                channel,
            ))
        };
        weight(0) * intensity(r, c) + weight(1)
    })
    .with_bias(|output| convolution.bias.get(output).map_or(0.0, |b| b.to_f64()))
    .relu()
}

/// Layer `index`, not the first, in f64, from the device's input [pixels][channels].
pub(super) fn layer(
    launches: &Launches<'_>,
    index: usize,
    input: &[f32],
    model: &Model,
) -> Result<Vec<f64>, Error> {
    let piece = launches.piece;
    let inputs = launches.channels_of(index - 1);
    let outputs = launches.channels_of(index);
    let at = |r: i32, c: i32| {
        let width = piece.plan.input_of(index.min(STEPS.len() - 1)).columns;
        &input[(r as usize * width + c as usize) * inputs..][..inputs]
    };
    Ok(match STEPS.get(index) {
        Some(&Step::Convolution(i)) => {
            let convolution = &model.convolutions()[i];
            let (made, read, ..) = convolution.weight.dim();
            convolve(piece, index, 3, outputs, |output, tap, r, c| {
                if output >= made {
                    return 0.0;
                }
                let products = (0..read).map(|channel| {
                    f64::from(at(r, c)[channel])
                        * convolution.weight[[output, channel, tap / 3, tap % 3]].to_f64()
                });
                products.sum()
            })
            .with_bias(|output| convolution.bias.get(output).map_or(0.0, |b| b.to_f64()))
            .relu()
        }
        Some(Step::Pool) => {
            let (rows, columns) = (
                piece.plan.rows.layer(index),
                piece.plan.columns.layer(index),
            );
            let mut values = Vec::new();
            for r in 0..rows.len() {
                for c in 0..columns.len() {
                    for channel in 0..outputs {
                        let taps = (rows.taps_of(r).iter())
                            .flat_map(|&r| columns.taps_of(c).iter().map(move |&c| (r, c)));
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
            let dense = match number {
                0 => &first,
                _ => &model.dense()[number - 1],
            };
            let (made, read) = dense.weight.dim();
            // The feature map has one position, so that a point's features follow each other. The head finds them by
            // its tables.
            let head = STEPS.len() - 1;
            let (rows, columns) = (piece.plan.rows.layer(head), piece.plan.columns.layer(head));
            let mut values = Vec::new();
            for point in 0..rows.len() * columns.len() {
                let features = if number == 0 {
                    let (r, c) = (point / columns.len(), point % columns.len());
                    at(rows.taps_of(r)[0], columns.taps_of(c)[0])
                } else {
                    &input[point * inputs..][..inputs]
                };
                for output in 0..outputs {
                    let product =
                        |i: usize| f64::from(features[i]) * dense.weight[[output, i]].to_f64();
                    let sum = if output < made {
                        (0..read).map(product).sum::<f64>() + dense.bias[output].to_f64()
                    } else {
                        0.0
                    };
                    values.push(if number + 1 == DENSE.len() {
                        sum
                    } else {
                        sum.max(0.0)
                    });
                }
            }
            values
        }
    })
}

/// Sums of `term(output, tap, input row, input column)` over the taps that exist.
fn convolve(
    piece: &PlannedPiece,
    index: usize,
    side: usize,
    outputs: usize,
    term: impl Fn(usize, usize, i32, i32) -> f64,
) -> Sums {
    let (rows, columns) = (
        piece.plan.rows.layer(index),
        piece.plan.columns.layer(index),
    );
    let mut values = Vec::with_capacity(rows.len() * columns.len() * outputs);
    for r in 0..rows.len() {
        for c in 0..columns.len() {
            for output in 0..outputs {
                let mut sum = 0.0;
                for tap in 0..side * side {
                    let (r, c) = (rows.taps_of(r)[tap / side], columns.taps_of(c)[tap % side]);
                    if r >= 0 && c >= 0 {
                        sum += term(output, tap, r, c);
                    }
                }
                values.push(sum);
            }
        }
    }
    Sums { values, outputs }
}

struct Sums {
    values: Vec<f64>,
    outputs: usize,
}

impl Sums {
    fn with_bias(mut self, bias: impl Fn(usize) -> f64) -> Self {
        for (index, value) in self.values.iter_mut().enumerate() {
            *value += bias(index % self.outputs);
        }
        self
    }

    fn relu(self) -> Vec<f64> {
        self.values
            .into_iter()
            .map(|value| value.max(0.0))
            .collect()
    }
}

fn padded(channels: usize) -> usize {
    channels.next_multiple_of(CHANNEL_GRAIN)
}
