//! The voxels and the patches of a slice that are wanted.

use super::grid::PatchGrid;
use crate::axes::Axes;
use crate::cancel::{AT_A_TIME, Cancel};
use crate::error::Error;
use crate::memory::{Zeros, try_filled, try_push, try_with_capacity};
use crate::volume::{Extents, Volume};

/// A region of interest in one slice: the voxels inside and the patches that decide them.
pub(crate) struct Selection {
    /// [height][width] of the slice: inside the ROI. Empty: everything is.
    inside: Zeros<bool>,
    /// [grid rows][grid columns]: to be evaluated. Empty: all are.
    patches: Zeros<bool>,
    width: usize,
    /// Of `patches` the wanted ones.
    count: usize,
}

impl Selection {
    /// All voxels of the crop.
    pub fn everything() -> Self {
        Self { inside: Zeros::default(), patches: Zeros::default(), width: 0, count: 0 }
    }

    /// The non-zero voxels of slice `z` of `roi`. `interpolated`: each voxel needs the four centres
    /// around it, not only the nearest.
    pub fn from_roi(
        roi: &Volume<'_>,
        z: usize,
        grid: &PatchGrid,
        interpolated: bool,
        cancel: &Cancel,
    ) -> Result<Self, Error> {
        let inside = roi.select(z, |value| value != 0.0 && !value.is_nan(), "ROI of a slice", cancel)?;
        Self::of(inside, grid, interpolated, cancel)
    }

    /// What of this lies in the body, [height][width] of the slice.
    pub fn within(
        self,
        mut body: Zeros<bool>,
        grid: &PatchGrid,
        interpolated: bool,
        cancel: &Cancel,
    ) -> Result<Self, Error> {
        if !self.is_everything() {
            cancel.each(&mut body, |i, body| *body &= self.inside[i])?;
        }
        Self::of(body, grid, interpolated, cancel)
    }

    /// These voxels, and the patches whose footprints touch one.
    fn of(inside: Zeros<bool>, grid: &PatchGrid, interpolated: bool, cancel: &Cancel) -> Result<Self, Error> {
        let Axes { rows, columns } = grid.voxels;
        let width = columns.scale.voxels;
        let mut patches = Zeros::new(grid.patches(), "patches of a slice")?;
        let mut count = 0;
        // Voxel columns that some row of a footprint has inside.
        let mut reached = Zeros::new(width, "ROI row")?;
        let mut footprints = try_with_capacity(grid.x.count().min(AT_A_TIME), "ROI row")?;
        for part in (0..grid.x.count()).step_by(AT_A_TIME) {
            footprints.clear();
            let end = grid.x.count().min(part + AT_A_TIME);
            footprints.extend((part..end).map(|kx| columns.footprint(kx, interpolated)));
            let across = footprints[0].start..footprints[end - part - 1].end;
            for (ky, patches) in patches.chunks_exact_mut(grid.x.count()).enumerate() {
                cancel.check()?;
                reached[across.clone()].fill(false);
                for y in rows.footprint(ky, interpolated) {
                    cancel.check()?;
                    let row = &inside[y * width..][across.clone()];
                    reached[across.clone()].iter_mut().zip(row).for_each(|(reached, &inside)| *reached |= inside);
                }
                for (wanted, footprint) in patches[part..end].iter_mut().zip(&footprints) {
                    *wanted = reached[footprint.clone()].contains(&true);
                    count += usize::from(*wanted);
                }
            }
        }
        Ok(Self { inside, patches, width, count })
    }

    /// Bytes of what is made for slices of these extents, with so many that are not everything at a time.
    pub fn bytes(extents: Extents, grid: &PatchGrid, selections: usize) -> u64 {
        let lists = 2 * size_of::<usize>() * (grid.x.count() + grid.y.count());
        (lists + selections * (extents.pixels() + grid.patches())) as u64
    }

    /// Row `y` of the slice: true inside the ROI. `None`: all of it is.
    pub fn row(&self, y: usize) -> Option<&[bool]> {
        self.inside.chunks_exact(self.width.max(1)).nth(y)
    }

    /// True where voxel (x, y) of the slice is inside the ROI.
    pub fn contains_voxel(&self, x: usize, y: usize) -> bool {
        self.inside.is_empty() || self.inside[y * self.width + x]
    }

    /// True where there is no ROI.
    pub fn is_everything(&self) -> bool {
        self.patches.is_empty()
    }

    /// True where patch `index` of the grid is to be evaluated.
    pub fn contains_patch(&self, index: usize) -> bool {
        self.patches.is_empty() || self.patches[index]
    }

    /// How many patches are to be evaluated.
    pub fn count(&self, grid: &PatchGrid) -> usize {
        if self.is_everything() { grid.patches() } else { self.count }
    }

    /// Those of some rows and columns of the grid that have at least one of them.
    pub fn among<I: ExactSizeIterator<Item = usize> + Clone>(
        &self,
        candidates: Axes<I>,
        grid: &PatchGrid,
        cancel: &Cancel,
    ) -> Result<Axes<Vec<usize>>, Error> {
        const WHAT: &str = "patches of a slice";
        let Axes { rows, columns } = candidates.clone();
        let counts = Axes { rows: rows.len(), columns: columns.len() };
        let mut used = counts.try_map(|count| try_filled(count, self.is_everything(), WHAT))?;
        if !self.is_everything() {
            for (y, used_row) in rows.zip(&mut used.rows) {
                let mut columns = columns.clone();
                cancel.each(&mut used.columns, |_, used| {
                    if columns.next().is_some_and(|x| self.contains_patch(y * grid.x.count() + x)) {
                        (*used, *used_row) = (true, true);
                    }
                })?;
            }
        }
        candidates.zip(used).try_map(|(candidates, used)| {
            let mut list = Vec::new();
            for (number, (index, _)) in candidates.zip(used).filter(|(_, used)| *used).enumerate() {
                if number % AT_A_TIME == 0 {
                    cancel.check()?;
                }
                try_push(&mut list, index, WHAT)?;
            }
            Ok(list)
        })
    }
}
