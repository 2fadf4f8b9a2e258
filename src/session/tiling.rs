//! Tiling: a slice's patches are cut into tiles, which are evaluated together.
//!
//! With sharing a tile is a subgrid: some rows x some columns of the patch grid. Without it a tile is a handful
//! of patches stacked on the row axis, each with values of its own.

use std::collections::HashSet;
use std::sync::Arc;

use crate::axes::Axes;
use crate::cancel::Cancel;
use crate::engine::{Bytes, EngineInfo};
use crate::error::Error;
use crate::memory::{try_insert, try_with_capacity};
use crate::network::CONVOLUTIONS;
use crate::patch_grid::{Axis, Padding, PatchGrid, Selection, StripLimits, Strips, Subgrid, interleaved, splits};
use crate::plan::{AxisPlan, AxisPlans, AxisSizes, MaxRuns, PlannedTile, STEPS, Step, TilePlan};

/// Without sharing: maximum patches at a time, and maximum bytes of activations for them.
const STACK_PATCHES: usize = 64;
const STACK_BYTES: u64 = 160 << 20;

/// Patches that are evaluated together.
pub(super) enum Tile {
    Subgrid(Subgrid),
    /// (row, column) in the grid, each patch by itself.
    Stack(Vec<(usize, usize)>),
}

impl Tile {
    pub fn patches(&self) -> usize {
        match self {
            Self::Subgrid(subgrid) => subgrid.patches(),
            Self::Stack(patches) => patches.len(),
        }
    }
}

/// The way a slice's patches are cut into tiles.
pub(super) struct Cut {
    /// Rows and columns of the grid.
    selected: Axes<Vec<usize>>,
    shape: Shape,
    /// Memory of the largest tile.
    pub largest: Bytes,
}

enum Shape {
    /// Subgrids of strips at most this long.
    Subgrids(Axes<usize>),
    /// So many patches at a time, each by itself.
    Stacks(usize),
}

/// Numbers of phases that are tried, see [`interleaved`].
const PHASES: [usize; 4] = [1, 2, 4, 8];

/// A way to cut into subgrids.
struct Choice {
    work: f64,
    largest: Bytes,
    phases: usize,
    lengths: Axes<usize>,
}

fn as_slices(axes: &Axes<Vec<usize>>) -> Axes<&[usize]> {
    axes.as_ref().map(|indices| &indices[..])
}

/// The sizes of some strips of an axis.
struct PlannedStrips {
    /// Equal ones once.
    distinct: HashSet<AxisSizes>,
    /// Products of each convolution, all strips together.
    products: [u64; CONVOLUTIONS],
}

/// Everything that the tiles of a slice depend on, besides the slice.
pub(super) struct Tiling<'a> {
    pub grid: PatchGrid,
    pub padding: Padding,
    pub sharing: bool,
    /// Tiles may have to list the pixels that a ROI needs.
    pub lists: bool,
    /// For the activations and lists of one tile.
    pub budget: Bytes,
    pub limits: Axes<StripLimits>,
    pub info: &'a EngineInfo,
    pub cancel: &'a Cancel,
}

impl Tiling<'_> {
    /// Cuts the wanted patches of a slice into tiles that fit the budget; `None`: there are none.
    pub fn cut(&self, selection: &Selection, plans: &mut AxisPlans) -> Result<Option<Cut>, Error> {
        let mut selected = selection.among(self.grid.axes().map(|axis| 0..axis.count()), &self.grid, self.cancel)?;
        if selected.rows.is_empty() {
            return Ok(None);
        }
        let (shape, largest) =
            if self.sharing { self.subgrids(&mut selected, plans)? } else { self.stacks(as_slices(&selected), plans)? };
        Ok(Some(Cut { selected, shape, largest }))
    }

    /// The tiles, one after another. `selection`: that which was cut, or a part of it, whose tiles are parts of the others.
    pub fn tiles<'t>(
        &'t self,
        cut: &'t Cut,
        selection: &'t Selection,
    ) -> Box<dyn Iterator<Item = Result<Tile, Error>> + 't> {
        let wanted = as_slices(&cut.selected);
        match cut.shape {
            Shape::Subgrids(lengths) => {
                let Axes { rows, columns } = wanted
                    .zip(lengths.zip(self.limits))
                    .map(|(wanted, (length, limits))| Strips::new(wanted, length, limits));
                let subgrids = rows.iter().flat_map(move |rows| columns.iter().map(move |columns| (rows, columns)));
                Box::new(subgrids.filter_map(|(rows, columns)| {
                    let subgrid = Subgrid::new(rows, columns, selection, &self.grid, self.cancel);
                    subgrid.map(|subgrid| subgrid.map(Tile::Subgrid)).transpose()
                }))
            }
            Shape::Stacks(count) => {
                let width = self.grid.x.count();
                let all = wanted.rows.iter().flat_map(move |&y| wanted.columns.iter().map(move |&x| (y, x)));
                let patches = all.map(move |(y, x)| {
                    self.cancel.check()?;
                    Ok(selection.contains_patch(y * width + x).then_some((y, x)))
                });
                let mut patches = patches.filter_map(Result::transpose);
                let mut stack = move || patches.by_ref().take(count).collect::<Result<Vec<_>, _>>();
                Box::new(std::iter::from_fn(move || match stack() {
                    Ok(patches) if patches.is_empty() => None,
                    // The true neighbours of a patch are found by the plan of a tile of one patch.
                    Ok(patches) if self.padding == Padding::Image => {
                        let (rows, columns) = (vec![patches[0].0], vec![patches[0].1]);
                        Some(Ok(Tile::Subgrid(Subgrid { rows, columns, wanted: None })))
                    }
                    stack => Some(stack.map(Tile::Stack)),
                }))
            }
        }
    }

    /// Strips of rows and of columns whose tiles fit the budget, and the memory of the largest tile: those with the least work,
    /// or of those with hardly more the ones that need the least memory, for memory that is not taken is soonest there. `wanted`
    /// is interleaved where that is better.
    fn subgrids(&self, wanted: &mut Axes<Vec<usize>>, plans: &mut AxisPlans) -> Result<(Shape, Bytes), Error> {
        const MORE_WORK: f64 = 1.03;
        let mut least_work = f64::INFINITY;
        let mut chosen: Option<Choice> = None;
        // Memory of the last try that did not fit.
        let mut too_large = Bytes::default();
        for phases in PHASES {
            let arranged = wanted.as_ref().try_map(|wanted| interleaved(wanted, phases))?;
            let mut worthwhile = false;
            for strips in splits(as_slices(&arranged), phases, self.limits) {
                let planned = self.planned(strips, plans)?;
                let largest = self.largest(&planned)?;
                if !largest.fits(self.budget) {
                    too_large = largest;
                    continue;
                }
                let work = self.work(&planned);
                if work > MORE_WORK * least_work {
                    break;
                }
                worthwhile = true;
                least_work = least_work.min(work);
                let better = |than: &Choice| than.work > MORE_WORK * least_work || largest.host < than.largest.host;
                if chosen.as_ref().is_none_or(better) {
                    chosen = Some(Choice { work, largest, phases, lengths: strips.map(|strips| strips.longest()) });
                }
                if largest.host <= self.info.preferred_tile_bytes {
                    break;
                }
            }
            let small = |choice: &Choice| choice.largest.host <= self.info.preferred_tile_bytes;
            if !worthwhile || chosen.as_ref().is_some_and(small) {
                break;
            }
        }
        let Some(Choice { largest, phases, lengths, .. }) = chosen else { return Err(self.too_small(too_large)) };
        *wanted = wanted.as_ref().try_map(|wanted| interleaved(wanted, phases))?;
        Ok((Shape::Subgrids(lengths), largest))
    }

    /// Multiplications of all tiles of these strips, as far as they depend on them.
    fn work(&self, planned: &Axes<PlannedStrips>) -> f64 {
        let axes = planned.rows.products.iter().zip(&planned.columns.products);
        let layers = axes.zip(&self.info.macs_per_output.convolutions);
        layers.map(|((&rows, &columns), &macs)| rows as f64 * columns as f64 * macs as f64).sum()
    }

    /// Single patches, as many at a time as fit.
    fn stacks(&self, wanted: Axes<&[usize]>, plans: &mut AxisPlans) -> Result<(Shape, Bytes), Error> {
        let one = self.one_patch(wanted, plans)?;
        if !one.fits(self.budget) {
            return Err(self.too_small(one));
        }
        if self.padding == Padding::Image {
            return Ok((Shape::Stacks(1), one));
        }
        let max = |budget: u64, one: u64| budget.min(STACK_BYTES).checked_div(one);
        let count = [max(self.budget.host, one.host), max(self.budget.device, one.device)];
        let count = count.into_iter().flatten().min().unwrap_or(1);
        let count = count.clamp(1, STACK_PATCHES as u64);
        let stack = Bytes { host: count * one.host, device: count * one.device };
        Ok((Shape::Stacks(count as usize), stack))
    }

    /// Memory of the largest of these patches by itself: in IMAGE padding those inside the slice see more of it.
    fn one_patch(&self, wanted: Axes<&[usize]>, plans: &mut AxisPlans) -> Result<Bytes, Error> {
        if self.padding == Padding::Patch {
            return Ok(self.bytes(&self.isolated(1, plans)?.sizes()));
        }
        self.largest(
            &self.planned(wanted.zip(self.limits).map(|(indices, limits)| Strips::new(indices, 1, limits)), plans)?,
        )
    }

    /// The axes of patches that share nothing, stacked on the row axis.
    fn isolated(&self, patches: usize, plans: &mut AxisPlans) -> Result<Axes<Arc<AxisPlan>>, Error> {
        let patch_size = self.grid.x.patch_size;
        (Axes { rows: patches, columns: 1 }.zip(self.info.max_runs))
            .try_map(|(count, max_runs)| plans.isolated(patch_size, count, max_runs.as_ref(), self.cancel))
    }

    /// Memory of the largest tile of these axes.
    fn largest(&self, planned: &Axes<PlannedStrips>) -> Result<Bytes, Error> {
        let mut largest = Bytes::default();
        for &rows in &planned.rows.distinct {
            self.cancel.check()?;
            let of_rows = planned.columns.distinct.iter().map(|&columns| self.bytes(&Axes { rows, columns }));
            largest = of_rows.fold(largest, Bytes::max);
        }
        Ok(largest)
    }

    fn axes(&self) -> Axes<(Axis, Option<MaxRuns>)> {
        self.grid.axes().zip(self.info.max_runs)
    }

    /// The sizes of strips of both axes.
    fn planned(&self, strips: Axes<Strips<'_>>, plans: &mut AxisPlans) -> Result<Axes<PlannedStrips>, Error> {
        self.axes().zip(strips).try_map(|((axis, max_runs), strips)| {
            let mut distinct = HashSet::new();
            let mut products = [0; CONVOLUTIONS];
            for strip in strips.iter() {
                self.cancel.check()?;
                let plan = plans.tile(&axis, max_runs.as_ref(), strip, self.padding, self.cancel)?;
                for (index, &step) in STEPS.iter().enumerate() {
                    if let Step::Convolution(layer) = step {
                        products[layer] += plan.layer(index).products();
                    }
                }
                try_insert(&mut distinct, plan.sizes(), "tiles of a slice")?;
            }
            Ok(PlannedStrips { distinct, products })
        })
    }

    /// Memory of a tile with these axes: activations, tables, lists.
    fn bytes(&self, axes: &Axes<AxisSizes>) -> Bytes {
        let memory = self.info.memory.tile(axes);
        let lists = if self.lists { memory.lists } else { 0 };
        memory.whole + Bytes::host(PlannedTile::max_bytes(axes, self.lists)) + Bytes::host(lists)
    }

    fn too_small(&self, min: Bytes) -> Error {
        let text = |memory: &str, budget: u64, min: u64| {
            format!(
                "the memory budget leaves {budget} bytes of the {memory} for activations, and the \
                 smallest tile needs {min}: raise the budget by {} MiB or use smaller patches",
                (min.saturating_sub(budget) >> 20) + 1
            )
        };
        if min.host > self.budget.host {
            Error::OutOfMemory(text("host", self.budget.host, min.host))
        } else {
            Error::DeviceOutOfMemory(text("device", self.budget.device, min.device))
        }
    }

    pub fn plan(&self, tile: &Tile, plans: &mut AxisPlans) -> Result<PlannedTile, Error> {
        let PatchGrid { x, y, .. } = self.grid;
        match tile {
            Tile::Subgrid(Subgrid { rows, columns, wanted }) => {
                let axes = self.axes().zip(Axes { rows, columns }).try_map(|((axis, max_runs), indices)| {
                    plans.tile(&axis, max_runs.as_ref(), indices, self.padding, self.cancel)
                })?;
                let plan = TilePlan::new(axes, wanted.as_deref(), self.cancel)?;
                let stored = plan.patches();
                let mut patches = try_with_capacity(stored.len(), "patches of a tile")?;
                for (index, &row) in rows.iter().enumerate() {
                    self.cancel.check()?;
                    let first = row * x.count();
                    match stored.listed() {
                        None => patches.extend(columns.iter().map(|column| first + column)),
                        Some(listed) => {
                            let stored = listed.columns_of(listed.set_of_row(index)).iter();
                            patches.extend(stored.map(|&column| first + columns[column as usize]));
                        }
                    }
                }
                let starts = vec![(y.start(rows[0]), x.start(columns[0]))];
                Ok(PlannedTile { plan, starts, patches })
            }
            Tile::Stack(patches) => Ok(PlannedTile {
                plan: TilePlan::new(self.isolated(patches.len(), plans)?, None, self.cancel)?,
                starts: patches.iter().map(|&(row, column)| (y.start(row), x.start(column))).collect(),
                patches: patches.iter().map(|&(row, column)| row * x.count() + column).collect(),
            }),
        }
    }
}
