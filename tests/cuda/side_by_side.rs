//! Small slices are evaluated side by side, each in a part of the arena, as far as the budget goes; slices that need
//! more of it take turns with those whose part has some of it.

use std::collections::HashSet;

use patchmask::Extents;
use patchmask::Model;
use patchmask::Padding;
use patchmask::Span;
use patchmask::{Estimate, Options, Session};

use crate::host::seven_slices;
use crate::support::{Case, Random, in_turn, network};
use crate::{bits, fake_driver, on_gpu};

fn session(case: &Case, model: &Model, memory_budget: u64) -> Session {
    let options = Options { memory_budget, ..on_gpu(case) };
    Session::new(model, options, &mut |_, _| ()).unwrap()
}

fn estimate(case: &Case, session: &Session, depth: u64) -> Estimate {
    let extents = Extents::new(case.width as u64, case.height as u64, depth, "volume").unwrap();
    session.estimate(extents, None, None).unwrap()
}

fn computed(spans: &[Span]) -> impl Iterator<Item = &Span> {
    spans.iter().filter(|span| span.lane.contains(" compute "))
}

/// How many lanes slices were computed on.
fn lanes(spans: &[Span]) -> usize {
    let lanes: HashSet<&str> = computed(spans).map(|span| span.lane.as_str()).collect();
    lanes.len()
}

/// Whether some slices were at work at the same time; those of one lane never are.
fn together(spans: &[Span]) -> bool {
    let pairs = computed(spans).flat_map(|a| computed(spans).map(move |b| (a, b)));
    let overlapping = pairs
        .filter(|(a, b)| a.slice < b.slice && a.begin < b.end && b.begin < a.end)
        .inspect(|(a, b)| assert!(a.lane != b.lane, "{a:?} {b:?}"));
    overlapping.count() > 0
}

#[test]
fn as_many_as_the_budget_has_room_for() {
    let Some(gpu) = fake_driver::take() else { return };
    let (case, model) = seven_slices(71);
    let plenty = session(&case, &model, 1 << 30);
    let (least, activations) = in_turn(&plenty, case.width, case.height);
    for depth in [4, 7] {
        let peak = estimate(&case, &plenty, depth).peak.device;
        assert_eq!(peak, least + 3 * activations, "four are on their way at a time");
    }
    let expected = bits(&case.run_in(&plenty, &model));
    // Three take as long as two.
    for (room, slices, seed) in [(1, 1, 5), (2, 2, 6), (3, 2, 7), (4, 4, 8)] {
        let budget = least + (room - 1) * activations;
        let session = session(&case, &model, budget);
        session.trace(true).unwrap();
        gpu.completion(2, seed);
        let outcome = case.run_in(&session, &model);
        assert!(bits(&outcome) == expected, "{slices} slices");
        let unused = (room - slices) * activations;
        assert_eq!(outcome.report.peak.device, budget - unused);
        assert_eq!(outcome.report.work.tiles, 7, "not cut for the sake of others");
        let spans = session.trace(true).unwrap();
        assert_eq!(lanes(&spans) as u64, slices);
        assert_eq!(together(&spans), slices > 1, "{spans:?}");
    }
}

/// A budget that allows for it is no promise that the device has it.
#[test]
fn a_device_with_room_for_one_does_one() {
    let Some(gpu) = fake_driver::take() else { return };
    let (case, model) = seven_slices(72);
    let session = session(&case, &model, 1 << 30);
    let (_, activations) = in_turn(&session, case.width, case.height);
    let before = gpu.live("bytes");
    let expected = bits(&case.run_in(&session, &model));
    let taken = gpu.live("bytes") - before;
    session.trim().unwrap();
    gpu.devices(1, before + taken - 3 * activations);
    session.trace(true).unwrap();
    for _ in 0..2 {
        let outcome = case.run_in(&session, &model);
        assert!(bits(&outcome) == expected);
        assert_eq!(outcome.report.work.tiles, 7);
        assert_eq!(lanes(&session.trace(true).unwrap()), 1);
    }
}

/// With a ROI every slice takes what it needs: some are alone on the device, others are not.
#[test]
fn slices_of_all_sizes() {
    let Some(gpu) = fake_driver::take() else { return };
    let mut random = Random(73);
    let mut case = Case::whole(&mut random, Padding::Patch, (32, 11), (60, 50, 14));
    let model = network(&mut random, 32);
    // In thousandths of the slice, one region each.
    let sizes = [1, 1, 900, 1, 300, 300, 2, 0, 600, 1, 1, 100, 999, 20];
    case.roi = Some((0..case.voxels.len()).map(|index| (index % 3000 < 3 * sizes[index / 3000]) as u8).collect());
    let expected = bits(&case.run_in(&session(&case, &model, 1 << 30), &model));
    let whole = estimate(&case, &session(&case, &model, 1 << 30), 1);
    let (mut used, mut tiles) = (Vec::new(), Vec::new());
    // Large slices are cut in unequal tiles, or have just room, or plenty.
    for (seed, percent) in [(1, 70), (2, 85), (3, 105), (4, 130)] {
        let budget = whole.peak.device * percent / 100;
        let session = session(&case, &model, budget);
        session.trace(true).unwrap();
        for _ in 0..2 {
            gpu.completion(2, seed);
            let outcome = case.run_in(&session, &model);
            assert!(bits(&outcome) == expected, "{budget}");
            assert!(outcome.report.peak.device <= budget);
            tiles.push(outcome.report.work.tiles);
            used.push(lanes(&session.trace(true).unwrap()));
        }
    }
    println!("tiles: {tiles:?}, compute lanes: {used:?}");
    assert!(tiles[0] > 13 && tiles[7] == 13, "one for each slice, or more");
    assert_eq!(gpu.error(), "");
    assert!(used.contains(&4), "small slices are side by side: {used:?}");
}
