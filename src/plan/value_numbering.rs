//! Value numbering along one axis: see the parent module for the idea.

use std::collections::HashMap;
use std::hash::Hash;
use std::ops::Range;

use super::axis::{AxisPlan, BLACK, TapTable};
use super::steps::{HEAD, STEPS, Step, ZERO};
use super::winograd_runs::{MaxRuns, WinogradRuns, in_order};
use crate::cancel::Cancel;
use crate::error::Error;
use crate::memory::{try_filled, try_push, try_reserve, try_with_capacity};
use crate::network::{CONVOLUTIONS, feature_side};
use crate::patch_grid::{Axis, Padding};

/// Bound of a value's reach beyond its patch in IMAGE padding: 3 convolutions at 16 px, 3 at 8, 3 at 4,
/// 2 at 2 and 2 at 1 add up to 90 pixels.
const IMAGE_REACH: i64 = 96;

const WHAT: &str = "plan of an axis";

/// Patches along one axis, relative to the first of them: equal ones have equal plans.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PatchRow {
    patch_size: i64,
    padding: Padding,
    /// Number equal values once. Without it every patch gets values of its own, black ones too.
    shared: bool,
    /// Pixels from the start of a patch to that of the next.
    stride: i64,
    /// The patches, counted from the first.
    patches: Vec<Range<i64>>,
    /// The crop: outside it is black.
    crop: Range<i64>,
    /// The range that all patches of the slice cover together: outside it IMAGE padding sees zeros.
    covered: Range<i64>,
}

/// Positions of a patch, at the input and after every step but the head.
type Needed = [Range<i64>; STEPS.len()];

impl PatchRow {
    /// The patches of these ranges (not empty, ascending) of `axis`, equal values numbered once.
    pub fn new(axis: &Axis, patches: &[Range<usize>], padding: Padding) -> Self {
        let (patch_size, stride) = (axis.patch_size as i64, axis.stride as i64);
        let (first, last) = (patches[0].start, patches[patches.len() - 1].end - 1);
        let base = axis.start(first);
        let reach = reach(padding);
        // Pixels beyond every tap are forgotten, so that interior tiles are equal.
        let seen = -reach..axis.start(last) - base + patch_size + reach;
        let clip = |range: Range<i64>| (range.start - base).max(seen.start)..(range.end - base).min(seen.end);
        let covered = axis.start(0)..axis.start(axis.count() - 1) + patch_size;
        Self {
            patch_size,
            padding,
            shared: true,
            stride,
            patches: patches.iter().map(|range| (range.start - first) as i64..(range.end - first) as i64).collect(),
            crop: clip(0..axis.len as i64),
            covered: clip(covered),
        }
    }

    /// First pixel of each patch, from that of the first one.
    fn starts(&self) -> impl Iterator<Item = i64> + Clone {
        self.patches.iter().cloned().flatten().map(|patch| patch * self.stride)
    }

    /// Positions of patch `start` that exist at the input.
    fn input_positions(&self, start: i64) -> Range<i64> {
        match self.padding {
            Padding::Patch => 0..self.patch_size,
            Padding::Image => self.covered.start - start..self.covered.end - start,
        }
    }

    /// Positions of patch `start` that the head needs.
    fn needed(&self, start: i64) -> Needed {
        let mut existing = Needed::default();
        existing[0] = self.input_positions(start);
        for (index, &step) in STEPS[..HEAD].iter().enumerate() {
            let last = existing[index].clone();
            existing[index + 1] = match step {
                Step::Pool => (last.start + 1).div_euclid(2)..last.end.div_euclid(2),
                Step::Convolution(_) | Step::Head => last,
            };
        }
        let mut needed = existing;
        needed[HEAD] = 0..feature_side(self.patch_size as usize) as i64;
        for (index, &step) in STEPS[..HEAD].iter().enumerate().rev() {
            let out = needed[index + 1].clone();
            let exists = needed[index].clone();
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
            stride: 0,
            patches: vec![0..count as i64],
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
        let after = STEPS[..HEAD].iter().map(|step| {
            interior = match (step, self.padding) {
                (Step::Pool, Padding::Patch) => (interior.start + 1) / 2..interior.end / 2,
                (_, Padding::Patch) => interior.start + 1..interior.end - 1,
                (_, Padding::Image) => interior.clone(),
            };
            interior.clone()
        });
        after.collect()
    }

    /// Numbers the values, run by run where there are to be Winograd runs.
    pub fn number(&self, max_runs: Option<&MaxRuns>, cancel: &Cancel) -> Result<AxisPlan, Error> {
        let count = self.patches.iter().map(|range| (range.end - range.start) as usize).sum();
        let mut needed: Vec<Needed> = try_with_capacity(count, WHAT)?;
        needed.extend(self.starts().map(|start| self.needed(start)));
        let interior = self.interior();
        // [patch][position - needed.start], of the last layer so far.
        let mut values = try_with_capacity(positions(&needed, 0), WHAT)?;
        let mut inputs = Numbering::new(self.shared, self.patch_size as usize)?;
        for (start, needed) in self.starts().zip(&needed) {
            cancel.check()?;
            inputs.next_patch();
            for position in needed[0].clone() {
                let pixel = start + position;
                let black = self.shared && !self.crop.contains(&pixel);
                values.push(inputs.number(if black { BLACK } else { pixel })?);
            }
        }
        let sources = inputs.keys;
        let mut count = sources.len();
        // Values that depend on no pixel.
        let mut black = try_filled(count, false, WHAT)?;
        if self.stride % 4 != 0 {
            black.iter_mut().zip(&sources).for_each(|(black, &source)| *black = source == BLACK);
        }
        let mut layers = Vec::with_capacity(STEPS.len());
        let mut pools = 0;
        for (index, &step) in STEPS[..HEAD].iter().enumerate() {
            let taps = if step == Step::Pool { 2 } else { 3 };
            let mut numbering = Numbering::new(self.shared, count)?;
            let mut next = try_with_capacity(positions(&needed, index + 1), WHAT)?;
            for (needed, values) in patches(&needed, index, &values) {
                cancel.check()?;
                numbering.next_patch();
                let (from, to) = (&needed[index], &needed[index + 1]);
                let at = |position: i64| {
                    if from.contains(&position) { values[(position - from.start) as usize] } else { ZERO }
                };
                for j in to.clone() {
                    next.push(numbering.number(match step {
                        Step::Pool => [at(2 * j), at(2 * j + 1), ZERO],
                        _ => [at(j - 1), at(j), at(j + 1)],
                    })?);
                }
            }
            values = next;
            let mut keys = numbering.keys;
            count = keys.len();
            black = black_among(keys.iter().map(|key| &key[..taps]), &black)?;
            let mut bounds = Vec::new();
            pools += u32::from(step == Step::Pool);
            if let (Some(max_runs), Step::Convolution(convolution @ 1..)) = (max_runs, step) {
                let max = max_runs[convolution];
                let patches = self.starts().zip(patches(&needed, index + 1, &values));
                let patches = patches.map(|(start, (needed, values))| (start, needed[index + 1].clone(), values));
                let interior = (!in_order(self.stride as usize)).then_some(&interior[index]);
                let runs = WinogradRuns::cut(patches, interior, pools, &black, max, cancel)?;
                keys = renumbered(&runs.order, &keys, &mut values, cancel)?;
                black = black_among(runs.order.iter().map(std::slice::from_ref), &black)?;
                bounds = runs.bounds;
            }
            let mut table = try_with_capacity(count * taps, WHAT)?;
            keys.iter().for_each(|key| table.extend_from_slice(&key[..taps]));
            layers.push(TapTable { taps, table, runs: bounds });
        }
        let taps = feature_side(self.patch_size as usize);
        layers.push(TapTable { taps, table: values, runs: Vec::new() });
        Ok(AxisPlan { sources, layers })
    }
}

/// Values of each convolution that a patch by itself needs along an axis.
pub(crate) fn values_of_a_patch(patch_size: usize) -> [usize; CONVOLUTIONS] {
    let needed = PatchRow::isolated(patch_size, 1).needed(0);
    let mut values = [0; CONVOLUTIONS];
    for (step, needed) in STEPS.iter().zip(&needed[1..]) {
        if let &Step::Convolution(convolution) = step {
            values[convolution] = length(needed);
        }
    }
    values
}

/// Pixels that a patch sees beyond itself.
pub(super) fn reach(padding: Padding) -> i64 {
    match padding {
        Padding::Patch => 0,
        Padding::Image => IMAGE_REACH,
    }
}

/// Positions of all patches after step `index` - 1.
fn positions(needed: &[Needed], index: usize) -> usize {
    needed.iter().map(|needed| length(&needed[index])).sum()
}

/// Each patch with its `values`, which are those after step `index` - 1.
fn patches<'a>(
    needed: &'a [Needed],
    index: usize,
    values: &'a [i32],
) -> impl Iterator<Item = (&'a Needed, &'a [i32])> + Clone {
    let mut rest = values;
    needed.iter().map(move |needed| {
        let (own, after) = rest.split_at(length(&needed[index]));
        rest = after;
        (needed, own)
    })
}

fn length(positions: &Range<i64>) -> usize {
    (positions.end - positions.start) as usize
}

/// For each list of values whether they are all `black` or zero.
fn black_among<'a>(lists: impl ExactSizeIterator<Item = &'a [i32]>, black: &[bool]) -> Result<Vec<bool>, Error> {
    let mut among = try_with_capacity(lists.len(), WHAT)?;
    let is_black = |&value: &i32| value == ZERO || black[value as usize];
    among.extend(lists.map(|list| list.iter().all(is_black)));
    Ok(among)
}

/// Gives value `order[i]` the number i. Returns the keys in that order.
fn renumbered(order: &[i32], keys: &[[i32; 3]], values: &mut [i32], cancel: &Cancel) -> Result<Vec<[i32; 3]>, Error> {
    let mut number = try_filled(order.len(), 0, WHAT)?;
    let mut ordered = try_with_capacity(order.len(), WHAT)?;
    for (new, &old) in order.iter().enumerate() {
        number[old as usize] = new as i32;
        ordered.push(keys[old as usize]);
    }
    cancel.each(values, |_, value| *value = number[*value as usize])?;
    Ok(ordered)
}

/// Distinct keys in order of first appearance.
struct Numbering<K> {
    shared: bool,
    numbers: HashMap<K, i32>,
    keys: Vec<K>,
    /// After the number that was given last.
    next: usize,
}

impl<K: Copy + Eq + Hash> Numbering<K> {
    /// There will be about `count`.
    fn new(shared: bool, count: usize) -> Result<Self, Error> {
        let mut numbers = HashMap::new();
        try_reserve(&mut numbers, count, WHAT)?;
        Ok(Self { shared, numbers, keys: Vec::new(), next: 0 })
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
        try_reserve(&mut self.numbers, 1, WHAT)?;
        let number = *self.numbers.entry(key).or_insert(next);
        if number == next {
            try_push(&mut self.keys, key, WHAT)?;
        }
        self.next = number as usize + 1;
        Ok(number)
    }
}

fn too_large() -> Error {
    Error::Unsupported("a tile has more than 2^31 distinct rows or columns: use a larger stride or a crop".into())
}
