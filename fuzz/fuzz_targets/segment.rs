//! Any volume, options and outputs through `patchmask_session_segment`: only elements of the outputs are written, all of
//! them, with values that can be, and the same ones with other threads and another memory budget.
#![no_main]

use std::ptr::null_mut;

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use patchmask::ffi::*;
use patchmask_fuzz::buffers::{Layout, Output};
use patchmask_fuzz::calls::{Callbacks, Session, Versioned, options};
use patchmask_fuzz::models::{Model, models};
use patchmask_fuzz::{check, check_silence, mostly, rarely, report_panics};

const REFUSALS: &[patchmask_status] = &[
    PATCHMASK_INVALID_ARGUMENT, PATCHMASK_OUT_OF_MEMORY, PATCHMASK_UNSUPPORTED, PATCHMASK_BAD_MODEL,
    PATCHMASK_CANCELLED,
];
/// Patches along an axis.
const MAX_PATCHES: u64 = 4;
/// Bytes of a voxel, by PATCHMASK_VOXEL_*.
const VOXEL_BYTES: [usize; 8] = [1, 1, 1, 2, 2, 4, 4, 8];

fuzz_target!(init: report_panics(), |bytes: &[u8]| {
    let _ = run(&mut Unstructured::new(bytes));
    check_silence();
});

/// A volume and the memory that it lies in.
struct Voxels {
    volume: patchmask_volume,
    layout: Layout,
    bytes: Vec<u8>,
}

impl Voxels {
    fn arbitrary(u: &mut Unstructured, extents: [u64; 3], voxel_type: i32) -> Result<Self> {
        let voxel_type = mostly(u, voxel_type)?;
        let element = VOXEL_BYTES.get(voxel_type as usize).copied().unwrap_or(1);
        let layout = Layout::arbitrary(u, [1, extents[0], extents[1], extents[2]], element)?;
        let mut bytes = vec![0; if layout.can_be_tried() { layout.bytes() } else { 0 }];
        u.fill_buffer(&mut bytes)?;
        // SAFETY: numbers and pointers.
        let mut volume: patchmask_volume = unsafe { std::mem::zeroed() };
        volume.struct_size = size_of_val(&volume);
        volume.data = bytes.as_ptr().cast();
        volume.voxel_type = voxel_type;
        [volume.width, volume.height, volume.depth] = extents;
        [_, volume.stride_x, volume.stride_y, volume.stride_z] = layout.strides;
        volume.slope = mostly(u, 1.0)?;
        volume.intercept = mostly(u, 0.0)?;
        volume.memory = mostly(u, PATCHMASK_MEMORY_HOST)?;
        Ok(Self { volume, layout, bytes })
    }

    /// Rescaled voxels, x fastest.
    fn values(&self) -> Vec<f64> {
        let at = |offset: usize| &self.bytes[offset..offset + self.layout.element];
        let value = |offset| match (self.volume.voxel_type, at(offset)) {
            (PATCHMASK_VOXEL_I8, bytes) => (bytes[0] as i8).into(),
            (PATCHMASK_VOXEL_U8, bytes) => bytes[0].into(),
            (PATCHMASK_VOXEL_I16, bytes) => i16::from_le_bytes(bytes.try_into().expect("2")).into(),
            (PATCHMASK_VOXEL_U16, bytes) => u16::from_le_bytes(bytes.try_into().expect("2")).into(),
            (PATCHMASK_VOXEL_I32, bytes) => i32::from_le_bytes(bytes.try_into().expect("4")).into(),
            (PATCHMASK_VOXEL_F32, bytes) => f32::from_le_bytes(bytes.try_into().expect("4")).into(),
            (_, bytes) => f64::from_le_bytes(bytes.try_into().expect("8")),
        };
        self.layout.offsets().map(|at| self.volume.slope * value(at) + self.volume.intercept).collect()
    }
}

/// Which outputs there are, and how they lie.
struct Wanted {
    mask: Option<Layout>,
    probability: Option<Layout>,
    coverage: Option<Layout>,
    logits: Option<Layout>,
    /// Coverage lies behind each element of the mask, in the same buffer.
    interleaved: bool,
    memory: i32,
}

impl Wanted {
    fn arbitrary(u: &mut Unstructured, voxels: [u64; 4], patches: [u64; 4]) -> Result<Self> {
        let mut some = |shape, element| match u.ratio(3, 4)? {
            true => Layout::arbitrary(u, shape, element).map(Some),
            false => Ok(None),
        };
        let (mask, probability, coverage) = (some(voxels, 1)?, some(voxels, 4)?, some(voxels, 1)?);
        let logits = some(patches, 4)?;
        let interleaved = mask.is_some() && rarely(u, 4);
        let coverage = if interleaved { mask } else { coverage };
        Ok(Self { mask, probability, coverage, logits, interleaved, memory: mostly(u, PATCHMASK_MEMORY_HOST)? })
    }

    fn layouts(&self) -> [Option<Layout>; 4] {
        [self.mask, self.probability, self.coverage, self.logits]
    }
}

/// What a call gave: the elements of each output.
struct Outcome {
    status: patchmask_status,
    elements: [Vec<u8>; 4],
    result: patchmask_result,
    estimate: (patchmask_status, patchmask_estimate),
}

/// Arguments of a call that is made twice.
struct Call<'a> {
    model: &'a Model,
    volume: *const patchmask_volume,
    roi: *const patchmask_volume,
    wanted: &'a Wanted,
    /// The mask lies on the voxels.
    aliased: Option<*mut u8>,
    with_result: bool,
}

impl Call<'_> {
    /// `None` where the options are refused.
    fn run(&self, options: *const patchmask_options, callbacks: &mut Callbacks, fill: u8) -> Option<Outcome> {
        let session = Session::new(self.model, options)?;
        callbacks.session = session.0;
        let layouts = self.wanted.layouts();
        let bytes = |layout: Option<Layout>| layout.map_or(0, |layout| layout.bytes());
        let mut buffers = layouts.map(|layout| Output::new(bytes(layout) + 1, fill));
        // SAFETY: numbers and pointers; structs with memory for their size; buffers as large as their strides reach.
        unsafe {
            let mut outputs: patchmask_outputs = std::mem::zeroed();
            check(patchmask_outputs_init(&raw mut outputs, size_of_val(&outputs)), &[]);
            outputs.memory = self.wanted.memory;
            if let Some(Layout { strides, .. }) = self.wanted.mask {
                outputs.mask = self.aliased.unwrap_or(buffers[0].address());
                [_, outputs.mask_stride_x, outputs.mask_stride_y, outputs.mask_stride_z] = strides;
            }
            if let Some(Layout { strides, .. }) = self.wanted.probability {
                outputs.probability = buffers[1].address().cast();
                [_, outputs.probability_stride_x, outputs.probability_stride_y, outputs.probability_stride_z] = strides;
            }
            if let Some(Layout { strides, .. }) = self.wanted.coverage {
                outputs.coverage =
                    if self.wanted.interleaved { buffers[0].address().add(1) } else { buffers[2].address() };
                [_, outputs.coverage_stride_x, outputs.coverage_stride_y, outputs.coverage_stride_z] = strides;
            }
            if let Some(Layout { strides, .. }) = self.wanted.logits {
                outputs.logits = buffers[3].address().cast();
                [
                    outputs.logits_stride_class, outputs.logits_stride_x, outputs.logits_stride_y,
                    outputs.logits_stride_z,
                ] = strides;
            }
            let mut result = std::mem::zeroed();
            check(patchmask_result_init(&raw mut result, size_of_val(&result)), &[]);
            let mut estimate = std::mem::zeroed();
            check(patchmask_estimate_init(&raw mut estimate, size_of_val(&estimate)), &[]);
            let estimated = patchmask_session_estimate(session.0, self.volume, self.roi, &raw mut estimate);
            check(estimated, REFUSALS);
            let out_result = if self.with_result { &raw mut result } else { null_mut() };
            let status = patchmask_session_segment(session.0, self.volume, self.roi, &raw const outputs, out_result);
            check(status, REFUSALS);
            let mut slices = u64::MAX;
            check(patchmask_session_slices_done(session.0, &raw mut slices), &[]);
            assert!(status != PATCHMASK_OK || slices == (*self.volume).depth);

            let done = status == PATCHMASK_OK;
            // Layouts of refused calls may be of any size.
            let written = |index: usize| layouts[index].filter(|layout| layout.reach().is_some());
            let own = [0, 1, 2, 3].map(|index| {
                let coverage = if index == 0 && self.wanted.interleaved { written(2) } else { None };
                let here = if index == 2 && self.wanted.interleaved { None } else { written(index) };
                [here.map(|layout| (layout, 0)), coverage.map(|layout| (layout, 1))]
            });
            for (buffer, own) in buffers.iter().zip(own) {
                let allowed =
                    if status == PATCHMASK_INVALID_ARGUMENT { Vec::new() } else { own.into_iter().flatten().collect() };
                buffer.check_guards(&allowed);
            }
            let elements = [0, 1, 2, 3].map(|index| match layouts[index] {
                Some(layout) if done && index == 2 && self.wanted.interleaved => buffers[0].elements(&layout, 1),
                Some(layout) if done => buffers[index].elements(&layout, 0),
                _ => Vec::new(),
            });
            Some(Outcome { status, elements, result, estimate: (estimated, estimate) })
        }
    }
}

fn run(u: &mut Unstructured) -> Result<()> {
    let model = u.choose(models())?;
    let usual = [u.int_in_range(1..=40)?, u.int_in_range(1..=40)?, u.int_in_range(1..=2)?];
    let extents = [mostly(u, usual[0])?, mostly(u, usual[1])?, mostly(u, usual[2])?];
    let mut callbacks = Callbacks::default();
    let mut options = options(u, model, extents, MAX_PATCHES, &mut callbacks)?;
    let o = options.known;
    let is_cropped = [o.crop_x0, o.crop_y0, o.crop_x1, o.crop_y1] != [0; 4];
    let crop = if is_cropped { [o.crop_x0, o.crop_y0, o.crop_x1, o.crop_y1] } else { [0, 0, extents[0], extents[1]] };
    let grid = [0, 1].map(|axis| crop[axis + 2].saturating_sub(crop[axis]).div_ceil(o.stride.max(1).into()));

    let voxel_type = u.int_in_range(1..=7)?;
    let mut voxels = Voxels::arbitrary(u, extents, voxel_type)?;
    let mut inside = if rarely(u, 3) { Some(Voxels::arbitrary(u, extents, PATCHMASK_VOXEL_U8)?) } else { None };
    let wanted = Wanted::arbitrary(u, voxels.layout.shape, [model.classes.into(), grid[0], grid[1], extents[2]])?;
    let with_result = !rarely(u, 4);
    let layouts = [Some(voxels.layout), inside.as_ref().map(|inside| inside.layout)];
    let slow = extents.iter().fold(1_u64, |voxels, &extent| voxels.saturating_mul(extent)) > 1 << 13
        || grid.iter().any(|&patches| patches > 2 * MAX_PATCHES);
    let mut layouts = layouts.into_iter().chain(wanted.layouts()).flatten();
    if slow || layouts.any(|layout| !layout.can_be_tried()) {
        return Ok(());
    }
    let on_voxels = rarely(u, 32) && wanted.mask.is_some_and(|mask| mask.bytes() <= voxels.bytes.len());
    let aliased = on_voxels.then_some(voxels.bytes.as_mut_ptr());
    let values = |voxels: &Voxels| voxels.values();
    let volume = Versioned::arbitrary(u, voxels.volume)?;
    let roi = inside.as_mut().map_or(null_mut(), |inside| &raw mut inside.volume);
    let call = Call { model, volume: &raw const volume.known, roi, wanted: &wanted, aliased, with_result };
    let Some(first) = call.run(options.pointer(u), &mut callbacks, 0xa5) else { return Ok(()) };
    if first.status == PATCHMASK_OK {
        assert!(aliased.is_none(), "a mask on the voxels");
        check_elements(&first, o, model, &values(&voxels), inside.as_ref().map(values), extents, crop);
        check_amounts(&first, with_result, o.body == 1);
        let nonfinite = values(&voxels).iter().filter(|value| !value.is_finite()).count() as u64;
        assert!(!with_result || inside.is_some() || first.result.nonfinite_voxels == nonfinite);
    }
    let again = rarely(u, 3);
    if again && matches!(first.status, PATCHMASK_OK | PATCHMASK_INVALID_ARGUMENT) {
        options.known.threads = 4 - o.threads.min(3);
        options.known.memory_budget = if with_result { first.result.peak_bytes } else { 0 };
        options.known.progress = None;
        if let Some(second) = call.run(&raw const options.known, &mut callbacks, 0x5a) {
            let expected = if first.status == PATCHMASK_OK { PATCHMASK_OUT_OF_MEMORY } else { first.status };
            assert!(second.status == first.status || second.status == expected, "{}", second.status);
            assert!(second.status != PATCHMASK_OK || second.elements == first.elements, "other results");
        }
    }
    Ok(())
}

/// Values that can be, and coverage of exactly what was asked for.
fn check_elements(
    outcome: &Outcome,
    o: patchmask_options,
    model: &Model,
    values: &[f64],
    inside: Option<Vec<f64>>,
    extents: [u64; 3],
    crop: [u64; 4],
) {
    let [mask, probability, coverage, logits] = &outcome.elements;
    let floats = |bytes: &[u8]| -> Vec<f32> {
        bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().expect("4"))).collect()
    };
    let (probability, logits) = (floats(probability), floats(logits));
    for voxel in 0..values.len() {
        let (x, y) = (voxel as u64 % extents[0], voxel as u64 / extents[0] % extents[1]);
        let in_crop = (crop[0]..crop[2]).contains(&x) && (crop[1]..crop[3]).contains(&y);
        let in_roi = inside.as_ref().is_none_or(|inside| inside[voxel] != 0.0 && !inside[voxel].is_nan());
        let is_asked_for = in_crop && in_roi;
        let covered = is_asked_for && (o.body == 0 || coverage.get(voxel).is_none_or(|&value| value == 1));
        assert!(coverage.get(voxel).is_none_or(|&value| value == u8::from(covered)), "coverage of {voxel}");
        let class = if covered { model.classes } else { 1 };
        assert!(mask.get(voxel).is_none_or(|&value| u32::from(value) < class), "class of {voxel}");
        let largest = if covered { 1.000001 } else { 0.0 };
        assert!(probability.get(voxel).is_none_or(|value| (0.0..=largest).contains(value)), "probability of {voxel}");
    }
    let evaluated = logits.chunks_exact(model.classes as usize).filter(|patch| !patch[0].is_nan()).count() as u64;
    assert!(logits.iter().all(|value| !value.is_infinite()));
    assert!(logits.is_empty() || outcome.result.patches == 0 || evaluated == outcome.result.patches, "{evaluated}");
    assert!(o.lesion_class < model.classes);
}

/// The estimate is what happened, or with a body, which it does not know, at least that.
fn check_amounts(outcome: &Outcome, with_result: bool, body: bool) {
    let (status, estimate) = outcome.estimate;
    assert_eq!(status, PATCHMASK_OK);
    let result = outcome.result;
    if with_result {
        let estimated = [estimate.patches, estimate.macs, estimate.macs_unshared, estimate.tiles, estimate.peak_bytes];
        let amounts = [result.patches, result.macs, result.macs_unshared, result.tiles, result.peak_bytes];
        let holds = |(most, have): (&u64, &u64)| if body { have <= most } else { have == most };
        assert!(estimated.iter().zip(&amounts).all(holds), "{amounts:?}, estimated {estimated:?}");
        assert!((0.0..=1.0).contains(&result.body_share) && (body || result.body_share == 1.0));
        assert_eq!(result.engine, PATCHMASK_DEVICE_CPU);
    }
}
