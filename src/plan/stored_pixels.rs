//! The stored pixels of an image: those that a ROI needs, row by row.

use fixedbitset::FixedBitSet;

use super::roi::Needed;
use crate::axes::Axes;
use crate::cancel::Cancel;
use crate::error::Error;
use crate::memory::{Zeros, try_with_capacity};

const NOWHERE: u32 = u32::MAX;
const WHAT: &str = "ROI plan";

#[derive(Debug)]
pub(crate) struct StoredPixels {
    /// Each row's set of columns.
    set_of_row: Vec<u32>,
    /// Stored columns of each set, ascending, one set behind the other.
    columns: Zeros<u32>,
    /// Where those of each set begin, and the end of all.
    begins: Vec<usize>,
    /// [sets][columns]: the number of stored columns before each, or [`NOWHERE`].
    ranks: Zeros<u32>,
    /// Columns of the image.
    width: usize,
    /// Index of each row's first pixel, and the number of all.
    starts: Vec<u32>,
}

impl StoredPixels {
    /// The `needed` pixels; `None` where that is all of them.
    pub(super) fn new(needed: &Needed, cancel: &Cancel) -> Result<Option<Self>, Error> {
        if needed.sets.iter().all(FixedBitSet::is_full) {
            return Ok(None);
        }
        let width = needed.sets.first().map_or(0, FixedBitSet::len);
        let pixels = needed.rows.len().saturating_mul(width);
        if pixels >= NOWHERE as usize {
            return Err(Error::Unsupported(format!(
                "a tile with a ROI has {pixels} pixels in a layer, the limit is 2^32: lower the memory budget"
            )));
        }
        let mut begins = try_with_capacity(needed.sets.len() + 1, WHAT)?;
        begins.push(0);
        for set in &needed.sets {
            begins.push(begins[begins.len() - 1] + set.count_ones(..));
        }
        let mut columns = Zeros::new(begins[needed.sets.len()], WHAT)?;
        let mut ranks = Zeros::new(needed.sets.len() * width, WHAT)?;
        for ((set, &begin), ranks) in needed.sets.iter().zip(&begins).zip(ranks.chunks_exact_mut(width)) {
            cancel.check()?;
            ranks.fill(NOWHERE);
            for (rank, column) in set.ones().enumerate() {
                ranks[column] = rank as u32;
                columns[begin + rank] = column as u32;
            }
        }
        let mut starts = try_with_capacity(needed.rows.len() + 1, WHAT)?;
        let mut set_of_row = try_with_capacity(needed.rows.len(), WHAT)?;
        set_of_row.extend_from_slice(&needed.rows);
        let mut start = 0;
        starts.push(start);
        for &set in &set_of_row {
            start += (begins[set as usize + 1] - begins[set as usize]) as u32;
            starts.push(start);
        }
        Ok(Some(Self { set_of_row, columns, begins, ranks, width, starts }))
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
        self.starts[row] as usize + self.rank(row, column) as usize
    }

    /// True where pixel (row, column) is stored.
    pub fn stores(&self, row: usize, column: usize) -> bool {
        self.rank(row, column) != NOWHERE
    }

    fn rank(&self, row: usize, column: usize) -> u32 {
        self.ranks[self.set_of_row(row) * self.width + column]
    }

    /// Rows of the same set have the same columns.
    pub fn set_of_row(&self, row: usize) -> usize {
        self.set_of_row[row] as usize
    }

    pub fn sets(&self) -> usize {
        self.begins.len() - 1
    }

    /// The stored columns of a set, ascending.
    pub fn columns_of(&self, set: usize) -> &[u32] {
        &self.columns[self.begins[set]..self.begins[set + 1]]
    }

    pub fn bytes(&self) -> usize {
        let lists = self.set_of_row.len() + self.starts.len() + self.columns.len() + self.ranks.len();
        4 * lists + size_of_val(&self.begins[..])
    }

    /// Maximum bytes of the lists of an image of this size: every row has columns of its own.
    pub fn max_bytes(image: Axes<usize>) -> u64 {
        let set = 8 * image.columns + size_of::<usize>();
        (image.rows as u64).saturating_mul((set + 8) as u64) + 12
    }
}
