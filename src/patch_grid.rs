//! The patch grid: the patches' centres on each axis, the crop, the patches that a ROI asks for, and the blocks of them
//! that are evaluated together.
//!
//! ```text
//! centre k = origin + k * stride while inside the crop     origin: the crop's corner
//! start  k = centre k - patch_size / 2                     first pixel of the patch, may be black
//! footprint of k = the pixels of the crop that are nearest to centre k, ties to the lower index
//! ```

use crate::axes::Axes;
use crate::cancel::Cancel;
use crate::error::Error;
use crate::memory::try_filled;
use crate::network::{PATCH_SIZE_MAX, PATCH_SIZE_MIN};
use crate::volume::{Extents, Volume};

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

/// A region of interest in one slice: the pixels inside and the patches that decide them.
pub(crate) struct Selection {
    /// [height][width] of the slice: inside the ROI. Empty: everything is.
    inside: Vec<bool>,
    /// [grid rows][grid columns]: to be evaluated. Empty: all are.
    patches: Vec<bool>,
    width: usize,
}

impl Selection {
    /// All pixels of the crop.
    pub fn everything() -> Self {
        Self { inside: Vec::new(), patches: Vec::new(), width: 0 }
    }

    /// The non-zero pixels of slice `z` of `roi`. `interpolated`: each pixel needs the four centres
    /// around it, not only the nearest.
    pub fn from_roi(
        roi: &Volume<'_>,
        z: usize,
        grid: &PatchGrid,
        interpolated: bool,
        cancel: &Cancel,
    ) -> Result<Self, Error> {
        let Extents { width, height, .. } = roi.extents();
        let mut inside = try_filled(width * height, false, "ROI of a slice")?;
        let mut patches = try_filled(grid.patches(), false, "patches of a slice")?;
        let mut row = try_filled(width, 0.0, "ROI row")?;
        let columns = grid.x.count();
        let centres = |axis: &Axis, p: usize| match (interpolated, axis.around(p)) {
            (true, (low, high, _)) => [low, high],
            (false, _) => [axis.nearest(p); 2],
        };
        let mut centres_of_columns = try_filled(grid.x.len, [0; 2], "ROI row")?;
        for (px, of_column) in centres_of_columns.iter_mut().enumerate() {
            *of_column = centres(&grid.x, px);
        }
        // Pixel columns that rows with the same centres have inside.
        let mut reached = try_filled(grid.x.len, false, "ROI row")?;
        let mut rows = [0; 2];
        let mut mark = |rows: [usize; 2], reached: &mut [bool]| {
            for ky in rows {
                let patches = &mut patches[ky * columns..(ky + 1) * columns];
                for (of_column, _) in centres_of_columns.iter().zip(&*reached).filter(|c| *c.1) {
                    of_column.iter().for_each(|&kx| patches[kx] = true);
                }
            }
            reached.fill(false);
        };
        for (y, inside) in inside.chunks_exact_mut(width).enumerate() {
            cancel.check()?;
            roi.read_row(y, z, &mut row);
            for (inside, &value) in inside.iter_mut().zip(&row) {
                *inside = value != 0.0 && !value.is_nan();
            }
            let Some(py) = y.checked_sub(grid.y.origin).filter(|&p| p < grid.y.len) else {
                continue;
            };
            let centres = centres(&grid.y, py);
            if rows != centres {
                mark(rows, &mut reached);
                rows = centres;
            }
            for (reached, &inside) in reached.iter_mut().zip(&inside[grid.x.origin..]) {
                *reached |= inside;
            }
        }
        mark(rows, &mut reached);
        Ok(Self { inside, patches, width })
    }

    /// Row `y` of the slice: true inside the ROI. `None`: all of it is.
    pub fn row(&self, y: usize) -> Option<&[bool]> {
        self.inside.chunks_exact(self.width.max(1)).nth(y)
    }

    /// True where pixel (x, y) of the slice is inside the ROI.
    pub fn contains_pixel(&self, x: usize, y: usize) -> bool {
        self.inside.is_empty() || self.inside[y * self.width + x]
    }

    /// True where patch `index` of the grid is to be evaluated.
    pub fn contains_patch(&self, index: usize) -> bool {
        self.patches.is_empty() || self.patches[index]
    }

    /// Rows and columns of the grid with at least one patch to evaluate.
    pub fn rows_and_columns(&self, grid: &PatchGrid) -> Axes<Vec<usize>> {
        let (columns, rows) = (grid.x.count(), grid.y.count());
        if self.patches.is_empty() {
            return Axes { rows: (0..rows).collect(), columns: (0..columns).collect() };
        }
        let mut used_columns = vec![false; columns];
        let mut used_rows = Vec::new();
        for (y, row) in self.patches.chunks_exact(columns).enumerate() {
            if row.contains(&true) {
                used_rows.push(y);
            }
            for (used, &wanted) in used_columns.iter_mut().zip(row) {
                *used |= wanted;
            }
        }
        let used_columns = (0..columns).filter(|&x| used_columns[x]).collect();
        Axes { rows: used_rows, columns: used_columns }
    }
}

/// Patches that are evaluated together: the product of some rows and columns of the grid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PatchBlock {
    pub rows: Vec<usize>,
    pub columns: Vec<usize>,
    /// The wanted ones, row-major over the product; `None`: all.
    pub wanted: Option<Vec<bool>>,
}

impl PatchBlock {
    /// The wanted rows and columns among `rows` x `columns`; `None` if nothing is wanted.
    pub fn new(rows: &[usize], columns: &[usize], selection: &Selection, grid: &PatchGrid) -> Option<Self> {
        let width = grid.x.count();
        let is_wanted = |y: usize, x: usize| selection.contains_patch(y * width + x);
        let rows: Vec<usize> = rows.iter().copied().filter(|&y| columns.iter().any(|&x| is_wanted(y, x))).collect();
        let columns: Vec<usize> = columns.iter().copied().filter(|&x| rows.iter().any(|&y| is_wanted(y, x))).collect();
        if rows.is_empty() {
            return None;
        }
        let wanted: Vec<bool> = rows.iter().flat_map(|&y| columns.iter().map(move |&x| is_wanted(y, x))).collect();
        let all = wanted.iter().all(|&wanted| wanted);
        Some(Self { rows, columns, wanted: (!all).then_some(wanted) })
    }

    pub fn patches(&self) -> usize {
        match &self.wanted {
            Some(wanted) => wanted.iter().filter(|&&wanted| wanted).count(),
            None => self.rows.len() * self.columns.len(),
        }
    }
}

/// Ways to split rows and columns into strips, from one strip each to single patches: all strips of about the same
/// length, squares preferred.
pub(crate) fn splits(wanted: Axes<&[usize]>) -> impl Iterator<Item = Axes<Vec<&[usize]>>> {
    let Axes { rows, columns } = wanted;
    let lengths = std::iter::successors(Some([rows.len(), columns.len()]), |&[row, column]| {
        if row == 1 && column == 1 {
            None
        } else if row >= column {
            Some([shorter(row, rows.len()), column])
        } else {
            Some([row, shorter(column, columns.len())])
        }
    });
    lengths
        .map(move |[row, column]| Axes { rows: rows.chunks(row).collect(), columns: columns.chunks(column).collect() })
}

/// The next shorter strip length: about a quarter more strips, all of nearly equal length.
fn shorter(strip: usize, len: usize) -> usize {
    let strips = len.div_ceil(strip);
    let more = (strips + strips.div_ceil(4)).min(len);
    len.div_ceil(more).min(strip - 1).max(1)
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
                }
            }
        }
    }

    #[test]
    fn split_covers_everything_once_and_respects_the_limit() {
        let rows: Vec<usize> = (0..37).collect();
        let columns: Vec<usize> = (5..22).collect();
        let wanted = Axes { rows: &rows[..], columns: &columns[..] };
        for limit in [1, 2, 7, 64, 300, 1000] {
            let fits = |strips: &Axes<Vec<&[usize]>>| strips.as_ref().map(|strips| strips[0].len()).product() <= limit;
            let strips = splits(wanted).find(fits).expect("single patches fit");
            assert_eq!(strips.rows.concat(), rows);
            assert_eq!(strips.columns.concat(), columns);
        }
        let last = splits(wanted).last().expect("there is one");
        assert_eq!(last.map(|strips| strips.len()), Axes { rows: 37, columns: 17 });
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
