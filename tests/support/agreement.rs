//! How far the GPU is from the CPU engine, over any number of cases.

use std::fmt;

use patchmask::DeviceKind;
use patchmask::Model;
use patchmask::Options;

use crate::geometry::Case;

/// Most that a logit may differ, relative to the largest of the case: fp16 activations through 16 layers.
pub const TOLERANCE: f32 = 1e-2;

#[derive(Default)]
pub struct Agreement {
    pub cases: usize,
    pub points: usize,
    /// Largest difference of a logit, relative to the largest logit of its case.
    pub worst: f32,
    /// The same relative to how much that class's logits differ between the points of the case, at most.
    pub worst_of_spread: f32,
    pub changed_points: usize,
    pub changed_voxels: usize,
    pub voxels: usize,
}

impl Agreement {
    /// Runs the case on the CPU and with `options` on the GPU; panics where they disagree.
    pub fn compare(&mut self, case: &Case, model: &Model, options: Options) {
        let cpu = case.run(model, case.options.clone());
        let gpu = case.run(model, options);
        assert_eq!(gpu.report.device, DeviceKind::Cuda);
        assert_eq!(cpu.report.work.patches, gpu.report.work.patches);
        assert_eq!(cpu.report.nonfinite_voxels, gpu.report.nonfinite_voxels);
        assert_eq!(cpu.coverage, gpu.coverage);

        let classes = model.describe().classes as usize;
        let finite = || cpu.logits.iter().filter(|logit| logit.is_finite());
        let largest = finite().fold(0.0_f32, |most, logit| most.max(logit.abs()));
        let mut ranges = vec![(f32::INFINITY, f32::NEG_INFINITY); classes];
        let mut worst = 0.0_f32;
        let (columns, rows) = case.lattice();
        let points = cpu.logits.chunks_exact(classes);
        for (point, (cpu, gpu)) in points.zip(gpu.logits.chunks_exact(classes)).enumerate() {
            let place = (point / columns / rows, point / columns % rows, point % columns);
            for class in 0..classes {
                let (want, have) = (cpu[class], gpu[class]);
                assert_eq!(want.is_nan(), have.is_nan(), "{place:?} class {class}");
                if want.is_nan() {
                    continue;
                }
                let error = (want - have).abs() / largest;
                assert!(
                    error <= TOLERANCE,
                    "(slice, row, column) {place:?} class {class}: CPU {want}, GPU {have}, largest {largest}"
                );
                worst = worst.max(error);
                let (low, high) = &mut ranges[class];
                (*low, *high) = (low.min(want), high.max(want));
            }
            self.points += 1;
            let best = |logits: &[f32]| (0..classes).fold(0, |best, c| if logits[c] > logits[best] { c } else { best });
            self.changed_points += usize::from(best(cpu) != best(gpu));
        }
        let spread = ranges.iter().fold(0.0_f32, |most, (low, high)| most.max(high - low));
        if spread > 0.0 {
            self.worst_of_spread = self.worst_of_spread.max(worst * largest / spread);
        }
        for (cpu, gpu) in cpu.probability.iter().zip(&gpu.probability) {
            assert!((cpu - gpu).abs() <= 0.05, "probabilities {cpu} and {gpu}");
        }
        let changed = cpu.mask.iter().zip(&gpu.mask).filter(|(a, b)| a != b);
        self.changed_voxels += changed.count();
        self.voxels += cpu.mask.len();
        self.worst = self.worst.max(worst);
        self.cases += 1;
    }
}

impl fmt::Display for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} cases, {} patches, largest error {:.1e} of the largest logit ({:.1e} of the spread), \
             {} patches and {} of {} voxels of another class",
            self.cases,
            self.points,
            self.worst,
            self.worst_of_spread,
            self.changed_points,
            self.changed_voxels,
            self.voxels
        )
    }
}
