//! From lattice points to voxels: every voxel of a slice is written exactly once.
//!
//! ```text
//! nearest: a voxel has the class and the probabilities of the nearest patch centre
//! linear:  class probabilities are interpolated bilinearly between the four centres around the voxel
//!          (clamped at the edges), and the largest wins
//! ```
//! Equal values take the lowest class. Voxels outside the crop or the ROI are 0.

use crate::error::{Error, try_filled};
use crate::lattice::{Lattice, Selection};
use crate::volume::Grid;

/// How lattice classes become voxels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// The nearest centre.
    Nearest,
    /// Between centres.
    Linear,
}

/// The grids of the caller that are wanted; [1][x][y][z], logits [class][x][y][z].
pub(crate) struct Grids<'a> {
    pub mask: Option<Grid<'a, u8>>,
    pub probability: Option<Grid<'a, f32>>,
    pub coverage: Option<Grid<'a, u8>>,
    pub logits: Option<Grid<'a, f32>>,
}

/// The lattice of one slice after the network.
pub(crate) struct Scores {
    classes: usize,
    /// [lattice points][classes], NaN where not evaluated.
    logits: Vec<f32>,
    /// [lattice points][classes], filled by [`Scores::softmax`].
    probabilities: Vec<f32>,
}

impl Scores {
    pub fn new(points: usize, classes: usize) -> Result<Self, Error> {
        let len = points.checked_mul(classes).ok_or_else(|| {
            Error::invalid(format!(
                "{points} lattice points with {classes} classes do not fit in memory: use a larger \
                 stride"
            ))
        })?;
        Ok(Self {
            classes,
            logits: try_filled(len, f32::NAN, "logits of a slice")?,
            probabilities: try_filled(len, 0.0, "probabilities of a slice")?,
        })
    }

    /// Bytes held for `points` lattice points of `classes`.
    pub fn bytes(points: usize, classes: usize) -> u64 {
        8 * points as u64 * classes as u64
    }

    /// Forgets the last slice.
    pub fn clear(&mut self) {
        self.logits.fill(f32::NAN);
    }

    /// Stores the logits of lattice point `index`.
    pub fn set(&mut self, index: usize, logits: &[f32]) {
        self.logits[index * self.classes..][..self.classes].copy_from_slice(logits);
    }

    /// Probabilities from logits, point by point, in f64.
    pub fn softmax(&mut self) {
        for (logits, probabilities) in self
            .logits
            .chunks_exact(self.classes)
            .zip(self.probabilities.chunks_exact_mut(self.classes))
        {
            let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let exponential = |logit: f32| f64::from(logit - largest).exp();
            let sum: f64 = logits.iter().map(|&logit| exponential(logit)).sum();
            for (probability, &logit) in probabilities.iter_mut().zip(logits) {
                *probability = (exponential(logit) / sum) as f32;
            }
        }
    }

    fn logits_of(&self, point: usize) -> &[f32] {
        &self.logits[point * self.classes..][..self.classes]
    }

    fn probabilities_of(&self, point: usize) -> &[f32] {
        &self.probabilities[point * self.classes..][..self.classes]
    }
}

/// Index of the largest value; the lowest of equals.
fn largest(values: &[f32]) -> usize {
    let mut best = 0;
    for (class, &value) in values.iter().enumerate() {
        if value > values[best] {
            best = class;
        }
    }
    best
}

/// Writes slice `z` of every wanted grid.
pub(crate) fn write_slice(
    grids: &mut Grids<'_>,
    z: usize,
    (width, height): (usize, usize),
    lattice: &Lattice,
    selection: &Selection,
    scores: &Scores,
    fill: Fill,
    lesion_class: usize,
) {
    if let Some(grid) = &mut grids.logits {
        let columns = lattice.x.count();
        for point in 0..lattice.points() {
            for (class, &logit) in scores.logits_of(point).iter().enumerate() {
                grid.set([class, point % columns, point / columns, z], logit);
            }
        }
    }
    let mut mixed = vec![0.0; scores.classes];
    for y in 0..height {
        let row = y
            .checked_sub(lattice.y.origin)
            .filter(|&p| p < lattice.y.len);
        for x in 0..width {
            let column = x
                .checked_sub(lattice.x.origin)
                .filter(|&p| p < lattice.x.len);
            let decided = match (column, row) {
                (Some(px), Some(py)) if selection.contains_pixel(x, y) => {
                    Some(decide(lattice, scores, fill, px, py, &mut mixed))
                }
                _ => None,
            };
            let (class, covered) = match decided {
                Some(class) => (class as u8, 1),
                None => (0, 0),
            };
            if let Some(grid) = &mut grids.mask {
                grid.set([0, x, y, z], class);
            }
            if let Some(grid) = &mut grids.coverage {
                grid.set([0, x, y, z], covered);
            }
            if let Some(grid) = &mut grids.probability {
                let probability = if covered == 1 {
                    mixed[lesion_class]
                } else {
                    0.0
                };
                grid.set([0, x, y, z], probability);
            }
        }
    }
}

/// Class of pixel (px, py) of the crop; leaves its class probabilities in `mixed`.
fn decide(
    lattice: &Lattice,
    scores: &Scores,
    fill: Fill,
    px: usize,
    py: usize,
    mixed: &mut [f32],
) -> usize {
    let columns = lattice.x.count();
    match fill {
        Fill::Nearest => {
            let point = lattice.y.nearest(py) * columns + lattice.x.nearest(px);
            mixed.copy_from_slice(scores.probabilities_of(point));
            largest(scores.logits_of(point))
        }
        Fill::Linear => {
            let (y0, y1, down) = lattice.y.around(py);
            let (x0, x1, right) = lattice.x.around(px);
            let at = |y: usize, x: usize| scores.probabilities_of(y * columns + x);
            let corners = (at(y0, x0), at(y0, x1), at(y1, x0), at(y1, x1));
            for (class, mixed) in mixed.iter_mut().enumerate() {
                let top = corners.0[class] * (1.0 - right) + corners.1[class] * right;
                let bottom = corners.2[class] * (1.0 - right) + corners.3[class] * right;
                *mixed = top * (1.0 - down) + bottom * down;
            }
            largest(mixed)
        }
    }
}
