//! Differences between the GPU, the reference and the CPU engine, over any number of cases.

use std::fmt;

use patchmask::DeviceKind;
use patchmask::Options;

use super::cases::{Case, Outcome};
use super::models::TestModel;
use super::reference::largest;

/// Maximum that a logit may differ, relative to the largest of the case: fp16 activations through 16 layers.
pub const TOLERANCE: f64 = 1e-2;

#[derive(Default)]
pub struct Agreement {
    pub cases: usize,
    pub patches: usize,
    /// Largest difference of a logit, relative to the largest logit of its case.
    pub worst: f64,
    /// The same relative to how much that class's logits differ between the patches of the case, at most.
    pub worst_of_spread: f64,
    pub changed_patches: usize,
    pub changed_voxels: usize,
    pub voxels: usize,
}

impl Agreement {
    /// Runs the case on the CPU and with `options` on the GPU; panics where the GPU disagrees with it or with the
    /// reference.
    pub fn compare(&mut self, case: &Case, model: &TestModel, options: Options) {
        let gpu = self.compare_with_cpu(case, model, options);
        self.compare_logits(case, &gpu, &case.scan().logits(&case.parameters(model)));
    }

    /// The same without the reference, for networks that take it hours.
    pub fn compare_with_cpu(&mut self, case: &Case, model: &TestModel, options: Options) -> Outcome {
        let cpu = case.run(model, case.options.clone());
        let gpu = case.run(model, options);
        assert_eq!(gpu.report.device, DeviceKind::Cuda);
        assert_eq!(cpu.report.work.patches, gpu.report.work.patches);
        assert_eq!(cpu.report.nonfinite_voxels, gpu.report.nonfinite_voxels);
        case.check_voxels(&gpu);
        let logits: Vec<f64> = cpu.logits.iter().copied().map(f64::from).collect();
        self.compare_logits(case, &gpu, &logits);
        self.changed_voxels += cpu.mask.iter().zip(&gpu.mask).filter(|(a, b)| a != b).count();
        self.voxels += cpu.mask.len();
        self.cases += 1;
        gpu
    }

    fn compare_logits(&mut self, case: &Case, gpu: &Outcome, logits: &[f64]) {
        let (columns, rows) = case.grid();
        let classes = logits.len() / (columns * rows * case.depth);
        let scale = logits.iter().filter(|logit| logit.is_finite()).fold(0.0_f64, |most, logit| most.max(logit.abs()));
        let mut ranges = vec![(f64::INFINITY, f64::NEG_INFINITY); classes];
        let mut worst = 0.0_f64;
        for (point, (want, have)) in logits.chunks(classes).zip(gpu.logits.chunks(classes)).enumerate() {
            let have: Vec<f64> = have.iter().copied().map(f64::from).collect();
            for (class, (&want, &have)) in want.iter().zip(&have).enumerate() {
                let place = (point / columns / rows, point / columns % rows, point % columns);
                let error = (want - have).abs() / scale;
                let agrees = if want.is_nan() { have.is_nan() } else { error <= TOLERANCE };
                assert!(
                    agrees,
                    "(slice, row, column) {place:?} class {class}: {have} instead of {want}, largest {scale}: {:?}",
                    case.options
                );
                worst = worst.max(error);
                let (low, high) = &mut ranges[class];
                (*low, *high) = (low.min(want), high.max(want));
            }
            self.patches += usize::from(!want[0].is_nan());
            self.changed_patches += usize::from(largest(want) != largest(&have));
        }
        let spread = ranges.iter().fold(0.0_f64, |most, (low, high)| most.max(high - low));
        if spread > 0.0 {
            self.worst_of_spread = self.worst_of_spread.max(worst * scale / spread);
        }
        self.worst = self.worst.max(worst);
    }
}

impl fmt::Display for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} cases, {} patches compared, largest error {:.1e} of the largest logit ({:.1e} of the spread), \
             {} patches and {} of {} voxels of another class",
            self.cases,
            self.patches,
            self.worst,
            self.worst_of_spread,
            self.changed_patches,
            self.changed_voxels,
            self.voxels
        )
    }
}
