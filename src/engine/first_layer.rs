//! Normalisation, folded into the first layer.
//!
//! Channel c of the network's input is (v - mean[c]) / std[c] for intensity v inside the patch and 0 in its zero
//! border, so with the two channels [v, 1] (0 in the border, both) the layer is the same sum with
//!
//! ```text
//! weight'[out][v] =   sum over c of weight[out][c] / std[c]
//! weight'[out][1] = - sum over c of weight[out][c] * mean[c] / std[c]
//! ```
//! for each tap; computed in f64 and kept in f32.

use super::Settings;
use crate::network::Convolution;

/// Channels of the first layer's input: intensity, and 1 inside the patch.
pub(super) const INPUT_CHANNELS: usize = 2;

/// Weight of `output` for tap `tap` (row by row) of input `channel`.
pub(super) fn first_layer_weight(
    convolution: &Convolution,
    settings: &Settings<'_>,
    output: usize,
    tap: usize,
    channel: usize,
) -> f32 {
    let weight = &convolution.weight;
    let terms = (0..weight.dim().1).map(|c| {
        let w = weight[[output, c, tap / 3, tap % 3]].to_f64();
        let factor = if channel == 0 { 1.0 } else { -settings.mean[c] };
        w * factor / settings.std[c]
    });
    terms.sum::<f64>() as f32
}
