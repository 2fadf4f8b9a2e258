//! The same bits on the GPU for any tile size, budget, ROI, order of work and repeat.

use patchmask::Padding;
use patchmask::{Options, Session};

use crate::support::{Case, Random, network};
use crate::{bits, fake_driver, on_gpu};

/// 6 x 5 patches on each of 4 slices.
pub fn case(random: &mut Random) -> Case {
    Case::whole(random, Padding::Patch, (41, 11), (60, 50, 4))
}

#[test]
fn the_same_bits_in_any_order() {
    let Some(gpu) = fake_driver::take() else { return };
    let mut random = Random(31);
    let case = case(&mut random).with_depth(9); // Slots replay what they have recorded.
    let model = network(&mut random, 41);
    let session = Session::new(&model, on_gpu(&case), &mut |_, _| ()).unwrap();
    let first = bits(&case.run_in(&session, &model));
    for (mode, seed) in [(0, 1), (1, 2), (2, 3), (2, 4)] {
        gpu.completion(mode, seed);
        assert!(first == bits(&case.run_in(&session, &model)), "mode {mode}");
        assert_eq!(gpu.error(), "");
    }
    assert!(gpu.calls("cuGraphLaunch") > 0, "slices replay a graph");
    assert!(gpu.live("exec") == 0, "graphs end with their call");
}

/// A budget that makes tiles of a few patches, and a ROI, change nothing at the points that they evaluate.
#[test]
fn the_same_bits_for_any_tiles_and_roi() {
    let Some(gpu) = fake_driver::take() else { return };
    let mut random = Random(32);
    let mut case = case(&mut random).with_depth(1);
    let model = network(&mut random, 41);
    let whole = case.run(&model, on_gpu(&case));
    let mut tiles = Vec::new();
    let session = Session::new(&model, on_gpu(&case), &mut |_, _| ()).unwrap();
    let at_rest = gpu.live("bytes");
    drop(session);
    for percent in [80, 60, 40] {
        // Weights and buffers have to be there.
        let budget = at_rest + (whole.report.peak.device - at_rest) * percent / 100;
        let options = Options { memory_budget: budget, ..on_gpu(&case) };
        let outcome = case.run(&model, options);
        tiles.push(outcome.report.work.tiles);
        assert!(outcome.report.peak.device <= budget, "{:?}", outcome.report);
        assert!(bits(&outcome) == bits(&whole), "{percent} %");
    }
    println!("tiles: {tiles:?}");
    assert!(tiles[2] > tiles[0].max(1), "smaller budgets make more tiles: {tiles:?}");
    case.roi = Some((0..60 * 50).map(|_| (random.below(60) == 0) as u8).collect());
    let some = case.run(&model, on_gpu(&case));
    let evaluated = some.same_as_in(&whole);
    println!("{evaluated} of {} logits with the ROI", whole.logits.len());
    assert!(evaluated > 0 && evaluated < whole.logits.len());
}
