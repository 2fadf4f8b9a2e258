//! Winograd runs: values that overlap like the pixels of a plain image, for engines that evaluate several
//! neighbouring outputs of a convolution at once (Winograd).
//!
//! ```text
//! run     v[0], ..., v[m-1]   with taps(v[i]) = (x[i], x[i+1], x[i+2]);   1 <= m <= the engine's maximum for the layer
//! reads   x[0], ..., x[m+1]   values of the previous layer, or zero
//! ```
//! A run is evaluated whole, so the bits of a value depend on the run that it is in. They must not depend
//! on the tile: runs are cut once for all patches of the slice, and a tile evaluates every run that
//! it needs a value of ([`AxisPlan::restrict`](super::AxisPlan::restrict)). Little is
//! evaluated needlessly because no run has values that only far patches need:
//!
//! ```text
//! patch     | edge ][ interior ... | ... | ... ][ edge |
//! ```
//! Edge values (those that the zeros at the patch's border reach) are mostly the patch's own: they are cut evenly,
//! counted from the border. Interior values are shared with all patches around: they are cut at multiples of the
//! longest run on the layer's own pixels. Every value is in one run: the first that wants it.
//!
//! Where the next patch that shares pixels of a coarse layer has 5 or more that its neighbour has not (the stride's odd part), that
//! many and the edge beside them fill runs better than either alone: each patch's new values are cut in order, the first runs long.
//! At 257/7 that leaves 4 % less to multiply in a slice, and a fifth less for a few patches of a ROI.
//!
//! Where the stride is no multiple of 4, values that depend on no pixel have runs of their own: neighbouring patches have little
//! else in common there, and a run with a pixel in it is one patch's.

use std::ops::Range;

use crate::cancel::Cancel;
use crate::error::Error;
use crate::memory::{try_filled, try_push, try_with_capacity};
use crate::network::CONVOLUTIONS;

/// Maximum values of a run, for any engine.
pub(crate) const MAX_RUN: usize = 8;

/// Maximum values of a run for each convolution; the first has none.
pub(crate) type MaxRuns = [usize; CONVOLUTIONS];

const WHAT: &str = "Winograd runs of an axis";

/// True where each patch's new values are cut in order.
pub(super) fn in_order(stride: usize) -> bool {
    stride > 0 && stride >> stride.trailing_zeros() >= 5
}

/// All values of a layer, run by run.
pub(super) struct WinogradRuns {
    /// Values.
    pub order: Vec<i32>,
    /// First entry of each run in `order`, and the end.
    pub bounds: Vec<u32>,
    taken: Vec<bool>,
    max: usize,
}

impl WinogradRuns {
    /// Cuts the layer's values into runs of up to `max`; `black`: which of them depend on no pixel. `patches`: the first pixel of each,
    /// ascending, its positions that have a value, and those values. `interior`: positions that a patch's border does not reach;
    /// `None`: each patch's new values are cut in order. `pools`: those before this layer, whose pixels are that many times twice as
    /// coarse.
    pub fn cut<'a>(
        patches: impl Iterator<Item = (i64, Range<i64>, &'a [i32])> + Clone,
        interior: Option<&Range<i64>>,
        pools: u32,
        black: &[bool],
        max: usize,
        cancel: &Cancel,
    ) -> Result<Self, Error> {
        let mut runs = Self {
            max,
            order: try_with_capacity(black.len(), WHAT)?,
            bounds: Vec::new(),
            taken: try_filled(black.len(), false, WHAT)?,
        };
        try_push(&mut runs.bounds, 0, WHAT)?;
        let Some(interior) = interior else {
            for (.., values) in patches {
                cancel.check()?;
                runs.add(values, black, |count, run| count.min(run * max))?;
            }
            return Ok(runs);
        };
        // Lengths as equal as can be.
        let even = |count: usize, run| count * run / count.div_ceil(max);
        let mut values = Vec::with_capacity(max);
        let segment = |at: i64| at.div_euclid(max as i64);
        for pixels in interior_pixels(patches.clone(), interior, 1 << pools, cancel)? {
            for run in pixels.chunk_by(|a, b| segment(a.0) == segment(b.0) && a.0 + 1 == b.0) {
                values.clear();
                values.extend(run.iter().map(|pixel| pixel.1));
                runs.add(&values, black, even)?;
            }
        }
        for (_, needed, values) in patches {
            cancel.check()?;
            let entry = |position: i64| (position.clamp(needed.start, needed.end) - needed.start) as usize;
            if interior.is_empty() {
                runs.add(values, black, even)?;
            } else {
                runs.add(&values[..entry(interior.start)], black, even)?;
                runs.add(&values[entry(interior.end)..], black, even)?;
            }
        }
        debug_assert_eq!(runs.order.len(), black.len());
        Ok(runs)
    }

    /// Makes runs of those `values`, neighbours all, that are in none yet. `end(count, n)`: how many of `count` neighbours the first `n`
    /// runs have.
    fn add(&mut self, values: &[i32], black: &[bool], end: impl Fn(usize, usize) -> usize) -> Result<(), Error> {
        let mut from = 0;
        while from < values.len() {
            let first = self.order.len();
            for &value in &values[from..] {
                if self.order[first..].last().is_some_and(|&last| black[last as usize] != black[value as usize]) {
                    break;
                }
                from += 1;
                if self.taken[value as usize] {
                    break;
                }
                self.taken[value as usize] = true;
                self.order.push(value);
            }
            let count = self.order.len() - first;
            for run in 1..=count.div_ceil(self.max) {
                try_push(&mut self.bounds, (first + end(count, run)) as u32, WHAT)?;
            }
        }
        Ok(())
    }
}

/// The layer's pixels that are interior to a patch, each once, ascending, and their values; `pixel`: their width. Patches whose starts
/// differ by a fraction of that have pixels of their own: there is one list for each.
fn interior_pixels<'a>(
    patches: impl Iterator<Item = (i64, Range<i64>, &'a [i32])>,
    interior: &Range<i64>,
    pixel: i64,
    cancel: &Cancel,
) -> Result<Vec<Vec<(i64, i32)>>, Error> {
    let mut lists: Vec<Vec<(i64, i32)>> = vec![Vec::new(); pixel as usize];
    for (start, needed, values) in patches {
        cancel.check()?;
        let origin = start.div_euclid(pixel);
        let pixels = &mut lists[start.rem_euclid(pixel) as usize];
        let positions = needed.start.max(interior.start)..needed.end.min(interior.end);
        // Most are known from the patches before.
        let first = pixels.partition_point(|pixel| pixel.0 < origin + positions.start);
        for (index, position) in (first..).zip(positions) {
            let at = origin + position;
            if pixels.get(index).is_none_or(|pixel| pixel.0 != at) {
                try_push(pixels, (at, values[(position - needed.start) as usize]), WHAT)?;
                pixels[index..].rotate_right(1);
            }
        }
    }
    Ok(lists)
}
