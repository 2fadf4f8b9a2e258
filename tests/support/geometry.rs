//! Random cases: a small volume, a tiny network and options that fit each other.
#![allow(dead_code)] // each test binary uses a part

use patchmask::DeviceChoice;
use patchmask::Error;
use patchmask::Model;
use patchmask::{Crop, Padding};
use patchmask::{Extents, Volume, VolumeMut};
use patchmask::{Options, Outputs, Report, Session};

use crate::builder::{File, Random};

pub struct Case {
    pub options: Options,
    pub width: usize,
    pub height: usize,
    pub depth: usize,
    /// HU
    pub voxels: Vec<i16>,
    pub roi: Option<Vec<u8>>,
}

/// What came out.
pub struct Outcome {
    pub mask: Vec<u8>,
    pub probability: Vec<f32>,
    pub coverage: Vec<u8>,
    /// [depth][lattice rows][lattice columns][classes]
    pub logits: Vec<f32>,
    pub report: Report,
}

impl Case {
    /// A random one; `padding` as given.
    pub fn random(random: &mut Random, padding: Padding) -> Self {
        let side = |random: &mut Random| 20 + random.below(50);
        let (width, height) = (side(random), side(random));
        let depth = 1 + random.below(2);
        let patch_size = 32 + random.below(40) as u32;
        let mut options = Options::for_model(None);
        options.patch_size = patch_size;
        options.stride = match random.below(3) {
            0 => 4 + random.below(8) as u32,
            1 => 8,
            _ => 5 + random.below(patch_size as usize - 4) as u32,
        };
        options.padding = padding;
        options.mean = [0.1, 0.2, 0.45];
        options.std = [0.5, 0.7, 1.5];
        options.device = DeviceChoice::Cpu;
        options.threads = 1 + random.below(3) as u32;
        if random.below(2) == 0 {
            let (x0, y0) = (random.below(width / 2) as u64, random.below(height / 2) as u64);
            options.crop = Some(Crop {
                x0,
                y0,
                x1: x0 + 1 + random.below(width - x0 as usize) as u64,
                y1: y0 + 1 + random.below(height - y0 as usize) as u64,
            });
        }
        let count = width * height * depth;
        let voxels = (0..count).map(|_| (random.symmetric() * 400.0) as i16).collect();
        let roi = (random.below(2) == 0).then(|| (0..count).map(|_| (random.below(40) == 0) as u8).collect());
        Self { options, width, height, depth, voxels, roi }
    }

    /// Noise of these extents (width, height, depth), all of it in patches of this size and stride.
    pub fn whole(
        random: &mut Random,
        padding: Padding,
        (patch_size, stride): (u32, u32),
        (width, height, depth): (usize, usize, usize),
    ) -> Self {
        let mut case = Self::random(random, padding);
        (case.options.patch_size, case.options.stride) = (patch_size, stride);
        (case.options.crop, case.roi) = (None, None);
        (case.width, case.height, case.depth) = (width, height, depth);
        case.voxels = (0..width * height * depth).map(|_| (random.symmetric() * 400.0) as i16).collect();
        case
    }

    /// Its slices again and again, so many in all.
    pub fn with_depth(mut self, depth: usize) -> Self {
        let count = self.width * self.height * depth;
        self.voxels = self.voxels.iter().copied().cycle().take(count).collect();
        let again = |roi: &Vec<u8>| roi.iter().copied().cycle().take(count).collect();
        self.roi = self.roi.as_ref().map(again);
        self.depth = depth;
        self
    }

    /// (x0, y0, x1, y1)
    pub fn crop(&self) -> (i64, i64, i64, i64) {
        match self.options.crop {
            Some(crop) => (crop.x0 as i64, crop.y0 as i64, crop.x1 as i64, crop.y1 as i64),
            None => (0, 0, self.width as i64, self.height as i64),
        }
    }

    /// Lattice points along x and y.
    pub fn lattice(&self) -> (usize, usize) {
        let (x0, y0, x1, y1) = self.crop();
        let stride = i64::from(self.options.stride);
        let count = |len: i64| ((len - 1) / stride + 1) as usize;
        (count(x1 - x0), count(y1 - y0))
    }

    /// Intensity of a voxel in the default window, before normalisation.
    pub fn intensity(&self, z: usize, y: usize, x: usize) -> f64 {
        let hu = f64::from(self.voxels[(z * self.height + y) * self.width + x]);
        ((hu + 160.0) / 400.0).clamp(0.0, 1.0)
    }

    /// Runs the library.
    pub fn run(&self, model: &Model, options: Options) -> Outcome {
        let session = Session::new(model, options, &mut |_, _| ()).expect("a session");
        self.run_in(&session, model)
    }

    /// Runs the library in a session of the caller's.
    pub fn run_in(&self, session: &Session, model: &Model) -> Outcome {
        self.try_in(session, model).expect("it runs")
    }

    /// The same, where it may fail.
    pub fn try_in(&self, session: &Session, model: &Model) -> Result<Outcome, Error> {
        let (width, height, depth) = (self.width, self.height, self.depth);
        let volume = Volume::from_slice(&self.voxels, width, height, depth).expect("a volume");
        let roi = self.roi.as_ref().map(|roi| Volume::from_slice(roi, width, height, depth).expect("a ROI"));
        let (columns, rows) = self.lattice();
        let classes = model.describe().classes as usize;
        let voxels = self.voxels.len();
        let mut mask = vec![77; voxels];
        let mut probability = vec![77.0; voxels];
        let mut coverage = vec![77; voxels];
        let mut logits = vec![77.0; depth * rows * columns * classes];
        let mut outputs = Outputs {
            mask: Some(VolumeMut::from_slice(&mut mask)),
            probability: Some(VolumeMut::from_slice(&mut probability)),
            coverage: Some(VolumeMut::from_slice(&mut coverage)),
            logits: Some(VolumeMut::from_slice(&mut logits)),
        };
        let report = session.segment(&volume, roi.as_ref(), &mut outputs, &mut |_, _| true)?;
        Ok(Outcome { mask, probability, coverage, logits, report })
    }

    /// Runs the library for the mask alone.
    pub fn mask_in(&self, session: &Session) -> Result<Vec<u8>, Error> {
        let (width, height, depth) = (self.width, self.height, self.depth);
        let volume = Volume::from_slice(&self.voxels, width, height, depth)?;
        let roi = (self.roi.as_ref()).map(|roi| Volume::from_slice(roi, width, height, depth));
        let roi = roi.transpose()?;
        let mut mask = vec![0; self.voxels.len()];
        let mut outputs = Outputs { mask: Some(VolumeMut::from_slice(&mut mask)), ..Outputs::default() };
        session.segment(&volume, roi.as_ref(), &mut outputs, &mut |_, _| true)?;
        Ok(mask)
    }

    /// Whether any voxel of the cell of lattice point (`row`, `column`) is in the ROI, by brute force.
    pub fn wanted(&self, z: usize, row: usize, column: usize) -> bool {
        let Some(roi) = &self.roi else { return true };
        let (x0, y0, x1, y1) = self.crop();
        let stride = i64::from(self.options.stride);
        let (columns, rows) = self.lattice();
        let nearest = |p: i64, count: usize| (0..count).min_by_key(|&k| ((p - k as i64 * stride).abs(), k)).unwrap();
        let columns_near: Vec<usize> = (0..x1 - x0).map(|x| nearest(x, columns)).collect();
        (0..y1 - y0).filter(|&y| nearest(y, rows) == row).any(|y| {
            (0..x1 - x0).any(|x| {
                let index = (z * self.height + (y0 + y) as usize) * self.width + (x0 + x) as usize;
                columns_near[x as usize] == column && roi[index] != 0
            })
        })
    }
}

/// The budget with which slices of this size are evaluated in turn on a GPU, and what each more of them side by side takes:
/// pieces of two slices are side by side where there are two, of four where there are more.
pub fn in_turn(session: &Session, width: usize, height: usize) -> (u64, u64) {
    let [one, two, three, four] = [1, 2, 3, 4].map(|depth| {
        let extents = Extents::new(width as u64, height as u64, depth, "slices");
        let estimate = session.estimate(extents.unwrap(), None).unwrap();
        estimate.peak.device
    });
    let buffers = four - three;
    (one + 3 * buffers, two - one - buffers)
}

/// A network of few channels for patches of this size.
pub fn network(random: &mut Random, patch_size: u32) -> Model {
    let channels = if random.below(2) == 0 { 1 } else { 3 };
    let classes = 2 + random.below(3);
    let mut dense: Vec<usize> = (0..random.below(3)).map(|_| 3 + random.below(20)).collect();
    // Several blocks of outputs in the head.
    if let Some(first) = dense.first_mut().filter(|_| random.below(4) == 0) {
        *first += 256;
    }
    dense.push(classes);
    let widths = [3, 5, 6, 4, 7, 5, 4, 6, 8, 5, 4, 17, 6];
    let side = (patch_size / 32) as usize;
    let file = File::scaled(random, channels, &widths, side, &dense, 0.2);
    file.load().expect("a model")
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
