//! How a slice is cut into pieces that are evaluated together, and what each piece reads and writes.
//!
//! With sharing a piece is a tile: some lattice rows x some lattice columns. Without it a piece is a
//! handful of patches stacked on the row axis, each with values of its own.

use std::collections::HashMap;
use std::sync::Arc;

use crate::engine::Engine;
use crate::error::{Check, Error};
use crate::lattice::{Axis, Lattice, Padding, Selection, Tile, split};
use crate::memory::{ensure_headroom, try_filled, try_with_capacity};
use crate::plan::{AxisPlan, AxisPlans, PatchRow, TilePlan};

/// Without sharing: most patches at a time, and most bytes of activations for them.
const STACK_PATCHES: usize = 64;
const STACK_BYTES: u64 = 160 << 20;

/// Lattice points that are evaluated together.
pub(super) enum Piece {
    Tile(Tile),
    /// Lattice points (row, column), each by itself.
    Stack(Vec<(usize, usize)>),
}

impl Piece {
    /// Patches that it evaluates.
    pub fn patches(&self) -> usize {
        match self {
            Self::Tile(tile) => tile.patches(),
            Self::Stack(patches) => patches.len(),
        }
    }
}

/// A piece with its tables.
pub(super) struct PlannedPiece {
    pub plan: TilePlan,
    /// First pixel (row, column) of the crop that each band of input rows is counted from.
    starts: Vec<(i64, i64)>,
    /// Lattice index of each stored lattice point.
    pub points: Vec<usize>,
}

/// What cutting depends on, besides the slice.
pub(super) struct Cutter<'a> {
    pub lattice: Lattice,
    pub padding: Padding,
    pub sharing: bool,
    /// Tiles may have to list the pixels that a ROI needs.
    pub lists: bool,
    /// Bytes for the activations, inputs and lists of one piece.
    pub budget: u64,
    pub engine: &'a dyn Engine,
    pub check: Check<'a>,
}

impl Cutter<'_> {
    /// Cuts the wanted lattice points of a slice into pieces that fit the budget.
    pub fn cut(&self, selection: &Selection, plans: &mut AxisPlans) -> Result<Vec<Piece>, Error> {
        const BYTES_PER_POINT: usize = 256;
        let points = self.lattice.points();
        ensure_headroom(points.saturating_mul(BYTES_PER_POINT), "tiles of a slice")?;
        let (rows, columns) = selection.rows_and_columns(&self.lattice);
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        if !self.sharing {
            return self.stacks(&rows, &columns, selection, plans);
        }
        let mut least = u64::MAX;
        let runs = split(&rows, &columns, |row_runs, column_runs| {
            let planned = self
                .distinct(&self.lattice.y, row_runs, plans)
                .and_then(|rows| Ok((rows, self.distinct(&self.lattice.x, column_runs, plans)?)));
            let (rows, columns) = match planned {
                // Runs too long to plan are too long to evaluate.
                Err(Error::OutOfMemory(_) | Error::Unsupported(_))
                    if row_runs[0].len() > 1 || column_runs[0].len() > 1 =>
                {
                    return Ok(false);
                }
                planned => planned?,
            };
            let pairs = rows
                .iter()
                .flat_map(|r| columns.iter().map(move |c| (r, c)));
            let most = pairs.map(|(r, c)| self.bytes(r, c)).max().unwrap_or(0);
            least = least.min(most);
            Ok(most <= self.budget)
        })?;
        let Some([row_runs, column_runs]) = runs else {
            return Err(self.too_small(least));
        };
        let tile = |rows: &[usize], columns: &[usize]| {
            Tile::new(rows, columns, selection, &self.lattice).map(Piece::Tile)
        };
        Ok(row_runs
            .iter()
            .flat_map(|rows| column_runs.iter().filter_map(|columns| tile(rows, columns)))
            .collect())
    }

    /// Single patches, as many at a time as fit.
    fn stacks(
        &self,
        rows: &[usize],
        columns: &[usize],
        selection: &Selection,
        plans: &mut AxisPlans,
    ) -> Result<Vec<Piece>, Error> {
        let one = self.one_patch(rows[0], columns[0], plans)?;
        if one > self.budget {
            return Err(self.too_small(one));
        }
        let width = self.lattice.x.count();
        let wanted: Vec<(usize, usize)> = rows
            .iter()
            .flat_map(|&y| columns.iter().map(move |&x| (y, x)))
            .filter(|&(y, x)| selection.contains_point(y * width + x))
            .collect();
        if self.padding == Padding::Image {
            // The true neighbours of a patch are found by the plan of a tile of one patch.
            let single = |&(y, x): &(usize, usize)| {
                Piece::Tile(Tile {
                    rows: vec![y],
                    columns: vec![x],
                    points: None,
                })
            };
            return Ok(wanted.iter().map(single).collect());
        }
        let count = (self.budget.min(STACK_BYTES) / one).clamp(1, STACK_PATCHES as u64);
        Ok(wanted
            .chunks(count as usize)
            .map(|points| Piece::Stack(points.to_vec()))
            .collect())
    }

    /// Bytes of a patch by itself.
    fn one_patch(&self, row: usize, column: usize, plans: &mut AxisPlans) -> Result<u64, Error> {
        let Lattice { x, y } = self.lattice;
        let (rows, columns) = match self.padding {
            Padding::Patch => (
                PatchRow::isolated(y.patch_size, 1),
                PatchRow::isolated(x.patch_size, 1),
            ),
            Padding::Image => (
                PatchRow::new(&y, &[row], self.padding),
                PatchRow::new(&x, &[column], self.padding),
            ),
        };
        let (rows, columns) = (
            plans.get(rows, self.check)?,
            plans.get(columns, self.check)?,
        );
        Ok(self.bytes(&rows, &columns))
    }

    /// The plans of some runs of one axis, equal ones once.
    fn distinct(
        &self,
        axis: &Axis,
        runs: &[&[usize]],
        plans: &mut AxisPlans,
    ) -> Result<Vec<Arc<AxisPlan>>, Error> {
        let mut distinct = HashMap::new();
        for run in runs {
            let plan = plans.get(PatchRow::new(axis, run, self.padding), self.check)?;
            distinct.insert(Arc::as_ptr(&plan), plan);
        }
        Ok(distinct.into_values().collect())
    }

    /// Bytes of a piece with these axes: input, activations, lists.
    fn bytes(&self, rows: &AxisPlan, columns: &AxisPlan) -> u64 {
        let lists = if self.lists {
            TilePlan::most_list_bytes(rows, columns)
        } else {
            0
        };
        self.engine.tile_bytes(rows, columns) + input_bytes(rows, columns) + lists
    }

    fn too_small(&self, least: u64) -> Error {
        Error::OutOfMemory(format!(
            "the memory budget leaves {} bytes for activations, and the smallest tile needs {least}: \
             raise the budget by {} MiB or use smaller patches",
            self.budget,
            (least.saturating_sub(self.budget) >> 20) + 1
        ))
    }

    /// Makes the tables of a piece.
    pub fn plan(&self, piece: &Piece, plans: &mut AxisPlans) -> Result<PlannedPiece, Error> {
        let Lattice { x, y } = self.lattice;
        match piece {
            Piece::Tile(tile) => {
                let rows = PatchRow::new(&y, &tile.rows, self.padding);
                let columns = PatchRow::new(&x, &tile.columns, self.padding);
                let rows = plans.get(rows, self.check)?;
                let columns = plans.get(columns, self.check)?;
                let plan = TilePlan::new(rows, columns, tile.points.as_deref(), self.check)?;
                let lattice = plan.lattice();
                let mut points = try_with_capacity(lattice.len(), "lattice points of a tile")?;
                points.extend((0..lattice.len()).map(|slot| {
                    let (row, column) = lattice.position(slot);
                    tile.rows[row] * x.count() + tile.columns[column]
                }));
                let starts = vec![(y.start(tile.rows[0]), x.start(tile.columns[0]))];
                Ok(PlannedPiece {
                    plan,
                    starts,
                    points,
                })
            }
            Piece::Stack(patches) => {
                let rows = PatchRow::isolated(y.patch_size, patches.len());
                let rows = plans.get(rows, self.check)?;
                let column = plans.get(PatchRow::isolated(x.patch_size, 1), self.check)?;
                let at = |&(row, column): &(usize, usize)| (y.start(row), x.start(column));
                Ok(PlannedPiece {
                    plan: TilePlan::new(rows, column, None, self.check)?,
                    starts: patches.iter().map(at).collect(),
                    points: patches.iter().map(|&(r, c)| r * x.count() + c).collect(),
                })
            }
        }
    }
}

impl PlannedPiece {
    /// Bytes of the input image and the plan's lists.
    pub fn bytes(&self) -> u64 {
        input_bytes(&self.plan.rows, &self.plan.columns) + self.plan.bytes() as u64
    }

    /// Copies the pixels that the piece reads from `image` ([height][width] of the slice) to `input`
    /// ([row values][column values]); black is 0.
    pub fn fill_input(
        &self,
        lattice: &Lattice,
        image: &[f32],
        width: usize,
        input: &mut Vec<f32>,
    ) -> Result<(), Error> {
        let (rows, columns) = (&self.plan.rows, &self.plan.columns);
        let needed = rows.inputs() * columns.inputs();
        if input.len() < needed {
            *input = Vec::new(); // gives the old one back before the new one is taken
            *input = try_filled(needed, 0.0, "input of a tile")?;
        }
        let band = rows.inputs() / self.starts.len();
        for (row, pixels) in input[..needed]
            .chunks_exact_mut(columns.inputs())
            .enumerate()
        {
            let (top, left) = self.starts[row / band];
            let Some(y) = rows.pixel(row, top, lattice.y.len) else {
                pixels.fill(0.0);
                continue;
            };
            let line = &image[(lattice.y.origin + y) * width + lattice.x.origin..];
            for (column, pixel) in pixels.iter_mut().enumerate() {
                *pixel = columns
                    .pixel(column, left, lattice.x.len)
                    .map_or(0.0, |x| line[x]);
            }
        }
        Ok(())
    }
}

fn input_bytes(rows: &AxisPlan, columns: &AxisPlan) -> u64 {
    4 * rows.inputs() as u64 * columns.inputs() as u64
}
