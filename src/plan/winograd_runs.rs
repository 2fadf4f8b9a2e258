//! Winograd runs: values that overlap like the pixels of a plain image, for engines that evaluate several
//! neighbouring outputs of a convolution at once (Winograd).
//!
//! ```text
//! run     v[0], ..., v[m-1]   with taps(v[i]) = (x[i], x[i+1], x[i+2]);   1 <= m <= the engine's maximum
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

use std::collections::BTreeMap;
use std::ops::Range;

/// Maximum values of a run, for any engine.
pub(crate) const MAX_RUN: usize = 6;

/// The values of a layer by their positions in the patches.
pub(super) struct Positions<'a> {
    /// First pixel of each patch.
    pub starts: &'a [i64],
    /// Positions of each patch that have a value.
    pub needed: &'a [Range<i64>],
    /// [patch][position - needed.start]
    pub values: &'a [Vec<i32>],
    /// Positions of a patch that its border does not reach.
    pub interior: Range<i64>,
    /// Pools before this layer: its pixels are that many times twice as coarse.
    pub pools: u32,
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
    /// Cuts the layer's `count` values into runs of up to `max`.
    pub fn cut(positions: &Positions<'_>, count: usize, max: usize) -> Self {
        let mut runs = Self { max, order: Vec::with_capacity(count), bounds: vec![0], taken: vec![false; count] };
        for run in interior_runs(positions, max) {
            runs.add(&run);
        }
        let interior = &positions.interior;
        for (needed, values) in positions.needed.iter().zip(positions.values) {
            let entry = |position: i64| (position.clamp(needed.start, needed.end) - needed.start) as usize;
            if interior.is_empty() {
                runs.add(values);
            } else {
                runs.add(&values[..entry(interior.start)]);
                runs.add(&values[entry(interior.end)..]);
            }
        }
        debug_assert_eq!(runs.order.len(), count);
        runs
    }

    /// Makes runs of those `values`, neighbours all, that are in none yet.
    fn add(&mut self, values: &[i32]) {
        let mut from = 0;
        while from < values.len() {
            let first = self.order.len();
            for &value in &values[from..] {
                from += 1;
                if self.taken[value as usize] {
                    break;
                }
                self.taken[value as usize] = true;
                self.order.push(value);
            }
            // Lengths as equal as can be.
            let count = self.order.len() - first;
            let runs = count.div_ceil(self.max);
            let bounds = (1..=runs).map(|run| (first + count * run / runs) as u32);
            self.bounds.extend(bounds);
        }
    }
}

/// Interior values of all patches, cut on the layer's pixels. Patches whose starts differ by a fraction of such
/// a pixel have pixels of their own.
fn interior_runs(positions: &Positions<'_>, max: usize) -> Vec<Vec<i32>> {
    let pixel = 1i64 << positions.pools;
    // (fraction, segment) -> values by coordinate
    let mut segments: BTreeMap<(i64, i64), BTreeMap<i64, i32>> = BTreeMap::new();
    for ((start, needed), values) in (positions.starts.iter()).zip(positions.needed).zip(positions.values) {
        let origin = start.div_euclid(pixel);
        for (position, &value) in needed.clone().zip(values) {
            if positions.interior.contains(&position) {
                let at = origin + position;
                let segment = (start.rem_euclid(pixel), at.div_euclid(max as i64));
                segments.entry(segment).or_default().insert(at, value);
            }
        }
    }
    let mut runs = Vec::new();
    for segment in segments.into_values() {
        let mut last = None;
        for (at, value) in segment {
            if last != Some(at - 1) {
                runs.push(Vec::new());
            }
            if let Some(run) = runs.last_mut() {
                run.push(value);
            }
            last = Some(at);
        }
    }
    runs
}
