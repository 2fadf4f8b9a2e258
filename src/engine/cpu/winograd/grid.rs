//! The tiles of a step: its chains of rows times its chains of columns.

use std::ops::Range;

use super::points::SIDE;
use crate::error::Error;
use crate::memory::try_with_capacity;
use crate::plan::{Image, TapTable, TilePlan, ZERO};

/// A chain of the plan, its inputs written out.
pub(super) struct Chain {
    /// The first of its values.
    pub first: usize,
    /// How many it has.
    pub len: usize,
    /// What it reads, `len + 2` of them.
    pub taps: [i32; SIDE],
}

/// A tile: `rows.len` x `columns.len` pixels.
#[derive(Clone, Copy)]
pub(super) struct Tile<'a> {
    pub rows: &'a Chain,
    pub columns: &'a Chain,
}

impl Tile<'_> {
    /// Points along each axis.
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

/// The chains of a step, and where the images that they read and write are stored.
pub(super) struct Grid<'a> {
    rows: Vec<Chain>,
    columns: Vec<Chain>,
    pub input: &'a Image,
    pub output: &'a Image,
}

impl<'a> Grid<'a> {
    /// Of step `index` of the plan.
    pub fn new(plan: &'a TilePlan, index: usize) -> Result<Self, Error> {
        Ok(Self {
            rows: chains(plan.rows.layer(index))?,
            columns: chains(plan.columns.layer(index))?,
            input: plan.input_of(index),
            output: plan.output_of(index),
        })
    }

    fn len(&self) -> usize {
        self.rows.len() * self.columns.len()
    }

    /// Those of the tiles `numbers` whose pixels are stored: whole tiles are or are not.
    pub fn tiles(&self, numbers: Range<usize>) -> impl Iterator<Item = Tile<'_>> {
        let tile = |number: usize| Tile {
            rows: &self.rows[number / self.columns.len()],
            columns: &self.columns[number % self.columns.len()],
        };
        let stored = |tile: &Tile<'_>| self.output.stores(tile.rows.first, tile.columns.first);
        numbers.map(tile).filter(stored)
    }

    /// Points of all tiles.
    pub fn points(&self) -> u64 {
        let points = self.tiles(0..self.len()).map(|tile| tile.points());
        points.map(|(rows, columns)| (rows * columns) as u64).sum()
    }

    /// All tiles, in runs with at most `most` points together, one tile at least.
    pub fn blocks(&self, most: usize) -> Vec<Range<usize>> {
        let mut blocks = Vec::new();
        let (mut first, mut points) = (0, 0);
        for number in 0..self.len() {
            let own: usize = (self.tiles(number..number + 1)).map(|tile| tile.points().0 * tile.points().1).sum();
            if points > 0 && points + own > most {
                blocks.push(first..number);
                (first, points) = (number, 0);
            }
            points += own;
        }
        blocks.push(first..self.len());
        blocks
    }
}

fn chains(table: &TapTable) -> Result<Vec<Chain>, Error> {
    let mut chains = try_with_capacity(table.chains(), "chains of a tile")?;
    chains.extend((0..table.chains()).map(|chain| {
        let values = table.chain(chain);
        let mut taps = [ZERO; SIDE];
        for (to, tap) in taps.iter_mut().zip(table.inputs_of_chain(chain)) {
            *to = tap;
        }
        Chain { first: values.start, len: values.len(), taps }
    }));
    Ok(chains)
}
