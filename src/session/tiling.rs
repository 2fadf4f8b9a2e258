//! Tiling: a slice's patches are cut into tiles, which are evaluated together.
//!
//! With sharing a tile is a block of patches: some rows x some columns of the patch grid. Without it a tile is a handful
//! of patches stacked on the row axis, each with values of its own.

use std::collections::HashMap;
use std::sync::Arc;

use crate::axes::Axes;
use crate::cancel::Cancel;
use crate::engine::{Bytes, EngineInfo};
use crate::error::Error;
use crate::memory::{ensure_headroom, try_with_capacity};
use crate::network::CONVOLUTIONS;
use crate::patch_grid::{Axis, Padding, PatchBlock, PatchGrid, Selection, splits};
use crate::plan::{AxisPlan, AxisPlans, PlannedTile, STEPS, Step, TilePlan};

/// Without sharing: maximum patches at a time, and maximum bytes of activations for them.
const STACK_PATCHES: usize = 64;
const STACK_BYTES: u64 = 160 << 20;

/// Patches that are evaluated together.
pub(super) enum Tile {
    Block(PatchBlock),
    /// (row, column) in the grid, each patch by itself.
    Stack(Vec<(usize, usize)>),
}

impl Tile {
    pub fn patches(&self) -> usize {
        match self {
            Self::Block(block) => block.patches(),
            Self::Stack(patches) => patches.len(),
        }
    }
}

/// Rows and columns of the grid, in strips.
type Strips<'a> = Axes<Vec<&'a [usize]>>;

/// The plans of some strips of an axis.
struct PlannedStrips {
    /// Equal ones once.
    distinct: Vec<Arc<AxisPlan>>,
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
    pub info: &'a EngineInfo,
    pub cancel: &'a Cancel,
}

impl Tiling<'_> {
    /// Cuts the wanted patches of a slice into tiles that fit the budget. Returns the memory of the largest too.
    pub fn cut(&self, selection: &Selection, plans: &mut AxisPlans) -> Result<(Vec<Tile>, Bytes), Error> {
        const BYTES_PER_PATCH: usize = 256;
        ensure_headroom(self.grid.patches().saturating_mul(BYTES_PER_PATCH), "tiles of a slice")?;
        let wanted = selection.rows_and_columns(&self.grid);
        let wanted = Axes { rows: &wanted.rows[..], columns: &wanted.columns[..] };
        if wanted.rows.is_empty() {
            return Ok((Vec::new(), Bytes::default()));
        }
        if !self.sharing {
            return self.stacks(wanted, selection, plans);
        }
        let (strips, largest) = self.strips(wanted, plans)?;
        let tile =
            |rows: &[usize], columns: &[usize]| PatchBlock::new(rows, columns, selection, &self.grid).map(Tile::Block);
        let tiles =
            (strips.rows.iter()).flat_map(|rows| strips.columns.iter().filter_map(|columns| tile(rows, columns)));
        Ok((tiles.collect(), largest))
    }

    /// Strips of rows and of columns whose tiles fit the budget: the largest, or smaller ones where those make
    /// hardly more work, for memory that is not taken is soonest there. Returns the memory of the largest tile too.
    fn strips<'r>(&self, wanted: Axes<&'r [usize]>, plans: &mut AxisPlans) -> Result<(Strips<'r>, Bytes), Error> {
        const MORE_WORK: f64 = 1.02;
        let mut first_work = None;
        let mut chosen = None;
        // Memory of the last try that did not fit.
        let mut too_large = Bytes::default();
        for strips in splits(wanted) {
            let planned = match self.planned(&strips, plans) {
                // Strips too long to plan are too long to evaluate.
                Err(Error::OutOfMemory(_) | Error::Unsupported(_))
                    if strips.rows[0].len() > 1 || strips.columns[0].len() > 1 =>
                {
                    continue;
                }
                planned => planned?,
            };
            let largest = self.largest(&planned);
            if !largest.fits(self.budget) {
                too_large = largest;
                continue;
            }
            let work = self.work(&planned);
            if work > MORE_WORK * *first_work.get_or_insert(work) {
                break;
            }
            chosen = Some((strips, largest));
            if largest.host <= self.info.preferred_tile_bytes {
                break;
            }
        }
        chosen.ok_or_else(|| self.too_small(too_large))
    }

    /// Multiplications of all tiles of these strips, as far as they depend on them.
    fn work(&self, planned: &Axes<PlannedStrips>) -> f64 {
        let axes = planned.rows.products.iter().zip(&planned.columns.products);
        let layers = axes.zip(&self.info.macs_per_output.convolutions);
        layers.map(|((&rows, &columns), &macs)| rows as f64 * columns as f64 * macs as f64).sum()
    }

    /// Single patches, as many at a time as fit.
    fn stacks(
        &self,
        wanted: Axes<&[usize]>,
        selection: &Selection,
        plans: &mut AxisPlans,
    ) -> Result<(Vec<Tile>, Bytes), Error> {
        let one = self.one_patch(wanted, plans)?;
        if !one.fits(self.budget) {
            return Err(self.too_small(one));
        }
        let width = self.grid.x.count();
        let patches: Vec<(usize, usize)> = (wanted.rows.iter())
            .flat_map(|&y| wanted.columns.iter().map(move |&x| (y, x)))
            .filter(|&(y, x)| selection.contains_patch(y * width + x))
            .collect();
        if self.padding == Padding::Image {
            // The true neighbours of a patch are found by the plan of a tile of one patch.
            let single = |&(y, x): &_| Tile::Block(PatchBlock { rows: vec![y], columns: vec![x], wanted: None });
            return Ok((patches.iter().map(single).collect(), one));
        }
        let max = |budget: u64, one: u64| budget.min(STACK_BYTES).checked_div(one);
        let count = [max(self.budget.host, one.host), max(self.budget.device, one.device)];
        let count = count.into_iter().flatten().min().unwrap_or(1);
        let count = count.clamp(1, STACK_PATCHES as u64);
        let stack = Bytes { host: count * one.host, device: count * one.device };
        Ok((patches.chunks(count as usize).map(|patches| Tile::Stack(patches.to_vec())).collect(), stack))
    }

    /// Memory of the largest of these patches by itself: in IMAGE padding those inside the slice see more of it.
    fn one_patch(&self, wanted: Axes<&[usize]>, plans: &mut AxisPlans) -> Result<Bytes, Error> {
        if self.padding == Padding::Patch {
            return Ok(self.bytes(&self.isolated(1, plans)?));
        }
        let planned = self.planned(&wanted.map(|indices| indices.chunks(1).collect()), plans)?;
        Ok(self.largest(&planned))
    }

    /// The axes of patches that share nothing, stacked on the row axis.
    fn isolated(&self, patches: usize, plans: &mut AxisPlans) -> Result<Axes<Arc<AxisPlan>>, Error> {
        let PatchGrid { x, y } = self.grid;
        Axes { rows: (y, patches), columns: (x, 1) }
            .try_map(|(axis, count)| plans.isolated(axis.patch_size, count, self.cancel))
    }

    /// The grid's axes.
    fn grid_axes(&self) -> Axes<Axis> {
        Axes { rows: self.grid.y, columns: self.grid.x }
    }

    /// Memory of the largest tile of these axes.
    fn largest(&self, planned: &Axes<PlannedStrips>) -> Bytes {
        let Axes { rows, columns } = planned.as_ref().map(|strips| &strips.distinct);
        rows.iter()
            .flat_map(|rows| columns.iter().map(move |columns| Axes { rows: rows.clone(), columns: columns.clone() }))
            .map(|axes| self.bytes(&axes))
            .fold(Bytes::default(), Bytes::max)
    }

    /// The plans of strips of both axes.
    fn planned(&self, strips: &Strips<'_>, plans: &mut AxisPlans) -> Result<Axes<PlannedStrips>, Error> {
        self.grid_axes().zip(strips.as_ref()).try_map(|(axis, strips)| {
            let mut distinct = HashMap::new();
            let mut products = [0; CONVOLUTIONS];
            for strip in strips {
                let plan = plans.tile(&axis, strip, self.padding, self.cancel)?;
                for (index, &step) in STEPS.iter().enumerate() {
                    if let Step::Convolution(layer) = step {
                        products[layer] += plan.layer(index).products();
                    }
                }
                distinct.insert(Arc::as_ptr(&plan), plan);
            }
            Ok(PlannedStrips { distinct: distinct.into_values().collect(), products })
        })
    }

    /// Memory of a tile with these axes: activations, tables, lists.
    fn bytes(&self, axes: &Axes<Arc<AxisPlan>>) -> Bytes {
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
        let PatchGrid { x, y } = self.grid;
        match tile {
            Tile::Block(PatchBlock { rows, columns, wanted }) => {
                let axes = (self.grid_axes().zip(Axes { rows, columns }))
                    .try_map(|(axis, indices)| plans.tile(&axis, indices, self.padding, self.cancel))?;
                let plan = TilePlan::new(axes, wanted.as_deref(), self.cancel)?;
                let stored = plan.patches();
                let mut patches = try_with_capacity(stored.len(), "patches of a tile")?;
                patches.extend((0..stored.len()).map(|index| {
                    let (row, column) = stored.position(index);
                    rows[row] * x.count() + columns[column]
                }));
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
