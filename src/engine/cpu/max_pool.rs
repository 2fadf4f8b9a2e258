//! 2x2 max pooling as a part of the convolution before it, whose pixels are never stored: each goes into the pooled ones that read
//! it. These begin as zeros, and no ReLU leaves less.

use std::ops::Range;

use rayon::prelude::*;

use super::runs::{Run, run_of_values, runs};
use super::simd::{Kernel, Simd};
use crate::axes::Axes;
use crate::cancel::Cancel;
use crate::error::Error;
use crate::memory::{try_filled, try_with_capacity};
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

/// A pooled value that reads values of a run.
#[derive(Clone, Copy)]
struct Reader {
    value: u32,
    /// Places in the run of the two values that it reads; where it reads only one of this run, that one twice.
    places: [u8; 2],
}

/// The readers of each run of the convolution on one axis.
struct Readers {
    /// Number of the first of each run, and the end.
    first: Vec<u32>,
    readers: Vec<Reader>,
}

impl Readers {
    fn new(pool: &TapTable, runs: &[Run]) -> Result<Self, Error> {
        let run_of = run_of_values(runs)?;
        // Every tap of a pool exists: a pool that is not complete is dropped by the plan.
        let of_value = |value: usize| {
            let [a, b] = [0, 1].map(|tap| pool.taps_of(value)[tap] as usize);
            let [of_a, of_b] = [a, b].map(|tap| run_of[tap]);
            let reader = move |run: usize, taps: [usize; 2]| {
                let places = taps.map(|tap| (tap - runs[run].first) as u8);
                (run, Reader { value: value as u32, places })
            };
            match of_a == of_b {
                true => [Some(reader(of_a, [a, b])), None],
                false => [Some(reader(of_a, [a, a])), Some(reader(of_b, [b, b]))],
            }
        };
        let all = || (0..pool.len()).flat_map(of_value).flatten();
        let mut first = try_filled(runs.len() + 1, 0_u32, WHAT)?;
        all().for_each(|(run, _)| first[run + 1] += 1);
        for run in 0..runs.len() {
            first[run + 1] += first[run];
        }
        let mut next = try_with_capacity(runs.len(), WHAT)?;
        next.extend_from_slice(&first[..runs.len()]);
        let mut readers = try_filled(first[runs.len()] as usize, Reader { value: 0, places: [0; 2] }, WHAT)?;
        for (run, reader) in all() {
            readers[next[run] as usize] = reader;
            next[run] += 1;
        }
        Ok(Self { first, readers })
    }

    fn of(&self, run: &Run) -> &[Reader] {
        &self.readers[self.first[run.index] as usize..self.first[run.index + 1] as usize]
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
        let (taps, runs) = (plan.axes.layer(index + 1), plan.axes.layer(index).try_map(runs)?);
        let readers = taps.zip(runs).try_map(|(pool, runs)| Readers::new(pool, &runs))?;
        Ok(Some(Self { taps, output: plan.output_of(index + 1), readers }))
    }

    /// The pooled pixels in columns `within` that read a pair of these runs: their indices, and the places, in the run of rows and in
    /// that of columns, of what they read of it.
    pub fn readers(
        &self,
        rows: &Run,
        columns: &Run,
        within: &Range<u32>,
    ) -> impl Iterator<Item = (usize, [(usize, usize); 4])> {
        let of_row = move |&row: &Reader| {
            let columns = self.readers.columns.of(columns).iter().filter(|column| within.contains(&column.value));
            columns.map(move |&column| (row, column))
        };
        let stored = |&(row, column): &(Reader, Reader)| self.output.stores(row.value as usize, column.value as usize);
        self.readers.rows.of(rows).iter().flat_map(of_row).filter(stored).map(|(row, column)| {
            let place = |k: usize| (usize::from(row.places[k / 2]), usize::from(column.places[k % 2]));
            (self.output.index_of(row.value as usize, column.value as usize), [0, 1, 2, 3].map(place))
        })
    }

    /// Pixels that read one pair, at most.
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

/// Makes each of some pixels of `into` the largest of itself and of four in `from`.
pub(super) struct Pooled<'a> {
    pub from: *const f32,
    pub into: *mut f32,
    /// Where in `into`, and where in `from`.
    pub pixels: &'a [(usize, [usize; 4])],
    /// Of a pixel: a multiple of 16.
    pub floats: usize,
}

impl Kernel for Pooled<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for &(into, from) in self.pixels {
            for float in (0..self.floats).step_by(S::LANES) {
                // SAFETY: as the caller promises.
                unsafe {
                    let into = self.into.add(into + float);
                    S::prefetch(into.wrapping_add(self.floats)); // of the next panel
                    let [a, b, c, d] = from.map(|from| S::load(self.from.add(from + float)));
                    S::load(into).larger(a).larger(b).larger(c).larger(d).store(into);
                }
            }
        }
    }
}
