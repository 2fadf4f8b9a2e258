//! 2x2 max pooling as a part of the convolution before it, whose pixels are never stored: each goes into the pooled ones that read
//! it. These begin as zeros, and no ReLU leaves less.

use rayon::prelude::*;

use super::simd::{Kernel, Simd};
use crate::axes::Axes;
use crate::cancel::Cancel;
use crate::error::Error;
use crate::memory::try_filled;
use crate::plan::{Image, STEPS, Step, TapTable, TilePlan};

const WHAT: &str = "pools of a tile";
/// Floats that are cleared at a time.
const CLEARED: usize = 1 << 18;

/// A pool, from the side of the convolution before it.
pub(super) struct MaxPool<'a> {
    pub taps: Axes<&'a TapTable>,
    pub output: &'a Image,
    readers: Axes<Readers>,
}

/// For each value of an axis of the convolution the pooled values that read it.
struct Readers {
    /// Number of the first of each, and the end.
    first: Vec<u32>,
    values: Vec<u32>,
}

impl Readers {
    fn new(table: &TapTable, values: usize) -> Result<Self, Error> {
        // Every tap of a pool exists: a pool that is not complete is dropped by the plan.
        let mut first = try_filled(values + 1, 0, WHAT)?;
        table.all().iter().for_each(|&tap| first[tap as usize] += 1);
        let mut count = 0;
        first.iter_mut().for_each(|first| {
            count += *first;
            *first = count;
        });
        let mut readers = try_filled(table.all().len(), 0, WHAT)?;
        for value in (0..table.len()).rev() {
            for &tap in table.taps_of(value) {
                let first = &mut first[tap as usize];
                *first -= 1;
                readers[*first as usize] = value as u32;
            }
        }
        Ok(Self { first, values: readers })
    }

    fn of(&self, value: usize) -> &[u32] {
        &self.values[self.first[value] as usize..self.first[value + 1] as usize]
    }

    fn most(&self) -> usize {
        self.first.windows(2).map(|ends| (ends[1] - ends[0]) as usize).max().unwrap_or(0)
    }
}

impl<'a> MaxPool<'a> {
    /// Whether a pool follows step `index`.
    pub fn follows(index: usize) -> bool {
        STEPS.get(index + 1) == Some(&Step::Pool)
    }

    /// The pool that follows step `index`, if one does.
    pub fn after(plan: &'a TilePlan, index: usize) -> Result<Option<Self>, Error> {
        if !Self::follows(index) {
            return Ok(None);
        }
        let (taps, input) = (plan.axes.layer(index + 1), plan.input_of(index + 1));
        let values = Axes { rows: input.rows, columns: input.columns };
        let readers = taps.zip(values).try_map(|(table, values)| Readers::new(table, values))?;
        Ok(Some(Self { taps, output: plan.output_of(index + 1), readers }))
    }

    /// Indices of the pooled pixels that read pixel (row, column).
    pub fn readers(&self, row: usize, column: usize) -> impl Iterator<Item = usize> {
        let rows = self.readers.rows.of(row).iter().map(|&row| row as usize);
        let pixels = rows.flat_map(move |row| self.readers.columns.of(column).iter().map(move |&c| (row, c as usize)));
        pixels
            .filter(|&(row, column)| self.output.stores(row, column))
            .map(|(row, column)| self.output.index_of(row, column))
    }

    /// Pixels that read one, at most.
    pub fn most_readers(&self) -> usize {
        self.readers.as_ref().map(Readers::most).product()
    }

    /// Before the first pixel goes in.
    pub fn clear(&self, into: &mut [f32], channels: usize, cancel: &Cancel) -> Result<(), Error> {
        into[..self.output.len() * channels].par_chunks_mut(CLEARED).try_for_each(|floats| {
            floats.fill(0.0);
            cancel.check()
        })
    }
}

/// Makes each pixel of `into` the larger of itself and of one in `from`.
pub(super) struct Pooled<'a> {
    pub from: *const f32,
    pub into: *mut f32,
    /// Where in `from`, and where in `into`: those of one pixel there side by side.
    pub pixels: &'a [(usize, usize)],
    /// Of a pixel: a multiple of 16.
    pub floats: usize,
}

impl Kernel for Pooled<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for pixels in self.pixels.chunk_by(|a, b| a.1 == b.1) {
            let into = self.into.wrapping_add(pixels[0].1);
            for float in (0..self.floats).step_by(S::LANES) {
                // SAFETY: as the caller promises.
                unsafe {
                    let into = into.add(float);
                    S::prefetch(into.wrapping_add(self.floats)); // of the next panel
                    let largest = |largest: S, &(from, _): &_| largest.larger(S::load(self.from.add(from + float)));
                    pixels.iter().fold(S::load(into), largest).store(into);
                }
            }
        }
    }
}
