//! The stored pixels of an image: those that a ROI needs, row by row.

use fixedbitset::FixedBitSet;

use super::roi::Needed;
use crate::axes::Axes;
use crate::error::Error;
use crate::memory::{try_filled, try_with_capacity};

const NOWHERE: u32 = u32::MAX;
const WHAT: &str = "ROI plan";

#[derive(Debug)]
pub(crate) struct StoredPixels {
    /// Each row's set of columns.
    set_of_row: Vec<u32>,
    sets: Vec<Columns>,
    /// Index of each row's first pixel, and the number of all.
    starts: Vec<u32>,
}

#[derive(Debug)]
struct Columns {
    /// Ascending.
    stored: Vec<u32>,
    /// For each column the number of stored ones before it, or [`NOWHERE`].
    ranks: Vec<u32>,
}

impl StoredPixels {
    /// The `needed` pixels; `None` where that is all of them.
    pub(super) fn new(needed: &Needed) -> Result<Option<Self>, Error> {
        if needed.sets.iter().all(FixedBitSet::is_full) {
            return Ok(None);
        }
        let columns = needed.sets.first().map_or(0, FixedBitSet::len);
        let pixels = needed.rows.len().saturating_mul(columns);
        if pixels >= NOWHERE as usize {
            return Err(Error::Unsupported(format!(
                "a tile with a ROI has {pixels} pixels in a layer, the limit is 2^32: lower the memory budget"
            )));
        }
        let mut sets = try_with_capacity(needed.sets.len(), WHAT)?;
        for set in &needed.sets {
            sets.push(Columns::new(set)?);
        }
        let mut starts = try_with_capacity(needed.rows.len() + 1, WHAT)?;
        let mut set_of_row = try_with_capacity(needed.rows.len(), WHAT)?;
        set_of_row.extend_from_slice(&needed.rows);
        let mut start = 0;
        starts.push(start);
        for &set in &set_of_row {
            start += sets[set as usize].stored.len() as u32;
            starts.push(start);
        }
        Ok(Some(Self { set_of_row, sets, starts }))
    }

    pub fn len(&self) -> usize {
        self.starts[self.starts.len() - 1] as usize
    }

    /// (row, column) of pixel `index`.
    pub fn position(&self, index: usize) -> (usize, usize) {
        let row = self.starts.partition_point(|&start| start as usize <= index) - 1;
        let within = index - self.starts[row] as usize;
        (row, self.columns_of(self.set_of_row(row))[within] as usize)
    }

    /// Index of pixel (row, column); beyond the last one where it is not stored.
    pub fn index_of(&self, row: usize, column: usize) -> usize {
        let rank = self.sets[self.set_of_row(row)].ranks[column];
        self.starts[row] as usize + rank as usize
    }

    /// True where pixel (row, column) is stored.
    pub fn stores(&self, row: usize, column: usize) -> bool {
        self.sets[self.set_of_row(row)].ranks[column] != NOWHERE
    }

    /// Rows of the same set have the same columns.
    pub fn set_of_row(&self, row: usize) -> usize {
        self.set_of_row[row] as usize
    }

    pub fn sets(&self) -> usize {
        self.sets.len()
    }

    /// The stored columns of a set, ascending.
    pub fn columns_of(&self, set: usize) -> &[u32] {
        &self.sets[set].stored
    }

    pub fn bytes(&self) -> usize {
        let of_sets = self.sets.iter().map(Columns::bytes);
        4 * (self.set_of_row.len() + self.starts.len()) + of_sets.sum::<usize>()
    }

    /// Maximum bytes of the lists of an image of this size: every row has columns of its own.
    pub fn max_bytes(image: Axes<usize>) -> u64 {
        let set = 8 * image.columns + size_of::<Columns>();
        (image.rows as u64).saturating_mul((set + 8) as u64) + 4
    }
}

impl Columns {
    fn new(set: &FixedBitSet) -> Result<Self, Error> {
        let mut stored = try_with_capacity(set.count_ones(..), WHAT)?;
        let mut ranks = try_filled(set.len(), NOWHERE, WHAT)?;
        for column in set.ones() {
            ranks[column] = stored.len() as u32;
            stored.push(column as u32);
        }
        Ok(Self { stored, ranks })
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + 4 * (self.stored.len() + self.ranks.len())
    }
}
