//! The same bits for any tiles, budget, ROI, session and repeat.

use std::collections::BTreeSet;

use patchmask::Error;
use patchmask::{Options, Session};

use crate::cases::{FULL, discs, network, size};
use crate::support::{Case, Random, TestModel, in_turn};
use crate::{bits, driver, on_gpu};

fn case(depth: usize) -> (Case, TestModel) {
    let mut random = Random(31);
    let model = network(&mut random, &FULL, 65);
    let extents = (size(161, 45), size(122, 37), depth);
    (discs(&mut random, (65, size(4, 9) as u32), extents), model)
}

#[test]
fn repeats_and_sessions() {
    let Some(_gpu) = driver::take() else { return };
    let (case, model) = case(size(5, 3));
    let first = Session::new(&model, on_gpu(&case), &mut |_, _| ()).unwrap();
    let expected = bits(&case.run_in(&first, &model));
    let second = Session::new(&model, on_gpu(&case), &mut |_, _| ()).unwrap();
    let repeats = size(10, 1);
    for repeat in 0..repeats {
        for session in [&first, &second] {
            assert!(bits(&case.run_in(session, &model)) == expected, "{repeat}");
        }
    }
    // Slices of one volume do not depend on each other.
    let mut last = Case { depth: 1, ..case };
    let pixels = last.width * last.height;
    last.voxels = last.voxels.split_off(last.voxels.len() - pixels);
    let alone = bits(&last.run_in(&first, &model));
    let tail = &expected.3[expected.3.len() - alone.3.len()..];
    assert!(alone.3 == tail, "the last slice by itself");
    println!("the same bits in {} runs", 2 * repeats + 2);
}

/// Budgets that make more and more tiles, down to one that is too small; a ROI.
#[test]
fn tiles_and_roi() {
    let Some(_gpu) = driver::take() else { return };
    let (mut case, model) = case(1);
    let whole = case.run(&model, on_gpu(&case));
    let mut cut = Vec::new();
    for percent in [95, 80, 65, 50, 40, 30] {
        let budget = whole.report.peak.device * percent / 100;
        let options = Options { memory_budget: budget, ..on_gpu(&case) };
        let outcome =
            Session::new(&model, options, &mut |_, _| ()).and_then(|session| case.mask_in(&session).map(|_| session));
        match outcome {
            Ok(session) => {
                let outcome = case.run_in(&session, &model);
                assert!(outcome.report.peak.device <= budget, "{:?}", outcome.report);
                assert!(bits(&outcome) == bits(&whole), "{percent} %");
                cut.push((percent, outcome.report.work.tiles));
            }
            // Weights and the buffers of a slice have to be there.
            Err(Error::OutOfMemory(_) | Error::DeviceOutOfMemory(_)) => break,
            Err(other) => panic!("{percent} %: {other:?}"),
        }
    }
    println!("(% of {} bytes, tiles): {cut:?}", whole.report.peak.device);
    assert!(cut.len() >= 2 && cut[cut.len() - 1].1 > cut[0].1.max(1), "{cut:?}");

    let mut random = Random(5);
    let roi = (0..case.voxels.len()).map(|_| u8::from(random.below(300) == 0));
    case.roi = Some(roi.collect());
    let some = case.run(&model, on_gpu(&case));
    let evaluated = some.same_as_in(&whole);
    println!("{evaluated} of {} logits with the ROI", whole.logits.len());
    assert!(evaluated > 0 && evaluated < whole.logits.len());
}

/// Small slices are at work at the same time, and give the bits of one after another.
#[test]
fn side_by_side() {
    let Some(_gpu) = driver::take() else { return };
    let mut random = Random(32);
    let model = network(&mut random, &FULL, 65);
    let extents = (size(97, 45), size(61, 37), size(40, 9));
    let case = discs(&mut random, (65, size(4, 9) as u32), extents);
    let plenty = Session::new(&model, on_gpu(&case), &mut |_, _| ()).unwrap();
    let (memory_budget, _) = in_turn(&plenty, extents.0, extents.1);
    let options = Options { memory_budget, ..on_gpu(&case) };
    let one_by_one = Session::new(&model, options, &mut |_, _| ()).unwrap();
    let mut ran = Vec::new();
    for session in [&one_by_one, &plenty] {
        session.trace(true).unwrap();
        for _ in 0..size(4, 2) {
            let outcome = bits(&case.run_in(session, &model));
            let spans = session.trace(true).unwrap();
            let lanes = spans.iter().map(|span| &span.lane);
            let lanes: BTreeSet<_> = lanes.filter(|lane| lane.contains(" compute ")).collect();
            let last = spans.iter().map(|span| span.end).fold(0.0, f64::max);
            ran.push((lanes.len(), last, outcome));
        }
    }
    let times: Vec<_> = ran.iter().map(|(lanes, s, _)| (lanes, 1e3 * s)).collect();
    println!("(lanes, ms): {times:.3?}");
    let (last, first) = (ran.last().unwrap(), &ran[0]);
    assert_eq!((first.0, last.0), (1, 4));
    assert!(ran.iter().all(|run| run.2 == first.2), "the same bits");
}
