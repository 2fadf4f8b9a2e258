//! The caller's voxels along an axis of the slice, and the patch centres around them.

use std::ops::Range;

use super::axis::Axis;
use crate::resampling::Scale;

/// Voxels of an axis, those of the crop, and the centres.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VoxelAxis {
    pub scale: Scale,
    crop: (usize, usize),
    axis: Axis,
}

/// The two centres that a voxel lies between, and the weight of the second, 0..1; the same twice where one decides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct CentrePair {
    pub low: usize,
    pub high: usize,
    pub weight: f32,
}

impl VoxelAxis {
    pub fn new(scale: Scale, crop: Range<usize>, axis: Axis) -> Self {
        Self { scale, crop: (crop.start, crop.end), axis }
    }

    pub fn axis(&self) -> Axis {
        self.axis
    }

    /// The centre that decides voxel `x`, the nearest, ties to the lower index; `interpolated`: those around it, clamped at the ends.
    /// `None` outside the crop.
    pub fn centres(&self, x: usize, interpolated: bool) -> Option<CentrePair> {
        if !(self.crop.0..self.crop.1).contains(&x) {
            return None;
        }
        let last = self.axis.count() - 1;
        // Whole numbers: the same on every machine.
        let position = self.scale.position(x, self.axis.origin).max(0);
        let stride = self.scale.unit() * self.axis.stride as i64;
        if !interpolated {
            let nearest = (((2 * position + stride - 1) / (2 * stride)) as usize).min(last);
            return Some(CentrePair { low: nearest, high: nearest, weight: 0.0 });
        }
        let (low, beyond) = ((position / stride) as usize, position % stride);
        if low >= last || beyond == 0 {
            let low = low.min(last);
            return Some(CentrePair { low, high: low, weight: 0.0 });
        }
        Some(CentrePair { low, high: low + 1, weight: (beyond as f64 / stride as f64) as f32 })
    }

    /// The voxels that patch `k` decides, alone or with its neighbours.
    pub fn footprint(&self, k: usize, interpolated: bool) -> Range<usize> {
        let first = |is_there: &dyn Fn(CentrePair) -> bool| {
            let (mut low, mut high) = self.crop;
            while low < high {
                let middle = low + (high - low) / 2;
                match self.centres(middle, interpolated) {
                    Some(centres) if !is_there(centres) => low = middle + 1,
                    _ => high = middle,
                }
            }
            low
        };
        first(&|centres| centres.high >= k)..first(&|centres| centres.low > k)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axes() -> impl Iterator<Item = VoxelAxis> {
        let scales = [(97, 97), (97, 40), (40, 97), (30, 240), (64, 8), (1, 1)];
        let crops = [(0, usize::MAX), (3, 29)];
        scales.into_iter().flat_map(move |(voxels, pixels)| {
            crops.into_iter().flat_map(move |(from, to)| {
                let scale = Scale { voxels, pixels };
                let crop = from.min(voxels - 1)..to.min(voxels);
                let pixels = scale.pixels_of(crop.clone());
                [1, 2, 3, 7, 8, 32].map(|stride| {
                    let axis = Axis { origin: pixels.start, len: pixels.len(), patch_size: 32, stride };
                    VoxelAxis::new(scale, crop.clone(), axis)
                })
            })
        })
    }

    /// By brute force, in f64.
    #[test]
    fn nearest_takes_the_lower_of_two_equals() {
        for voxels in axes() {
            let VoxelAxis { scale, crop, axis } = voxels;
            for x in 0..scale.voxels {
                let Some(CentrePair { low, high, weight }) = voxels.centres(x, true) else {
                    assert!(x < crop.0 || x >= crop.1);
                    continue;
                };
                let at = (x as f64 + 0.5) * scale.pixels as f64 / scale.voxels as f64 - 0.5 - axis.origin as f64;
                let distance = |k: usize| (at.max(0.0) - (k * axis.stride) as f64).abs();
                let nearest = voxels.centres(x, false).expect("inside the crop").low;
                for k in 0..axis.count() {
                    assert!(
                        distance(nearest) <= distance(k) + if k < nearest { -1e-9 } else { 1e-9 },
                        "{voxels:?} {x} {k}"
                    );
                    assert_eq!(voxels.footprint(k, false).contains(&x), k == nearest, "{voxels:?} voxel {x} patch {k}");
                    assert_eq!(
                        voxels.footprint(k, true).contains(&x),
                        k == low || k == high,
                        "{voxels:?} voxel {x} patch {k}"
                    );
                }
                let centre = (low * axis.stride) as f64 * f64::from(1.0 - weight)
                    + (high * axis.stride) as f64 * f64::from(weight);
                let reachable = at.clamp(0.0, ((axis.count() - 1) * axis.stride) as f64);
                assert!((centre - reachable).abs() < 1e-4 * (1.0 + reachable), "{voxels:?} {x}: {centre} {reachable}");
            }
        }
    }

    /// Where voxels are pixels: the formulas of whole pixels.
    #[test]
    fn pixels_that_are_voxels() {
        for voxels in axes().filter(|voxels| voxels.scale.is_same()) {
            let VoxelAxis { crop, axis, .. } = voxels;
            for x in crop.0..crop.1 {
                let p = x - axis.origin;
                let nearest = ((2 * p + axis.stride - 1) / (2 * axis.stride)).min(axis.count() - 1);
                assert_eq!(voxels.centres(x, false).map(|c| c.low), Some(nearest));
                let weight = (p % axis.stride) as f32 / axis.stride as f32;
                let last = p / axis.stride + 1 >= axis.count();
                assert_eq!(voxels.centres(x, true).map(|c| c.weight), Some(if last { 0.0 } else { weight }));
            }
        }
    }
}
