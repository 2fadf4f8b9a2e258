//! Dense layers. The first one depends on the patch size, so it is kept as in the file, unrounded.
//!
//! A patch of side P leaves C x g x g features (g = P / 32). torchvision's VGG16 averages them to
//! C x 7 x 7 (`AdaptiveAvgPool2d((7, 7))`) before the first dense layer. Where g is not 7 that
//! average is linear, so it is folded into the layer:
//!
//! ```text
//! bin i of 7 covers rows floor(i*g/7) .. ceil((i+1)*g/7), columns alike     g < 7 too: repeats
//! weight'[o][c][r][s] = sum over bins (i,j) that cover (r,s) of weight[o][c][i][j] / size(i,j)
//! ```

use std::array::from_fn;
use std::ops::Range;

use half::f16;
use ndarray::{Array1, Array2};

use super::archive::{Archive, Float};
use super::round::round_to_f16;
use crate::error::Error;
use crate::memory::try_with_capacity;
use crate::network::{ADAPTIVE_POOL_SIDE, Dense, PATCH_SIZE_MAX, PATCH_SIZE_MIN, patch_sizes};

const BINS: usize = ADAPTIVE_POOL_SIDE * ADAPTIVE_POOL_SIDE;

/// Reads a dense layer after the first, which takes `inputs` values.
pub(super) fn read(archive: &Archive<'_>, name: &str, inputs: usize) -> Result<Dense, Error> {
    let weight_name = format!("{name}.weight");
    let weight = archive.tensor(&weight_name, &[None, Some(inputs)])?;
    let outputs = weight.shape[0];
    Ok(Dense {
        weight: matrix(&weight_name, (outputs, inputs), weight.to_f16()?)?,
        bias: read_bias(archive, name, outputs)?,
    })
}

/// The first dense layer, its weights in the file's own type.
pub(super) struct FirstDense {
    weight_name: String,
    float: Float,
    /// [outputs][channels][side][side] of `float`, little-endian
    weight: Vec<u8>,
    /// [outputs]
    bias: Array1<f16>,
    outputs: usize,
    channels: usize,
    side: usize,
}

impl FirstDense {
    /// Reads the layer `name`, which follows convolutions with `channels` outputs.
    pub(super) fn read(archive: &Archive<'_>, name: &str, channels: usize) -> Result<Self, Error> {
        let weight_name = format!("{name}.weight");
        let tensor = archive.tensor(&weight_name, &[None, None])?;
        let &[outputs, inputs] = tensor.shape else {
            return Err(tensor.wrong_shape("2 axes"));
        };
        let side = (inputs / channels).isqrt();
        if inputs % channels != 0 || side.checked_mul(side) != Some(inputs / channels) {
            return Err(tensor.wrong_shape(&format!(
                "[*, {channels}*k*k], k x k positions of the last convolution's {channels} channels"
            )));
        }
        if patch_sizes(side).is_none() {
            return Err(tensor.wrong_shape(&format!(
                "[*, {channels}*k*k] with k of 1..={}, as many as a patch of {PATCH_SIZE_MAX} has",
                PATCH_SIZE_MAX / PATCH_SIZE_MIN
            )));
        }
        tensor.check_range()?;
        let mut weight = try_with_capacity(tensor.data.len(), &weight_name)?;
        weight.extend_from_slice(tensor.data);
        let float = tensor.float;
        let bias = read_bias(archive, name, outputs)?;
        Ok(Self { weight_name, float, weight, bias, outputs, channels, side })
    }

    pub(super) fn outputs(&self) -> usize {
        self.outputs
    }

    /// Weights and biases, as in the file.
    pub(super) fn parameters(&self) -> u64 {
        (self.weight.len() / self.float.bytes() + self.outputs) as u64
    }

    /// An error unless `side` x `side` features per channel fit this layer.
    pub(super) fn check_side(&self, side: usize) -> Result<(), Error> {
        let own = self.side;
        if side != 0 && (side == own || own == ADAPTIVE_POOL_SIDE) {
            return Ok(());
        }
        let remedy = if side == 0 {
            format!("use a patch size of at least {PATCH_SIZE_MIN}")
        } else {
            let (low, high) = patch_sizes(own).unwrap_or_default();
            format!("use a patch size of {low}..={high}")
        };
        Err(Error::invalid(format!(
            "patch_size leaves {side} x {side} features of a patch, but {} takes {own} x {own}: {remedy}",
            self.weight_name
        )))
    }

    /// The layer for `side` x `side` features per channel, rounded to fp16.
    pub(super) fn at_side(&self, side: usize) -> Result<Dense, Error> {
        self.check_side(side)?;
        let inputs = side.checked_mul(side).and_then(|area| area.checked_mul(self.channels));
        let shape = inputs.and_then(|inputs| Some((inputs, inputs.checked_mul(self.outputs)?)));
        let (inputs, count) =
            shape.ok_or_else(|| Error::invalid(format!("patch features {side} x {side}: too many to address")))?;
        let mut weights = try_with_capacity(count, &self.weight_name)?;
        if side == self.side {
            for index in 0..count {
                weights.push(self.round(self.float.value(&self.weight, index), side)?);
            }
        } else {
            self.fold_pooling(side, &mut weights)?;
        }
        Ok(Dense { weight: matrix(&self.weight_name, (self.outputs, inputs), weights)?, bias: self.bias.clone() })
    }

    /// Appends [outputs][channels][side][side] to `weights`; this layer takes 7 x 7.
    fn fold_pooling(&self, side: usize, weights: &mut Vec<f16>) -> Result<(), Error> {
        let mut covers: Vec<Cover> = try_with_capacity(side, "pooling bins")?;
        covers.extend((0..side).map(|position| Cover::of(position, side)));
        for plane in 0..self.outputs * self.channels {
            let bins: [[f64; ADAPTIVE_POOL_SIDE]; ADAPTIVE_POOL_SIDE] = from_fn(|i| {
                let row = plane * BINS + i * ADAPTIVE_POOL_SIDE;
                from_fn(|j| self.float.value(&self.weight, row + j))
            });
            for rows in &covers {
                // [column of bins], spread over this row
                let spread: [f64; ADAPTIVE_POOL_SIDE] = from_fn(|j| rows.sum(|i| bins[i][j]));
                for columns in &covers {
                    weights.push(self.round(columns.sum(|j| spread[j]), side)?);
                }
            }
        }
        Ok(())
    }

    fn round(&self, value: f64, side: usize) -> Result<f16, Error> {
        round_to_f16(value).ok_or_else(|| {
            Error::bad_model(format!(
                "{} for {side} x {side} features holds {value}: the limit of fp16 is 65504",
                self.weight_name
            ))
        })
    }
}

/// The pooling bins of an axis that cover one position, and what each takes of it.
struct Cover {
    bins: Range<usize>,
    /// [bin]: one over the bin's length, 0 outside `bins`
    share: [f64; ADAPTIVE_POOL_SIDE],
}

impl Cover {
    fn of(position: usize, side: usize) -> Self {
        let span = |bin: usize| {
            let start = bin * side / ADAPTIVE_POOL_SIDE;
            start..((bin + 1) * side).div_ceil(ADAPTIVE_POOL_SIDE)
        };
        let covers = |&bin: &usize| span(bin).contains(&position);
        let first = (0..ADAPTIVE_POOL_SIDE).find(covers).unwrap_or(0);
        let count = (0..ADAPTIVE_POOL_SIDE).filter(covers).count(); // neighbours, as bins are in order
        let bins = first..first + count;
        let share = from_fn(|bin| if bins.contains(&bin) { 1.0 / span(bin).len() as f64 } else { 0.0 });
        Self { bins, share }
    }

    /// Sum of `value` over the bins, each times its share.
    fn sum(&self, value: impl Fn(usize) -> f64) -> f64 {
        let bins = self.bins.clone();
        bins.fold(0.0, |sum, bin| sum + self.share[bin] * value(bin))
    }
}

fn read_bias(archive: &Archive<'_>, name: &str, outputs: usize) -> Result<Array1<f16>, Error> {
    let name = format!("{name}.bias");
    Ok(Array1::from_vec(archive.tensor(&name, &[Some(outputs)])?.to_f16()?))
}

fn matrix(name: &str, shape: (usize, usize), values: Vec<f16>) -> Result<Array2<f16>, Error> {
    Array2::from_shape_vec(shape, values).map_err(|error| Error::bad_model(format!("{name}: {error}")))
}
