//! The `patchmask.*` strings of a file.

use safetensors::Dtype;

use crate::support::{File, refused};

#[test]
fn reads_every_key() {
    let file = File::new(Dtype::F32, false, 3, 7, &[3])
        .string("patchmask.patch_size", "257")
        .string("patchmask.stride", "7")
        .string("patchmask.window", "-160,240.5")
        .string("patchmask.equalize", "true")
        .string("patchmask.mean", "0.485, 0.456, 0.406")
        .string("patchmask.std", "0.229")
        .string("patchmask.classes", "healthy, lesion,vessel")
        .string("patchmask.lesion_class", "2")
        .string("format", "pt");
    let model = file.load().unwrap();
    let metadata = model.metadata();
    assert_eq!((metadata.patch_size, metadata.stride), (Some(257), Some(7)));
    assert_eq!(metadata.window, Some((-160.0, 240.5)));
    assert_eq!(metadata.equalize, Some(true));
    assert_eq!(metadata.mean, Some([0.485, 0.456, 0.406]));
    assert_eq!(metadata.std, Some([0.229; 3]));
    assert_eq!(metadata.classes, ["healthy", "lesion", "vessel"]);
    assert_eq!(metadata.lesion_class, Some(2));
    let description = model.describe();
    assert_eq!((description.patch_size, description.stride), (Some(257), Some(7)));
    assert_eq!(description.class_names, metadata.classes);
    assert_eq!(description.lesion_class, 2);
}

#[test]
fn is_optional() {
    let model = File::plain().load().unwrap();
    assert_eq!(*model.metadata(), Default::default());
}

#[test]
fn takes_the_limits() {
    for (key, value) in [
        ("patch_size", "32"),
        ("patch_size", "1024"),
        ("stride", "1"),
        ("stride", "1024"),
        ("window", "-1e3, 1e3"),
        ("equalize", "false"),
        ("mean", "-0.5"),
        ("std", "1e-3"),
        ("lesion_class", "0"),
    ] {
        let file = File::plain().string(&format!("patchmask.{key}"), value);
        file.load().unwrap_or_else(|error| panic!("{key} {value}: {error}"));
    }
}

#[test]
fn bad_values_are_errors_that_name_key_value_and_range() {
    for (key, values, range) in [
        ("patch_size", &["31", "1025", "0", "-1", "", "257.0", "4294967328", "x"][..], "32..=1024"),
        ("stride", &["0", "1025", "-7", "seven"], "1..=1024"),
        ("window", &["1,1", "2,1", "1", "1,2,3", "a,b", "nan,1", "-inf,3", "0,1e999", ""], "LO < HI"),
        ("equalize", &["True", "1", "yes", ""], "true or false"),
        ("mean", &["nan", "", "0,0,0", "0,0", "inf", "1,2,3,4"], "1 number, finite"),
        ("std", &["0", "-1", "nan", "1,1,1", "inf", "-0"], "above 0"),
        ("classes", &["a", "a,b,c", "a,", ",", "", "a,b\0", "a\nb,c"], "2 names"),
        ("lesion_class", &["2", "-1", "lesion", "255"], "0..=1"),
    ] {
        let key = format!("patchmask.{key}");
        for value in values {
            let shown = format!("\"{}\"", value.escape_debug());
            refused(File::plain().string(&key, value).load(), &[&key, &shown, range]);
        }
    }
    for value in ["1,2", "1,2,3,4", "1,2,nan"] {
        let file = File::new(Dtype::F32, false, 3, 7, &[2]).string("patchmask.mean", value);
        refused(file.load(), &["patchmask.mean", value, "1 or 3 numbers"]);
    }
    let long = "9,".repeat(100_000);
    for key in ["window", "classes", "mean", "patch_size"] {
        refused(File::plain().string(&format!("patchmask.{key}"), &long).load(), &[key, "..."]);
    }
}

#[test]
fn values_must_agree_with_each_other_and_the_network() {
    let file = File::plain().string("patchmask.patch_size", "65").string("patchmask.stride", "66");
    refused(file.load(), &["patchmask.stride 66", "1..=patch_size", "65"]);
    let file = File::new(Dtype::F32, false, 1, 5, &[2]).string("patchmask.patch_size", "257");
    refused(file.load(), &["patchmask.patch_size 257", "8 x 8", "5 x 5", "160..=191"]);
}

#[test]
fn unknown_keys_of_ours_are_errors() {
    refused(
        File::plain().string("patchmask.patchsize", "257").load(),
        &["patchmask.patchsize", "unknown", "patch_size"],
    );
    File::plain().string("patchmaskx", "1").string("mean", "?").load().unwrap();
}
