//! The plan of one axis: tap tables of all layers.

use std::ops::Range;
use std::sync::Arc;

use fixedbitset::FixedBitSet;

use super::steps::{HEAD, STEPS, ZERO};
use crate::axes::Axes;
use crate::cancel::Cancel;
use crate::error::Error;
use crate::memory::{try_push, try_with_capacity};

const WHAT: &str = "plan of a tile";

/// Source of a value that is black wherever it is asked for.
pub(super) const BLACK: i64 = i64::MIN;

/// Tap tables of all layers along one axis, for some patches.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct AxisPlan {
    /// Input values: pixels relative to the first patch's start, or black.
    pub(super) sources: Vec<i64>,
    /// One table per step.
    pub(super) layers: Vec<TapTable>,
}

/// For each value of a layer, the values of the previous layer at its taps; -1 is zero.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TapTable {
    /// Taps of one value: 3 (convolution), 2 (pool) or g (head).
    pub taps: usize,
    /// [values][taps]
    pub(super) table: Vec<i32>,
    /// First value of each Winograd run, and the end. Empty: there are no runs.
    pub(super) runs: Vec<u32>,
}

impl TapTable {
    pub fn len(&self) -> usize {
        self.table.len() / self.taps
    }

    /// [values][taps]
    pub fn all(&self) -> &[i32] {
        &self.table
    }

    /// Values of the previous layer that `value` reads.
    pub fn taps_of(&self, value: usize) -> &[i32] {
        &self.table[value * self.taps..(value + 1) * self.taps]
    }

    /// Products that one output of all values takes along this axis: 3 taps each, or a run's length and 2.
    pub fn products(&self) -> u64 {
        let products = if self.runs.is_empty() { self.table.len() } else { self.len() + 2 * self.runs() };
        products as u64
    }

    pub fn runs(&self) -> usize {
        self.runs.len().saturating_sub(1)
    }

    /// The values of a run: consecutive numbers.
    pub fn run(&self, run: usize) -> Range<usize> {
        self.runs[run] as usize..self.runs[run + 1] as usize
    }

    /// The values of the previous layer that a run reads, one tap after another: two more than it has values.
    pub fn inputs_of_run(&self, run: usize) -> impl Iterator<Item = i32> {
        let values = self.run(run);
        let last = self.taps_of(values.end - 1);
        let firsts = values.map(|value| self.taps_of(value)[0]);
        firsts.chain(last[1..].iter().copied())
    }
}

impl AxisPlan {
    pub fn inputs(&self) -> usize {
        self.sources.len()
    }

    pub fn layer(&self, index: usize) -> &TapTable {
        &self.layers[index]
    }

    /// Pixel of the crop that input `value` shows when the first patch starts at `start`, if it is
    /// one of the crop's `len` pixels and not black.
    pub fn pixel(&self, value: usize, start: i64, len: usize) -> Option<usize> {
        let pixel = start.checked_add(self.sources[value])?;
        usize::try_from(pixel).ok().filter(|&pixel| pixel < len)
    }

    /// Pixel that input `value` shows, counted from the first patch's start; `None`: black.
    pub fn source(&self, value: usize) -> Option<i64> {
        Some(self.sources[value]).filter(|&source| source != BLACK)
    }

    pub fn bytes(&self) -> usize {
        let tables = self.layers.iter();
        let entries: usize = tables.map(|t| t.table.len() + t.runs.len()).sum();
        self.sources.len() * size_of::<i64>() + entries * size_of::<i32>()
    }

    /// Sizes of the images that it makes along its axis.
    pub fn sizes(&self) -> AxisSizes {
        let each = |of: fn(&TapTable) -> usize| std::array::from_fn(|index| of(&self.layers[index]));
        AxisSizes { inputs: self.inputs(), outputs: each(TapTable::len), taps: each(|layer| layer.table.len()) }
    }

    /// The part of this plan that `patches` (ascending) need, whole runs of it, with the values renumbered in the same
    /// order. `base`: the pixel that its sources are counted from, relative to where those of `self` are.
    pub fn restrict(&self, patches: impl Iterator<Item = usize>, base: i64, cancel: &Cancel) -> Result<Self, Error> {
        // First the head's, then those of the layer before, at last the input's.
        let mut needed = vec![FixedBitSet::with_capacity(self.layers[HEAD].len())];
        needed[0].extend(patches);
        for (index, table) in self.layers.iter().enumerate().rev() {
            cancel.check()?;
            let count = match index.checked_sub(1) {
                Some(before) => self.layers[before].len(),
                None => self.inputs(),
            };
            let last = needed.len() - 1;
            table.fill_runs(&mut needed[last]);
            needed.push(table.read_by(&needed[last], count));
        }
        needed.reverse();
        let mut layers = Vec::with_capacity(STEPS.len());
        for (table, needed) in self.layers.iter().zip(needed.windows(2)) {
            cancel.check()?;
            layers.push(table.restrict(&needed[1], &needed[0])?);
        }
        let mut sources = try_with_capacity(needed[0].count_ones(..), WHAT)?;
        let shift = |source: i64| if source == BLACK { source } else { source - base };
        sources.extend(needed[0].ones().map(|value| shift(self.sources[value])));
        Ok(Self { sources, layers })
    }
}

impl TapTable {
    /// Completes the runs of `needed` values.
    pub(super) fn fill_runs(&self, needed: &mut FixedBitSet) {
        for run in (0..self.runs()).map(|run| self.run(run)) {
            if needed.contains_any_in_range(run.clone()) {
                needed.insert_range(run);
            }
        }
    }

    /// The values of the layer before, which has `count` of them, that the values `needed` read.
    pub(super) fn read_by(&self, needed: &FixedBitSet, count: usize) -> FixedBitSet {
        let mut read = FixedBitSet::with_capacity(count);
        for value in needed.ones() {
            for &tap in self.taps_of(value).iter().filter(|&&tap| tap != ZERO) {
                read.insert(tap as usize);
            }
        }
        read
    }

    /// The values that are `needed`, reading what is left of the layer `before`.
    fn restrict(&self, needed: &FixedBitSet, before: &FixedBitSet) -> Result<Self, Error> {
        let numbers = numbers(before)?;
        let mut table = try_with_capacity(self.taps * needed.count_ones(..), WHAT)?;
        for value in needed.ones() {
            table.extend(self.taps_of(value).iter().map(|&tap| if tap == ZERO { ZERO } else { numbers[tap as usize] }));
        }
        let mut runs = Vec::new();
        let mut end = 0;
        for run in (0..self.runs()).map(|run| self.run(run)).filter(|run| needed.contains(run.start)) {
            try_push(&mut runs, end, WHAT)?;
            end += run.len() as u32;
        }
        if !self.runs.is_empty() {
            try_push(&mut runs, end, WHAT)?;
        }
        Ok(Self { taps: self.taps, table, runs })
    }
}

/// For each value the number of `needed` ones before it.
fn numbers(needed: &FixedBitSet) -> Result<Vec<i32>, Error> {
    let mut numbers = try_with_capacity(needed.len(), WHAT)?;
    let mut next = 0;
    numbers.extend((0..needed.len()).map(|value| {
        let number = next;
        next += i32::from(needed.contains(value));
        number
    }));
    Ok(numbers)
}

/// Rows or columns of a tile's images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AxisSizes {
    pub inputs: usize,
    outputs: [usize; STEPS.len()],
    taps: [usize; STEPS.len()],
}

impl AxisSizes {
    /// Of the output image of step `index`.
    pub fn output(&self, index: usize) -> usize {
        self.outputs[index]
    }

    /// Taps of all values of step `index`.
    pub fn taps(&self, index: usize) -> usize {
        self.taps[index]
    }
}

impl Axes<AxisSizes> {
    /// Rows and columns of the output image of step `index`.
    pub fn output(&self, index: usize) -> Axes<usize> {
        self.map(|axis| axis.output(index))
    }

    /// Rows and columns of the input image.
    pub fn inputs(&self) -> Axes<usize> {
        self.map(|axis| axis.inputs)
    }

    /// Patches of a tile in which all are wanted.
    pub fn patches(&self) -> usize {
        self.output(HEAD).product()
    }
}

/// The axes of a tile.
impl Axes<Arc<AxisPlan>> {
    pub fn layer(&self, index: usize) -> Axes<&TapTable> {
        Axes { rows: self.rows.layer(index), columns: self.columns.layer(index) }
    }

    pub fn sizes(&self) -> Axes<AxisSizes> {
        self.as_ref().map(|axis| axis.sizes())
    }
}
