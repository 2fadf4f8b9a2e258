//! The same bits for any number of threads, tile size, budget, ROI, body and repeat.

use patchmask::Error;
use patchmask::Extents;
use patchmask::Padding;
use patchmask::{Interpolation, Options, Session, Work};

use crate::support::{Case, Random, TestModel, bits, network};

/// A case with enough patches for many tiles.
fn dense_case(padding: Padding) -> (Case, TestModel) {
    let mut random = Random(5);
    let case = Case::whole(&mut random, padding, (65, 5), (120, 97, 2));
    let model = network(&mut random, 65);
    (case, model)
}

/// The smallest budget, in bytes, that this case can run in with so many threads.
fn least_budget(case: &Case, model: &TestModel, threads: u32) -> u64 {
    let fits = |budget: u64| {
        let options = Options { memory_budget: budget, threads, ..case.options.clone() };
        match Session::new(model, options, &mut |_, _| ()) {
            Ok(session) => session.estimate(case.extents(), None, None).is_ok(),
            Err(Error::OutOfMemory(_)) => false,
            Err(other) => panic!("{other}"),
        }
    };
    let (mut low, mut high) = (1, 1 << 32);
    while low + 4096 < high {
        let middle = (low + high) / 2;
        if fits(middle) { high = middle } else { low = middle }
    }
    high
}

#[test]
fn bits_do_not_depend_on_threads_tiles_budget_or_repeat() {
    for padding in [Padding::Patch, Padding::Image] {
        let (case, model) = dense_case(padding);
        let first = case.run(&model, case.options.clone());
        let mut tiles = vec![first.report.work.tiles];
        for threads in [1, 2, 4] {
            let least = least_budget(&case, &model, threads);
            for budget in [0, least, least + (1 << 19)] {
                let options = Options { threads, memory_budget: budget, ..case.options.clone() };
                let session = Session::new(&model, options, &mut |_, _| ()).unwrap();
                for _repeat in 0..2 {
                    let again = case.run_in(&session, &model);
                    assert!(bits(&first) == bits(&again), "{threads} threads, {budget}");
                    tiles.push(again.report.work.tiles);
                }
            }
        }
        tiles.sort_unstable();
        tiles.dedup();
        println!("{padding:?}: tile counts {tiles:?}");
        assert!(tiles.len() >= 2, "no budget made tiles: {tiles:?}");
    }
}

#[test]
fn a_budget_too_small_says_how_much_is_missing() {
    let (case, model) = dense_case(Padding::Patch);
    let memory_budget = least_budget(&case, &model, 2) - (1 << 14);
    let options = Options { threads: 2, memory_budget, ..case.options.clone() };
    let text = match Session::new(&model, options, &mut |_, _| ()) {
        Err(error) => error.to_string(),
        Ok(session) => {
            let extents = Extents::new(120, 97, 2, "volume").unwrap();
            session.estimate(extents, None, None).unwrap_err().to_string()
        }
    };
    assert!(text.contains("memory") && text.contains("raise"), "{text}");
}

#[test]
fn a_roi_changes_no_bit_of_what_it_evaluates() {
    for padding in [Padding::Patch, Padding::Image] {
        let (mut case, model) = dense_case(padding);
        let all = case.run(&model, case.options.clone());
        let mut random = Random(3);
        case.roi = Some(
            (0..case.voxels.len())
                .map(|index| {
                    let (x, y) = (index % 120, index / 120 % 97);
                    u8::from(x.abs_diff(60) + y.abs_diff(40) < 25 && random.below(3) > 0)
                })
                .collect(),
        );
        let some = case.run(&model, case.options.clone());
        let evaluated = some.same_as_in(&all);
        assert!(evaluated > 100 && evaluated < all.logits.len() / 2, "{evaluated} logits");
        assert!(some.report.work.macs < all.report.work.macs);
    }
}

/// A body with lungs on a couch: the bits are those of everything, and all are those of the body as a ROI, for any tiles.
#[test]
fn a_body_changes_no_bit_of_what_it_evaluates() {
    let shape = |index: usize| {
        let (x, y) = ((index % 120) as i32, (index / 120 % 97) as i32);
        let oval = |at: (i32, i32), radii: (i32, i32)| {
            ((x - at.0) * radii.1).pow(2) + ((y - at.1) * radii.0).pow(2) < (radii.0 * radii.1).pow(2)
        };
        let body = oval((60, 40), (45, 30));
        (body, body && !oval((40, 40), (12, 15)) || y > 90)
    };
    for padding in [Padding::Patch, Padding::Image] {
        for interpolation in [Interpolation::Nearest, Interpolation::Linear] {
            let (mut case, model) = dense_case(padding);
            case.options.interpolation = interpolation;
            for (index, hu) in case.voxels.iter_mut().enumerate().filter(|(index, _)| !shape(*index).1) {
                *hu = -900 - (index % 100) as i16;
            }
            let all = case.run(&model, case.options.clone());
            let inside: Vec<u8> = (0..case.voxels.len()).map(|index| u8::from(shape(index).0)).collect();
            let roi = Case { roi: Some(inside.clone()), ..case.clone() }.run(&model, case.options.clone());
            case.options.body = true;
            let mut tiles = Vec::new();
            for (threads, memory_budget) in [(1, least_budget(&case, &model, 1)), (3, 0)] {
                let body = case.run(&model, Options { threads, memory_budget, ..case.options.clone() });
                assert!(bits(&body) == bits(&roi), "{threads} threads, {memory_budget}");
                assert_eq!(body.coverage, inside);
                assert!(body.same_as_in(&all) > all.logits.len() / 3);
                assert!(body.report.work.patches < all.report.work.patches);
                tiles.push(body.report.work.tiles);
            }
            assert!(tiles[0] > tiles[1], "{tiles:?}");
        }
    }
}

/// Values that are no HU, air alone, and a body that is everything.
#[test]
fn a_body_of_nothing_or_everything() {
    let (mut case, model) = dense_case(Padding::Patch);
    let all = case.run(&model, case.options.clone());
    case.options.body = true;
    let session =
        Session::new(&model, Options { memory_budget: 1 << 40, ..case.options.clone() }, &mut |_, _| ()).unwrap();
    let large = session.estimate(Extents::new(1 << 16, 1 << 15, 1, "volume").unwrap(), None, None);
    assert!(large.unwrap_err().to_string().contains("must be fewer than 2147483647"));
    let body = case.run(&model, case.options.clone());
    assert!(bits(&body) == bits(&all));
    assert_eq!((body.report.body_share, all.report.body_share), (1.0, 1.0));
    case.voxels[..120 * 97].fill(-1000);
    let half = case.run(&model, case.options.clone());
    assert_eq!((half.report.body_share, half.report.work.patches), (0.5, all.report.work.patches / 2));
    case.voxels.fill(-1000);
    let none = case.run(&model, case.options.clone());
    assert_eq!((none.report.body_share, none.report.work), (0.0, Work::default()));
    assert!(none.logits.iter().all(|logit| logit.is_nan()));
    assert!(none.mask.iter().chain(&none.coverage).all(|&voxel| voxel == 0));
}

/// What a layer makes of black is computed once and copied, but not with a ROI: the same bits.
#[test]
fn copies_of_black_have_the_bits_of_what_they_are_copies_of() {
    for (padding, stride) in [(Padding::Patch, 5), (Padding::Patch, 8), (Padding::Image, 5)] {
        let mut random = Random(5);
        let mut case = Case::whole(&mut random, padding, (65, stride), (150, 130, 1));
        let model = network(&mut random, 65);
        let session = Session::new(&model, case.options.clone(), &mut |_, _| ()).unwrap();
        let products = |session: &Session| session.layers().unwrap().iter().map(|layer| layer.products).sum::<u64>();
        case.run_in(&session, &model);
        let without = products(&session);
        for (index, voxel) in case.voxels.iter_mut().enumerate() {
            let (x, y) = (index % 150, index / 150);
            if x.abs_diff(90).pow(2) + y.abs_diff(60).pow(2) > 30 * 30 {
                *voxel = -2000;
            }
        }
        let all = case.run_in(&session, &model);
        let with = products(&session) - without;
        println!("{padding:?}, stride {stride}: {with} products, {without} without black");
        assert!(20 * with < 19 * without, "{padding:?}, stride {stride}: {with} of {without}");
        case.roi = Some((0..case.voxels.len()).map(|index| u8::from(index > 40)).collect());
        let some = case.run_in(&session, &model);
        assert!(some.same_as_in(&all) > all.logits.len() / 3);
    }
}

#[test]
fn the_estimate_is_what_then_happens() {
    let (case, model) = dense_case(Padding::Patch);
    let session = Session::new(&model, case.options.clone(), &mut |_, _| ()).unwrap();
    let estimate = session.estimate(case.extents(), None, None).unwrap();
    let outcome = case.run_in(&session, &model);
    assert_eq!(estimate.work, outcome.report.work);
    assert_eq!(estimate.peak.host, outcome.report.peak.host);
    assert_eq!((estimate.grid_width, estimate.grid_height), (24, 20));
}

/// 4096 x 4096 x 200 voxels are more than 2^31, and so are the multiply-accumulates of one slice.
#[test]
fn sizes_are_64_bits_wide() {
    let (case, model) = dense_case(Padding::Patch);
    let options = Options { patch_size: 65, stride: 64, memory_budget: 8 << 30, ..case.options };
    let session = Session::new(&model, options, &mut |_, _| ()).unwrap();
    let extents = Extents::new(4096, 4096, 200, "volume").unwrap();
    let estimate = session.estimate(extents, None, None).unwrap();
    assert_eq!(estimate.work.patches, 64 * 64 * 200);
    assert!(estimate.work.macs > 1 << 40);
}

/// A deviation of almost nothing makes activations overflow: an error, not a mask of nothing.
#[test]
fn activations_that_overflow_are_an_error() {
    let (case, model) = dense_case(Padding::Patch);
    let options = Options { std: [1e-40; 3], ..case.options.clone() };
    let session = Session::new(&model, options, &mut |_, _| ()).unwrap();
    assert!(case.mask_in(&session).unwrap_err().to_string().contains("not finite"));
}

/// A callback that says stop at the very last report has stopped this call, not the next one.
#[test]
fn a_late_stop_is_not_left_for_the_next_call() {
    let (case, model) = dense_case(Padding::Patch);
    let session = Session::new(&model, case.options.clone(), &mut |_, _| ()).unwrap();
    assert_eq!(case.mask_while(&session, |done| done < 1.0), Err(Error::Cancelled));
    case.mask_in(&session).unwrap();
}
