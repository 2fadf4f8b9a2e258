//! From patches to voxels: every voxel of a slice is written exactly once.
//!
//! ```text
//! nearest: a voxel has the class and the probabilities of the nearest patch centre
//! linear:  class probabilities are interpolated bilinearly between the four centres around the voxel
//!          (clamped at the edges), and the largest wins
//! ```
//! Equal values take the lowest class. With a threshold a voxel has the lesion class where that one's probability reaches
//! it, and the best of the others elsewhere. Voxels outside the crop or the ROI are 0.

use crate::axes::Axes;
use crate::cancel::{AT_A_TIME, Cancel};
use crate::error::Error;
use crate::memory::{Zeros, try_filled, try_with_capacity};
use crate::patch_grid::{CentrePair, PatchGrid, Selection};
use crate::volume::{Memory, OutputView, StridedArray};

/// The way from patches' classes to voxels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interpolation {
    /// The nearest centre.
    Nearest,
    /// Between centres.
    Linear,
}

/// One thing for each output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PerOutput<T> {
    pub mask: T,
    pub probability: T,
    pub coverage: T,
    pub logits: T,
}

impl<T> PerOutput<T> {
    /// All of them, with the outputs' names.
    pub fn named(self) -> [(&'static str, T); 4] {
        let Self { mask, probability, coverage, logits } = self;
        [("mask", mask), ("probability", probability), ("coverage", coverage), ("logits", logits)]
    }

    pub fn map<U>(self, mut f: impl FnMut(T) -> U) -> PerOutput<U> {
        let [mask, probability, coverage, logits] = self.named().map(|(_, each)| f(each));
        PerOutput { mask, probability, coverage, logits }
    }

    pub fn zip<U>(self, other: PerOutput<U>) -> PerOutput<(T, U)> {
        PerOutput {
            mask: (self.mask, other.mask),
            probability: (self.probability, other.probability),
            coverage: (self.coverage, other.coverage),
            logits: (self.logits, other.logits),
        }
    }
}

/// The outputs of the caller that are wanted; [1][x][y][z], logits [class][x][y][z].
pub(crate) struct OutputViews<'a> {
    pub mask: Option<OutputView<'a, u8>>,
    pub probability: Option<OutputView<'a, f32>>,
    pub coverage: Option<OutputView<'a, u8>>,
    pub logits: Option<OutputView<'a, f32>>,
}

impl OutputViews<'_> {
    /// Where they lie.
    pub fn arrays(&self) -> PerOutput<Option<StridedArray>> {
        PerOutput {
            mask: self.mask.as_ref().map(|view| view.array),
            probability: self.probability.as_ref().map(|view| view.array),
            coverage: self.coverage.as_ref().map(|view| view.array),
            logits: self.logits.as_ref().map(|view| view.array),
        }
    }

    /// The memory that all of them lie in.
    pub fn memory(&self) -> Result<Memory, Error> {
        let mut memories = self.arrays().named().into_iter().filter_map(|(_, array)| Some(array?.memory));
        let first = memories.next().unwrap_or(Memory::Host);
        if memories.any(|memory| memory != first) {
            return Err(Error::invalid(
                "outputs in different memories: all buffers of a call lie in host memory, or all in \
                 device memory with one stream"
                    .into(),
            ));
        }
        Ok(first)
    }
}

/// The patches of one slice after the network.
pub(crate) struct Scores {
    classes: usize,
    /// [patches][classes], NaN where not evaluated.
    logits: Zeros<f32>,
    /// [patches][classes], filled by [`Scores::softmax`].
    probabilities: Zeros<f32>,
}

impl Scores {
    /// Room for them.
    pub fn new(patches: usize, classes: usize) -> Result<Self, Error> {
        let len = patches.checked_mul(classes).ok_or_else(|| {
            Error::invalid(format!(
                "{patches} patches with {classes} classes do not fit in memory: use a larger \
                 stride"
            ))
        })?;
        Ok(Self {
            classes,
            logits: Zeros::new(len, "logits of a slice")?,
            probabilities: Zeros::new(len, "probabilities of a slice")?,
        })
    }

    /// Bytes held for `patches` patches and so many `classes`.
    pub fn bytes(patches: usize, classes: usize) -> u64 {
        8 * patches as u64 * classes as u64
    }

    /// Before a slice of which only some patches are evaluated: none is yet.
    pub fn clear(&mut self, cancel: &Cancel) -> Result<(), Error> {
        cancel.each(&mut self.logits, |_, logit| *logit = f32::NAN)
    }

    /// Stores the logits of patch `index`.
    pub fn set(&mut self, index: usize, logits: &[f32]) {
        self.logits[index * self.classes..][..self.classes].copy_from_slice(logits);
    }

    /// Probabilities from logits, patch by patch, in f64; patches that were not evaluated keep theirs. Every C library has an
    /// exponential of its own: this one gives the same bits everywhere.
    pub fn softmax(&mut self, cancel: &Cancel) -> Result<(), Error> {
        for (logits, probabilities) in
            self.logits.chunks_exact(self.classes).zip(self.probabilities.chunks_exact_mut(self.classes))
        {
            cancel.check()?;
            if logits[0].is_nan() {
                continue;
            }
            let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let exponential = |logit: f32| libm::exp(f64::from(logit - largest));
            let sum: f64 = logits.iter().map(|&logit| exponential(logit)).sum();
            for (probability, &logit) in probabilities.iter_mut().zip(logits) {
                *probability = (exponential(logit) / sum) as f32;
            }
        }
        Ok(())
    }

    fn logits_of(&self, patch: usize) -> &[f32] {
        &self.logits[patch * self.classes..][..self.classes]
    }

    fn probabilities_of(&self, patch: usize) -> &[f32] {
        &self.probabilities[patch * self.classes..][..self.classes]
    }
}

/// How a voxel's class follows from probabilities.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Decision {
    pub interpolation: Interpolation,
    /// The class whose probability is written.
    pub lesion_class: usize,
    /// Probability from which a voxel has that class; `None`: where it is the most probable one.
    pub threshold: Option<f32>,
}

impl Decision {
    /// `scores`: logits or probabilities, the largest of which wins.
    fn class(&self, scores: &[f32], probabilities: &[f32]) -> usize {
        let Some(threshold) = self.threshold else { return largest(scores, None) };
        if probabilities[self.lesion_class] >= threshold {
            self.lesion_class
        } else {
            largest(scores, Some(self.lesion_class))
        }
    }
}

/// Index of the largest value but that of `left_out`; the lowest of equals.
fn largest(values: &[f32], left_out: Option<usize>) -> usize {
    let mut best = usize::from(left_out == Some(0));
    for (class, &value) in values.iter().enumerate() {
        if value > values[best] && Some(class) != left_out {
            best = class;
        }
    }
    best
}

/// Writes the voxels of a slice from the scores of its patches.
pub(crate) struct MaskWriter {
    pub grid: PatchGrid,
    pub decision: Decision,
}

impl MaskWriter {
    /// Writes slice `z` of every wanted output.
    pub fn write_slice(
        &self,
        outputs: &mut OutputViews<'_>,
        z: usize,
        selection: &Selection,
        scores: &Scores,
        cancel: &Cancel,
    ) -> Result<(), Error> {
        self.logits(outputs, z, scores, cancel)?;
        let interpolated = self.decision.interpolation == Interpolation::Linear;
        let Axes { rows, columns } = self.grid.voxels;
        let (width, height) = (columns.scale.voxels, rows.scale.voxels);
        let mut probabilities = try_filled(scores.classes, 0.0, "probabilities of a voxel")?;
        let mut part = try_with_capacity(width.min(AT_A_TIME), "part of a row")?;
        for first in (0..width).step_by(AT_A_TIME) {
            part.clear();
            part.extend((first..width.min(first + AT_A_TIME)).map(|x| columns.centres(x, interpolated)));
            for y in 0..height {
                cancel.check()?;
                let row = rows.centres(y, interpolated);
                for (x, &column) in (first..).zip(&part) {
                    let (class, probability, covered) = match (column, row) {
                        (Some(column), Some(row)) if selection.contains_voxel(x, y) => {
                            let class = self.decide(scores, column, row, &mut probabilities);
                            (class as u8, probabilities[self.decision.lesion_class], 1)
                        }
                        _ => (0, 0.0, 0),
                    };
                    let voxel = [0, x, y, z];
                    if let Some(output) = &mut outputs.mask {
                        output.set(voxel, class);
                    }
                    if let Some(output) = &mut outputs.probability {
                        output.set(voxel, probability);
                    }
                    if let Some(output) = &mut outputs.coverage {
                        output.set(voxel, covered);
                    }
                }
            }
        }
        Ok(())
    }

    fn logits(&self, outputs: &mut OutputViews<'_>, z: usize, scores: &Scores, cancel: &Cancel) -> Result<(), Error> {
        let Some(output) = &mut outputs.logits else {
            return Ok(());
        };
        let columns = self.grid.x.count();
        for patch in 0..self.grid.patches() {
            cancel.check()?;
            for (class, &logit) in scores.logits_of(patch).iter().enumerate() {
                output.set([class, patch % columns, patch / columns, z], logit);
            }
        }
        Ok(())
    }

    /// Class of a voxel between these centres; leaves its class probabilities in `probabilities`.
    fn decide(&self, scores: &Scores, column: CentrePair, row: CentrePair, probabilities: &mut [f32]) -> usize {
        let columns = self.grid.x.count();
        match self.decision.interpolation {
            Interpolation::Nearest => {
                let patch = row.low * columns + column.low;
                probabilities.copy_from_slice(scores.probabilities_of(patch));
                self.decision.class(scores.logits_of(patch), probabilities)
            }
            Interpolation::Linear => {
                let (right, down) = (column.weight, row.weight);
                let at = |y: usize, x: usize| scores.probabilities_of(y * columns + x);
                let top = [at(row.low, column.low), at(row.low, column.high)];
                let bottom = [at(row.high, column.low), at(row.high, column.high)];
                for (class, mixed) in probabilities.iter_mut().enumerate() {
                    let top = top[0][class] * (1.0 - right) + top[1][class] * right;
                    let bottom = bottom[0][class] * (1.0 - right) + bottom[1][class] * right;
                    *mixed = top * (1.0 - down) + bottom * down;
                }
                self.decision.class(probabilities, probabilities)
            }
        }
    }
}
