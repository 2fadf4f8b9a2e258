//! The pixels that the wanted patches need, layer by layer from the head back to the input.
//!
//! A patch needs the product of some rows and some columns. All patches of a ROI together need a union of such
//! products, in which most rows need what a neighbour needs: there are about as many distinct sets of columns as rows of
//! patches, and only those are followed back.
//!
//! ```text
//! needed before a layer: row r' needs column c' <=> a needed row r of the layer has r' among its row taps,
//!                                                   and of r a needed column c has c' among its column taps
//! ```

use std::collections::HashMap;

use fixedbitset::FixedBitSet;

use super::axis::TapTable;
use super::steps::ZERO;
use crate::axes::Axes;
use crate::cancel::Cancel;
use crate::error::Error;
use crate::memory::{ensure_headroom, try_filled, try_push, try_reserve, try_with_capacity};

const WHAT: &str = "ROI plan";

/// Needed pixels of a layer.
pub(super) struct Needed {
    pub rows: Vec<u32>,
    pub sets: Vec<FixedBitSet>,
}

impl Needed {
    /// The wanted patches, [rows][columns].
    pub fn patches(patches: &[bool], columns: usize, cancel: &Cancel) -> Result<Self, Error> {
        let rows = patches.len() / columns;
        ensure_headroom(patches.len() / 8, WHAT)?;
        let mut sets = try_with_capacity(rows, WHAT)?;
        let mut numbers = try_with_capacity(rows, WHAT)?;
        for row in patches.chunks_exact(columns) {
            cancel.check()?;
            let mut set = FixedBitSet::with_capacity(columns);
            set.extend((0..columns).filter(|&column| row[column]));
            numbers.push(sets.len() as u32);
            sets.push(set);
        }
        joined(numbers.chunks(1), &sets, cancel)
    }

    /// With the pixels that are evaluated together with needed ones: a run of rows x a run of columns.
    pub fn with_whole_runs(mut self, layer: Axes<&TapTable>, cancel: &Cancel) -> Result<Self, Error> {
        let Axes { rows, columns } = layer;
        if rows.runs() == 0 {
            return Ok(self);
        }
        for set in &mut self.sets {
            cancel.check()?;
            columns.fill_runs(set);
        }
        let runs = (0..rows.runs()).map(|run| rows.run(run));
        let of_rows = runs.flat_map(|run| {
            let together = &self.rows[run.clone()];
            std::iter::repeat_n(together, run.len())
        });
        joined(of_rows, &self.sets, cancel)
    }

    /// The pixels of the layer before, of `input` rows and columns, that they read.
    pub fn before(&self, layer: Axes<&TapTable>, input: Axes<usize>, cancel: &Cancel) -> Result<Self, Error> {
        let Axes { rows: row_count, columns: column_count } = input;
        let Axes { rows, columns } = layer;
        ensure_headroom(self.sets.len() * column_count / 8, WHAT)?;
        // The sets of the rows that read a row, row by row.
        let readers = || {
            let taps = (self.rows.iter().enumerate())
                .flat_map(|(row, &set)| rows.taps_of(row).iter().map(move |&tap| (tap, set)));
            taps.filter(|&(tap, _)| tap != ZERO)
        };
        let mut ends = try_filled(row_count + 1, 0, WHAT)?;
        readers().for_each(|(tap, _)| ends[tap as usize + 1] += 1);
        for row in 0..row_count {
            ends[row + 1] += ends[row];
        }
        let mut sets = try_filled(ends[row_count], 0, WHAT)?;
        // Each row's beginning, and when its sets are there its end.
        readers().for_each(|(tap, set)| {
            sets[ends[tap as usize]] = set;
            ends[tap as usize] += 1;
        });
        let of_rows = (0..row_count).map(|row| {
            let begin = row.checked_sub(1).map_or(0, |before| ends[before]);
            &sets[begin..ends[row]]
        });
        let mut read = try_with_capacity(self.sets.len(), WHAT)?;
        for set in &self.sets {
            cancel.check()?;
            read.push(columns.read_by(set, column_count));
        }
        joined(of_rows, &read, cancel)
    }
}

/// Rows that need the union of some of these sets each.
fn joined<'a>(rows: impl Iterator<Item = &'a [u32]>, sets: &[FixedBitSet], cancel: &Cancel) -> Result<Needed, Error> {
    const UNIONS_AT_A_TIME: usize = 64;
    let columns = sets.first().map_or(0, FixedBitSet::len);
    let mut numbers: HashMap<FixedBitSet, u32> = HashMap::new();
    let mut joined = Vec::new();
    // Rows mostly need what the row before needs.
    let (mut last, mut union) = (Vec::new(), Vec::new());
    let mut number = None;
    let mut unions = 0;
    for row in rows {
        union.clear();
        union.extend_from_slice(row);
        union.sort_unstable();
        union.dedup();
        let number = match number.filter(|_| last == union) {
            Some(known) => known,
            None => {
                if unions % UNIONS_AT_A_TIME == 0 {
                    cancel.check()?;
                    ensure_headroom(UNIONS_AT_A_TIME * columns, WHAT)?;
                }
                unions += 1;
                let mut needed = FixedBitSet::with_capacity(columns);
                for &set in &union {
                    needed.union_with(&sets[set as usize]);
                }
                try_reserve(&mut numbers, 1, WHAT)?;
                let next = numbers.len() as u32;
                std::mem::swap(&mut last, &mut union);
                *number.insert(*numbers.entry(needed).or_insert(next))
            }
        };
        try_push(&mut joined, number, WHAT)?;
    }
    let mut sets = try_filled(numbers.len(), FixedBitSet::new(), WHAT)?;
    for (set, number) in numbers {
        sets[number as usize] = set;
    }
    Ok(Needed { rows: joined, sets })
}
