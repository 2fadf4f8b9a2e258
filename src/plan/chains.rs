//! Chains: runs of values that overlap like the pixels of a plain image, for engines that evaluate several
//! neighbouring outputs of a convolution at once (Winograd).
//!
//! ```text
//! chain   v[0], ..., v[m-1]   with taps(v[i]) = (x[i], x[i+1], x[i+2]);   1 <= m <= what the engine wants
//! reads   x[0], ..., x[m+1]   values of the previous layer, or zero
//! ```
//! A chain is evaluated whole, so the bits of a value depend on the chain that it is in. They must not depend
//! on the tile: chains are cut once for all patches of the slice, and a tile evaluates every chain that
//! it needs a value of ([`AxisPlan::restrict`](super::AxisPlan::restrict)). What a tile evaluates in vain
//! stays little because no chain has parts that only far patches need:
//!
//! ```text
//! patch     | edge ][ interior ... | ... | ... ][ edge |
//! ```
//! Edge values (those that the zeros at the patch's border reach) are mostly the patch's own: they are cut
//! evenly, counted from the border. Interior values are shared with all patches around: they are cut at
//! multiples of the longest chain on the layer's own pixel grid. Every value is in one chain: the first that
//! wants it.

use std::collections::BTreeMap;
use std::ops::Range;

/// Most values of a chain that any engine may want.
pub(crate) const MOST_CHAIN: usize = 6;

/// Where the values of a layer stand in their patches.
pub(super) struct Positions<'a> {
    /// First pixel of each patch.
    pub starts: &'a [i64],
    /// Positions of each patch that have a value.
    pub needed: &'a [Range<i64>],
    /// [patch][position - needed.start]
    pub values: &'a [Vec<i32>],
    /// Positions of a patch that its border does not reach.
    pub interior: Range<i64>,
    /// Pools before this layer: its grid is that many times twice as coarse.
    pub pools: u32,
}

/// All values of a layer, chain by chain.
pub(super) struct Chains {
    /// Values.
    pub order: Vec<i32>,
    /// First entry of each chain in `order`, and the end.
    pub bounds: Vec<u32>,
    taken: Vec<bool>,
    most: usize,
}

impl Chains {
    /// Cuts the layer's `count` values into chains of up to `most`.
    pub fn cut(positions: &Positions<'_>, count: usize, most: usize) -> Self {
        let mut chains = Self { most, order: Vec::with_capacity(count), bounds: vec![0], taken: vec![false; count] };
        for run in interior_runs(positions, most) {
            chains.add(&run);
        }
        let interior = &positions.interior;
        for (needed, values) in positions.needed.iter().zip(positions.values) {
            let entry = |position: i64| (position.clamp(needed.start, needed.end) - needed.start) as usize;
            if interior.is_empty() {
                chains.add(values);
            } else {
                chains.add(&values[..entry(interior.start)]);
                chains.add(&values[entry(interior.end)..]);
            }
        }
        debug_assert_eq!(chains.order.len(), count);
        chains
    }

    /// Makes chains of those `values`, neighbours all, that are in none yet.
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
            let pieces = count.div_ceil(self.most);
            let bounds = (1..=pieces).map(|piece| (first + count * piece / pieces) as u32);
            self.bounds.extend(bounds);
        }
    }
}

/// Interior values of all patches, cut on the layer's pixel grid. Patches whose starts differ by a part of a
/// pixel of this grid have grids of their own.
fn interior_runs(positions: &Positions<'_>, most: usize) -> Vec<Vec<i32>> {
    let pixel = 1i64 << positions.pools;
    // (grid, cell) -> (coordinate, value) by coordinate
    let mut cells: BTreeMap<(i64, i64), BTreeMap<i64, i32>> = BTreeMap::new();
    for ((start, needed), values) in (positions.starts.iter()).zip(positions.needed).zip(positions.values) {
        let origin = start.div_euclid(pixel);
        for (position, &value) in needed.clone().zip(values) {
            if positions.interior.contains(&position) {
                let at = origin + position;
                let cell = (start.rem_euclid(pixel), at.div_euclid(most as i64));
                cells.entry(cell).or_default().insert(at, value);
            }
        }
    }
    let mut runs = Vec::new();
    for cell in cells.into_values() {
        let mut last = None;
        for (at, value) in cell {
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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use crate::lattice::{Axis, Padding};
    use crate::plan::{AxisPlan, AxisPlans, MOST_CHAIN, STEPS, Step, ZERO};

    fn go() -> Result<(), crate::error::Error> {
        Ok(())
    }

    /// Every value as the input pixels that it is made of, and where zeros are: equal ones are the same
    /// activation, whatever plan they are in. Chained values carry their chain's too.
    fn meanings(plan: &AxisPlan, base: i64) -> Vec<Vec<u64>> {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let hash = |meaning: &dyn Fn(&mut DefaultHasher)| {
            let mut hasher = DefaultHasher::new();
            meaning(&mut hasher);
            hasher.finish()
        };
        let source = |value| plan.source(value).map(|pixel| pixel + base);
        let mut layers = vec![(0..plan.inputs()).map(|value| hash(&|h| source(value).hash(h))).collect::<Vec<_>>()];
        for index in 0..STEPS.len() {
            let (table, before) = (plan.layer(index), &layers[index]);
            let tap = |tap: i32| (tap != ZERO).then(|| before[tap as usize]);
            let mut meaning: Vec<u64> = (0..table.len())
                .map(|value| {
                    let taps: Vec<_> = table.taps_of(value).iter().map(|&t| tap(t)).collect();
                    hash(&|h| taps.hash(h))
                })
                .collect();
            for chain in 0..table.chains() {
                let whole: Vec<_> = table.inputs_of_chain(chain).map(tap).collect();
                for (place, value) in table.chain(chain).enumerate() {
                    meaning[value] = hash(&|h| (place, &whole).hash(h));
                }
            }
            layers.push(meaning);
        }
        layers
    }

    /// Tiles of any kind evaluate each lattice point by the same chains as the whole slice, and every chain is
    /// a run of overlapping taps.
    #[test]
    fn chains_do_not_depend_on_the_tile() {
        for (len, patch_size, stride) in [(90, 32, 1), (200, 65, 4), (150, 64, 7), (97, 33, 33)] {
            for padding in [Padding::Patch, Padding::Image] {
                let axis = Axis { origin: 3, len, patch_size, stride };
                let all: Vec<usize> = (0..axis.count()).collect();
                let mut plans = AxisPlans::new(Some(MOST_CHAIN), 0);
                let whole = plans.tile(&axis, &all, padding, &go).unwrap();
                let meant = meanings(&whole, axis.start(0));
                for part in [vec![0], all[all.len() / 2..].to_vec(), vec![1, all.len() - 1]] {
                    let tile = plans.tile(&axis, &part, padding, &go).unwrap();
                    check(&tile);
                    let points = &meanings(&tile, axis.start(part[0]))[STEPS.len()];
                    for (&index, point) in part.iter().zip(points) {
                        assert_eq!(
                            *point,
                            meant[STEPS.len()][index],
                            "patch {index} of {patch_size}/{stride}, {padding:?}, tile {part:?}"
                        );
                    }
                }
                check(&whole);
            }
        }
        check(&AxisPlans::new(Some(MOST_CHAIN), 0).isolated(65, 3, &go).unwrap());
    }

    /// Chains cover all values, in order; neighbours' taps overlap; values are distinct.
    fn check(plan: &AxisPlan) {
        for (index, &step) in STEPS.iter().enumerate() {
            let table = plan.layer(index);
            if !matches!(step, Step::Convolution(1..)) {
                assert_eq!(table.chains(), 0);
                continue;
            }
            let mut next = 0;
            for chain in (0..table.chains()).map(|chain| table.chain(chain)) {
                assert_eq!(chain.start, next);
                assert!((1..=MOST_CHAIN).contains(&chain.len()), "{chain:?}");
                next = chain.end;
                for value in chain.start + 1..chain.end {
                    assert_eq!(table.taps_of(value - 1)[1..], table.taps_of(value)[..2]);
                }
            }
            assert_eq!(next, table.len());
            let mut seen = HashMap::new();
            for value in 0..table.len() {
                let earlier = seen.insert(table.taps_of(value), value);
                assert!(earlier.is_none(), "step {index}: {value} is {earlier:?} again");
            }
        }
    }
}
