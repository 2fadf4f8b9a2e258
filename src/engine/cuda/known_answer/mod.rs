//! Before a device is used, every kernel that a network could get computes something whose answer the CPU knows.
//!
//! ```text
//! a small slice, a network whose widths get every convolution kernel that any network's would
//! for each layer: run it on the device, read its output, compare with plain f64 loops over
//!                 what the device had as input
//! then the painted mask against that of `mask`, from the device's own logits
//! ```
//! A wrong result is impossible then, short of a fault that comes later: a convolution kernel that fails is left out,
//! and any other makes the device unusable.

mod model;
mod reference;

use std::sync::Arc;

use half::f16;

use super::buffers::region_bytes;
use super::device::Device;
use super::forward::Launches;
use super::pipeline::{CudaCall, Pipeline};
use super::status::Status;
use super::tables::TileTables;
use super::weights::PackedWeights;
use crate::axes::Axes;
use crate::cancel::Cancel;
use crate::engine::{Bytes, Control, EngineCall, Geometry, Request, Reservation, Settings, SliceId};
use crate::error::Error;
use crate::intensity::Intensity;
use crate::mask::{Interpolation, MaskWriter, OutputViews, Scores};
use crate::patch_grid::{Padding, PatchGrid, Selection};
use crate::plan::{AxisPlans, PlannedTile, STEPS, Step, TilePlan};
use crate::volume::{Volume, VolumeMut};
use model::{CLASSES, HEIGHT, Random, SIDE, WIDTH, tiny_model};
use reference::{first_layer, layer};

const PATCH_SIZE: u32 = 64;
const STRIDE: u32 = 16;

/// Runs every kernel; the name of the first that is wrong.
pub(super) fn first_wrong_kernel(device: &Arc<Device>) -> Result<Option<&'static str>, Error> {
    let model = tiny_model()?;
    let settings = Settings { model: &model, feature_side: SIDE, mean: [0.4; 3], std: [0.3; 3], threads: 1 };
    let mut random = Random(7);
    let voxels: Vec<i16> = (0..WIDTH * HEIGHT).map(|_| (600.0 * random.next()) as i16).collect();
    let volume = Volume::from_slice(&voxels, WIDTH, HEIGHT, 1)?;
    let control = Control::default();
    let mut mask = vec![0; WIDTH * HEIGHT];
    let mut probability = vec![0.0; WIDTH * HEIGHT];
    let (mut mask_out, mut probability_out) = buffers(&mut mask, &mut probability);
    let mut outputs = views(&mut mask_out, &mut probability_out)?;
    let request = Request {
        geometry: Geometry {
            extents: volume.extents(),
            grid: PatchGrid::new(volume.extents(), PATCH_SIZE, STRIDE, None)?,
            roi: false,
            classes: CLASSES,
        },
        volume: &volume,
        wanted: outputs.wanted(),
        planes: None,
        intensity: Intensity::new((-160.0, 240.0), true)?,
        interpolation: Interpolation::Nearest,
        lesion_class: 1,
        control: &control,
    };
    let tile = whole_slice(&request.geometry.grid)?;
    // Before the call, which waits for the device when it ends.
    let tables = TileTables::new(&tile, &Cancel::default())?;
    let weights = Arc::new(PackedWeights::new(device, &settings)?);
    let mut pipeline = Pipeline::new(device, &weights, 0)?;
    let mut call = pipeline.begin(request)?;
    let bytes = Bytes { host: 0, device: region_bytes(&weights, &tile.plan.axes) as u64 };
    call.reserve(Reservation::in_turn(bytes, bytes))?;
    let slice = call.slice(0)?;
    let logits = match try_layers(&mut call, slice, &request, &tile, &tables, &settings)? {
        Ok(logits) => logits,
        Err(kernel) => return Ok(Some(kernel)),
    };
    call.submit(slice, Selection::everything())?;
    if call.wait(slice)? > 0 {
        return Ok(Some("histogram"));
    }
    call.write(slice, &mut outputs)?;
    drop(call);
    Ok(painted_wrong(&request, &logits, &mask, &probability)?.then_some("scores or paint"))
}

/// Layer by layer; the logits of the grid, or the name of the first kernel that is wrong.
fn try_layers(
    call: &mut CudaCall<'_>,
    slice: SliceId,
    request: &Request<'_>,
    tile: &PlannedTile,
    tables: &TileTables,
    settings: &Settings<'_>,
) -> Result<Result<Vec<f32>, &'static str>, Error> {
    let device = call.device;
    let _entered = device.context.enter()?;
    let region = call.claim(slice, tile, tables)?;
    let call = &*call;
    let tables_at = call.arena.at(region.bytes.start);
    let compute = &call.streams.compute[0];
    let mut launches = call.launches(slice, tile, tables, region);
    // So that a block has several tiles to go through, small as the images are.
    launches.multiprocessors = 1;
    let mut bytes = vec![0; tables.len()];
    tables.write(tile, &mut bytes);
    // SAFETY: all of it lives until `synchronize`.
    let sent = unsafe { compute.upload(tables_at, &bytes) };
    compute.synchronize()?;
    sent?;

    let mut image = vec![0.0; WIDTH * HEIGHT];
    let mut row = vec![0.0; WIDTH];
    request.intensity.slice(request.volume, 0, &mut row, &mut image, &Cancel::default())?;
    let (voxels, table) = call.input(slice);
    // SAFETY: all of it lives until `synchronize`.
    unsafe { launches.first(voxels, table) }?;
    compute.synchronize()?;
    let mut last = read_f16(&launches, 0)?;
    let expected = first_layer(tile, &request.geometry.grid, &image, settings);
    if !close(&last, &expected) || overflowed(call, slice)? {
        return Ok(Err("histogram, equalize or conv3_first"));
    }
    let [logits, probabilities] = call.slot(slice).score_addresses();
    for index in 1..=launches.last() {
        let is_last = index == launches.last();
        // SAFETY: all of it lives until `synchronize`.
        unsafe {
            launches.layer(index)?;
            if is_last {
                launches.scores(logits, probabilities)?;
            }
        }
        compute.synchronize()?;
        let output = if is_last {
            let mut logits = vec![0.0; CLASSES * tile.patches.len()];
            call.slot(slice).scores.read(0, &mut logits)?;
            logits
        } else {
            read_f16(&launches, index)?
        };
        let expected = layer(&launches, index, &last, settings.model)?;
        if !close(&output, &expected) || overflowed(call, slice)? {
            let weights = &call.weights.convolutions;
            return Ok(Err(match STEPS.get(index) {
                Some(Step::Convolution(i)) => device.kernels.convolutions()[weights[i - 1].kernel].kernel.name,
                Some(Step::Pool) => "table_max",
                _ if is_last => "dense_products or scores",
                _ => "dense_products or dense_sums",
            }));
        }
        last = output;
    }
    Ok(Ok(last))
}

/// Whether a kernel says that a value was beyond fp16: none is, in this network.
fn overflowed(call: &CudaCall<'_>, slice: SliceId) -> Result<bool, Error> {
    let mut word = [0_u32];
    let at = std::mem::offset_of!(Status, overflow);
    call.slot(slice).status.device.read(at, &mut word)?;
    Ok(word != [0])
}

/// Whether the mask or the probabilities differ from those that `mask` makes of the same logits.
fn painted_wrong(request: &Request<'_>, logits: &[f32], mask: &[u8], probability: &[f32]) -> Result<bool, Error> {
    let grid = request.geometry.grid;
    let mut scores = Scores::new(grid.patches(), CLASSES)?;
    for (patch, logits) in logits.chunks_exact(CLASSES).enumerate() {
        scores.set(patch, logits);
    }
    scores.softmax(&Cancel::default())?;
    let mut expected_mask = vec![0; WIDTH * HEIGHT];
    let mut expected = vec![0.0; WIDTH * HEIGHT];
    let (mut mask_out, mut probability_out) = buffers(&mut expected_mask, &mut expected);
    let writer = MaskWriter {
        grid,
        width: WIDTH,
        height: HEIGHT,
        interpolation: request.interpolation,
        lesion_class: request.lesion_class,
    };
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
    let shape = [1, WIDTH, HEIGHT, 1];
    Ok(OutputViews {
        mask: Some(mask.view(shape, "mask")?),
        probability: Some(probability.view(shape, "probability")?),
        coverage: None,
        logits: None,
    })
}

/// All patches of the slice as one tile.
fn whole_slice(grid: &PatchGrid) -> Result<PlannedTile, Error> {
    let mut plans = AxisPlans::new(None, 0);
    let mut axis = |axis: &crate::patch_grid::Axis| {
        let all: Vec<usize> = (0..axis.count()).collect();
        plans.tile(axis, &all, Padding::Patch, &Cancel::default())
    };
    let axes = Axes { rows: axis(&grid.y)?, columns: axis(&grid.x)? };
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
