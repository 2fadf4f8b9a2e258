//! Plans of tiles of long axes, made from their neighbourhoods, against those made from all patches.

use crate::cancel::Cancel;
use crate::network::CONVOLUTIONS;
use crate::patch_grid::{Axis, Padding};
use crate::plan::neighbourhood::{Neighbourhood, max_tile};
use crate::plan::value_numbering::{PatchRow, reach};
use crate::plan::{AxisPlans, MAX_RUN, MaxRuns};

/// Runs of some layers are longer than those of others.
const MIXED: MaxRuns = {
    let mut max_runs = [6; CONVOLUTIONS];
    (max_runs[8], max_runs[9]) = (MAX_RUN, MAX_RUN);
    max_runs
};

/// Deterministic numbers below `end`.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % end
    }
}

fn is_part(axis: &Axis, max_runs: &MaxRuns, padding: Padding) -> bool {
    Neighbourhood::new(axis, max_runs, reach(padding) as usize).of(0..1) != [0..axis.count()]
}

/// Tiles of every kind: anywhere, at both ends, with gaps; axes whose ends see the black differently.
#[test]
fn a_neighbourhood_decides_what_all_patches_decide() {
    let mut random = Random(1);
    let mut parts = 0;
    for case in 0..if cfg!(debug_assertions) { 4 } else { 40 } {
        let patch_size = [32, 33, 47, 64, 65, 96, 129][random.below(7)];
        let stride =
            [1, 2, 3, 5, 7, 8, 10, 16, 20, 24, 31, 32, patch_size - 1, patch_size][random.below(14)].min(patch_size);
        let (max_runs, padding) =
            ([[4; CONVOLUTIONS], MIXED][case % 2], [Padding::Patch, Padding::Image][case / 2 % 2]);
        let axis = Axis {
            origin: 0,
            len: stride * (700 + random.below(900)) + 3000 + random.below(stride),
            patch_size,
            stride,
        };
        let count = axis.count();
        parts += usize::from(is_part(&axis, &max_runs, padding));
        let cancel = Cancel::default();
        let whole = PatchRow::new(&axis, &[0..count], padding).number(Some(&max_runs), &cancel).unwrap();
        let mut plans = AxisPlans::new(4 << 20);
        for _ in 0..12 {
            let len = 1 + random.below(40);
            let first = [0, count - len, random.below(count - len), random.below(60), count - len - random.below(60)]
                [random.below(5)];
            let mut chosen: Vec<usize> = (first..first + len).collect();
            if random.below(3) == 0 {
                chosen.retain(|_| random.below(3) > 0);
                chosen.push(first + len);
                chosen.retain(|&patch| patch < count);
            }
            if chosen.is_empty() {
                continue;
            }
            let tile = plans.tile(&axis, Some(&max_runs), &chosen, padding, &cancel).unwrap();
            let base = axis.start(chosen[0]) - axis.start(0);
            let expected = whole.restrict(chosen.iter().copied(), base, &cancel).unwrap();
            assert!(*tile == expected, "{axis:?} {padding:?} runs of {max_runs:?} tile {chosen:?}");
        }
    }
    assert!(parts > 0);
    println!("{parts} long axes");
}

/// The plan of a tile of the longest axes takes no longer than that of a short one.
#[test]
fn long_axes_are_planned_tile_by_tile() {
    for (patch_size, stride) in [(32, 1), (257, 1), (257, 7), (1024, 1), (1024, 1024)] {
        let axis = Axis { origin: 0, len: 1 << 24, patch_size, stride };
        let longest = max_tile(&axis);
        for tile in [0..1, 5000..5001, axis.count() - 1..axis.count(), 0..longest, axis.count() - longest..axis.count()]
        {
            let around = Neighbourhood::new(&axis, &MIXED, 96).of(tile.clone());
            let patches: usize = around.iter().map(|range| range.len()).sum();
            assert!(around.iter().any(|range| range.start <= tile.start && tile.end <= range.end));
            assert!(patches * patch_size <= 12 << 20, "{patch_size}/{stride}: {patches} patches for {tile:?}");
        }
    }
}
