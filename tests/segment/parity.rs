//! Shared evaluation against patch by patch: plain loops in f64, and the library without sharing.

use patchmask::Padding;

use crate::builder::{File, Random};
use crate::geometry::{Case, Outcome, network};
use crate::reference;

/// Promised relative error of the logits against f64.
const TOLERANCE: f64 = 1e-4;

fn agrees_with_plain_loops(padding: Padding, seed: u64, cases: usize) {
    let mut random = Random(seed);
    let mut worst = 0.0_f64;
    for number in 0..cases {
        let case = Case::random(&mut random, padding);
        let model = network(&mut random, case.options.patch_size);
        let outcome = case.run(&model, case.options.clone());
        let mut unshared = case.options.clone();
        unshared.sharing = false;
        let alone = case.run(&model, unshared);
        worst = worst.max(compare(&case, &model, &outcome, number));
        for (index, (shared, alone)) in outcome.logits.iter().zip(&alone.logits).enumerate() {
            assert!(
                shared.is_nan() && alone.is_nan() || (shared - alone).abs() <= 1e-4 * largest(&outcome),
                "case {number}: logit {index} is {shared} shared, {alone} alone"
            );
        }
        assert_eq!(outcome.mask, alone.mask, "case {number}");
        assert_eq!(outcome.report.work.patches, alone.report.work.patches);
    }
    println!("{cases} cases, {padding:?}: largest relative error {worst:.1e}");
}

fn largest(outcome: &Outcome) -> f32 {
    outcome.logits.iter().filter(|logit| !logit.is_nan()).fold(0.0, |largest, logit| logit.abs().max(largest))
}

/// Checks every logit and voxel; returns the relative error.
fn compare(case: &Case, model: &patchmask::Model, outcome: &Outcome, number: usize) -> f64 {
    let (columns, rows) = case.lattice();
    let classes = model.describe().classes as usize;
    let points =
        (0..case.depth).flat_map(|z| (0..rows).flat_map(move |row| (0..columns).map(move |column| (z, row, column))));
    let (mut error, mut scale) = (0.0_f64, 0.0_f64);
    let mut patches = 0;
    for (index, (z, row, column)) in points.enumerate() {
        let have = &outcome.logits[index * classes..][..classes];
        if !case.wanted(z, row, column) {
            assert!(have.iter().all(|logit| logit.is_nan()), "case {number}: unwanted point evaluated");
            continue;
        }
        patches += 1;
        let want = reference::logits(case, model, z, row, column);
        for (class, (have, want)) in have.iter().zip(&want).enumerate() {
            let difference = (f64::from(*have) - want).abs();
            assert!(
                difference <= 1e-3 * want.abs().max(1.0),
                "case {number} {:?}: slice {z} row {row} column {column} class {class}: {have}, \
                 plain loops {want}",
                case.options
            );
            error = error.max(difference);
            scale = scale.max(want.abs());
        }
    }
    assert_eq!(outcome.report.work.patches, patches, "case {number}");
    assert!(error <= TOLERANCE * scale, "case {number}: error {error}, largest logit {scale}");
    check_voxels(case, outcome, classes, number);
    if scale == 0.0 { 0.0 } else { error / scale }
}

/// Every voxel has the class of its nearest centre, and nothing outside crop and ROI.
fn check_voxels(case: &Case, outcome: &Outcome, classes: usize, number: usize) {
    let (x0, y0, x1, y1) = case.crop();
    let (columns, rows) = case.lattice();
    let stride = i64::from(case.options.stride);
    let nearest = |p: i64, count: usize| (0..count).min_by_key(|&k| ((p - k as i64 * stride).abs(), k)).unwrap();
    for index in 0..case.voxels.len() {
        let x = (index % case.width) as i64;
        let y = (index / case.width % case.height) as i64;
        let z = index / (case.width * case.height);
        let inside =
            (x0..x1).contains(&x) && (y0..y1).contains(&y) && case.roi.as_ref().is_none_or(|roi| roi[index] != 0);
        let at = format!("case {number}: voxel ({z},{y},{x})");
        assert_eq!(outcome.coverage[index], u8::from(inside), "{at}");
        if !inside {
            assert_eq!((outcome.mask[index], outcome.probability[index]), (0, 0.0), "{at}");
            continue;
        }
        let point = (z * rows + nearest(y - y0, rows)) * columns + nearest(x - x0, columns);
        let logits = &outcome.logits[point * classes..][..classes];
        let mut class = 0;
        for (other, logit) in logits.iter().enumerate() {
            if *logit > logits[class] {
                class = other;
            }
        }
        assert_eq!(usize::from(outcome.mask[index]), class, "{at}");
        let sum: f64 = logits.iter().map(|logit| f64::from(logit - logits[1]).exp()).sum();
        assert!((f64::from(outcome.probability[index]) - 1.0 / sum).abs() < 1e-5, "{at}");
    }
}

#[test]
fn patch_scope_is_patch_by_patch() {
    agrees_with_plain_loops(Padding::Patch, 11, 40);
}

#[test]
fn image_scope_is_a_dense_evaluation() {
    agrees_with_plain_loops(Padding::Image, 12, 25);
}

/// The promise at the widths of VGG16: sums of up to 4608 products, 12 layers of transforms.
#[test]
fn full_width_keeps_the_promise() {
    let mut random = Random(3);
    let mut case = Case::random(&mut random, Padding::Patch);
    (case.width, case.height, case.depth, case.roi) = (90, 80, 1, None);
    case.voxels = (0..90 * 80).map(|_| (random.symmetric() * 300.0) as i16).collect();
    (case.options.patch_size, case.options.stride, case.options.crop) = (65, 9, None);
    let widths = [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512];
    let file = File::scaled(&mut random, 3, &widths, 2, &[256, 256, 2], 0.2);
    let model = file.load().expect("a model");
    case.options.mean = [0.4; 3];
    case.options.std = [0.3; 3];
    let outcome = case.run(&model, case.options.clone());
    let (row, column) = (4, 5);
    let want = reference::logits(&case, &model, 0, row, column);
    let have = &outcome.logits[(row * case.lattice().0 + column) * 2..][..2];
    let scale = want.iter().fold(0.0_f64, |largest, logit| logit.abs().max(largest));
    for (&have, want) in have.iter().zip(&want) {
        let error = (f64::from(have) - want).abs() / scale;
        println!("{have}, plain loops {want}: relative error {error:.1e}");
        assert!(error <= TOLERANCE, "{have}, plain loops {want}");
    }
}
