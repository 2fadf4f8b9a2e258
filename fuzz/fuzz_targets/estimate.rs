//! Any geometry through `patchmask_session_estimate`: grids and amounts that can be, the same ones each time, and within
//! the memory budget.
#![no_main]

use std::ptr::{null, null_mut};

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use patchmask::ffi::*;
use patchmask_fuzz::calls::{Callbacks, Session, Versioned, options};
use patchmask_fuzz::models::models;
use patchmask_fuzz::{check, check_silence, mostly, rarely, report_panics};

/// Patches along an axis; planning takes time for each.
const MAX_PATCHES: u64 = 48;
const REFUSALS: &[patchmask_status] = &[PATCHMASK_INVALID_ARGUMENT, PATCHMASK_OUT_OF_MEMORY, PATCHMASK_UNSUPPORTED];

fuzz_target!(init: report_panics(), |bytes: &[u8]| {
    let _ = run(&mut Unstructured::new(bytes));
    check_silence();
});

/// An extent: small, about one that is full of patches, or any.
fn extent(u: &mut Unstructured, largest: u64) -> Result<u64> {
    Ok(match u.int_in_range(0..=15)? {
        0..=7 => u.int_in_range(1..=80)?,
        8..=14 => u.int_in_range(1..=largest)?,
        _ => u.arbitrary()?,
    })
}

fn run(u: &mut Unstructured) -> Result<()> {
    let model = u.choose(models())?;
    let extents = [extent(u, 48 << 10)?, extent(u, 48 << 10)?, extent(u, 1 << 30)?];
    let mut options = options(u, model, extents, MAX_PATCHES, &mut Callbacks::default())?;
    let o = options.known;
    let count = |begin: u64, end: u64| match o.crop_x1 | o.crop_y1 | o.crop_x0 | o.crop_y0 {
        0 => 0,
        _ => end.saturating_sub(begin).div_ceil(o.stride.max(1).into()),
    };
    let crop = [count(o.crop_x0, o.crop_x1), count(o.crop_y0, o.crop_y1)];
    let grid = [0, 1].map(|axis| match crop[axis] {
        0 => extents[axis].div_ceil(o.stride.max(1).into()),
        patches => patches,
    });
    if extents[..2].iter().all(|&extent| extent <= 1 << 24) && grid.iter().any(|&patches| patches > MAX_PATCHES) {
        return Ok(());
    }
    let Some(session) = Session::new(model, options.pointer(u)) else { return Ok(()) };

    // SAFETY: numbers and pointers.
    let mut volume: patchmask_volume = unsafe { std::mem::zeroed() };
    (volume.struct_size, volume.slope) = (size_of_val(&volume), 1.0);
    [volume.width, volume.height, volume.depth] = extents;
    let voxels = extents.iter().fold(1_u64, |voxels, &extent| voxels.saturating_mul(extent));
    let mut inside = vec![0_u8; if voxels <= 1 << 12 { voxels as usize } else { 0 }];
    let mut roi = volume;
    roi.data = inside.as_mut_ptr().cast();
    roi.voxel_type = mostly(u, PATCHMASK_VOXEL_U8)?.min(PATCHMASK_VOXEL_U8);
    let with_roi = !inside.is_empty() && rarely(u, 2);
    u.fill_buffer(&mut inside)?;
    let mut volume = Versioned::arbitrary(u, volume)?;
    let (volume, roi) = (volume.pointer(u), if with_roi { &raw const roi } else { null() });

    let mut estimates = Vec::new();
    for _ in 0..2 {
        // SAFETY: numbers; structs with memory for their size.
        unsafe {
            let mut out: patchmask_estimate = std::mem::zeroed();
            check(patchmask_estimate_init(&raw mut out, size_of_val(&out)), &[]);
            let status = patchmask_session_estimate(session.0, volume, roi, &raw mut out);
            estimates.push((check(status, REFUSALS), out));
            check(patchmask_session_trim(session.0), &[]);
        }
    }
    let [(status, first), (again, second)] = estimates[..] else { unreachable!() };
    let numbers = |e: &patchmask_estimate| {
        [e.grid_width, e.grid_height, e.classes, e.patches, e.macs, e.macs_unshared, e.peak_bytes, e.tiles]
    };
    assert_eq!((status, numbers(&first)), (again, numbers(&second)));
    if status != PATCHMASK_OK {
        assert_eq!(numbers(&first), [0; 8], "a refusal wrote");
        return Ok(());
    }
    let [width, height, classes, patches, macs, unshared, peak, tiles] = numbers(&first);
    assert_eq!(([width, height], classes, first.device_peak_bytes), (grid, model.classes.into(), 0));
    let all = u128::from(width) * u128::from(height) * u128::from(extents[2]);
    if with_roi {
        assert!(u128::from(patches) <= all);
    } else {
        assert_eq!(u128::from(patches), all.min(u64::MAX.into()));
    }
    assert!(tiles <= patches && (tiles == 0) == (patches == 0));
    // Winograd runs are evaluated whole: tiles of a patch or two, where the budget allows no more, compute some pixels for none.
    assert!(o.padding == PATCHMASK_PADDING_IMAGE || macs / 4 <= unshared, "{macs} of {unshared}");
    assert!(macs >= patches && unshared >= patches, "{macs} {unshared}");
    assert!(peak > 0 && (o.memory_budget == 0 || peak <= o.memory_budget), "{peak} of {}", o.memory_budget);
    // SAFETY: NULL is refused.
    let status = unsafe { patchmask_session_estimate(session.0, volume, roi, null_mut()) };
    assert_eq!(check(status, &[PATCHMASK_INVALID_ARGUMENT]), PATCHMASK_INVALID_ARGUMENT);
    Ok(())
}
