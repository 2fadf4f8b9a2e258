//! The run pairs of a step: its runs of rows times its runs of columns. Pairs of equal lengths are numbered one after another, so
//! that a chunk has hardly any points that few of its pairs have: the weights at a point are fetched for all of a chunk.

use std::ops::Range;

use super::copies::{Copies, originals, pooled_copies};
use super::points::SIDE;
use crate::axes::Axes;
use crate::cancel::{AT_A_TIME, Cancel};
use crate::engine::cpu::black::Black;
use crate::engine::cpu::max_pool::MaxPool;
use crate::engine::cpu::runs::{Run, runs};
use crate::error::Error;
use crate::memory::{try_push, try_with_capacity};
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
    /// Indices of the runs, shorter ones first.
    by_length: Axes<Vec<u32>>,
    groups: Vec<Group>,
    pub input: &'a Image,
    pub output: &'a Image,
    /// Black pixels of the output, or of the pool that follows.
    black: Option<Black>,
    copies: Copies,
}

/// Row runs of one length with column runs of one length, as ranges of `by_length`.
struct Group {
    /// Number of the first of these pairs.
    first: usize,
    rows: Range<usize>,
    columns: Range<usize>,
}

impl<'a> RunPairs<'a> {
    /// The pairs of step `index` of the plan, which reads an image with these pixels `black`, and which this pool follows.
    pub fn new(
        plan: &'a TilePlan,
        index: usize,
        pool: Option<&MaxPool<'_>>,
        black: Option<&Black>,
        cancel: &Cancel,
    ) -> Result<Self, Error> {
        let Axes { rows, columns } = plan.axes.layer(index).try_map(runs)?;
        let runs_of = Axes { rows: &rows[..], columns: &columns[..] };
        let (black, copies) = match black.map_or(Ok(None), |black| black.pairs(runs_of, cancel))? {
            Some(black) => match pool {
                Some(pool) => pooled_copies(&black, runs_of, pool, cancel)?,
                None => {
                    (Some(black.output(runs_of)?), originals(&black, cancel)?.map_or(Copies::Nothing, Copies::Pairs))
                }
            },
            None => (None, Copies::Nothing),
        };
        let by_length = Axes { rows: &rows, columns: &columns }.try_map(|runs| by_length(runs))?;
        let groups = groups(Axes { rows: &rows, columns: &columns }, by_length.as_ref())?;
        Ok(Self {
            rows,
            columns,
            by_length,
            groups,
            input: plan.input_of(index),
            output: plan.output_of(index),
            black,
            copies,
        })
    }

    /// Black pixels of the output, or of the pool that follows.
    pub fn into_black(self) -> Option<Black> {
        self.black
    }

    fn len(&self) -> usize {
        self.rows.len() * self.columns.len()
    }

    /// The pair at `index` of [row runs][column runs].
    fn pair(&self, index: usize) -> RunPair<'_> {
        RunPair { rows: &self.rows[index / self.columns.len()], columns: &self.columns[index % self.columns.len()] }
    }

    /// The index of pair `number`.
    fn index(&self, number: usize) -> usize {
        let group = &self.groups[self.groups.partition_point(|group| group.first <= number) - 1];
        let (row, column) =
            ((number - group.first) / group.columns.len(), (number - group.first) % group.columns.len());
        let row = self.by_length.rows[group.rows.start + row] as usize;
        row * self.columns.len() + self.by_length.columns[group.columns.start + column] as usize
    }

    /// The pairs `numbers` that are to be computed: no copies, and those whose pixels are stored: whole pairs are or are not.
    pub fn select(&self, numbers: Range<usize>) -> impl Iterator<Item = RunPair<'_>> {
        let computed = |index: &usize| match &self.copies {
            Copies::Nothing => true,
            Copies::Pairs(originals) => originals[*index] as usize == *index,
            Copies::Pooled { unread, .. } => !unread[*index],
        };
        let stored = |pair: &RunPair<'_>| self.output.stores(pair.rows.first, pair.columns.first);
        numbers.map(|number| self.index(number)).filter(computed).map(|index| self.pair(index)).filter(stored)
    }

    /// Rows of run pairs, or of pooled pixels, of which some are copies.
    pub fn rows_with_copies(&self) -> Range<usize> {
        0..match &self.copies {
            Copies::Nothing => 0,
            Copies::Pairs(_) => self.rows.len(),
            Copies::Pooled { originals, columns, .. } => originals.len() / columns,
        }
    }

    /// Calls `copy(to, from, count)` with indices of pixels, `count` side by side, for all copies of such a row.
    pub fn copies(&self, row: usize, mut copy: impl FnMut(usize, usize, usize)) {
        let of_row = |originals: &[u32], columns: usize, copy: &mut dyn FnMut(usize, usize)| {
            let indices = row * columns..(row + 1) * columns;
            let originals = originals[indices.clone()].iter().map(|&original| original as usize);
            indices.zip(originals).filter(|(index, original)| index != original).for_each(|(to, from)| copy(to, from));
        };
        match &self.copies {
            Copies::Nothing => (),
            Copies::Pairs(originals) => of_row(originals, self.columns.len(), &mut |to, from| {
                let (to, from) = (self.pair(to), self.pair(from));
                for i in 0..to.rows.len {
                    let pixel = |of: &RunPair<'_>| self.output.index_of(of.rows.first + i, of.columns.first);
                    copy(pixel(&to), pixel(&from), to.columns.len);
                }
            }),
            Copies::Pooled { originals, columns, .. } => of_row(originals, *columns, &mut |to, from| copy(to, from, 1)),
        }
    }

    /// Points of pair `number`, if it is stored.
    fn points_of(&self, number: usize, cancel: &Cancel) -> Result<usize, Error> {
        if number.is_multiple_of(AT_A_TIME) {
            cancel.check()?;
        }
        Ok(self.select(number..number + 1).map(|pair| pair.points()).map(|(rows, columns)| rows * columns).sum())
    }

    /// All pairs, in chunks with at most `max` points together, one pair at least.
    pub fn chunks(&self, max: usize, cancel: &Cancel) -> Result<Vec<Range<usize>>, Error> {
        let mut chunks = Vec::new();
        let (mut first, mut points) = (0, 0);
        for number in 0..self.len() {
            let own = self.points_of(number, cancel)?;
            if points > 0 && points + own > max {
                try_push(&mut chunks, first..number, "chunks of Winograd runs")?;
                (first, points) = (number, 0);
            }
            points += own;
        }
        try_push(&mut chunks, first..self.len(), "chunks of Winograd runs")?;
        Ok(chunks)
    }
}

fn by_length(runs: &[Run]) -> Result<Vec<u32>, Error> {
    let mut indices = try_with_capacity(runs.len(), "runs of a tile")?;
    indices.extend(0..runs.len() as u32);
    indices.sort_unstable_by_key(|&index| (runs[index as usize].len, index));
    Ok(indices)
}

fn groups(runs: Axes<&Vec<Run>>, by_length: Axes<&Vec<u32>>) -> Result<Vec<Group>, Error> {
    let mut groups = Vec::new();
    let (mut first, mut row) = (0, 0);
    let same = |runs: &Vec<Run>, a: u32, b: u32| runs[a as usize].len == runs[b as usize].len;
    for rows in by_length.rows.chunk_by(|&a, &b| same(runs.rows, a, b)) {
        let mut column = 0;
        for columns in by_length.columns.chunk_by(|&a, &b| same(runs.columns, a, b)) {
            let group = Group { first, rows: row..row + rows.len(), columns: column..column + columns.len() };
            try_push(&mut groups, group, "runs of a tile")?;
            (first, column) = (first + rows.len() * columns.len(), column + columns.len());
        }
        row += rows.len();
    }
    Ok(groups)
}
