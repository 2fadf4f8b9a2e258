//! Value numbering along one axis: see the parent module for the idea.

use std::collections::HashMap;
use std::ops::Range;

use super::axis::{AxisPlan, BLACK, TapTable};
use super::steps::{STEPS, Step, ZERO};
use super::winograd_runs::{Positions, WinogradRuns};
use crate::cancel::Cancel;
use crate::error::Error;
use crate::memory::ensure_headroom;
use crate::network::feature_side;
use crate::patch_grid::{Axis, Padding};

/// Bound of a value's reach beyond its patch in IMAGE padding: 3 convolutions at 16 px, 3 at 8, 3 at 4,
/// 2 at 2 and 2 at 1 add up to 90 pixels.
const IMAGE_REACH: i64 = 96;

/// Patches along one axis, relative to the first of them: equal ones have equal plans.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PatchRow {
    patch_size: i64,
    padding: Padding,
    /// Number equal values once. Without it every patch gets values of its own, black ones too.
    shared: bool,
    /// First pixel of each patch.
    starts: Vec<i64>,
    /// The crop: outside it is black.
    crop: Range<i64>,
    /// The range that all patches of the slice cover together: outside it IMAGE padding sees zeros.
    covered: Range<i64>,
}

impl PatchRow {
    /// The patches `indices` (not empty) of `axis`, equal values numbered once.
    pub fn new(axis: &Axis, indices: &[usize], padding: Padding) -> Self {
        let patch_size = axis.patch_size as i64;
        let base = axis.start(indices[0]);
        let starts: Vec<i64> = indices.iter().map(|&k| axis.start(k) - base).collect();
        let reach = match padding {
            Padding::Patch => 0,
            Padding::Image => IMAGE_REACH,
        };
        // Pixels beyond every tap are forgotten, so that interior tiles are equal.
        let seen = -reach..starts[starts.len() - 1] + patch_size + reach;
        let clip = |range: Range<i64>| (range.start - base).max(seen.start)..(range.end - base).min(seen.end);
        let covered = axis.start(0)..axis.start(axis.count() - 1) + patch_size;
        Self { patch_size, padding, shared: true, crop: clip(0..axis.len as i64), covered: clip(covered), starts }
    }

    /// Positions of patch `start` that exist at the input.
    fn input_positions(&self, start: i64) -> Range<i64> {
        match self.padding {
            Padding::Patch => 0..self.patch_size,
            Padding::Image => self.covered.start - start..self.covered.end - start,
        }
    }

    /// Positions of patch `start` that the head needs, at the input and after every step but the head.
    fn needed(&self, start: i64) -> Vec<Range<i64>> {
        let side = feature_side(self.patch_size as usize) as i64;
        let mut existing = vec![self.input_positions(start)];
        for &step in STEPS.iter() {
            let last = existing[existing.len() - 1].clone();
            existing.push(match step {
                Step::Pool => (last.start + 1).div_euclid(2)..last.end.div_euclid(2),
                Step::Convolution(_) | Step::Head => last,
            });
        }
        existing.pop();
        let mut needed = existing.clone();
        let last = needed.len() - 1;
        needed[last] = 0..side;
        for (index, &step) in STEPS.iter().enumerate().take(last).rev() {
            let out = needed[index + 1].clone();
            let exists = existing[index].clone();
            needed[index] = match step {
                Step::Pool => 2 * out.start..2 * out.end,
                _ => (out.start - 1).max(exists.start)..(out.end + 1).min(exists.end),
            };
        }
        needed
    }

    /// `count` patches that share nothing: each starts at its own pixel, which is given later.
    pub fn isolated(patch_size: usize, count: usize) -> Self {
        let patch_size = patch_size as i64;
        Self {
            patch_size,
            padding: Padding::Patch,
            shared: false,
            starts: vec![0; count],
            crop: 0..patch_size,
            covered: 0..patch_size,
        }
    }

    /// Positions of a patch that its border does not reach, after every step but the head.
    fn interior(&self) -> Vec<Range<i64>> {
        let mut interior = match (self.padding, self.shared) {
            (Padding::Patch, true) => 0..self.patch_size,
            // Nothing is shared with patches around.
            (Padding::Patch, false) => 0..0,
            (Padding::Image, _) => i64::MIN / 2..i64::MAX / 2,
        };
        let after = STEPS[..STEPS.len() - 1].iter().map(|step| {
            interior = match (step, self.padding) {
                (Step::Pool, Padding::Patch) => (interior.start + 1) / 2..interior.end / 2,
                (_, Padding::Patch) => interior.start + 1..interior.end - 1,
                (_, Padding::Image) => interior.clone(),
            };
            interior.clone()
        });
        after.collect()
    }

    /// Numbers the values, run by run where there are to be Winograd runs of up to `max_run` values.
    pub fn number(&self, max_run: Option<usize>, cancel: &Cancel) -> Result<AxisPlan, Error> {
        // Memory grows with patches and their pixels from here on; hash tables allocate as they like.
        const BYTES_PER_PIXEL: usize = 96;
        let reach = self.patch_size + 2 * IMAGE_REACH;
        let pixels = self.starts.len().saturating_mul(reach as usize);
        ensure_headroom(pixels.saturating_mul(BYTES_PER_PIXEL), "plan of an axis")?;
        let needed: Vec<Vec<Range<i64>>> = self.starts.iter().map(|&s| self.needed(s)).collect();
        // [step][patch]
        let needed: Vec<Vec<Range<i64>>> =
            (0..STEPS.len()).map(|index| needed.iter().map(|needed| needed[index].clone()).collect()).collect();
        let interior = self.interior();
        let mut inputs = Numbering::new(self.shared, self.patch_size as usize);
        // values[patch][position - needed.start]
        let mut values: Vec<Vec<i32>> = Vec::with_capacity(self.starts.len());
        for (&start, needed) in self.starts.iter().zip(&needed[0]) {
            cancel.check()?;
            inputs.next_patch();
            let numbered = needed.clone().map(|position| {
                let pixel = start + position;
                let black = self.shared && !self.crop.contains(&pixel);
                inputs.number(if black { BLACK } else { pixel })
            });
            values.push(numbered.collect::<Result<_, _>>()?);
        }
        let sources = inputs.keys;
        let mut count = sources.len();
        let mut layers = Vec::new();
        let mut pools = 0;
        for (index, &step) in STEPS.iter().enumerate() {
            let taps = match step {
                Step::Convolution(_) => 3,
                Step::Pool => 2,
                Step::Head => {
                    let taps = feature_side(self.patch_size as usize);
                    layers.push(TapTable { taps, table: values.concat(), runs: Vec::new() });
                    break;
                }
            };
            let mut numbering = Numbering::new(self.shared, count);
            for (patch, values) in values.iter_mut().enumerate() {
                cancel.check()?;
                numbering.next_patch();
                let (from, to) = (&needed[index][patch], &needed[index + 1][patch]);
                let at = |position: i64| {
                    if from.contains(&position) { values[(position - from.start) as usize] } else { ZERO }
                };
                let numbered = to.clone().map(|j| {
                    numbering.number(match step {
                        Step::Pool => [at(2 * j), at(2 * j + 1), ZERO],
                        _ => [at(j - 1), at(j), at(j + 1)],
                    })
                });
                *values = numbered.collect::<Result<_, _>>()?;
            }
            let mut keys = numbering.keys;
            count = keys.len();
            let mut bounds = Vec::new();
            pools += u32::from(step == Step::Pool);
            if let Some(most) = max_run.filter(|_| step.has_runs()) {
                let positions = Positions {
                    starts: &self.starts,
                    needed: &needed[index + 1],
                    values: &values,
                    interior: interior[index].clone(),
                    pools,
                };
                let runs = WinogradRuns::cut(&positions, keys.len(), most);
                renumber(&runs.order, &mut keys, &mut values);
                bounds = runs.bounds;
            }
            let entries = keys.iter().flat_map(|key| key[..taps].iter().copied());
            layers.push(TapTable { taps, table: entries.collect(), runs: bounds });
        }
        Ok(AxisPlan { sources, layers })
    }
}

/// Gives value `order[i]` the number i.
fn renumber(order: &[i32], keys: &mut Vec<[i32; 3]>, values: &mut [Vec<i32>]) {
    let mut number = vec![0; order.len()];
    for (new, &old) in order.iter().enumerate() {
        number[old as usize] = new as i32;
    }
    *keys = order.iter().map(|&old| keys[old as usize]).collect();
    for value in values.iter_mut().flatten() {
        *value = number[*value as usize];
    }
}

/// Distinct keys in order of first appearance.
struct Numbering<K> {
    shared: bool,
    numbers: HashMap<K, i32>,
    keys: Vec<K>,
    /// After the number that was given last.
    next: usize,
}

impl<K: Copy + Eq + std::hash::Hash> Numbering<K> {
    /// There will be about `count`.
    fn new(shared: bool, count: usize) -> Self {
        Self { shared, numbers: HashMap::with_capacity(count), keys: Vec::new(), next: 0 }
    }

    /// Without sharing, values of earlier patches are not found again.
    fn next_patch(&mut self) {
        if !self.shared {
            self.numbers.clear();
            self.next = self.keys.len();
        }
    }

    fn number(&mut self, key: K) -> Result<i32, Error> {
        // A value's successor in one patch mostly is that in others: no need to look it up.
        if self.keys.get(self.next) == Some(&key) {
            self.next += 1;
            return Ok(self.next as i32 - 1);
        }
        let next = i32::try_from(self.keys.len()).map_err(|_| too_large())?;
        let number = *self.numbers.entry(key).or_insert(next);
        if number == next {
            self.keys.push(key);
        }
        self.next = number as usize + 1;
        Ok(number)
    }
}

fn too_large() -> Error {
    Error::Unsupported("a tile has more than 2^31 distinct rows or columns: use a larger stride or a crop".into())
}
