//! The caller's voxels and the model's pixels: a model sees structures at the size at which it was trained.
//!
//! Along an axis V voxels become P pixels over the same length, P = V * spacing / pixel size, rounded. With s = V / P:
//!
//! ```text
//! shrinking, P < V   pixel i is the mean of the voxels under it: voxel j counts with the length of
//!                    [i s, (i + 1) s) in [j, j + 1), divided by s
//! growing, P > V     linear between the two voxel centres around (i + 1/2) s - 1/2, the outermost beyond the ends
//! ```
//! These are the weights of OpenCV's INTER_AREA and INTER_LINEAR. They come from whole numbers, so that every engine has the same.

use std::ops::Range;

use crate::axes::Axes;
use crate::cancel::AT_A_TIME;
use crate::error::Error;
use crate::memory::{try_filled, try_with_capacity};
use crate::volume::{Extents, SLICE_SIDE_MAX, Volume};

/// Sizes that differ by at most this are taken as equal.
const TOLERANCE: f64 = 0.02;
/// Largest factor between voxel and pixel, either way.
const MAX_FACTOR: f64 = 8.0;
/// Maximum voxels that a pixel depends on: 11 where 11 voxels of an eighth of a pixel become one, rounded.
pub(crate) const MAX_TAPS: usize = 11;

/// An axis of a slice: voxels and pixels over the same length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scale {
    pub voxels: usize,
    pub pixels: usize,
}

/// The voxels that a pixel depends on, consecutive ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Taps {
    pub first: usize,
    pub count: usize,
    /// Zeros behind the first `count`.
    pub weights: [f64; MAX_TAPS],
}

impl Taps {
    pub fn weights(&self) -> &[f64] {
        &self.weights[..self.count]
    }
}

impl Scale {
    /// Pixels that are voxels.
    pub fn same(voxels: usize) -> Self {
        Self { voxels, pixels: voxels }
    }

    pub fn same_axes(extents: Extents) -> Axes<Self> {
        Axes { rows: Self::same(extents.height), columns: Self::same(extents.width) }
    }

    /// `spacing`: mm from voxel to voxel; `pixel_mm`: mm from pixel to pixel; both known.
    pub fn new(voxels: usize, spacing: f64, pixel_mm: f64) -> Result<Self, Error> {
        let factor = spacing / pixel_mm;
        if (factor - 1.0).abs() <= TOLERANCE {
            return Ok(Self::same(voxels));
        }
        if !(1.0 / MAX_FACTOR..=MAX_FACTOR).contains(&factor) {
            return Err(Error::invalid(format!(
                "spacing {spacing} mm with the model's pixel_mm {pixel_mm}: {factor:.3} times it, must be from 1/8 to 8; check the \
                 spacing, or set resample to never"
            )));
        }
        let pixels = ((voxels as f64 * factor).round() as usize).max(1);
        if pixels as u64 > SLICE_SIDE_MAX {
            return Err(Error::invalid(format!(
                "{voxels} voxels of {spacing} mm are {pixels} of the model's pixels of {pixel_mm} mm: must be at most {SLICE_SIDE_MAX}"
            )));
        }
        Ok(Self { voxels, pixels })
    }

    pub fn is_same(self) -> bool {
        self.voxels == self.pixels
    }

    /// Those that pixel `i` depends on.
    pub fn taps(self, i: usize) -> Taps {
        let Self { voxels, pixels } = self;
        let mut taps = Taps { first: i, count: 1, weights: [0.0; MAX_TAPS] };
        if pixels == voxels {
            taps.weights[0] = 1.0;
        } else if pixels < voxels {
            // Lengths in voxels / pixels.
            let (begin, end) = (i * voxels, (i + 1) * voxels);
            taps.first = begin / pixels;
            taps.count = end.div_ceil(pixels) - taps.first;
            for (index, weight) in taps.weights[..taps.count].iter_mut().enumerate() {
                let voxel = taps.first + index;
                let overlap = end.min((voxel + 1) * pixels) - begin.max(voxel * pixels);
                *weight = overlap as f64 / voxels as f64;
            }
        } else {
            // Twice the position, times the pixels.
            let position = ((2 * i + 1) * voxels).saturating_sub(pixels).min(2 * pixels * (voxels - 1));
            taps.first = position / (2 * pixels);
            let second = (position % (2 * pixels)) as f64 / (2 * pixels) as f64;
            taps.count = if second > 0.0 { 2 } else { 1 };
            taps.weights[0] = 1.0 - second;
            taps.weights[1] = second;
        }
        taps
    }

    /// The pixels that these voxels touch.
    pub fn pixels_of(self, voxels: Range<usize>) -> Range<usize> {
        voxels.start * self.pixels / self.voxels..(voxels.end * self.pixels).div_ceil(self.voxels)
    }

    /// The voxels that these pixels depend on.
    pub fn voxels_of(self, pixels: Range<usize>) -> Range<usize> {
        let last = self.taps(pixels.end - 1);
        self.taps(pixels.start).first..last.first + last.count
    }

    /// The pixel that voxel `x` has its centre in: it accounts for that voxel.
    pub fn owner(self, x: usize) -> usize {
        (2 * x + 1) * self.pixels / (2 * self.voxels)
    }

    /// The centre of voxel `x`, counted from that of pixel `origin`, in units of 1 / [`Scale::unit`] pixels.
    pub fn position(self, x: usize, origin: usize) -> i64 {
        ((2 * x + 1) * self.pixels) as i64 - ((2 * origin + 1) * self.voxels) as i64
    }

    pub fn unit(self) -> i64 {
        2 * self.voxels as i64
    }

    /// The centre of pixel `i` in voxels, from the centre of the first voxel.
    pub fn in_voxels(self, i: usize) -> f64 {
        if self.is_same() { i as f64 } else { (i as f64 + 0.5) * self.voxels as f64 / self.pixels as f64 - 0.5 }
    }
}

/// Reads the pixels of a volume's slices.
pub(crate) struct PixelReader<'a> {
    volume: &'a Volume<'a>,
    scale: Axes<Scale>,
    /// HU in place of voxels that are not finite.
    black: f64,
    /// Part of a row.
    voxels: Vec<f64>,
    /// Taps of the pixels from `first` on.
    taps: Vec<Taps>,
    first: usize,
}

impl<'a> PixelReader<'a> {
    pub fn new(volume: &'a Volume<'a>, scale: Axes<Scale>, black: f64) -> Result<Self, Error> {
        const WHAT: &str = "part of a row";
        let pixels = scale.columns.pixels.min(AT_A_TIME);
        let voxels = scale.columns.voxels.min((pixels + 1) * MAX_TAPS);
        Ok(Self {
            volume,
            scale,
            black,
            voxels: try_filled(voxels, 0.0, WHAT)?,
            taps: try_with_capacity(pixels, WHAT)?,
            first: 0,
        })
    }

    /// HU of at most [`AT_A_TIME`] pixels of a row, from (x, y) on. Returns the voxels that are not finite, each counted for the
    /// pixel that it has its centre in.
    pub fn read(&mut self, [x, y, z]: [usize; 3], pixels: &mut [f64]) -> u64 {
        let Axes { rows, columns } = self.scale;
        let across = columns.voxels_of(x..x + pixels.len());
        if self.first != x || self.taps.len() != pixels.len() {
            self.taps.clear();
            self.taps.extend((x..x + pixels.len()).map(|x| columns.taps(x)));
            self.first = x;
        }
        let voxels = &mut self.voxels[..across.len()];
        let down = rows.taps(y);
        let mut nonfinite = 0;
        pixels.fill(0.0);
        for (row, &row_weight) in down.weights().iter().enumerate() {
            let row = down.first + row;
            self.volume.read([across.start, row, z], voxels);
            for (voxel, hu) in voxels.iter_mut().enumerate().filter(|(_, hu)| !hu.is_finite()) {
                *hu = self.black;
                let owned =
                    rows.owner(row) == y && (x..x + pixels.len()).contains(&columns.owner(across.start + voxel));
                nonfinite += u64::from(owned);
            }
            for (pixel, taps) in pixels.iter_mut().zip(&self.taps) {
                let under = &voxels[taps.first - across.start..][..taps.count];
                let sum = under.iter().zip(taps.weights()).fold(0.0, |sum, (hu, weight)| sum + weight * hu);
                *pixel += row_weight * sum;
            }
        }
        nonfinite
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scales() -> impl Iterator<Item = Scale> {
        let least = |voxels: usize| (voxels as f64 / MAX_FACTOR).round().max(1.0) as usize;
        (1..40).flat_map(move |voxels| (least(voxels)..8 * voxels + 1).map(move |pixels| Scale { voxels, pixels }))
    }

    /// By the definition, in f64.
    fn plain(scale: Scale, i: usize) -> Vec<f64> {
        let s = scale.voxels as f64 / scale.pixels as f64;
        let mut weights = vec![0.0; scale.voxels];
        if s >= 1.0 {
            for (j, weight) in weights.iter_mut().enumerate() {
                let (low, high) = ((i as f64 * s).max(j as f64), ((i + 1) as f64 * s).min((j + 1) as f64));
                *weight = (high - low).max(0.0) / s;
            }
        } else {
            let position = ((i as f64 + 0.5) * s - 0.5).clamp(0.0, (scale.voxels - 1) as f64);
            let low = position.floor() as usize;
            weights[low] += 1.0 - (position - low as f64);
            weights[(low + 1).min(scale.voxels - 1)] += position - low as f64;
        }
        weights
    }

    #[test]
    fn weights_are_those_of_the_definition() {
        for scale in scales() {
            for i in 0..scale.pixels {
                let taps = scale.taps(i);
                let mut have = vec![0.0; scale.voxels];
                have[taps.first..taps.first + taps.count].copy_from_slice(taps.weights());
                for (have, want) in have.iter().zip(plain(scale, i)) {
                    assert!((have - want).abs() < 1e-9, "{scale:?} pixel {i}: {have} {want}");
                }
            }
        }
    }

    /// Each voxel is accounted for by one pixel, which depends on it.
    #[test]
    fn owners_depend_on_their_voxels() {
        for scale in scales() {
            for x in 0..scale.voxels {
                let taps = scale.taps(scale.owner(x));
                assert!((taps.first..taps.first + taps.count).contains(&x), "{scale:?} voxel {x}");
            }
        }
    }

    #[test]
    fn sizes_that_are_alike_and_sizes_that_are_refused() {
        assert_eq!(Scale::new(512, 0.77, 0.76).unwrap(), Scale::same(512));
        assert_eq!(Scale::new(512, 0.75, 1.5).unwrap(), Scale { voxels: 512, pixels: 256 });
        assert_eq!(Scale::new(1, 0.75, 1.5).unwrap(), Scale { voxels: 1, pixels: 1 });
        assert_eq!(Scale::new(100, 2.0, 1.5).unwrap(), Scale { voxels: 100, pixels: 133 });
        for (voxels, spacing, text) in
            [(512, 12.1, "8.067 times"), (512, 0.1, "0.067 times"), (1 << 24, 3.0, "at most")]
        {
            let error = Scale::new(voxels, spacing, 1.5).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }
}
