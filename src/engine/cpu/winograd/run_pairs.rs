//! The run pairs of a step: its runs of rows times its runs of columns.

use std::collections::HashMap;
use std::ops::Range;

use super::points::SIDE;
use crate::axes::Axes;
use crate::cancel::{AT_A_TIME, Cancel};
use crate::engine::cpu::black::{Black, BlackPairs};
use crate::engine::cpu::runs::{Run, runs};
use crate::error::Error;
use crate::memory::{try_filled, try_push, try_reserve};
use crate::plan::{Image, TilePlan};

/// `rows.len` x `columns.len` pixels.
#[derive(Clone, Copy)]
pub(super) struct RunPair<'a> {
    pub rows: &'a Run,
    pub columns: &'a Run,
}

impl RunPair<'_> {
    pub fn points(&self) -> (usize, usize) {
        (self.rows.len + 2, self.columns.len + 2)
    }

    /// To the next row of each of its points.
    pub fn advance(&self, points: &mut [[*mut f32; SIDE]; SIDE], stride: usize) {
        let (rows, columns) = self.points();
        for point in points[..rows].iter_mut().flat_map(|row| &mut row[..columns]) {
            *point = point.wrapping_add(stride);
        }
    }

    pub fn pixels(&self) -> usize {
        self.rows.len * self.columns.len
    }
}

/// The runs of a step, and the images that they read and write.
pub(super) struct RunPairs<'a> {
    rows: Vec<Run>,
    columns: Vec<Run>,
    pub input: &'a Image,
    pub output: &'a Image,
    black: Option<BlackPairs>,
    /// For each pair its own number, or that of the pair which it is a copy of. Empty: none is.
    originals: Vec<u32>,
}

impl<'a> RunPairs<'a> {
    /// The pairs of step `index` of the plan, which reads an image with these pixels `black`.
    pub fn new(plan: &'a TilePlan, index: usize, black: Option<&Black>, cancel: &Cancel) -> Result<Self, Error> {
        let Axes { rows, columns } = plan.axes.layer(index).try_map(runs)?;
        let black = match black {
            Some(black) => black.pairs(Axes { rows: &rows, columns: &columns }, cancel)?,
            None => None,
        };
        let originals = black.as_ref().map_or(Ok(Vec::new()), |black| originals(black, cancel))?;
        Ok(Self { rows, columns, input: plan.input_of(index), output: plan.output_of(index), black, originals })
    }

    /// Black pixels of the output.
    pub fn black(&self) -> Result<Option<Black>, Error> {
        let runs = Axes { rows: &self.rows[..], columns: &self.columns[..] };
        self.black.as_ref().map(|black| black.output(runs)).transpose()
    }

    fn len(&self) -> usize {
        self.rows.len() * self.columns.len()
    }

    fn pair(&self, number: usize) -> RunPair<'_> {
        RunPair { rows: &self.rows[number / self.columns.len()], columns: &self.columns[number % self.columns.len()] }
    }

    /// The pairs `numbers` that are to be computed: no copies, and those whose pixels are stored: whole pairs are or are not.
    pub fn select(&self, numbers: Range<usize>) -> impl Iterator<Item = RunPair<'_>> {
        let computed =
            |number: &usize| self.originals.get(*number).is_none_or(|&original| original as usize == *number);
        let stored = |pair: &RunPair<'_>| self.output.stores(pair.rows.first, pair.columns.first);
        numbers.filter(computed).map(|number| self.pair(number)).filter(stored)
    }

    /// Row runs, whose pairs with all column runs may be copied side by side.
    pub fn row_runs(&self) -> Range<usize> {
        0..if self.originals.is_empty() { 0 } else { self.rows.len() }
    }

    /// The pairs of row run `row` that are copies, with what they are copies of.
    pub fn copies(&self, row: usize) -> impl Iterator<Item = (RunPair<'_>, RunPair<'_>)> {
        let numbers = row * self.columns.len()..(row + 1) * self.columns.len();
        let originals = self.originals[numbers.clone()].iter().map(|&original| original as usize);
        let copies = numbers.zip(originals).filter(|(number, original)| number != original);
        copies.map(|(number, original)| (self.pair(number), self.pair(original)))
    }

    /// Points of pair `number`, if it is stored.
    fn points_of(&self, number: usize, cancel: &Cancel) -> Result<usize, Error> {
        if number.is_multiple_of(AT_A_TIME) {
            cancel.check()?;
        }
        Ok(self.select(number..number + 1).map(|pair| pair.points()).map(|(rows, columns)| rows * columns).sum())
    }

    /// All pairs, in blocks with at most `max` points together, one pair at least.
    pub fn blocks(&self, max: usize, cancel: &Cancel) -> Result<Vec<Range<usize>>, Error> {
        let mut blocks = Vec::new();
        let (mut first, mut points) = (0, 0);
        for number in 0..self.len() {
            let own = self.points_of(number, cancel)?;
            if points > 0 && points + own > max {
                try_push(&mut blocks, first..number, "blocks of Winograd runs")?;
                (first, points) = (number, 0);
            }
            points += own;
        }
        try_push(&mut blocks, first..self.len(), "blocks of Winograd runs")?;
        Ok(blocks)
    }
}

/// For each pair the first that is black and of the same kinds, else itself. Empty: all are themselves.
fn originals(black: &BlackPairs, cancel: &Cancel) -> Result<Vec<u32>, Error> {
    const WHAT: &str = "black pixels of a tile";
    let columns = &black.kinds.columns;
    let mut first = HashMap::new();
    let mut originals = try_filled(black.pairs.len(), 0, WHAT)?;
    let mut copies = false;
    for (row, (originals, pairs)) in
        originals.chunks_exact_mut(columns.len()).zip(black.pairs.chunks_exact(columns.len())).enumerate()
    {
        cancel.check()?;
        for (column, (original, &black_pair)) in originals.iter_mut().zip(pairs).enumerate() {
            let number = (row * columns.len() + column) as u32;
            *original = number;
            if black_pair {
                try_reserve(&mut first, 1, WHAT)?;
                *original = *first.entry((black.kinds.rows[row], columns[column])).or_insert(number);
                copies |= *original != number;
            }
        }
    }
    if !copies {
        originals = Vec::new();
    }
    Ok(originals)
}
