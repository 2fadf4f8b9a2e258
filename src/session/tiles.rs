//! How a slice is cut into pieces that are evaluated together, and what each piece reads and writes.
//!
//! With sharing a piece is a tile: some lattice rows x some lattice columns. Without it a piece is a
//! handful of patches stacked on the row axis, each with values of its own.

use std::collections::HashMap;
use std::sync::Arc;

use crate::engine::{Bytes, Engine};
use crate::error::{Check, Error};
use crate::lattice::{Axis, Lattice, Padding, Selection, Tile, splits};
use crate::memory::{ensure_headroom, try_with_capacity};
use crate::network::CONVOLUTIONS;
use crate::plan::{AxisPlan, AxisPlans, PlannedPiece, STEPS, Step, TilePlan};

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

/// Lattice rows, then lattice columns, in runs.
type Runs<'a> = [Vec<&'a [usize]>; 2];

/// The plans of some runs of an axis.
struct Planned {
    /// Equal ones once.
    distinct: Vec<Arc<AxisPlan>>,
    /// Of each convolution, all runs together.
    products: [u64; CONVOLUTIONS],
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
    pub fn cut(&self, selection: &Selection, plans: &mut AxisPlans) -> Result<(Vec<Piece>, Bytes), Error> {
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
        let (runs, largest) = self.runs(&rows, &columns, plans)?;
        let [row_runs, column_runs] = runs;
        let tile =
            |rows: &[usize], columns: &[usize]| Tile::new(rows, columns, selection, &self.lattice).map(Piece::Tile);
        let pieces = row_runs.iter().flat_map(|rows| column_runs.iter().filter_map(|columns| tile(rows, columns)));
        Ok((pieces.collect(), largest))
    }

    /// Runs of rows and of columns whose tiles fit the budget: the largest, or smaller ones where those make
    /// hardly more work, for memory that is not taken is soonest there. Returns what the largest tile takes too.
    fn runs<'r>(
        &self,
        rows: &'r [usize],
        columns: &'r [usize],
        plans: &mut AxisPlans,
    ) -> Result<(Runs<'r>, Bytes), Error> {
        const MORE_WORK: f64 = 1.02;
        let mut first_work = None;
        let mut chosen = None;
        // Of the last try that did not fit.
        let mut too_large = Bytes::default();
        for [row_runs, column_runs] in splits(rows, columns) {
            let planned = self
                .planned(&self.lattice.y, &row_runs, plans)
                .and_then(|rows| Ok((rows, self.planned(&self.lattice.x, &column_runs, plans)?)));
            let (rows, columns) = match planned {
                // Runs too long to plan are too long to evaluate.
                Err(Error::OutOfMemory(_) | Error::Unsupported(_))
                    if row_runs[0].len() > 1 || column_runs[0].len() > 1 =>
                {
                    continue;
                }
                planned => planned?,
            };
            let largest = self.largest(&rows.distinct, &columns.distinct);
            if !largest.fits(self.budget) {
                too_large = largest;
                continue;
            }
            let work = self.work(&rows, &columns);
            if work > MORE_WORK * *first_work.get_or_insert(work) {
                break;
            }
            chosen = Some(([row_runs, column_runs], largest));
            if largest.host <= self.engine.small_tile_bytes() {
                break;
            }
        }
        chosen.ok_or_else(|| self.too_small(too_large))
    }

    /// Multiplications of all tiles of these runs, as far as they depend on them.
    fn work(&self, rows: &Planned, columns: &Planned) -> f64 {
        let (convolutions, _) = self.engine.unit_macs();
        let axes = rows.products.iter().zip(&columns.products);
        let layers = axes.zip(convolutions);
        layers.map(|((&rows, &columns), &macs)| rows as f64 * columns as f64 * macs as f64).sum()
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
            let single = |&(y, x): &(usize, usize)| Piece::Tile(Tile { rows: vec![y], columns: vec![x], points: None });
            return Ok((wanted.iter().map(single).collect(), one));
        }
        let most = |budget: u64, one: u64| budget.min(STACK_BYTES).checked_div(one);
        let count = [most(self.budget.host, one.host), most(self.budget.device, one.device)];
        let count = count.into_iter().flatten().min().unwrap_or(1);
        let count = count.clamp(1, STACK_PATCHES as u64);
        let stack = Bytes { host: count * one.host, device: count * one.device };
        let stacks = wanted.chunks(count as usize);
        Ok((stacks.map(|points| Piece::Stack(points.to_vec())).collect(), stack))
    }

    /// Bytes of the largest of these patches by itself: in IMAGE scope those inside the slice see more of it.
    fn one_patch(&self, rows: &[usize], columns: &[usize], plans: &mut AxisPlans) -> Result<Bytes, Error> {
        let Lattice { x, y } = self.lattice;
        if self.padding == Padding::Patch {
            let rows = plans.isolated(y.patch_size, 1, self.check)?;
            let columns = plans.isolated(x.patch_size, 1, self.check)?;
            return Ok(self.bytes(&rows, &columns));
        }
        let rows: Vec<&[usize]> = rows.chunks(1).collect();
        let columns: Vec<&[usize]> = columns.chunks(1).collect();
        let rows = self.planned(&y, &rows, plans)?;
        let columns = self.planned(&x, &columns, plans)?;
        Ok(self.largest(&rows.distinct, &columns.distinct))
    }

    /// What the largest tile of these axes takes.
    fn largest(&self, rows: &[Arc<AxisPlan>], columns: &[Arc<AxisPlan>]) -> Bytes {
        rows.iter()
            .flat_map(|r| columns.iter().map(move |c| (r, c)))
            .map(|(r, c)| self.bytes(r, c))
            .fold(Bytes::default(), Bytes::max)
    }

    /// The plans of some runs of one axis.
    fn planned(&self, axis: &Axis, runs: &[&[usize]], plans: &mut AxisPlans) -> Result<Planned, Error> {
        let mut distinct = HashMap::new();
        let mut products = [0; CONVOLUTIONS];
        for run in runs {
            let plan = plans.tile(axis, run, self.padding, self.check)?;
            for (index, &step) in STEPS.iter().enumerate() {
                if let Step::Convolution(layer) = step {
                    products[layer] += plan.layer(index).products();
                }
            }
            distinct.insert(Arc::as_ptr(&plan), plan);
        }
        Ok(Planned { distinct: distinct.into_values().collect(), products })
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
                Ok(PlannedPiece { plan, starts, points })
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
