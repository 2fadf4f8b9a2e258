//! Value numbering along one axis: see the parent module for the idea.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::{STEPS, Step, ZERO};
use crate::error::{Check, Error};
use crate::lattice::{Axis, Padding};
use crate::memory::ensure_headroom;
use crate::network::feature_side;

/// Source of a value that is black wherever it is asked for.
const BLACK: i64 = i64::MIN;

/// How far beyond its patch a value can reach in IMAGE scope: 3 convolutions at 16 px, 3 at 8, 3 at 4,
/// 2 at 2 and 2 at 1 add up to 90 pixels.
const IMAGE_REACH: i64 = 96;

/// Tap tables of all layers along one axis, for some patches.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct AxisPlan {
    /// Input values: pixels relative to the first patch's start, or black.
    sources: Vec<i64>,
    /// One table per step.
    layers: Vec<TapTable>,
}

/// For each value of a layer, the values of the previous layer at its taps; -1 is zero.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TapTable {
    /// Taps of one value: 3 (convolution), 2 (pool) or g (head).
    pub taps: usize,
    /// [values][taps]
    table: Vec<i32>,
}

impl TapTable {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.table.len() / self.taps
    }

    /// [values][taps]
    pub fn all(&self) -> &[i32] {
        &self.table
    }

    /// Values of the previous layer that `value` reads.
    pub fn taps_of(&self, value: usize) -> &[i32] {
        &self.table[value * self.taps..(value + 1) * self.taps]
    }
}

impl AxisPlan {
    /// Number of input values.
    pub fn inputs(&self) -> usize {
        self.sources.len()
    }

    /// The table of step `index`.
    pub fn layer(&self, index: usize) -> &TapTable {
        &self.layers[index]
    }

    /// Pixel of the crop that input `value` shows when the first patch starts at `start`, if it is
    /// one of the crop's `len` pixels and not black.
    pub fn pixel(&self, value: usize, start: i64, len: usize) -> Option<usize> {
        let pixel = start.checked_add(self.sources[value])?;
        usize::try_from(pixel).ok().filter(|&pixel| pixel < len)
    }

    /// Pixel that input `value` shows, counted from the first patch's start; `None`: black.
    pub fn source(&self, value: usize) -> Option<i64> {
        Some(self.sources[value]).filter(|&source| source != BLACK)
    }

    /// Bytes of the tables.
    pub fn bytes(&self) -> usize {
        let taps: usize = self.layers.iter().map(|layer| layer.table.len()).sum();
        self.sources.len() * size_of::<i64>() + taps * size_of::<i32>()
    }
}

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
    /// What all patches of the slice cover together: outside it IMAGE scope sees zeros.
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
        // What lies beyond every tap is forgotten, so that interior tiles are equal.
        let seen = -reach..starts[starts.len() - 1] + patch_size + reach;
        let clip = |range: Range<i64>| {
            (range.start - base).max(seen.start)..(range.end - base).min(seen.end)
        };
        let covered = axis.start(0)..axis.start(axis.count() - 1) + patch_size;
        Self {
            patch_size,
            padding,
            shared: true,
            crop: clip(0..axis.len as i64),
            covered: clip(covered),
            starts,
        }
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

    /// Numbers the values. `check` is asked now and then whether to go on.
    fn number(&self, check: Check<'_>) -> Result<AxisPlan, Error> {
        // What follows grows with patches and their pixels; hash tables allocate as they like.
        const BYTES_PER_PIXEL: usize = 96;
        let reach = self.patch_size + 2 * IMAGE_REACH;
        let pixels = self.starts.len().saturating_mul(reach as usize);
        ensure_headroom(pixels.saturating_mul(BYTES_PER_PIXEL), "plan of an axis")?;
        let needed: Vec<Vec<Range<i64>>> = self.starts.iter().map(|&s| self.needed(s)).collect();
        let mut inputs = Numbering::new(self.shared);
        // values[patch][position - needed.start]
        let mut values: Vec<Vec<i32>> = Vec::with_capacity(self.starts.len());
        for (&start, needed) in self.starts.iter().zip(&needed) {
            check()?;
            inputs.next_patch();
            let numbered = needed[0].clone().map(|position| {
                let pixel = start + position;
                let black = self.shared && !self.crop.contains(&pixel);
                inputs.number(if black { BLACK } else { pixel })
            });
            values.push(numbered.collect::<Result<_, _>>()?);
        }
        let sources = inputs.keys;
        let mut layers = Vec::new();
        for (index, &step) in STEPS.iter().enumerate() {
            let taps = match step {
                Step::Convolution(_) => 3,
                Step::Pool => 2,
                Step::Head => {
                    let taps = feature_side(self.patch_size as usize);
                    layers.push(TapTable {
                        taps,
                        table: values.concat(),
                    });
                    break;
                }
            };
            let mut numbering = Numbering::new(self.shared);
            for (values, needed) in values.iter_mut().zip(&needed) {
                check()?;
                numbering.next_patch();
                let (from, to) = (&needed[index], &needed[index + 1]);
                let at = |position: i64| {
                    if from.contains(&position) {
                        values[(position - from.start) as usize]
                    } else {
                        ZERO
                    }
                };
                let numbered = to.clone().map(|j| {
                    numbering.number(match step {
                        Step::Pool => [at(2 * j), at(2 * j + 1), ZERO],
                        _ => [at(j - 1), at(j), at(j + 1)],
                    })
                });
                *values = numbered.collect::<Result<_, _>>()?;
            }
            layers.push(TapTable {
                taps,
                table: numbering
                    .keys
                    .iter()
                    .flat_map(|key| key[..taps].iter().copied())
                    .collect(),
            });
        }
        Ok(AxisPlan { sources, layers })
    }
}

/// Distinct keys in order of first appearance.
struct Numbering<K> {
    shared: bool,
    numbers: HashMap<K, i32>,
    keys: Vec<K>,
}

impl<K: Copy + Eq + std::hash::Hash> Numbering<K> {
    fn new(shared: bool) -> Self {
        Self {
            shared,
            numbers: HashMap::new(),
            keys: Vec::new(),
        }
    }

    /// Without sharing, values of earlier patches are not found again.
    fn next_patch(&mut self) {
        if !self.shared {
            self.numbers.clear();
        }
    }

    fn number(&mut self, key: K) -> Result<i32, Error> {
        let next = i32::try_from(self.keys.len()).map_err(|_| too_large())?;
        let number = *self.numbers.entry(key).or_insert(next);
        if number == next {
            self.keys.push(key);
        }
        Ok(number)
    }
}

fn too_large() -> Error {
    Error::Unsupported(
        "a tile has more than 2^31 distinct rows or columns: use a larger stride or a crop".into(),
    )
}

/// Plans by geometry: slices and interior tiles repeat.
pub(crate) struct AxisPlans {
    known: HashMap<PatchRow, Arc<AxisPlan>>,
    bytes: usize,
    /// Tables kept for reuse, at most, in bytes.
    limit: usize,
}

impl AxisPlans {
    /// Keeps tables of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            known: HashMap::new(),
            bytes: 0,
            limit,
        }
    }

    /// Most bytes of tables that are kept.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// The plan of `patches`, from the cache or made now.
    pub fn get(&mut self, patches: PatchRow, check: Check<'_>) -> Result<Arc<AxisPlan>, Error> {
        if let Some(plan) = self.known.get(&patches) {
            return Ok(Arc::clone(plan));
        }
        let plan = Arc::new(patches.number(check)?);
        if self.bytes + plan.bytes() > self.limit {
            self.forget();
        }
        self.bytes += plan.bytes();
        self.known.insert(patches, Arc::clone(&plan));
        Ok(plan)
    }

    /// Forgets all plans.
    pub fn forget(&mut self) {
        self.known = HashMap::new();
        self.bytes = 0;
    }

    /// Bytes of the tables that are kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}
