//! The CUDA engine against the CPU engine.

use std::ops::Range;

use patchmask::Padding;
use patchmask::{Options, Session};

use crate::support::{Agreement, Case, Random, TestModel, network, reference::Scan};
use crate::{fake_driver, on_gpu};

#[test]
fn random_cases_agree_with_the_cpu() {
    let Some(gpu) = fake_driver::take() else { return };
    let in_order = |number: u64| gpu.completion(number as i32 % 3, number);
    random_cases(100..108, in_order, network, || {
        assert_eq!(gpu.error(), "");
        assert_eq!(gpu.live(""), 0);
    });
}

/// Cases of these seeds in both scopes, each on a machine that `prepare` sets up for the case of this number; `after` looks
/// at what is left of it.
pub fn random_cases(
    seeds: Range<u64>,
    prepare: impl Fn(u64),
    network: impl Fn(&mut Random, u32) -> TestModel,
    after: impl Fn(),
) {
    for padding in [Padding::Patch, Padding::Image] {
        let mut agreement = Agreement::default();
        for (number, seed) in (0..).zip(seeds.clone()) {
            prepare(number);
            let mut random = Random(seed);
            let case = Case::random(&mut random, padding);
            let model = network(&mut random, case.options.patch_size);
            agreement.compare(&case, &model, on_gpu(&case));
            after();
        }
        println!("{padding:?}: {agreement}");
    }
}

/// Patch by patch: stacks of patches with values of their own; in IMAGE padding one patch at a time, of which those inside
/// the slice see more of it than those at its corners.
#[test]
fn without_sharing() {
    let Some(_gpu) = fake_driver::take() else { return };
    let mut random = Random(5);
    let mut agreement = Agreement::default();
    for padding in [Padding::Patch, Padding::Image] {
        let case = Case::whole(&mut random, padding, (33, 32), (300, 20, 1));
        let model = network(&mut random, case.options.patch_size);
        let options = Options { sharing: false, ..on_gpu(&case) };
        agreement.compare(&case, &model, options);
    }
    println!("no sharing: {agreement}");
}

/// NaN and infinite voxels, every voxel type; on the CPU too.
#[test]
fn voxels_of_every_type() {
    use patchmask::Outputs;
    use patchmask::{Volume, VolumeMut, Voxel};
    let Some(_gpu) = fake_driver::take() else { return };
    let mut random = Random(9);
    let mut case = Case::whole(&mut random, Padding::Patch, (32, 24), (40, 40, 2));
    case.options.equalize = true;
    let model = network(&mut random, 32);
    let cpu = Session::new(&model, case.options.clone(), &mut |_, _| ()).unwrap();
    let cuda = Session::new(&model, on_gpu(&case), &mut |_, _| ()).unwrap();
    fn probabilities<T: Voxel>(session: &Session, voxels: &[T]) -> (Vec<f32>, u64) {
        let volume = Volume::from_slice(voxels, 40, 40, 2).unwrap();
        let mut probability = vec![9.0; voxels.len()];
        let mut outputs = Outputs { probability: Some(VolumeMut::from_slice(&mut probability)), ..Outputs::default() };
        let report = session.segment(&volume, None, &mut outputs, &mut |_, _| true);
        (probability, report.unwrap().nonfinite_voxels)
    }
    let numbers: Vec<i32> = (0..case.voxels.len()).map(|_| random.below(127) as i32).collect();
    macro_rules! check {
        ($($voxel:ty),*) => {$({
            let mut voxels: Vec<$voxel> = numbers.iter().map(|&n| n as $voxel).collect();
            // Not a number, where the type has one; 0 where it has not.
            let nan = std::hint::black_box(f64::NAN);
            voxels[17] = nan as $voxel;
            voxels[1603] = (f64::INFINITY as $voxel).min(f64::MAX as $voxel);
            let scan = Scan { voxels: voxels.iter().map(|&voxel| voxel as f64).collect(), ..case.scan() };
            let want = scan.probabilities(&scan.logits(&case.parameters(&model)));
            let not_finite = scan.voxels.iter().filter(|voxel| !voxel.is_finite()).count();
            for (session, tolerance) in [(&cpu, 1e-4), (&cuda, 1e-2)] {
                let (have, bad) = probabilities(session, &voxels);
                assert_eq!(bad, not_finite as u64, stringify!($voxel));
                for (have, want) in have.into_iter().zip(&want) {
                    let want = want.as_ref().unwrap()[1];
                    assert!((f64::from(have) - want).abs() < tolerance, "{} {have} {want}", stringify!($voxel));
                }
            }
        })*};
    }
    check!(i8, u8, i16, u16, i32, f32, f64);
}
