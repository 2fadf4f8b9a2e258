//! One 3x3 convolution, with the batch norm that follows it folded in.
//!
//! ```text
//! scale[o] = gamma[o] / sqrt(variance[o] + 1e-5)
//! weight'[o][..] = weight[o][..] * scale[o]
//! bias'[o]       = (bias[o] - mean[o]) * scale[o] + beta[o]        in f64, then one rounding
//! ```

use half::f16;
use ndarray::{Array1, Array4};

use super::archive::{Archive, Tensor};
use super::names::ConvolutionNames;
use crate::error::Error;
use crate::memory::try_with_capacity;
use crate::network::Convolution;

/// The variance's increment in torchvision's (and PyTorch's) batch norm.
const BATCH_NORM_EPSILON: f64 = 1e-5;

/// Reads the convolution `names`. `inputs`: the width of the layer before, `None` for the first.
pub(super) fn read(
    archive: &Archive<'_>,
    names: &ConvolutionNames,
    inputs: Option<usize>,
) -> Result<Convolution, Error> {
    let weight_name = format!("{}.weight", names.convolution);
    let bias_name = format!("{}.bias", names.convolution);
    let weight = archive.tensor(&weight_name, &[None, inputs, Some(3), Some(3)])?;
    let &[outputs, in_channels, rows, columns] = weight.shape else {
        return Err(weight.wrong_shape("4 axes"));
    };
    if inputs.is_none() && !matches!(in_channels, 1 | 3) {
        return Err(weight.wrong_shape("[*, 1 or 3, 3, 3]"));
    }
    let bias = archive.tensor(&bias_name, &[Some(outputs)])?;

    let (weights, biases) = match &names.batch_norm {
        None => (weight.to_f16()?, bias.to_f16()?),
        Some(batch_norm) => fold(archive, &weight, &bias, batch_norm)?,
    };
    let shape = (outputs, in_channels, rows, columns);
    Ok(Convolution {
        weight: Array4::from_shape_vec(shape, weights)
            .map_err(|error| Error::bad_model(format!("{weight_name}: {error}")))?,
        bias: Array1::from_vec(biases),
    })
}

/// Weights [out][in][3][3] and biases [out] with the batch norm folded in.
fn fold(
    archive: &Archive<'_>,
    weight: &Tensor<'_>,
    bias: &Tensor<'_>,
    batch_norm: &str,
) -> Result<(Vec<f16>, Vec<f16>), Error> {
    let outputs = bias.len();
    let names = ["weight", "bias", "running_mean", "running_var"].map(|kind| format!("{batch_norm}.{kind}"));
    let [gamma, beta, mean, variance] =
        [&names[0], &names[1], &names[2], &names[3]].map(|name| archive.tensor(name, &[Some(outputs)]));
    let (gamma, beta, mean, variance) = (gamma?, beta?, mean?, variance?);

    let how = format!(" folded with batch norm {batch_norm}");
    let per_output = weight.len() / outputs;
    let mut weights = try_with_capacity(weight.len(), weight.name)?;
    let mut biases = try_with_capacity(outputs, bias.name)?;
    for output in 0..outputs {
        let spread = variance.finite(output)? + BATCH_NORM_EPSILON;
        if spread <= 0.0 {
            return Err(Error::bad_model(format!(
                "{}[{output}] is {}: a variance must not be negative",
                variance.name,
                spread - BATCH_NORM_EPSILON
            )));
        }
        let scale = gamma.finite(output)? / spread.sqrt();
        for index in output * per_output..(output + 1) * per_output {
            weights.push(weight.round(index, weight.finite(index)? * scale, &how)?);
        }
        let shifted = (bias.finite(output)? - mean.finite(output)?) * scale + beta.finite(output)?;
        biases.push(bias.round(output, shifted, &how)?);
    }
    Ok((weights, biases))
}
