//! The run pairs of a step: its runs of rows times its runs of columns.

use std::ops::Range;

use super::points::SIDE;
use crate::cancel::{AT_A_TIME, Cancel};
use crate::error::Error;
use crate::memory::{try_push, try_with_capacity};
use crate::plan::{Image, TapTable, TilePlan, ZERO};

/// A run of the plan, its inputs written out.
pub(super) struct Run {
    /// The first of its values.
    pub first: usize,
    /// Number of its values.
    pub len: usize,
    /// The inputs that it reads, `len + 2` of them.
    pub taps: [i32; SIDE],
}

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
}

impl<'a> RunPairs<'a> {
    /// The pairs of step `index` of the plan.
    pub fn new(plan: &'a TilePlan, index: usize) -> Result<Self, Error> {
        Ok(Self {
            rows: runs(plan.axes.rows.layer(index))?,
            columns: runs(plan.axes.columns.layer(index))?,
            input: plan.input_of(index),
            output: plan.output_of(index),
        })
    }

    fn len(&self) -> usize {
        self.rows.len() * self.columns.len()
    }

    /// The pairs `numbers`, those of them whose pixels are stored: whole pairs are or are not.
    pub fn select(&self, numbers: Range<usize>) -> impl Iterator<Item = RunPair<'_>> {
        let pair = |number: usize| RunPair {
            rows: &self.rows[number / self.columns.len()],
            columns: &self.columns[number % self.columns.len()],
        };
        let stored = |pair: &RunPair<'_>| self.output.stores(pair.rows.first, pair.columns.first);
        numbers.map(pair).filter(stored)
    }

    /// Points of all pairs.
    pub fn points(&self, cancel: &Cancel) -> Result<u64, Error> {
        let mut points = 0;
        for number in 0..self.len() {
            points += self.points_of(number, cancel)? as u64;
        }
        Ok(points)
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

fn runs(table: &TapTable) -> Result<Vec<Run>, Error> {
    let mut runs = try_with_capacity(table.runs(), "runs of a tile")?;
    runs.extend((0..table.runs()).map(|run| {
        let values = table.run(run);
        let mut taps = [ZERO; SIDE];
        for (to, tap) in taps.iter_mut().zip(table.inputs_of_run(run)) {
            *to = tap;
        }
        Run { first: values.start, len: values.len(), taps }
    }));
    Ok(runs)
}
