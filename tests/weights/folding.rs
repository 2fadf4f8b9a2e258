//! Values: batch norm and adaptive pooling folded as in the reference, rounding to fp16 once.

use half::f16;
use patchmask::Model;
use safetensors::Dtype;

use crate::support::models::WIDTHS;
use crate::support::parameters::Parameters;
use crate::support::{File, Random, refused};

/// Sides that pooling is folded for; 7 needs none.
const POOLED: [usize; 13] = [1, 2, 3, 5, 6, 7, 8, 9, 13, 14, 15, 21, 32];

/// Asserts that `got` is an fp16 nearest to each `expected`. `expected` itself may be off by 1e-12.
#[track_caller]
fn assert_nearest<'a>(got: impl Iterator<Item = &'a f16>, expected: &[f64], what: &str) {
    let got: Vec<f16> = got.copied().collect();
    assert_eq!(got.len(), expected.len(), "{what}: elements");
    for (index, (&got, &expected)) in got.iter().zip(expected).enumerate() {
        // Half the distance to the neighbour: 2^-11 relative, at least half the smallest fp16.
        let exponent = expected.abs().max(2f64.powi(-14)).log2().floor() as i32;
        let limit = 2f64.powi(exponent - 11) + 1e-12;
        let error = (got.to_f64() - expected).abs();
        assert!(error <= limit, "{what}[{index}]: {got} for {expected}, {error:e} > {limit:e}");
    }
}

/// 1 + 2^-11 + 2^-40 lies above the middle of two fp16 values; through f32 it would be the middle
/// itself and go to the even one, below.
#[test]
fn rounds_once_from_f64() {
    let trap = 1.0 + 2f64.powi(-11) + 2f64.powi(-40);
    for (name, index) in
        [("features.0.weight", 3), ("features.28.bias", 1), ("classifier.0.weight", 2), ("classifier.3.weight", 4)]
    {
        let mut file = File::new(Dtype::F64, false, 1, 7, &[5, 2]);
        file.poke(name, index, trap);
        let model = file.load().unwrap();
        let dense = model.first_dense(7).unwrap();
        let got = match name {
            "features.0.weight" => *model.convolutions()[0].weight.iter().nth(index).unwrap(),
            "features.28.bias" => model.convolutions()[12].bias[index],
            "classifier.0.weight" => *dense.weight.iter().nth(index).unwrap(),
            _ => *model.dense()[0].weight.iter().nth(index).unwrap(),
        };
        assert_eq!(got.to_bits(), 0x3c01, "{name}: {got}");
    }
}

/// Batch norm and pooling are folded in f64 and rounded once, and what needs no folding is rounded.
#[test]
fn parameters_are_those_of_the_reference() {
    for dtype in [Dtype::F16, Dtype::BF16, Dtype::F32, Dtype::F64] {
        for (batch_norm, channels, file_side, sides) in
            [(false, 3, 2, &[2][..]), (true, 3, 1, &[1]), (true, 1, 7, &POOLED)]
        {
            let file = File::new(dtype, batch_norm, channels, file_side, &[4, 3, 2]);
            let model = file.load().unwrap();
            for &side in sides {
                let what = format!("{dtype}, batch norm {batch_norm}, side {side}");
                let want = Parameters::unrounded(&file, side);
                assert_eq!((model.convolutions().len(), want.convolutions.len()), (13, 13));
                for (number, (have, want)) in model.convolutions().iter().zip(&want.convolutions).enumerate() {
                    let inputs = if number == 0 { channels } else { WIDTHS[number - 1] };
                    assert_eq!(have.weight.dim(), (WIDTHS[number], inputs, 3, 3));
                    assert_nearest(have.weight.iter(), &want.weight, &format!("{what}: convolution {number}"));
                    assert_nearest(have.bias.iter(), &want.bias, &format!("{what}: its bias"));
                }
                let first = model.first_dense(side).unwrap();
                let dense: Vec<_> = [&first].into_iter().chain(model.dense()).collect();
                assert_eq!(dense.len(), want.dense.len());
                for (number, (have, want)) in dense.into_iter().zip(&want.dense).enumerate() {
                    let (outputs, inputs) = ([4, 3, 2][number], [WIDTHS[12] * side * side, 4, 3][number]);
                    assert_eq!(have.weight.dim(), (outputs, inputs));
                    assert_nearest(have.weight.iter(), &want.weight, &format!("{what}: dense layer {number}"));
                    assert_nearest(have.bias.iter(), &want.bias, &format!("{what}: its bias"));
                }
            }
        }
    }
}

/// The reference itself: its folded layer on g x g features gives what pooling to 7 x 7, mean by mean, and the file's
/// layer give.
#[test]
fn folded_pooling_is_pooling() {
    let file = File::new(Dtype::F64, false, 1, 7, &[4, 2]);
    let (unfolded, channels) = (file.values("classifier.0.weight"), WIDTHS[12]);
    let mut random = Random(3);
    for g in POOLED {
        let features: Vec<f64> = (0..channels * g * g).map(|_| random.symmetric()).collect();
        let means = (0..channels * 49).map(|i| {
            let (c, i, j) = (i / 49, i / 7 % 7, i % 7);
            let (rows, columns) = (i * g / 7..((i + 1) * g).div_ceil(7), j * g / 7..((j + 1) * g).div_ceil(7));
            let count = rows.len() * columns.len();
            let values = rows.flat_map(|r| columns.clone().map(move |s| (r, s)));
            values.map(|(r, s)| features[(c * g + r) * g + s]).sum::<f64>() / count as f64
        });
        let means: Vec<f64> = means.collect();
        let folded = &Parameters::unrounded(&file, g).dense[0].weight;
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        for (folded, unfolded) in folded.chunks(features.len()).zip(unfolded.chunks(means.len())) {
            let (have, want) = (dot(folded, &features), dot(unfolded, &means));
            assert!((have - want).abs() < 1e-12, "side {g}: {have} for {want}");
        }
    }
}

#[test]
fn refuses_values_that_fp16_cannot_hold() {
    let names = ["features.0.weight", "features.7.bias", "classifier.0.weight", "classifier.3.bias"];
    for name in names {
        for (value, shown) in [
            (65520.0, "65520"),
            (-1e30, "-1000000015047466200000000000000"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            let mut file = File::plain();
            file.poke(name, 1, value);
            refused(file.load(), &[name, shown, "65504"]);
        }
        let mut file = File::plain();
        file.poke(name, 1, 65519.0); // rounds down
        file.load().unwrap();
    }
}

#[test]
fn refuses_batch_norm_that_overflows() {
    let bad = |name: &str, value: f64, parts: &[&str]| {
        let mut file = File::new(Dtype::F64, true, 1, 1, &[2]);
        file.poke(name, 1, value);
        refused(file.load(), parts);
    };
    bad("features.1.weight", 1e9, &["features.0.weight[1, 0, 0, 0]", "batch norm features.1"]);
    bad("features.1.bias", 1e9, &["features.0.bias[1]", "batch norm features.1", "65504"]);
    bad("features.1.weight", f64::NAN, &["features.1.weight[1] is NaN"]);
    bad("features.4.running_mean", f64::INFINITY, &["features.4.running_mean[1] is inf"]);
    bad("features.4.running_var", -0.5, &["features.4.running_var[1]", "-0.5", "negative"]);
    bad("features.4.running_var", f64::NAN, &["features.4.running_var[1] is NaN"]);
    bad("features.3.weight", f64::NAN, &["features.3.weight[0, 0, 0, 1] is NaN"]);
}

/// Below 7 x 7 cells repeat, so folded weights are sums and can overflow where the file's do not.
#[test]
fn refuses_pooling_that_overflows() {
    let mut file = File::plain();
    let count = file.values("classifier.0.weight").len();
    for index in 0..count {
        file.poke("classifier.0.weight", index, 30000.0);
    }
    let model: Model = file.load().unwrap();
    model.first_dense(7).unwrap();
    let error = model.first_dense(1).unwrap_err().to_string();
    for part in ["classifier.0.weight", "1 x 1", "65504"] {
        assert!(error.contains(part), "no {part:?} in: {error}");
    }
}
