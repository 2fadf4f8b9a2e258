//! Winograd runs, in plans of whole slices and of tiles.

use std::collections::HashMap;

use crate::cancel::Cancel;
use crate::network::CONVOLUTIONS;
use crate::patch_grid::{Axis, Padding};
use crate::plan::{AxisPlan, AxisPlans, MAX_RUN, MaxRuns, STEPS, Step, ZERO};

const MAX_RUNS: MaxRuns = [MAX_RUN; CONVOLUTIONS];

/// Every value as the input pixels that it is made of, and where zeros are: equal ones are the same
/// activation, whatever plan they are in. Values of a run carry their run's too.
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
        for run in 0..table.runs() {
            let whole: Vec<_> = table.inputs_of_run(run).map(tap).collect();
            for (position, value) in table.run(run).enumerate() {
                meaning[value] = hash(&|h| (position, &whole).hash(h));
            }
        }
        layers.push(meaning);
    }
    layers
}

/// Tiles of any kind evaluate each patch by the same runs as the whole slice, and every run is
/// a run of overlapping taps.
#[test]
fn runs_do_not_depend_on_the_tile() {
    for (len, patch_size, stride) in [(90, 32, 1), (200, 65, 4), (150, 64, 7), (97, 33, 33)] {
        for padding in [Padding::Patch, Padding::Image] {
            let axis = Axis { origin: 3, len, patch_size, stride };
            let all: Vec<usize> = (0..axis.count()).collect();
            let mut plans = AxisPlans::new(0);
            let whole = plans.tile(&axis, Some(&MAX_RUNS), &all, padding, &Cancel::default()).unwrap();
            let meant = meanings(&whole, axis.start(0));
            for chosen in [vec![0], all[all.len() / 2..].to_vec(), vec![1, all.len() - 1]] {
                let tile = plans.tile(&axis, Some(&MAX_RUNS), &chosen, padding, &Cancel::default()).unwrap();
                check(&tile);
                let patches = &meanings(&tile, axis.start(chosen[0]))[STEPS.len()];
                for (&index, patch) in chosen.iter().zip(patches) {
                    assert_eq!(
                        *patch,
                        meant[STEPS.len()][index],
                        "patch {index} of {patch_size}/{stride}, {padding:?}, tile {chosen:?}"
                    );
                }
            }
            check(&whole);
        }
    }
    check(&AxisPlans::new(0).isolated(65, 3, Some(&MAX_RUNS), &Cancel::default()).unwrap());
}

/// Runs cover all values, in order; neighbours' taps overlap; values are distinct.
fn check(plan: &AxisPlan) {
    for (index, &step) in STEPS.iter().enumerate() {
        let table = plan.layer(index);
        if !matches!(step, Step::Convolution(1..)) {
            assert_eq!(table.runs(), 0);
            continue;
        }
        let mut next = 0;
        for run in (0..table.runs()).map(|run| table.run(run)) {
            assert_eq!(run.start, next);
            assert!((1..=MAX_RUN).contains(&run.len()), "{run:?}");
            next = run.end;
            for value in run.start + 1..run.end {
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
