//! Cases: a small volume, perhaps a ROI, and options that fit them; and what the library makes of a case.

use patchmask::DeviceChoice;
use patchmask::Error;
use patchmask::Interpolation;
use patchmask::Model;
use patchmask::{Bytes, Options, Outputs, Report, Session, Work};
use patchmask::{Crop, Padding};
use patchmask::{Extents, Spacing, Volume, VolumeMut};

use super::models::TestModel;
use super::parameters::Parameters;
use super::random::Random;
use super::reference::Scan;

#[derive(Clone)]
pub struct Case {
    pub options: Options,
    pub width: usize,
    pub height: usize,
    pub depth: usize,
    /// mm along x and y, where they are known.
    pub spacing: Option<Spacing>,
    /// HU
    pub voxels: Vec<i16>,
    pub roi: Option<Vec<u8>>,
}

/// Results of a call.
pub struct Outcome {
    pub mask: Vec<u8>,
    pub probability: Vec<f32>,
    pub coverage: Vec<u8>,
    /// [depth][grid rows][grid columns][classes]
    pub logits: Vec<f32>,
    pub report: Report,
}

impl Outcome {
    /// Counts the logits that were evaluated, which must have the bits of `whole`; all others are NaN.
    pub fn same_as_in(&self, whole: &Self) -> usize {
        let evaluated = self.logits.iter().zip(&whole.logits).enumerate().filter(|(_, (some, _))| !some.is_nan());
        evaluated.inspect(|(i, (some, whole))| assert_eq!(some.to_bits(), whole.to_bits(), "logit {i}")).count()
    }
}

impl Case {
    /// Any geometry, on the CPU.
    pub fn random(random: &mut Random, padding: Padding) -> Self {
        let (width, height, depth) = (20 + random.below(50), 20 + random.below(50), 1 + random.below(2));
        let patch_size = 32 + random.below(40) as u32;
        let stride = match random.below(3) {
            0 => 4 + random.below(8) as u32,
            1 => 8,
            _ => 5 + random.below(patch_size as usize - 4) as u32,
        };
        let mut case = Self::whole(random, padding, (patch_size, stride), (width, height, depth));
        case.options.threads = 1 + random.below(3) as u32;
        case.options.interpolation = [Interpolation::Nearest, Interpolation::Linear][random.below(2)];
        case.options.equalize = random.below(3) == 0;
        case.options.window = [(-160.0, 240.0), (-333.5, 100.0)][random.below(2)];
        case.options.crop = (random.below(2) == 0).then(|| {
            let (x0, y0) = (random.below(width / 2), random.below(height / 2));
            let (x1, y1) = (x0 + 1 + random.below(width - x0), y0 + 1 + random.below(height - y0));
            let [x0, y0, x1, y1] = [x0, y0, x1, y1].map(|pixel| pixel as u64);
            Crop { x0, y0, x1, y1 }
        });
        case.options.threshold = [None, None, Some(0.5), Some(0.37)][random.below(4)];
        if random.below(2) == 0 {
            // 20 to 70 pixels of 1.5 mm each way.
            let mut spacing = |voxels: usize| 1.5 * (20 + random.below(50)) as f64 / voxels as f64;
            case.spacing = Some(Spacing { x: spacing(width), y: spacing(height) });
            case.options.pixel_mm = Some(1.5);
            case.options.resample = random.below(8) > 0;
        }
        let count = case.voxels.len();
        case.roi = (random.below(2) == 0).then(|| (0..count).map(|_| (random.below(40) == 0) as u8).collect());
        case.options.body = random.below(3) == 0;
        if case.options.body {
            // Sometimes one large component with many holes, sometimes many small ones.
            let of_16 = 4 + random.below(8);
            case.voxels.iter_mut().filter(|_| random.below(16) < of_16).for_each(|hu| *hu = -1000);
        }
        case
    }

    /// Noise of these extents (width, height, depth), all of it in patches of this size and stride.
    pub fn whole(
        random: &mut Random,
        padding: Padding,
        (patch_size, stride): (u32, u32),
        (width, height, depth): (usize, usize, usize),
    ) -> Self {
        let options = Options {
            patch_size,
            stride,
            padding,
            mean: [0.1, 0.2, 0.45],
            std: [0.5, 0.7, 1.5],
            device: DeviceChoice::Cpu,
            threads: 1,
            ..Options::for_model(None)
        };
        let voxels = (0..width * height * depth).map(|_| (random.symmetric() * 400.0) as i16).collect();
        Self { options, width, height, depth, spacing: None, voxels, roi: None }
    }

    /// Its slices again and again, so many in all.
    pub fn with_depth(mut self, depth: usize) -> Self {
        let count = self.width * self.height * depth;
        self.voxels = self.voxels.iter().copied().cycle().take(count).collect();
        self.roi = self.roi.map(|roi| roi.into_iter().cycle().take(count).collect());
        self.depth = depth;
        self
    }

    pub fn extents(&self) -> Extents {
        let [width, height, depth] = [self.width, self.height, self.depth].map(|n| n as u64);
        Extents::new(width, height, depth, "volume").expect("a volume")
    }

    pub fn volume(&self) -> Volume<'_> {
        let volume = Volume::from_slice(&self.voxels, self.width, self.height, self.depth).expect("a volume");
        volume.with_spacing(self.spacing)
    }

    fn roi(&self) -> Option<Volume<'_>> {
        let roi = |roi| Volume::from_slice(roi, self.width, self.height, self.depth).expect("a ROI");
        self.roi.as_deref().map(roi)
    }

    /// The case as the reference takes it.
    pub fn scan(&self) -> Scan<'_> {
        Scan {
            options: &self.options,
            width: self.width,
            height: self.height,
            depth: self.depth,
            spacing: self.spacing.map(|mm| [mm.y, mm.x]),
            voxels: self.voxels.iter().copied().map(f64::from).collect(),
            roi: self.roi.as_deref(),
        }
    }

    /// The reference's parameters of this model.
    pub fn parameters(&self, model: &TestModel) -> Parameters {
        Parameters::of(&model.file, self.options.patch_size as usize / 32)
    }

    /// Columns and rows of the patch grid.
    pub fn grid(&self) -> (usize, usize) {
        let [rows, columns] = self.scan().grid().map(|axis| axis.count());
        (columns, rows)
    }

    /// Runs the library.
    pub fn run(&self, model: &Model, options: Options) -> Outcome {
        let session = Session::new(model, options, &mut |_, _| ()).expect("a session");
        let estimate = session.estimate(self.extents(), self.spacing, self.roi().as_ref()).expect("an estimate");
        let outcome = self.run_in(&session, model);
        let Report { work, peak, .. } = outcome.report;
        let amounts =
            |work: Work, peak: Bytes| [work.patches, work.macs, work.macs_unshared, work.tiles, peak.host, peak.device];
        let (have, most) = (amounts(work, peak), amounts(estimate.work, estimate.peak));
        assert!(have.iter().zip(&most).all(|(have, most)| have <= most), "{have:?}, estimated {most:?}");
        assert!(self.options.body || work == estimate.work, "{work:?}, estimated {:?}", estimate.work);
        outcome
    }

    /// Runs the library in a session of the caller's.
    pub fn run_in(&self, session: &Session, model: &Model) -> Outcome {
        self.try_in(session, model).expect("it runs")
    }

    /// The same, where it may fail.
    pub fn try_in(&self, session: &Session, model: &Model) -> Result<Outcome, Error> {
        let (columns, rows) = self.grid();
        let voxels = self.voxels.len();
        let (mut mask, mut coverage, mut probability) = (vec![77; voxels], vec![77; voxels], vec![77.0; voxels]);
        let mut logits = vec![77.0; self.depth * rows * columns * model.describe().classes as usize];
        let mut outputs = Outputs {
            mask: Some(VolumeMut::from_slice(&mut mask)),
            probability: Some(VolumeMut::from_slice(&mut probability)),
            coverage: Some(VolumeMut::from_slice(&mut coverage)),
            logits: Some(VolumeMut::from_slice(&mut logits)),
        };
        let report = session.segment(&self.volume(), self.roi().as_ref(), &mut outputs, &mut |_, _| true)?;
        Ok(Outcome { mask, probability, coverage, logits, report })
    }

    /// Runs the library for the mask alone.
    pub fn mask_in(&self, session: &Session) -> Result<Vec<u8>, Error> {
        self.mask_while(session, |_| true)
    }

    /// The same as long as `progress`, which is told the fraction done, says so.
    pub fn mask_while(&self, session: &Session, mut progress: impl FnMut(f64) -> bool) -> Result<Vec<u8>, Error> {
        let mut mask = vec![0; self.voxels.len()];
        let mut outputs = Outputs { mask: Some(VolumeMut::from_slice(&mut mask)), ..Outputs::default() };
        session.segment(&self.volume(), self.roi().as_ref(), &mut outputs, &mut |done, _| progress(done))?;
        Ok(mask)
    }

    /// Mask, probability and coverage must be what the reference makes of the logits.
    pub fn check_voxels(&self, outcome: &Outcome) {
        let logits: Vec<f64> = outcome.logits.iter().copied().map(f64::from).collect();
        for (voxel, want) in self.scan().probabilities(&logits).into_iter().enumerate() {
            let have = (outcome.mask[voxel] as usize, outcome.probability[voxel], outcome.coverage[voxel]);
            let pixel = voxel / self.width;
            let at = format!("voxel ({},{},{})", pixel / self.height, pixel % self.height, voxel % self.width);
            let Some(want) = want else {
                assert_eq!(have, (0, 0.0, 0), "{at}");
                continue;
            };
            let (class, lesion) = (self.scan().class(&want), self.options.lesion_class as usize);
            // The library has probabilities, and mixes them between patches, in f32.
            let at_threshold = self.options.threshold.is_some_and(|threshold| (want[lesion] - threshold).abs() < 1e-6);
            let is_linear = self.options.interpolation == Interpolation::Linear;
            let as_large = is_linear && want[class] - want[have.0] < 1e-6 || at_threshold;
            assert!(have.0 == class || as_large, "{at}: class {}, probabilities {want:?}", have.0);
            assert!((f64::from(have.1) - want[lesion]).abs() < 1e-5, "{at}: {} of {want:?}", have.1);
            assert_eq!(have.2, 1, "{at}");
        }
    }
}

/// The budget with which slices of this size are evaluated in turn on a GPU, and what each more of them side by side
/// takes: tiles of two slices are side by side where there are two, of four where there are more.
pub fn in_turn(session: &Session, width: usize, height: usize) -> (u64, u64) {
    let [one, two, three, four] = [1, 2, 3, 4].map(|depth| {
        let extents = Extents::new(width as u64, height as u64, depth, "slices");
        let estimate = session.estimate(extents.unwrap(), None, None).unwrap();
        estimate.peak.device
    });
    let buffers = four - three;
    (one + 3 * buffers, two - one - buffers)
}

/// The case's options, on the GPU.
pub fn on_gpu(case: &Case) -> Options {
    Options { device: DeviceChoice::Cuda(vec![0]), threads: 1, ..case.options.clone() }
}

/// Bits of everything that came out: mask, coverage, probability, logits.
pub type Bits = (Vec<u8>, Vec<u8>, Vec<u32>, Vec<u32>);

pub fn bits(outcome: &Outcome) -> Bits {
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect();
    (outcome.mask.clone(), outcome.coverage.clone(), bits(&outcome.probability), bits(&outcome.logits))
}
