//! Layers inferred from a file, layers refused, and the fit of patches to the first dense layer.

#[cfg(unix)]
use std::io::Write;
#[cfg(unix)]
use std::process::{Command, Stdio};

use patchmask::Error;
use patchmask::Model;
use safetensors::Dtype;

use crate::support::models::WIDTHS;
use crate::support::parameters::Parameters;
use crate::support::{File, refused};

#[test]
fn models_are_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Model>();
}

#[test]
fn describes_what_is_in_the_file() {
    for (batch_norm, channels, side, dense) in [
        (false, 1, 7, vec![2]),
        (false, 3, 1, vec![1, 255]),
        (true, 3, 8, vec![6, 5, 4]),
        (true, 1, 32, vec![3, 1, 4, 9]),
    ] {
        let file = File::new(Dtype::F32, batch_norm, channels, side, &dense);
        let model = file.load().unwrap();
        let description = model.describe();
        assert_eq!(description.input_channels, channels as u32);
        assert_eq!(description.classes as usize, dense[dense.len() - 1]);
        assert_eq!(description.dense_layers as usize, dense.len());
        assert_eq!(description.lesion_class, 1);
        assert_eq!((description.patch_size, description.stride), (None, None));
        assert!(description.class_names.is_empty());
        let Parameters { convolutions, dense: dense_layers } = Parameters::unrounded(&file, side);
        let parameters = convolutions.iter().chain(&dense_layers).map(|layer| layer.weight.len() + layer.bias.len());
        assert_eq!(description.parameters, parameters.sum::<usize>() as u64);
        assert_eq!(model.dense().len(), dense.len() - 1);
    }
}

/// Against coreutils' `sha256sum`.
#[cfg(unix)]
#[test]
fn hashes_the_bytes() {
    let bytes = File::plain().bytes();
    let mut child = Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&bytes).unwrap();
    let output = child.wait_with_output().unwrap().stdout;
    let expected = std::str::from_utf8(&output[..64]).unwrap();
    let model = Model::from_bytes(&bytes).unwrap();
    assert_eq!(model.describe().sha256, expected);
}

#[test]
fn takes_linear_layers_in_order_of_their_number() {
    let mut file = File::new(Dtype::F32, false, 1, 1, &[5, 4, 2]);
    for kind in ["weight", "bias"] {
        file.rename(&format!("classifier.0.{kind}"), &format!("classifier.2.{kind}"));
        file.rename(&format!("classifier.6.{kind}"), &format!("classifier.10.{kind}"));
    }
    let model = file.load().unwrap();
    assert_eq!(model.first_dense(1).unwrap().bias.len(), 5);
    assert_eq!(model.dense()[0].weight.dim(), (4, 5));
    assert_eq!(model.dense()[1].weight.dim(), (2, 4));
}

#[test]
fn patches_must_fit_the_first_dense_layer() {
    let pooled = File::plain().load().unwrap();
    for side in [1, 6, 7, 8, 32] {
        pooled.check_side(side).unwrap();
    }
    let direct = File::new(Dtype::F32, false, 1, 5, &[2]).load().unwrap();
    direct.check_side(5).unwrap();
    for (model, side, parts) in [
        (&direct, 8, ["8 x 8", "takes 5 x 5", "160..=191"]),
        (&direct, 7, ["7 x 7", "classifier.0.weight", "160..=191"]),
        (&direct, usize::MAX, ["classifier.0.weight", "takes 5 x 5", "160..=191"]),
        (&pooled, 0, ["0 x 0", "takes 7 x 7", "at least 32"]),
    ] {
        for error in [model.check_side(side).unwrap_err(), model.first_dense(side).unwrap_err()] {
            assert!(matches!(error, Error::InvalidArgument(_)), "{error:?}");
            for part in parts {
                assert!(error.to_string().contains(part), "no {part:?} in: {error}");
            }
        }
    }
    // More than memory can address, and more than there is.
    assert!(matches!(pooled.first_dense(usize::MAX), Err(Error::InvalidArgument(_))));
    assert!(matches!(pooled.first_dense(1 << 29), Err(Error::OutOfMemory(_))));
}

#[test]
fn names_missing_and_unknown_tensors() {
    let without = |name: &str, batch_norm: bool| {
        let mut file = File::new(Dtype::F32, batch_norm, 1, 7, &[5, 2]);
        file.tensors.remove(name).unwrap();
        refused(file.load(), &["missing", name]);
    };
    without("features.0.weight", false);
    without("features.28.bias", false);
    without("classifier.3.bias", false);
    without("classifier.0.weight", false);
    without("features.41.running_var", true);
    without("features.1.weight", true);
    without("features.40.bias", true);

    for name in [
        "features.1.weight", "features.30.weight", "module.features.0.weight", "classifier.weight",
        "classifier.00.weight", "classifier.-1.bias", "classifier.99999999999999999999.bias",
        "classifier.0.weight.extra", "block1_conv1/kernel:0", "",
    ] {
        let mut file = File::plain();
        file.set(name, &[2], &[0.0, 0.0]);
        refused(file.load(), &["unknown", &format!("{name:?}"), "classifier.N.{weight,bias}"]);
    }
    // Both batch norm and plain convolutions: the plain ones are unknown to vgg16_bn.
    let mut file = File::new(Dtype::F32, true, 1, 7, &[2]);
    file.set("features.2.weight", &[1], &[0.0]);
    refused(file.load(), &["unknown", "features.2.weight", "vgg16_bn"]);

    let mut file = File::plain();
    file.set("features.77.num_batches_tracked", &[1], &[0.0]);
    file.load().unwrap();
}

#[test]
fn long_and_odd_names_are_cut_and_escaped() {
    let mut file = File::plain();
    file.set(&"x".repeat(10_000), &[1], &[0.0]);
    refused(file.load(), &["xxx...\""]);
    let mut file = File::plain();
    file.set("a\0b\nc", &[1], &[0.0]);
    refused(file.load(), &["a\\0b\\nc"]);
}

#[test]
fn counts_dense_layers_and_classes() {
    let load = |dense: &[usize]| File::new(Dtype::F32, false, 1, 7, dense).load();
    refused(load(&[]), &["0 dense layers", "1..=4"]);
    refused(load(&[3, 3, 3, 3, 3]), &["5 dense layers", "1..=4"]);
    refused(load(&[1]), &["classifier.0.weight", "1 classes", "2..=255"]);
    refused(load(&[2, 256]), &["classifier.3.weight", "256 classes", "2..=255"]);
}

#[test]
fn names_wrong_shapes_with_what_is_expected() {
    let bad = |name: &str, shape: &[usize], parts: &[&str]| {
        let mut file = File::plain();
        file.set(name, shape, &vec![0.0; shape.iter().product()]);
        refused(file.load(), &[&[name], parts].concat());
    };
    bad("features.0.weight", &[2, 2, 3, 3], &["[2, 2, 3, 3]", "[*, 1 or 3, 3, 3]"]);
    bad("features.0.weight", &[2, 1, 5, 5], &["[2, 1, 5, 5]", "[*, *, 3, 3]"]);
    bad("features.2.weight", &[3, 4, 3, 3], &["[3, 4, 3, 3]", "[*, 2, 3, 3]"]);
    bad("features.2.weight", &[3, 18], &["[3, 18]", "[*, 2, 3, 3]"]);
    bad("features.2.weight", &[0, 2, 3, 3], &["[0, 2, 3, 3]", "[*, 2, 3, 3]"]);
    bad("features.2.bias", &[4], &["[4]", "[3]"]);
    bad("features.2.bias", &[], &["[]", "[3]"]);
    bad("classifier.0.weight", &[5, 146], &["[5, 146]", "3*k*k", "3 channels"]);
    bad("classifier.0.weight", &[5, 150], &["[5, 150]", "3*k*k"]);
    bad("classifier.0.weight", &[5, 0], &["[5, 0]"]);
    bad("classifier.0.weight", &[5, 1], &["[5, 1]", "3*k*k"]);
    bad("classifier.0.weight", &[5, 3 * 33 * 33], &["3*k*k", "1..=32", "1024"]);
    bad("classifier.0.weight", &[147], &["[147]", "[*, *]"]);
    bad("classifier.0.bias", &[6], &["[6]", "[5]"]);
    bad("classifier.3.weight", &[2, 6], &["[2, 6]", "[*, 5]"]);
    bad("features.5.weight", &[1; 1000], &["and more"]);

    let mut file = File::new(Dtype::F32, true, 1, 7, &[2]);
    file.set("features.4.running_mean", &[2], &[0.0; 2]);
    refused(file.load(), &["features.4.running_mean", "[2]", "[3]"]);
}

#[test]
fn names_tensors_of_other_types() {
    for (dtype, size) in [(Dtype::I64, 8), (Dtype::I8, 1), (Dtype::F8_E4M3, 1), (Dtype::BOOL, 1)] {
        let mut file = File::plain();
        let tensor = file.tensors.get_mut("features.10.bias").unwrap();
        tensor.bytes = vec![0; size * WIDTHS[4]];
        tensor.dtype = dtype;
        refused(file.load(), &["features.10.bias", &dtype.to_string(), "BF16"]);
    }
}
