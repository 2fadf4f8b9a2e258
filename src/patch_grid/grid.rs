//! The patches' centres on each axis, and the crop.

use std::ops::Range;

use crate::axes::Axes;
use crate::error::Error;
use crate::network::{PATCH_SIZE_MAX, PATCH_SIZE_MIN};
use crate::volume::Extents;

/// A rectangle of the slice in pixels, half-open; outside it everything is black.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crop {
    /// Left edge.
    pub x0: u64,
    /// Top edge.
    pub y0: u64,
    /// Right edge, exclusive.
    pub x1: u64,
    /// Bottom edge, exclusive.
    pub y1: u64,
}

/// Input of a convolution's taps outside their patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Padding {
    /// Zero, as the network was trained.
    Patch,
    /// The true neighbour from the slice; zero outside what all patches cover together.
    Image,
}

/// Patch centres along one axis of the slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axis {
    /// First pixel of the crop, the first centre.
    pub origin: usize,
    /// Pixels of the crop.
    pub len: usize,
    /// Patch side.
    pub patch_size: usize,
    /// Pixels between centres.
    pub stride: usize,
}

impl Axis {
    /// Number of centres.
    pub fn count(&self) -> usize {
        (self.len - 1) / self.stride + 1
    }

    /// First pixel of patch `k`, counted from the crop's first pixel; negative in the black margin.
    pub fn start(&self, k: usize) -> i64 {
        (k * self.stride) as i64 - (self.patch_size / 2) as i64
    }

    /// The centre nearest to pixel `p` of the crop; ties go to the lower index.
    pub fn nearest(&self, p: usize) -> usize {
        ((2 * p + self.stride - 1) / (2 * self.stride)).min(self.count() - 1)
    }

    /// Pixels of the crop that patch `k` decides: those nearest to its centre; `interpolated`: those between its neighbours' centres.
    pub fn footprint(&self, k: usize, interpolated: bool) -> Range<usize> {
        let nearest_from = |k: usize| if k == 0 { 0 } else { k * self.stride - (self.stride - 1) / 2 };
        let is_last = (k + 1) * self.stride >= self.len;
        let range = match interpolated {
            true => (k * self.stride + 1).saturating_sub(self.stride)..(k + 1) * self.stride,
            false => nearest_from(k)..nearest_from(k + 1),
        };
        range.start..if is_last { self.len } else { range.end }
    }

    /// The two centres around pixel `p` of the crop and the weight of the second, 0..1; clamped at
    /// the ends, where the weight is 0.
    pub fn around(&self, p: usize) -> (usize, usize, f32) {
        let low = p / self.stride;
        let high = low + 1;
        if high >= self.count() || p.is_multiple_of(self.stride) {
            return (low, low, 0.0);
        }
        (low, high, (p % self.stride) as f32 / self.stride as f32)
    }
}

/// Patch centres of a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatchGrid {
    /// Along rows of pixels.
    pub x: Axis,
    /// Along columns of pixels.
    pub y: Axis,
}

impl PatchGrid {
    /// Checks patch size, stride and crop against the slice.
    pub fn new(extents: Extents, patch_size: u32, stride: u32, crop: Option<Crop>) -> Result<Self, Error> {
        check_patch(patch_size, stride)?;
        let (width, height) = (extents.width as u64, extents.height as u64);
        let crop = crop.unwrap_or(Crop { x0: 0, y0: 0, x1: width, y1: height });
        let Crop { x0, y0, x1, y1 } = crop;
        if x0 >= x1 || y0 >= y1 || x1 > width || y1 > height {
            return Err(Error::invalid(format!(
                "crop {x0},{y0},{x1},{y1}: must satisfy 0 <= x0 < x1 <= {width} and \
                 0 <= y0 < y1 <= {height}"
            )));
        }
        let axis = |origin: u64, end: u64| Axis {
            origin: origin as usize,
            len: (end - origin) as usize,
            patch_size: patch_size as usize,
            stride: stride as usize,
        };
        Ok(Self { x: axis(x0, x1), y: axis(y0, y1) })
    }

    /// Patches of a slice.
    pub fn patches(&self) -> usize {
        self.x.count() * self.y.count()
    }

    /// Along both.
    pub fn axes(&self) -> Axes<Axis> {
        Axes { rows: self.y, columns: self.x }
    }
}

/// Checks the ranges of patch size and stride.
pub fn check_patch(patch_size: u32, stride: u32) -> Result<(), Error> {
    if !(PATCH_SIZE_MIN..=PATCH_SIZE_MAX).contains(&(patch_size as usize)) {
        return Err(Error::invalid(format!(
            "patch_size {patch_size}: must be {PATCH_SIZE_MIN}..={PATCH_SIZE_MAX} pixels"
        )));
    }
    if !(1..=patch_size).contains(&stride) {
        return Err(Error::invalid(format!("stride {stride}: must be 1..=patch_size ({patch_size}) pixels")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(len: usize, stride: usize) -> Axis {
        Axis { origin: 0, len, patch_size: 32, stride }
    }

    #[test]
    fn centres_fill_the_crop() {
        let grid = PatchGrid::new(Extents::new(512, 512, 1, "volume").unwrap(), 257, 7, None).unwrap();
        assert_eq!((grid.x.count(), grid.patches()), (74, 5476));
        assert_eq!(grid.x.start(0), -128);
        assert_eq!(axis(8, 8).count(), 1);
        assert_eq!(axis(9, 8).count(), 2);
    }

    /// Nearest centre by brute force, for every stride and pixel.
    #[test]
    fn nearest_takes_the_lower_of_two_equals() {
        for stride in 1..=32usize {
            for len in [1, 2, stride, stride + 1, 3 * stride - 1, 97] {
                let axis = axis(len, stride);
                for p in 0..len {
                    let brute = (0..axis.count()).min_by_key(|&k| (p.abs_diff(k * stride), k)).unwrap();
                    assert_eq!(axis.nearest(p), brute, "stride {stride} len {len} pixel {p}");
                    let (low, high, weight) = axis.around(p);
                    let centre = (low * stride) as f32 * (1.0 - weight) + (high * stride) as f32 * weight;
                    let reachable = p.min((axis.count() - 1) * stride);
                    assert!((centre - reachable as f32).abs() < 1e-3);
                    for k in 0..axis.count() {
                        assert_eq!(
                            axis.footprint(k, false).contains(&p),
                            k == brute,
                            "stride {stride} len {len} {k} {p}"
                        );
                        assert_eq!(
                            axis.footprint(k, true).contains(&p),
                            k == low || k == high,
                            "{stride} {len} {k} {p}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn options_out_of_range_are_named() {
        let extents = Extents::new(100, 90, 1, "volume").unwrap();
        for (patch_size, stride, text) in
            [(31, 1, "patch_size 31"), (1025, 1, "patch_size 1025"), (64, 0, "stride 0"), (64, 65, "stride 65")]
        {
            let error = PatchGrid::new(extents, patch_size, stride, None).unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
        }
        let crop = Crop { x0: 0, y0: 0, x1: 101, y1: 90 };
        let error = PatchGrid::new(extents, 64, 8, Some(crop)).unwrap_err();
        assert!(error.to_string().contains("crop 0,0,101,90"), "{error}");
    }
}
