//! Values: rounding once to fp16, batch norm and adaptive pooling against their definitions in f64.

use half::f16;
use patchmask::Model;
use safetensors::Dtype;

use crate::builder::{File, PLAIN, Random, WIDTHS, WITH_BATCH_NORM, refused};

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

#[test]
fn reads_every_type_in_file_order() {
    for dtype in [Dtype::F16, Dtype::BF16, Dtype::F32, Dtype::F64] {
        let file = File::new(dtype, false, 3, 2, &[4, 3, 2]);
        let model = file.load().unwrap();
        let mut inputs = 3;
        for (layer, (position, outputs)) in PLAIN.into_iter().zip(WIDTHS).enumerate() {
            let convolution = &model.convolutions()[layer];
            assert_eq!(convolution.weight.dim(), (outputs, inputs, 3, 3));
            for (kind, got) in
                [("weight", convolution.weight.iter().collect::<Vec<_>>()), ("bias", convolution.bias.iter().collect())]
            {
                let name = format!("features.{position}.{kind}");
                assert_nearest(got.into_iter(), &file.values(&name), &name);
            }
            inputs = outputs;
        }
        let first = model.first_dense(2).unwrap();
        for (layer, dense) in [&first].into_iter().chain(model.dense()).enumerate() {
            let name = format!("classifier.{}", 3 * layer);
            let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
            assert_eq!(file.tensors[&weight].shape, dense.weight.shape());
            assert_nearest(dense.weight.iter(), &file.values(&weight), &weight);
            assert_nearest(dense.bias.iter(), &file.values(&bias), &bias);
        }
    }
}

#[test]
fn folds_batch_norm() {
    for dtype in [Dtype::F16, Dtype::BF16, Dtype::F32, Dtype::F64] {
        let file = File::new(dtype, true, 3, 1, &[2]);
        let model = file.load().unwrap();
        for (layer, position) in WITH_BATCH_NORM.into_iter().enumerate() {
            let (name, norm) = (format!("features.{position}"), format!("features.{}", position + 1));
            let [weight, bias] = ["weight", "bias"].map(|kind| file.values(&format!("{name}.{kind}")));
            let [gamma, beta, mean, variance] =
                ["weight", "bias", "running_mean", "running_var"].map(|kind| file.values(&format!("{norm}.{kind}")));
            let per_output = weight.len() / bias.len();
            // By definition: gamma * (w*x + b - mean) / sqrt(variance + eps) + beta.
            let folded: Vec<f64> = weight
                .iter()
                .enumerate()
                .map(|(i, w)| (i / per_output, w))
                .map(|(o, w)| gamma[o] * w / (variance[o] + 1e-5).sqrt())
                .collect();
            let shifted: Vec<f64> = (0..bias.len())
                .map(|o| gamma[o] * (bias[o] - mean[o]) / (variance[o] + 1e-5).sqrt() + beta[o])
                .collect();
            let convolution = &model.convolutions()[layer];
            assert_nearest(convolution.weight.iter(), &folded, &name);
            assert_nearest(convolution.bias.iter(), &shifted, &name);
        }
    }
}

/// The folded layer on g x g features against pooling to 7 x 7 cell by cell, then the file's layer.
#[test]
fn folds_adaptive_pooling() {
    let file = File::new(Dtype::F64, false, 1, 7, &[4, 2]);
    let model = file.load().unwrap();
    let (outputs, channels) = (4, WIDTHS[12]);
    let weight = file.values("classifier.0.weight"); // [4][3][7][7]
    let mut random = Random(3);
    for g in [1, 2, 3, 5, 6, 7, 8, 9, 13, 14, 15, 21, 32] {
        let folded = model.first_dense(g).unwrap();
        assert_eq!(folded.weight.dim(), (outputs, channels * g * g));
        assert_eq!(folded.bias, model.first_dense(7).unwrap().bias);
        let features: Vec<f64> = (0..channels * g * g).map(|_| random.symmetric()).collect();
        let mut pooled = Vec::new();
        for c in 0..channels {
            for (i, j) in (0..49).map(|cell| (cell / 7, cell % 7)) {
                let rows = i * g / 7..((i + 1) * g).div_ceil(7);
                let columns = j * g / 7..((j + 1) * g).div_ceil(7);
                let count = rows.len() * columns.len();
                let values = rows.flat_map(|r| columns.clone().map(move |s| (r, s)));
                let sum: f64 = values.map(|(r, s)| features[(c * g + r) * g + s]).sum();
                pooled.push(sum / count as f64);
            }
        }
        for o in 0..outputs {
            let row = &weight[o * channels * 49..][..channels * 49];
            let expected: f64 = row.iter().zip(&pooled).map(|(w, x)| w * x).sum();
            let row = folded.weight.row(o);
            let got: f64 = row.iter().zip(&features).map(|(w, x)| w.to_f64() * x).sum();
            // Rounding of each folded weight to fp16: half a step of 2^-10 relative, or of 2^-24.
            let limit: f64 = row
                .iter()
                .zip(&features)
                .map(|(w, x)| (w.to_f64().abs() * 2f64.powi(-11) + 2f64.powi(-25)) * x.abs() + 1e-12)
                .sum();
            let error = (got - expected).abs();
            assert!(error <= limit, "side {g}, output {o}: {got} for {expected}");
        }
    }
}

/// Every folded weight against the definition, transposed: rounding happens after the sum only.
#[test]
fn folded_pooling_rounds_once() {
    for dtype in [Dtype::F64, Dtype::F32, Dtype::BF16, Dtype::F16] {
        let file = File::new(dtype, false, 1, 7, &[2]);
        let weight = file.values("classifier.0.weight");
        let model = file.load().unwrap();
        for g in [3, 8, 10] {
            let mut expected = vec![0.0; weight.len() / 49 * g * g];
            for (index, w) in weight.iter().enumerate() {
                let (plane, i, j) = (index / 49, index / 7 % 7, index % 7);
                let rows = i * g / 7..((i + 1) * g).div_ceil(7);
                let columns = j * g / 7..((j + 1) * g).div_ceil(7);
                for r in rows.clone() {
                    for s in columns.clone() {
                        expected[(plane * g + r) * g + s] += w / (rows.len() * columns.len()) as f64;
                    }
                }
            }
            let folded = model.first_dense(g).unwrap();
            assert_nearest(folded.weight.iter(), &expected, &format!("{dtype} side {g}"));
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
