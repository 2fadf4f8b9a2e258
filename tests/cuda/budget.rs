//! Memory of both sides: foreseen, within the budget, and errors that say whose memory is short.

use patchmask::Error;
use patchmask::Model;
use patchmask::Padding;
use patchmask::{DeviceChoice, DeviceKind};
use patchmask::{Estimate, Options, Outputs, Session};
use patchmask::{Extents, Volume, VolumeMut};

use crate::host::small_case;
use crate::support::{Case, Random, network};
use crate::{bits, fake_driver, on_gpu, repeatability};

const OUT_OF_MEMORY: i32 = 2;

/// A session with this budget, and what it foresees; `None` if that is too little.
fn session(case: &Case, model: &Model, budget: u64) -> Option<(Session, Estimate)> {
    let options = Options { memory_budget: budget, ..on_gpu(case) };
    let session = Session::new(model, options, &mut |_, _| ()).ok()?;
    let estimate = session.estimate(case.extents(), None, None).ok()?;
    Some((session, estimate))
}

/// Plans and tables of all tiles are held where the budget has room for them, and made one at a time where it has
/// not: either way as foreseen, within the budget, with the same bits, and from page-locked memory.
#[test]
fn what_is_held_is_foreseen_and_fits() {
    let Some(gpu) = fake_driver::take() else { return };
    let mut random = Random(51);
    let case = Case::whole(&mut random, Padding::Patch, (32, 8), (90, 75, 1));
    let model = network(&mut random, 32);
    let (whole, estimate) = session(&case, &model, 1 << 30).unwrap();
    let expected = bits(&case.run_in(&whole, &model));
    let mut budgets: Vec<(Estimate, u64)> = (10..60)
        .map(|percent| estimate.peak.device * percent / 100)
        .filter_map(|budget| Some((session(&case, &model, budget)?.1, budget)))
        .filter(|(estimate, _)| estimate.work.tiles >= 16)
        .collect();
    budgets.sort_by_key(|(estimate, _)| estimate.peak.host);
    let (least, most) = (budgets[0].1, budgets[budgets.len() - 1].1);
    let mut graphs = Vec::new();
    for budget in [most, least] {
        let (session, estimate) = session(&case, &model, budget).unwrap();
        gpu.reset();
        let outcome = case.run_in(&session, &model);
        let (tiles, peak) = (outcome.report.work.tiles, outcome.report.peak);
        println!("budget {budget}: {tiles} tiles, {peak:?}");
        assert!(bits(&outcome) == expected, "budget {budget}");
        assert_eq!(peak, estimate.peak);
        assert!(peak.host <= budget && peak.device <= budget, "{budget}");
        assert_eq!(gpu.calls("pageable"), 0, "copies that may block");
        assert_eq!(gpu.error(), "");
        graphs.push(gpu.calls("cuGraphLaunch"));
    }
    // Tiles of one geometry share a graph; what comes once has none.
    assert!(graphs[0] > 0 && graphs[1] == 0, "{graphs:?}");
}

/// Slices whose ROI grows need a larger arena in the midst of a call, while the slice before is at work: nothing but
/// the end of a call waits in a way that a wish to stop could not interrupt.
#[test]
fn room_is_made_without_blocking() {
    let Some(gpu) = fake_driver::take() else { return };
    let mut random = Random(52);
    let mut case = repeatability::case(&mut random);
    let model = network(&mut random, case.options.patch_size);
    case.roi = Some((0..60 * 50 * 4).map(|i| (i % 3000 < 800 * (i / 3000)) as u8).collect());
    let session = Session::new(&model, on_gpu(&case), &mut |_, _| ()).unwrap();
    let run = |case: &Case| {
        gpu.reset();
        case.run_in(&session, &model);
        assert_eq!((gpu.error().as_str(), gpu.calls("pageable")), ("", 0));
        ["cuMemAlloc_v2", "cuStreamSynchronize"].map(|call| gpu.calls(call))
    };
    let growing = run(&case);
    let again = run(&case);
    session.trim().unwrap();
    case.roi.as_mut().unwrap().reverse();
    let shrinking = run(&case);
    println!("device allocations: {}, again {}, shrinking {}", growing[0], again[0], shrinking[0]);
    assert!(growing[0] > shrinking[0] && again[0] == 0, "the arena grew");
    assert_eq!([growing[1], shrinking[1]], [again[1]; 2], "waits that nothing interrupts");
}

/// Where the device has no room for the smallest tile, the error does not blame the budget.
#[test]
fn a_full_device_is_not_a_small_budget() {
    let Some(gpu) = fake_driver::take() else { return };
    let (case, model) = small_case(53);
    let mut case = case.with_depth(1);
    case.roi = Some((0..33 * 20).map(|i| u8::from(i == 0)).collect()); // of one patch
    let session = Session::new(&model, on_gpu(&case), &mut |_, _| ()).unwrap();
    case.run_in(&session, &model);
    // The arena of one patch can no longer be had, and every other one is as large.
    gpu.devices(1, gpu.live("bytes") - 1);
    case.roi = Some(vec![1; 33 * 20]);
    match case.try_in(&session, &model).map(|outcome| outcome.report) {
        Err(Error::DeviceOutOfMemory(text)) => {
            println!("{text}");
            assert!(text.contains("the device is full"), "{text}");
            assert!(text.contains("close other programs"), "{text}");
        }
        other => panic!("{other:?}"),
    }
}

/// Each memory's budget has its error.
#[test]
fn a_budget_below_the_weights() {
    let Some(_gpu) = fake_driver::take() else { return };
    let (case, model) = small_case(54);
    let options = Options { memory_budget: 1000, ..on_gpu(&case) };
    match Session::new(&model, options, &mut |_, _| ()) {
        Err(Error::DeviceOutOfMemory(text)) => {
            assert!(text.contains("1000 bytes of the device"), "{text}")
        }
        other => panic!("{:?}", other.err()),
    }
}

/// Page-locked memory is scarcer than the host's: `auto` goes on without it.
#[test]
fn without_page_locked_memory_auto_is_the_cpu() {
    let Some(gpu) = fake_driver::take() else { return };
    let (case, model) = small_case(55);
    let choose = |device| {
        gpu.reset();
        gpu.fail("cuMemHostAlloc", 1, OUT_OF_MEMORY);
        let options = Options { device, ..on_gpu(&case) };
        let mut said = String::new();
        Session::new(&model, options, &mut |_, text| said += text).map(|session| (session, said))
    };
    let (session, said) = choose(DeviceChoice::Auto).unwrap();
    assert!(said.contains("page-locked"), "{said}");
    assert_eq!(case.run_in(&session, &model).report.device, DeviceKind::Cpu);
    let refused = choose(DeviceChoice::Cuda(vec![0])).err();
    assert!(matches!(refused, Some(Error::OutOfMemory(_))), "{refused:?}");
}

/// Kernels number the pixels of a slice and of an image with 32 bits: larger slices are refused before anything is
/// done, by the estimate too, and larger images are cut whatever the budget.
#[test]
fn no_more_than_32_bits_of_pixels() {
    let Some(_gpu) = fake_driver::take() else { return };
    let (case, model) = small_case(56);
    let options = Options { patch_size: 63, stride: 32, memory_budget: 1 << 62, ..on_gpu(&case) };
    let session = Session::new(&model, options, &mut |_, _| ()).unwrap();
    let estimate = |side: u64| {
        let extents = Extents::new(side, side, 1, "volume").unwrap();
        session.estimate(extents, None, None)
    };
    assert_eq!(estimate(9000).unwrap().work.tiles, 1);
    // Patches have borders of their own: their image has more rows and columns than the slice.
    let tiles = estimate(46000).unwrap().work.tiles;
    println!("46000 x 46000 pixels: {tiles} tiles");
    assert!(tiles > 1);

    let refused = estimate(47000).unwrap_err();
    match &refused {
        Error::Unsupported(text) => assert!(text.contains("2209000000 pixels"), "{text}"),
        other => panic!("{other:?}"),
    }
    // Zeros that nobody touches take no memory.
    let (voxels, mut mask) = (vec![0_i8; 47000 * 47000], vec![0_u8; 47000 * 47000]);
    let volume = Volume::from_slice(&voxels, 47000, 47000, 1).unwrap();
    let mut outputs = Outputs { mask: Some(VolumeMut::from_slice(&mut mask)), ..Outputs::default() };
    let outcome = session.segment(&volume, None, &mut outputs, &mut |_, _| true);
    assert_eq!(outcome.err(), Some(refused));
}
