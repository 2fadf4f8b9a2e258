//! How a slice is cut into pieces that are evaluated together, and what each piece reads and writes.
//!
//! With sharing a piece is a tile: some lattice rows x some lattice columns. Without it a piece is a
//! handful of patches stacked on the row axis, each with values of its own.

use std::collections::HashMap;
use std::sync::Arc;

use crate::engine::{Bytes, Engine};
use crate::error::{Check, Error};
use crate::lattice::{Axis, Lattice, Padding, Selection, Tile, split};
use crate::memory::{ensure_headroom, try_with_capacity};
use crate::plan::{AxisPlan, AxisPlans, PlannedPiece, TilePlan};

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

/// What cutting depends on, besides the slice.
pub(super) struct Cutter<'a> {
    pub lattice: Lattice,
    pub padding: Padding,
    pub sharing: bool,
    /// Tiles may have to list the pixels that a ROI needs.
    pub lists: bool,
    /// For the activations and lists of one piece.
    pub budget: Bytes,
    pub engine: &'a dyn Engine,
    pub check: Check<'a>,
}

impl Cutter<'_> {
    /// Cuts the wanted lattice points of a slice into pieces that fit the budget. Returns what the largest
    /// takes too.
    pub fn cut(
        &self,
        selection: &Selection,
        plans: &mut AxisPlans,
    ) -> Result<(Vec<Piece>, Bytes), Error> {
        const BYTES_PER_POINT: usize = 256;
        let points = self.lattice.points();
        ensure_headroom(points.saturating_mul(BYTES_PER_POINT), "tiles of a slice")?;
        let (rows, columns) = selection.rows_and_columns(&self.lattice);
        if rows.is_empty() {
            return Ok((Vec::new(), Bytes::default()));
        }
        if !self.sharing {
            return self.stacks(&rows, &columns, selection, plans);
        }
        // Of the last try, which is the smallest or the one that fits.
        let mut largest = Bytes::default();
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
            largest = self.largest(&rows, &columns);
            Ok(largest.fits(self.budget))
        })?;
        let Some([row_runs, column_runs]) = runs else {
            return Err(self.too_small(largest));
        };
        let tile = |rows: &[usize], columns: &[usize]| {
            Tile::new(rows, columns, selection, &self.lattice).map(Piece::Tile)
        };
        let pieces = row_runs
            .iter()
            .flat_map(|rows| column_runs.iter().filter_map(|columns| tile(rows, columns)));
        Ok((pieces.collect(), largest))
    }

    /// Single patches, as many at a time as fit.
    fn stacks(
        &self,
        rows: &[usize],
        columns: &[usize],
        selection: &Selection,
        plans: &mut AxisPlans,
    ) -> Result<(Vec<Piece>, Bytes), Error> {
        let one = self.one_patch(rows, columns, plans)?;
        if !one.fits(self.budget) {
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
            return Ok((wanted.iter().map(single).collect(), one));
        }
        let most = |budget: u64, one: u64| budget.min(STACK_BYTES).checked_div(one);
        let count = [
            most(self.budget.host, one.host),
            most(self.budget.device, one.device),
        ];
        let count = count.into_iter().flatten().min().unwrap_or(1);
        let count = count.clamp(1, STACK_PATCHES as u64);
        let stack = Bytes {
            host: count * one.host,
            device: count * one.device,
        };
        let stacks = wanted.chunks(count as usize);
        Ok((
            stacks.map(|points| Piece::Stack(points.to_vec())).collect(),
            stack,
        ))
    }

    /// Bytes of the largest of these patches by itself: in IMAGE scope those inside the slice see more of it.
    fn one_patch(
        &self,
        rows: &[usize],
        columns: &[usize],
        plans: &mut AxisPlans,
    ) -> Result<Bytes, Error> {
        let Lattice { x, y } = self.lattice;
        if self.padding == Padding::Patch {
            let rows = plans.isolated(y.patch_size, 1, self.check)?;
            let columns = plans.isolated(x.patch_size, 1, self.check)?;
            return Ok(self.bytes(&rows, &columns));
        }
        let rows: Vec<&[usize]> = rows.chunks(1).collect();
        let columns: Vec<&[usize]> = columns.chunks(1).collect();
        let rows = self.distinct(&y, &rows, plans)?;
        let columns = self.distinct(&x, &columns, plans)?;
        Ok(self.largest(&rows, &columns))
    }

    /// What the largest tile of these axes takes.
    fn largest(&self, rows: &[Arc<AxisPlan>], columns: &[Arc<AxisPlan>]) -> Bytes {
        rows.iter()
            .flat_map(|r| columns.iter().map(move |c| (r, c)))
            .map(|(r, c)| self.bytes(r, c))
            .fold(Bytes::default(), Bytes::max)
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
            let plan = plans.tile(axis, run, self.padding, self.check)?;
            distinct.insert(Arc::as_ptr(&plan), plan);
        }
        Ok(distinct.into_values().collect())
    }

    /// Bytes of a piece with these axes: activations, tables, lists.
    fn bytes(&self, rows: &AxisPlan, columns: &AxisPlan) -> Bytes {
        let mut host = PlannedPiece::most_bytes(rows, columns, self.lists);
        if self.lists {
            host = host.saturating_add(self.engine.list_bytes(rows, columns));
        }
        self.engine.tile_bytes(rows, columns) + Bytes::host(host)
    }

    fn too_small(&self, least: Bytes) -> Error {
        let text = |memory: &str, budget: u64, least: u64| {
            format!(
                "the memory budget leaves {budget} bytes of the {memory} for activations, and the \
                 smallest tile needs {least}: raise the budget by {} MiB or use smaller patches",
                (least.saturating_sub(budget) >> 20) + 1
            )
        };
        if least.host > self.budget.host {
            Error::OutOfMemory(text("host", self.budget.host, least.host))
        } else {
            Error::DeviceOutOfMemory(text("device", self.budget.device, least.device))
        }
    }

    /// Makes the tables of a piece.
    pub fn plan(&self, piece: &Piece, plans: &mut AxisPlans) -> Result<PlannedPiece, Error> {
        let Lattice { x, y } = self.lattice;
        match piece {
            Piece::Tile(tile) => {
                let rows = plans.tile(&y, &tile.rows, self.padding, self.check)?;
                let columns = plans.tile(&x, &tile.columns, self.padding, self.check)?;
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
                let rows = plans.isolated(y.patch_size, patches.len(), self.check)?;
                let column = plans.isolated(x.patch_size, 1, self.check)?;
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
