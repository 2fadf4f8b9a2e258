//! Which pixels of a layer the wanted lattice points need, layer by layer from the head back to the input.
//!
//! A lattice point needs the product of some rows and some columns. All points of a ROI together need a union of such
//! products, in which most rows need what a neighbour needs: there are about as many distinct sets of columns as lattice
//! rows, and only those are followed back.
//!
//! ```text
//! needed before a layer: row r' needs column c' <=> a needed row r of the layer has r' among its row taps,
//!                                                   and of r a needed column c has c' among its column taps
//! ```

use std::collections::HashMap;

use fixedbitset::FixedBitSet;

use super::ZERO;
use super::axis::TapTable;
use crate::error::{Check, Error};
use crate::memory::ensure_headroom;

const WHAT: &str = "ROI plan";
/// What a row takes while rows are joined, about.
const BYTES_PER_ROW: usize = 96;

/// Needed pixels of a layer.
pub(super) struct Needed {
    /// For each row which of the sets.
    pub rows: Vec<u32>,
    /// Distinct sets of columns.
    pub sets: Vec<FixedBitSet>,
}

impl Needed {
    /// The wanted lattice points, [rows][columns].
    pub fn points(points: &[bool], columns: usize, check: Check<'_>) -> Result<Self, Error> {
        let rows = points.len() / columns;
        ensure_headroom(points.len() / 8 + BYTES_PER_ROW * rows, WHAT)?;
        let sets = points.chunks_exact(columns).map(|row| {
            let mut set = FixedBitSet::with_capacity(columns);
            set.extend((0..columns).filter(|&column| row[column]));
            set
        });
        let numbers: Vec<u32> = (0..rows as u32).collect();
        joined(numbers.chunks(1), &sets.collect::<Vec<_>>(), check)
    }

    /// With the pixels that are evaluated together with needed ones: a chain of rows x a chain of columns.
    pub fn with_whole_chains(mut self, rows: &TapTable, columns: &TapTable, check: Check<'_>) -> Result<Self, Error> {
        if rows.chains() == 0 {
            return Ok(self);
        }
        ensure_headroom(BYTES_PER_ROW * rows.len(), WHAT)?;
        for set in &mut self.sets {
            columns.fill_chains(set);
        }
        let chains = (0..rows.chains()).map(|chain| rows.chain(chain));
        let of_rows = chains.flat_map(|chain| {
            let together = &self.rows[chain.clone()];
            std::iter::repeat_n(together, chain.len())
        });
        joined(of_rows, &self.sets, check)
    }

    /// What of the layer before they read: that one has so many rows and columns.
    pub fn before(
        &self,
        (rows, row_count): (&TapTable, usize),
        (columns, column_count): (&TapTable, usize),
        check: Check<'_>,
    ) -> Result<Self, Error> {
        ensure_headroom(BYTES_PER_ROW * row_count + self.sets.len() * column_count / 8, WHAT)?;
        // The sets of the rows that read a row, row by row.
        let readers = || {
            let taps = (self.rows.iter().enumerate())
                .flat_map(|(row, &set)| rows.taps_of(row).iter().map(move |&tap| (tap, set)));
            taps.filter(|&(tap, _)| tap != ZERO)
        };
        let mut ends = vec![0; row_count + 1];
        readers().for_each(|(tap, _)| ends[tap as usize + 1] += 1);
        for row in 0..row_count {
            ends[row + 1] += ends[row];
        }
        let mut sets = vec![0; ends[row_count]];
        // Each row's beginning, and when its sets are there its end.
        readers().for_each(|(tap, set)| {
            sets[ends[tap as usize]] = set;
            ends[tap as usize] += 1;
        });
        let of_rows = (0..row_count).map(|row| {
            let begin = row.checked_sub(1).map_or(0, |before| ends[before]);
            &sets[begin..ends[row]]
        });
        let mut read = Vec::with_capacity(self.sets.len());
        for set in &self.sets {
            check()?;
            read.push(columns.read_by(set, column_count));
        }
        joined(of_rows, &read, check)
    }
}

/// Rows that need the union of some of these sets each.
fn joined<'a>(rows: impl Iterator<Item = &'a [u32]>, sets: &[FixedBitSet], check: Check<'_>) -> Result<Needed, Error> {
    const UNIONS_AT_A_TIME: usize = 64;
    let columns = sets.first().map_or(0, FixedBitSet::len);
    let mut numbers: HashMap<FixedBitSet, u32> = HashMap::new();
    let mut joined = Vec::with_capacity(rows.size_hint().0);
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
                    check()?;
                    ensure_headroom(UNIONS_AT_A_TIME * columns, WHAT)?;
                }
                unions += 1;
                let mut needed = FixedBitSet::with_capacity(columns);
                for &set in &union {
                    needed.union_with(&sets[set as usize]);
                }
                let next = numbers.len() as u32;
                std::mem::swap(&mut last, &mut union);
                *number.insert(*numbers.entry(needed).or_insert(next))
            }
        };
        joined.push(number);
    }
    let mut sets = vec![FixedBitSet::new(); numbers.len()];
    for (set, number) in numbers {
        sets[number as usize] = set;
    }
    Ok(Needed { rows: joined, sets })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lattice::{Axis, Padding};
    use crate::plan::stored::Stored;
    use crate::plan::{AxisPlans, MOST_CHAIN, STEPS, TilePlan};

    fn go() -> Result<(), Error> {
        Ok(())
    }

    /// Pixel by pixel, chain by chain.
    fn complete(needed: &mut [bool], rows: &TapTable, columns: &TapTable) {
        let width = columns.len();
        for rows in (0..rows.chains()).map(|chain| rows.chain(chain)) {
            for columns in (0..columns.chains()).map(|chain| columns.chain(chain)) {
                let line = |row: usize| row * width + columns.start..row * width + columns.end;
                if rows.clone().any(|row| needed[line(row)].contains(&true)) {
                    rows.clone().for_each(|row| needed[line(row)].fill(true));
                }
            }
        }
    }

    /// Pixel by pixel, tap by tap.
    fn before(needed: &[bool], rows: &TapTable, columns: &TapTable, width: usize) -> Vec<bool> {
        let mut before = Vec::new();
        for (pixel, _) in needed.iter().enumerate().filter(|&(_, &needed)| needed) {
            for &r in rows.taps_of(pixel / columns.len()) {
                for &c in columns.taps_of(pixel % columns.len()) {
                    if r != ZERO && c != ZERO {
                        let pixel = r as usize * width + c as usize;
                        before.resize(before.len().max(pixel + 1), false);
                        before[pixel] = true;
                    }
                }
            }
        }
        before
    }

    /// What is stored is what the wanted points need and no more, where it is said to be.
    #[test]
    fn as_pixel_by_pixel() {
        // A disc, a ring with a hole, single points, two opposite corners.
        let wanted: [fn(f64, f64, usize) -> bool; 4] = [
            |y, x, _| y * y + x * x < 20.0,
            |y, x, _| (6.0..30.0).contains(&(y * y + x * x)),
            |_, _, point| point % 13 == 5,
            |y, x, _| (y - x).abs() < 1.0 && y * x > 12.0,
        ];
        for (patch_size, stride, padding) in
            [(32, 3, Padding::Patch), (33, 8, Padding::Patch), (48, 20, Padding::Patch), (33, 5, Padding::Image)]
        {
            for most_chain in [None, Some(MOST_CHAIN)] {
                let mut plans = AxisPlans::new(most_chain, usize::MAX);
                let mut axis = |count: usize| {
                    let axis = Axis { origin: 0, len: (count - 1) * stride + 2, patch_size, stride };
                    let all: Vec<usize> = (0..axis.count()).collect();
                    plans.tile(&axis, &all, padding, &go).unwrap()
                };
                let (rows, columns) = (axis(9), axis(12));
                for wanted in wanted {
                    let points: Vec<bool> =
                        (0..9 * 12).map(|k| wanted((k / 12) as f64 - 4.0, (k % 12) as f64 - 5.0, k)).collect();
                    let plan = TilePlan::new(rows.clone(), columns.clone(), Some(&points), &go).unwrap();
                    let mut needed = points;
                    for index in (0..STEPS.len()).rev() {
                        let (rows, columns) = (rows.layer(index), columns.layer(index));
                        complete(&mut needed, rows, columns);
                        let image = plan.output_of(index);
                        let mut slots = 0;
                        for (pixel, &needed) in needed.iter().enumerate() {
                            let (row, column) = (pixel / image.columns, pixel % image.columns);
                            assert_eq!(image.stores(row, column), needed, "step {index}");
                            if needed {
                                assert_eq!(image.slot(row, column), slots);
                                assert_eq!(image.position(slots), (row, column));
                                slots += 1;
                            }
                        }
                        assert_eq!(image.len(), slots, "step {index}");
                        let bytes = image.listed().map_or(0, |stored| stored.bytes()) as u64;
                        assert!(bytes <= Stored::most_bytes(image.rows, image.columns));
                        let input = plan.input_of(index);
                        needed = before(&needed, rows, columns, input.columns);
                        needed.resize(input.rows * input.columns, false);
                    }
                }
            }
        }
    }

    /// A ROI of a slice as large as they come: few sets of columns, which is what makes this fast.
    #[test]
    fn few_sets_for_many_rows() {
        let axis = Axis { origin: 0, len: 512, patch_size: 257, stride: 8 };
        let all: Vec<usize> = (0..axis.count()).collect();
        let plan = AxisPlans::new(None, 0).tile(&axis, &all, Padding::Patch, &go);
        let plan = plan.unwrap();
        let away = |k: usize| (k as f64 - 31.0).powi(2);
        let points: Vec<bool> = (0..64 * 64).map(|point| away(point / 64) + away(point % 64) < 400.0).collect();
        let plan = TilePlan::new(plan.clone(), plan, Some(&points), &go).unwrap();
        for index in 0..STEPS.len() {
            let image = plan.output_of(index);
            let sets = image.listed().map_or(1, |stored| stored.sets());
            assert!(sets <= 64, "step {index}: {sets} sets for {} rows", image.rows);
        }
    }
}
