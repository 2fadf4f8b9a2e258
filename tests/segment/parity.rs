//! Shared evaluation against the reference, which goes patch by patch, and against the library without sharing.

use patchmask::Options;
use patchmask::Padding;

use crate::support::{Case, Outcome, Random, TestModel, Vgg, network};

/// Promised relative error of the logits.
const TOLERANCE: f64 = 1e-4;

fn agrees_with_the_reference(padding: Padding, seed: u64, cases: usize) {
    let mut random = Random(seed);
    let mut worst = 0.0_f64;
    for number in 0..cases {
        let case = Case::random(&mut random, padding);
        let model = network(&mut random, case.options.patch_size);
        println!("case {number}: {:?}", case.options);
        let shared = case.run(&model, case.options.clone());
        let alone = case.run(&model, Options { sharing: false, ..case.options.clone() });
        worst = worst.max(compare(&case, &model, &shared));
        let scale = shared.logits.iter().filter(|logit| !logit.is_nan()).fold(0.0_f32, |most, x| most.max(x.abs()));
        for (index, (shared, alone)) in shared.logits.iter().zip(&alone.logits).enumerate() {
            let agree = shared.is_nan() && alone.is_nan() || (shared - alone).abs() <= 1e-4 * scale;
            assert!(agree, "logit {index} is {shared} shared, {alone} alone");
        }
        assert_eq!(shared.mask, alone.mask);
        assert_eq!(shared.report.work.patches, alone.report.work.patches);
    }
    println!("{cases} cases, {padding:?}: largest relative error {worst:.1e}");
}

/// Checks every logit and voxel; returns the relative error.
fn compare(case: &Case, model: &TestModel, outcome: &Outcome) -> f64 {
    let logits = case.scan().logits(&case.parameters(model));
    assert_eq!(outcome.logits.len(), logits.len());
    let (mut error, mut scale) = (0.0_f64, 0.0_f64);
    for (index, (&have, &want)) in outcome.logits.iter().zip(&logits).enumerate() {
        let difference = (f64::from(have) - want).abs();
        let agree = have.is_nan() && want.is_nan() || difference <= 1e-3 * want.abs().max(1.0);
        assert!(agree, "logit {index} is {have}, by the reference {want}");
        (error, scale) = (error.max(difference), scale.max(want.abs()));
    }
    let patches = logits.iter().filter(|logit| !logit.is_nan()).count() / model.classes();
    assert_eq!(outcome.report.work.patches, patches as u64);
    assert!(error <= TOLERANCE * scale, "error {error}, largest logit {scale}");
    case.check_voxels(outcome);
    let in_body = (0..case.depth).flat_map(|z| case.scan().body(z)).filter(|&inside| inside).count();
    assert_eq!(outcome.report.body_share, in_body as f64 / case.voxels.len() as f64);
    if scale == 0.0 { 0.0 } else { error / scale }
}

#[test]
fn patch_scope_is_patch_by_patch() {
    agrees_with_the_reference(Padding::Patch, 11, 40);
}

#[test]
fn image_scope_is_a_dense_evaluation() {
    agrees_with_the_reference(Padding::Image, 12, 25);
}

/// The promise at the widths of VGG16: sums of up to 4608 products, 12 layers of transforms.
#[test]
fn full_width_keeps_the_promise() {
    let mut random = Random(3);
    let mut case = Case::whole(&mut random, Padding::Patch, (65, 9), (90, 80, 1));
    (case.options.mean, case.options.std) = ([0.4; 3], [0.3; 3]);
    let widths = [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512];
    let model = Vgg { channels: 3, widths: &widths, side: 2, dense: &[256, 256, 2], ..Vgg::GREY }.model(&mut random);
    let outcome = case.run(&model, case.options.clone());
    let (scan, row, column) = (case.scan(), 4, 5);
    let want = scan.patch(&scan.intensities(0), row, column, &case.parameters(&model));
    let have = &outcome.logits[(row * case.grid().0 + column) * 2..][..2];
    let scale = want.iter().fold(0.0_f64, |largest, logit| logit.abs().max(largest));
    for (&have, want) in have.iter().zip(&want) {
        let error = (f64::from(have) - want).abs() / scale;
        println!("{have}, by the reference {want}: relative error {error:.1e}");
        assert!(error <= TOLERANCE, "{have}, by the reference {want}");
    }
}
