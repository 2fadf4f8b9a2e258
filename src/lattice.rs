//! Where the patches are: centres on each axis, the crop, which of them a ROI asks for, and the tiles
//! that are evaluated together.
//!
//! ```text
//! centre k = origin + k * stride while inside the crop     origin: the crop's corner
//! start  k = centre k - patch_size / 2                     first pixel of the patch, may be black
//! cell   k = the pixels of the crop that are nearest to centre k, ties to the lower index
//! ```

use crate::error::{Check, Error};
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

/// What a convolution's tap sees outside its patch.
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
pub struct Lattice {
    /// Along rows of pixels.
    pub x: Axis,
    /// Along columns of pixels.
    pub y: Axis,
}

impl Lattice {
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

    /// Lattice points of a slice.
    pub fn points(&self) -> usize {
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

/// A region of interest in one slice: which pixels are inside and which lattice points that takes.
pub(crate) struct Selection {
    /// [height][width] of the slice: inside the ROI. Empty: everything is.
    inside: Vec<bool>,
    /// [lattice height][lattice width]: to be evaluated. Empty: all are.
    points: Vec<bool>,
    width: usize,
}

impl Selection {
    /// All pixels of the crop.
    pub fn everything() -> Self {
        Self { inside: Vec::new(), points: Vec::new(), width: 0 }
    }

    /// The non-zero pixels of slice `z` of `roi`. `interpolated`: each pixel needs the four centres
    /// around it, not only the nearest.
    pub fn from_roi(
        roi: &Volume<'_>,
        z: usize,
        lattice: &Lattice,
        interpolated: bool,
        check: Check<'_>,
    ) -> Result<Self, Error> {
        let Extents { width, height, .. } = roi.extents();
        let mut inside = try_filled(width * height, false, "ROI of a slice")?;
        let mut points = try_filled(lattice.points(), false, "lattice of a slice")?;
        let mut row = try_filled(width, 0.0, "ROI row")?;
        let columns = lattice.x.count();
        let centres = |axis: &Axis, p: usize| match (interpolated, axis.around(p)) {
            (true, (low, high, _)) => [low, high],
            (false, _) => [axis.nearest(p); 2],
        };
        let mut centres_of_columns = try_filled(lattice.x.len, [0; 2], "ROI row")?;
        for (px, of_column) in centres_of_columns.iter_mut().enumerate() {
            *of_column = centres(&lattice.x, px);
        }
        // Pixel columns that rows with the same centres have inside.
        let mut reached = try_filled(lattice.x.len, false, "ROI row")?;
        let mut rows = [0; 2];
        let mut mark = |rows: [usize; 2], reached: &mut [bool]| {
            for ky in rows {
                let points = &mut points[ky * columns..(ky + 1) * columns];
                for (of_column, _) in centres_of_columns.iter().zip(&*reached).filter(|c| *c.1) {
                    of_column.iter().for_each(|&kx| points[kx] = true);
                }
            }
            reached.fill(false);
        };
        for (y, inside) in inside.chunks_exact_mut(width).enumerate() {
            check()?;
            roi.read_row(y, z, &mut row);
            for (inside, &value) in inside.iter_mut().zip(&row) {
                *inside = value != 0.0 && !value.is_nan();
            }
            let Some(py) = y.checked_sub(lattice.y.origin).filter(|&p| p < lattice.y.len) else {
                continue;
            };
            let centres = centres(&lattice.y, py);
            if rows != centres {
                mark(rows, &mut reached);
                rows = centres;
            }
            for (reached, &inside) in reached.iter_mut().zip(&inside[lattice.x.origin..]) {
                *reached |= inside;
            }
        }
        mark(rows, &mut reached);
        Ok(Self { inside, points, width })
    }

    /// Which pixels of row `y` of the slice are inside the ROI; `None`: all are.
    pub fn row(&self, y: usize) -> Option<&[bool]> {
        self.inside.chunks_exact(self.width.max(1)).nth(y)
    }

    /// Whether pixel (x, y) of the slice is inside the ROI.
    pub fn contains_pixel(&self, x: usize, y: usize) -> bool {
        self.inside.is_empty() || self.inside[y * self.width + x]
    }

    /// Whether lattice point `index` (row-major) is to be evaluated.
    pub fn contains_point(&self, index: usize) -> bool {
        self.points.is_empty() || self.points[index]
    }

    /// Lattice rows and columns with at least one point to evaluate.
    pub fn rows_and_columns(&self, lattice: &Lattice) -> (Vec<usize>, Vec<usize>) {
        let (columns, rows) = (lattice.x.count(), lattice.y.count());
        if self.points.is_empty() {
            return ((0..rows).collect(), (0..columns).collect());
        }
        let mut used_columns = vec![false; columns];
        let mut used_rows = Vec::new();
        for (y, row) in self.points.chunks_exact(columns).enumerate() {
            if row.contains(&true) {
                used_rows.push(y);
            }
            for (used, &wanted) in used_columns.iter_mut().zip(row) {
                *used |= wanted;
            }
        }
        let used_columns = (0..columns).filter(|&x| used_columns[x]).collect();
        (used_rows, used_columns)
    }
}

/// Lattice points that are evaluated together: the product of some rows and columns, of which
/// `points` (row-major over the product) says which are wanted; `None`: all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tile {
    pub rows: Vec<usize>,
    pub columns: Vec<usize>,
    pub points: Option<Vec<bool>>,
}

impl Tile {
    /// The wanted part of `rows` x `columns`; `None` if nothing is wanted.
    pub fn new(rows: &[usize], columns: &[usize], selection: &Selection, lattice: &Lattice) -> Option<Self> {
        let width = lattice.x.count();
        let wanted = |y: usize, x: usize| selection.contains_point(y * width + x);
        let rows: Vec<usize> = rows.iter().copied().filter(|&y| columns.iter().any(|&x| wanted(y, x))).collect();
        let columns: Vec<usize> = columns.iter().copied().filter(|&x| rows.iter().any(|&y| wanted(y, x))).collect();
        if rows.is_empty() {
            return None;
        }
        let points: Vec<bool> = rows.iter().flat_map(|&y| columns.iter().map(move |&x| wanted(y, x))).collect();
        let all = points.iter().all(|&wanted| wanted);
        Some(Self { rows, columns, points: (!all).then_some(points) })
    }

    /// Patches that this tile evaluates.
    pub fn patches(&self) -> usize {
        match &self.points {
            Some(points) => points.iter().filter(|&&wanted| wanted).count(),
            None => self.rows.len() * self.columns.len(),
        }
    }
}

/// Ways to split rows and columns into runs, `[row runs, column runs]`, from one run each to single patches: all runs of
/// about the same length, squares preferred.
pub(crate) fn splits<'a>(rows: &'a [usize], columns: &'a [usize]) -> impl Iterator<Item = [Vec<&'a [usize]>; 2]> {
    let lengths = std::iter::successors(Some([rows.len(), columns.len()]), |&[row, column]| {
        if row == 1 && column == 1 {
            None
        } else if row >= column {
            Some([shorter(row, rows.len()), column])
        } else {
            Some([row, shorter(column, columns.len())])
        }
    });
    lengths.map(|[row, column]| [rows.chunks(row).collect(), columns.chunks(column).collect()])
}

/// The next shorter run length: about a quarter more runs, all of nearly equal length.
fn shorter(run: usize, len: usize) -> usize {
    let runs = len.div_ceil(run);
    let more = (runs + runs.div_ceil(4)).min(len);
    len.div_ceil(more).min(run - 1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(len: usize, stride: usize) -> Axis {
        Axis { origin: 0, len, patch_size: 32, stride }
    }

    #[test]
    fn centres_fill_the_crop() {
        let lattice = Lattice::new(Extents::new(512, 512, 1, "volume").unwrap(), 257, 7, None).unwrap();
        assert_eq!((lattice.x.count(), lattice.points()), (74, 5476));
        assert_eq!(lattice.x.start(0), -128);
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
        for limit in [1, 2, 7, 64, 300, 1000] {
            let [row_runs, column_runs] =
                splits(&rows, &columns).find(|[r, c]| r[0].len() * c[0].len() <= limit).expect("single points fit");
            assert_eq!(row_runs.concat(), rows);
            assert_eq!(column_runs.concat(), columns);
        }
        let last = splits(&rows, &columns).last().expect("there is one");
        assert_eq!(last.map(|runs| runs.len()), [37, 17]);
    }

    #[test]
    fn options_out_of_range_are_named() {
        let extents = Extents::new(100, 90, 1, "volume").unwrap();
        for (patch_size, stride, text) in
            [(31, 1, "patch_size 31"), (1025, 1, "patch_size 1025"), (64, 0, "stride 0"), (64, 65, "stride 65")]
        {
            let error = Lattice::new(extents, patch_size, stride, None).unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
        }
        let crop = Crop { x0: 0, y0: 0, x1: 101, y1: 90 };
        let error = Lattice::new(extents, 64, 8, Some(crop)).unwrap_err();
        assert!(error.to_string().contains("crop 0,0,101,90"), "{error}");
    }
}
