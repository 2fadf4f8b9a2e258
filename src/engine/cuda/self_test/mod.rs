//! Before a GPU is used, every kernel that a network could get computes something whose answer the CPU knows.
//!
//! ```text
//! a small slice, a network whose widths get every convolution kernel that any network's would
//! for each layer: run it on the device, read its output, compare with plain f64 loops over
//!                 what the device had as input
//! then the mask against that of `mask`, from the device's own logits
//! ```
//! `device` runs this in a context of its own. A convolution kernel that is wrong or times out is left out, and the test
//! begins again without it. Any other kernel that fails, or one that does not end, makes the GPU unusable, and so does one that
//! traps: the driver then refuses the whole process.

mod model;
mod reference;

use std::mem::forget;
use std::sync::Arc;
use std::time::{Duration, Instant};

use half::f16;

use super::buffers::region_bytes;
use super::device::{Device, Failure};
use super::driver::Event;
use super::forward::Launches;
use super::params::TIMEOUT;
use super::pipeline::{CudaCall, Pipeline};
use super::status::Status;
use super::tables::TileTables;
use super::weights::PackedWeights;
use crate::axes::Axes;
use crate::cancel::Cancel;
use crate::engine::{Bytes, Control, EngineCall, Geometry, Request, Reservation, Settings, SliceId};
use crate::error::Error;
use crate::intensity::Intensity;
use crate::mask::{Decision, Interpolation, MaskWriter, OutputViews, Scores};
use crate::patch_grid::{Padding, PatchGrid, Selection};
use crate::plan::{AxisPlans, PlannedTile, STEPS, Step, TilePlan};
use crate::resampling::Scale;
use crate::volume::{Memory, Volume, VolumeMut};
use model::{CLASSES, HEIGHT, Random, WIDTH, tiny_model};
use reference::{first_input, layer};

/// Of the slice, which is resampled to [`WIDTH`] x [`HEIGHT`] pixels: fewer along one axis, more along the other.
const VOXELS: Axes<usize> = Axes { rows: 9, columns: 31 };
const PATCH_SIZE: u32 = 64;
const STRIDE: u32 = 16;

const WRONG_RESULT: &str = "gave a wrong result in the self-test";
/// Kernels of the self-test take milliseconds; one that waits for its own data gives up after 9 s.
const HANGS_AFTER: Duration = Duration::from_secs(15);

fn wrong(kernel: &str, why: &str) -> Failure {
    Failure::Wrong { kernel: kernel.into(), why: why.into() }
}

/// A failure of the device while this kernel ran is the kernel's: nothing else was at work.
fn of_kernel<T>(kernel: &str, outcome: Result<T, Error>) -> Result<T, Failure> {
    outcome.map_err(|error| match error {
        Error::DeviceFailed(why) => wrong(kernel, &format!("failed in the self-test: {why}")),
        other => other.into(),
    })
}

/// Runs every kernel.
pub(super) fn run(device: &Arc<Device>) -> Result<(), Failure> {
    let model = tiny_model()?;
    let settings =
        Settings { model: &model, patch_size: PATCH_SIZE as usize, mean: [0.4; 3], std: [0.3; 3], threads: 1 };
    let mut random = Random(7);
    let voxels: Vec<i16> = (0..VOXELS.product()).map(|_| (600.0 * random.next()) as i16).collect();
    let volume = Volume::from_slice(&voxels, VOXELS.columns, VOXELS.rows, 1)?;
    let control = Control::default();
    let mut mask = vec![0; VOXELS.product()];
    let mut probability = vec![0.0; VOXELS.product()];
    let (mut mask_out, mut probability_out) = buffers(&mut mask, &mut probability);
    let mut outputs = views(&mut mask_out, &mut probability_out)?;
    let scale = Axes {
        rows: Scale { voxels: VOXELS.rows, pixels: HEIGHT },
        columns: Scale { voxels: VOXELS.columns, pixels: WIDTH },
    };
    let request = Request {
        geometry: Geometry {
            extents: volume.extents(),
            grid: PatchGrid::new(scale, PATCH_SIZE, STRIDE, None)?,
            roi: false,
            classes: CLASSES,
        },
        volume: &volume,
        outputs: outputs.arrays(),
        outputs_memory: Memory::Host,
        intensity: Intensity::new((-160.0, 240.0), true)?,
        decision: Decision { interpolation: Interpolation::Nearest, lesion_class: 1, threshold: Some(0.5) },
        control: &control,
    };
    let tile = whole_slice(&request.geometry.grid)?;
    // Before the call, which waits for the device when it ends.
    let tables = TileTables::new(&tile, &Cancel::default())?;
    let weights = Arc::new(PackedWeights::new(device, &settings)?);
    let mut pipeline = Pipeline::new(device, &weights, 0)?;
    let mut call = pipeline.begin(request)?;
    let outcome = try_slice(&mut call, &request, &tile, &tables, &settings, &mut outputs);
    if let Err(Failure::Hangs { .. }) = outcome {
        // Ending any of them would wait for the kernel.
        forget(call);
        forget(pipeline);
        forget(weights);
    } else {
        drop(call);
    }
    if mask_is_wrong(&request, &outcome?, &mask, &probability)? {
        return Err(wrong("scores or write_mask", WRONG_RESULT));
    }
    Ok(())
}

/// The whole slice, its mask into `outputs`; the logits of the grid.
fn try_slice(
    call: &mut CudaCall<'_>,
    request: &Request<'_>,
    tile: &PlannedTile,
    tables: &TileTables,
    settings: &Settings<'_>,
    outputs: &mut OutputViews<'_>,
) -> Result<Vec<f32>, Failure> {
    let bytes = Bytes { host: 0, device: region_bytes(call.weights, &tile.plan.sizes()) as u64 };
    call.reserve(Reservation::in_turn(bytes, bytes))?;
    let slice = of_kernel("resample, histogram or equalize", call.slice(0))?;
    let logits = try_layers(call, slice, request, tile, tables, settings)?;
    let kernel = "histogram or write_mask";
    of_kernel(kernel, call.submit(slice, Selection::everything()))?;
    finish(call, kernel)?;
    if of_kernel(kernel, call.wait(slice))? > 0 {
        return Err(wrong("histogram", WRONG_RESULT));
    }
    call.write(slice, outputs)?;
    Ok(logits)
}

/// Layer by layer; the logits of the grid.
fn try_layers(
    call: &mut CudaCall<'_>,
    slice: SliceId,
    request: &Request<'_>,
    tile: &PlannedTile,
    tables: &TileTables,
    settings: &Settings<'_>,
) -> Result<Vec<f32>, Failure> {
    let device = call.device;
    let _entered = device.context.enter()?;
    let region = call.claim(slice, tile, tables)?;
    let call = &*call;
    let tables_at = call.arena.at(region.bytes.start);
    let compute = &call.streams.compute[0];
    let mut launches = call.launches(slice, tile, tables, region);
    // So that a block has several subtiles to go through, small as the images are.
    launches.multiprocessors = 1;
    let mut bytes = vec![0; tables.len()];
    tables.write(tile, &mut bytes);
    finish(call, "resample, histogram or equalize")?;
    // SAFETY: all of it lives until `synchronize`.
    let sent = unsafe { compute.upload(tables_at, &bytes) };
    compute.synchronize()?;
    sent?;

    let mut image = vec![0.0; WIDTH * HEIGHT];
    let scale = request.geometry.grid.voxels.map(|axis| axis.scale);
    request.intensity.slice(request.volume, scale, 0, &mut image, &Cancel::default())?;
    let (voxels, table) = call.input(slice);
    let [logits, probabilities] = call.slot(slice).score_addresses();
    let mut last = first_input(&launches, &image);
    for index in 0..=launches.last() {
        let is_last = index == launches.last();
        let kernel = match STEPS.get(index) {
            Some(Step::Convolution(0)) => "resample, histogram, equalize or conv3_first",
            Some(Step::Convolution(i)) => {
                device.kernels.convolutions[call.weights.convolutions[i - 1].kernel].kernel.name
            }
            Some(Step::Pool) => "gather_max_pool",
            _ if is_last => "gemm or scores",
            _ => "gemm or split_k_reduce",
        };
        // SAFETY: all of it lives until `finish`, or for ever.
        of_kernel(kernel, unsafe { if index == 0 { launches.first(voxels, table) } else { launches.layer(index) } })?;
        if is_last {
            // SAFETY: as above.
            of_kernel(kernel, unsafe { launches.scores(logits, probabilities) })?;
        }
        finish(call, kernel)?;
        let output = if is_last {
            let mut logits = vec![0.0; CLASSES * tile.patches.len()];
            of_kernel(kernel, call.slot(slice).scores.read(0, &mut logits))?;
            logits
        } else {
            of_kernel(kernel, read_f16(&launches, index))?
        };
        check_status(call, slice, kernel)?;
        if !close(&output, &layer(&launches, index, &last, settings)?) {
            return Err(wrong(kernel, WRONG_RESULT));
        }
        last = output;
    }
    Ok(last)
}

/// Waits for the work of the slice, which ends with this kernel.
fn finish(call: &CudaCall<'_>, kernel: &str) -> Result<(), Failure> {
    let _entered = call.device.context.enter()?;
    let done = of_kernel(kernel, Event::new(&call.device.context))?;
    of_kernel(kernel, done.record(&call.streams.compute[0]))?;
    let began = Instant::now();
    while !of_kernel(kernel, done.is_done())? {
        if began.elapsed() > HANGS_AFTER {
            forget(done);
            return Err(Failure::Hangs { kernel: kernel.into() });
        }
        std::thread::yield_now();
    }
    Ok(())
}

/// Fails where a kernel says that it timed out, or that a value was beyond fp16: none is, in this network.
fn check_status(call: &CudaCall<'_>, slice: SliceId, kernel: &str) -> Result<(), Failure> {
    let mut word = [0_u32];
    let at = std::mem::offset_of!(Status, overflow);
    of_kernel(kernel, call.slot(slice).status.device.read(at, &mut word))?;
    match word[0] {
        0 => Ok(()),
        word if word >> TIMEOUT & 1 == 1 => Err(wrong(kernel, "timed out waiting for data in the self-test")),
        _ => Err(wrong(kernel, WRONG_RESULT)),
    }
}

/// Whether the mask or the probabilities differ from those that `mask` makes of the same logits.
fn mask_is_wrong(request: &Request<'_>, logits: &[f32], mask: &[u8], probability: &[f32]) -> Result<bool, Error> {
    let grid = request.geometry.grid;
    let mut scores = Scores::new(grid.patches(), CLASSES)?;
    for (patch, logits) in logits.chunks_exact(CLASSES).enumerate() {
        scores.set(patch, logits);
    }
    scores.softmax(&Cancel::default())?;
    let mut expected_mask = vec![0; VOXELS.product()];
    let mut expected = vec![0.0; VOXELS.product()];
    let (mut mask_out, mut probability_out) = buffers(&mut expected_mask, &mut expected);
    let writer = MaskWriter { grid, decision: request.decision };
    let mut outputs = views(&mut mask_out, &mut probability_out)?;
    writer.write_slice(&mut outputs, 0, &Selection::everything(), &scores, &Cancel::default())?;
    let expected: Vec<f64> = expected.into_iter().map(f64::from).collect();
    Ok(mask != expected_mask || !close(probability, &expected))
}

fn buffers<'a>(mask: &'a mut [u8], probability: &'a mut [f32]) -> (VolumeMut<'a, u8>, VolumeMut<'a, f32>) {
    (VolumeMut::from_slice(mask), VolumeMut::from_slice(probability))
}

fn views<'a>(
    mask: &'a mut VolumeMut<'_, u8>,
    probability: &'a mut VolumeMut<'_, f32>,
) -> Result<OutputViews<'a>, Error> {
    let shape = [1, VOXELS.columns, VOXELS.rows, 1];
    Ok(OutputViews {
        mask: Some(mask.view(shape, "mask")?),
        probability: Some(probability.view(shape, "probability")?),
        coverage: None,
        logits: None,
    })
}

/// All patches of the slice as one tile.
fn whole_slice(grid: &PatchGrid) -> Result<PlannedTile, Error> {
    let mut plans = AxisPlans::new(0);
    let axes = grid.axes().try_map(|axis| plans.whole(&axis, None, Padding::Patch, &Cancel::default()))?;
    Ok(PlannedTile {
        plan: TilePlan::new(axes, None, &Cancel::default())?,
        starts: vec![(grid.y.start(0), grid.x.start(0))],
        patches: (0..grid.patches()).collect(),
    })
}

/// Output of layer `index`, fp16 on the device.
fn read_f16(launches: &Launches<'_>, index: usize) -> Result<Vec<f32>, Error> {
    let mut bits = vec![0_u16; len(launches, index)];
    launches.read(index, &mut bits)?;
    Ok(bits.into_iter().map(|b| f16::from_bits(b).to_f32()).collect())
}

fn len(launches: &Launches<'_>, index: usize) -> usize {
    let image = (launches.tile.plan).output_of(index.min(STEPS.len() - 1));
    image.len() * launches.channels_of(index)
}

/// Equal but for the rounding to fp16 (2^-11 of a value) and that of sums in f32.
fn close(values: &[f32], expected: &[f64]) -> bool {
    let largest = expected.iter().fold(0.0_f64, |most, value| most.max(value.abs()));
    values.len() == expected.len()
        && largest > 0.0
        && values.iter().zip(expected).all(|(&value, &expected)| {
            let error = (f64::from(value) - expected).abs();
            error <= expected.abs() / 1024.0 + 1e-5 * largest
        })
}
