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

use super::CudaEngine;
use super::device::Device;
use super::network::Launches;
use super::status::Status;
use super::tables::PieceTables;
use crate::engine::{Call, Control, Engine, Geometry, Settings};
use crate::error::Error;
use crate::intensity::Intensity;
use crate::lattice::{Lattice, Padding, Selection};
use crate::mask::{Fill, Grids, Painter, Scores};
use crate::plan::{AxisPlans, PlannedPiece, STEPS, Step, TilePlan};
use crate::volume::{Volume, VolumeMut};
use model::{CLASSES, Random, SIDE, tiny_model};
use reference::{first_layer, layer};

const PATCH_SIZE: u32 = 64;
const STRIDE: u32 = 16;
/// Of the slice. Its lattice has 2 x 2 points.
const WIDTH: usize = 20;
const HEIGHT: usize = 17;

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
    let (mut mask_out, mut probability_out) = outputs(&mut mask, &mut probability);
    let mut grids = grids(&mut mask_out, &mut probability_out)?;
    let call = Call {
        geometry: Geometry {
            extents: volume.extents(),
            lattice: Lattice::new(volume.extents(), PATCH_SIZE, STRIDE, None)?,
            roi: false,
            classes: CLASSES,
        },
        volume: &volume,
        wanted: grids.wanted(),
        planes: None,
        intensity: Intensity::new((-160.0, 240.0), true)?,
        fill: Fill::Nearest,
        lesion_class: 1,
        control: &control,
    };
    let piece = whole_slice(&call.geometry.lattice)?;
    // Before the engine, which waits for the device when it goes.
    let tables = PieceTables::new(&piece, &|| Ok(()))?;
    let mut engine = CudaEngine::on(Arc::clone(device), 0, &settings)?;
    engine.begin(&call)?;
    let bytes = engine.piece_bytes(&piece);
    engine.reserve(engine.room(1, bytes, bytes))?;
    engine.intensity(&call, 0)?;
    let logits = match try_layers(&mut engine, &call, &piece, &tables, &settings)? {
        Ok(logits) => logits,
        Err(kernel) => return Ok(Some(kernel)),
    };
    engine.submit(&call, Selection::everything())?;
    if engine.wait(&call)? > 0 {
        return Ok(Some("histogram"));
    }
    engine.mask(&call, 0, &mut grids)?;
    engine.end();
    Ok(painted_wrong(&call, &logits, &mask, &probability)?.then_some("scores or paint"))
}

/// Layer by layer; the logits of the lattice, or the name of the first kernel that is wrong.
fn try_layers(
    engine: &mut CudaEngine,
    call: &Call<'_>,
    piece: &PlannedPiece,
    tables: &PieceTables,
    settings: &Settings<'_>,
) -> Result<Result<Vec<f32>, &'static str>, Error> {
    let device = Arc::clone(&engine.device);
    let _entered = device.context.enter()?;
    let part = engine.claim(piece, tables)?;
    let tables_at = engine.arena()?.at(part.bytes.start);
    let engine = &*engine;
    let compute = engine.compute();
    let mut launches = engine.launches(call, piece, tables, part)?;
    // So that a block has several tiles to go through, small as the images are.
    launches.multiprocessors = 1;
    let mut bytes = vec![0; tables.len()];
    tables.write(piece, &mut bytes);
    // SAFETY: all of it lives until `synchronize`.
    let sent = unsafe { compute.upload(tables_at, &bytes) };
    compute.synchronize()?;
    sent?;

    let mut image = vec![0.0; WIDTH * HEIGHT];
    let mut row = vec![0.0; WIDTH];
    (call.intensity).slice(call.volume, 0, &mut row, &mut image, &|| Ok(()))?;
    // SAFETY: all of it lives until `synchronize`.
    unsafe { launches.first(engine.voxels()?, engine.table) }?;
    compute.synchronize()?;
    let mut last = read_f16(&launches, 0)?;
    let expected = first_layer(piece, &call.geometry.lattice, &image, settings);
    if !close(&last, &expected) || overflowed(engine)? {
        return Ok(Err("histogram, equalize or conv3_first"));
    }
    let [logits, probabilities] = engine.slot()?.lattice_scores();
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
            let mut logits = vec![0.0; CLASSES * piece.points.len()];
            engine.slot()?.scores.read(0, &mut logits)?;
            logits
        } else {
            read_f16(&launches, index)?
        };
        let expected = layer(&launches, index, &last, settings.model)?;
        if !close(&output, &expected) || overflowed(engine)? {
            let weights = &engine.weights.convolutions;
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
fn overflowed(engine: &CudaEngine) -> Result<bool, Error> {
    let mut word = [0_u32];
    let at = std::mem::offset_of!(Status, overflow);
    engine.slot()?.status.device.read(at, &mut word)?;
    Ok(word != [0])
}

/// Whether the mask or the probabilities differ from those that `mask` makes of the same logits.
fn painted_wrong(call: &Call<'_>, logits: &[f32], mask: &[u8], probability: &[f32]) -> Result<bool, Error> {
    let lattice = call.geometry.lattice;
    let mut scores = Scores::new(lattice.points(), CLASSES)?;
    for (point, logits) in logits.chunks_exact(CLASSES).enumerate() {
        scores.set(point, logits);
    }
    scores.softmax(&|| Ok(()))?;
    let mut expected_mask = vec![0; WIDTH * HEIGHT];
    let mut expected = vec![0.0; WIDTH * HEIGHT];
    let (mut mask_out, mut probability_out) = outputs(&mut expected_mask, &mut expected);
    let painter = Painter { lattice, width: WIDTH, height: HEIGHT, fill: call.fill, lesion_class: call.lesion_class };
    let mut grids = grids(&mut mask_out, &mut probability_out)?;
    painter.slice(&mut grids, 0, &Selection::everything(), &scores, &|| Ok(()))?;
    let expected: Vec<f64> = expected.into_iter().map(f64::from).collect();
    Ok(mask != expected_mask || !close(probability, &expected))
}

fn outputs<'a>(mask: &'a mut [u8], probability: &'a mut [f32]) -> (VolumeMut<'a, u8>, VolumeMut<'a, f32>) {
    (VolumeMut::from_slice(mask), VolumeMut::from_slice(probability))
}

fn grids<'a>(mask: &'a mut VolumeMut<'_, u8>, probability: &'a mut VolumeMut<'_, f32>) -> Result<Grids<'a>, Error> {
    let shape = [1, WIDTH, HEIGHT, 1];
    Ok(Grids {
        mask: Some(mask.grid(shape, "mask")?),
        probability: Some(probability.grid(shape, "probability")?),
        coverage: None,
        logits: None,
    })
}

/// All patches of the slice as one tile.
fn whole_slice(lattice: &Lattice) -> Result<PlannedPiece, Error> {
    let mut plans = AxisPlans::new(None, 0);
    let mut axis = |axis: &crate::lattice::Axis| {
        let all: Vec<usize> = (0..axis.count()).collect();
        plans.tile(axis, &all, Padding::Patch, &|| Ok(()))
    };
    let (rows, columns) = (axis(&lattice.y)?, axis(&lattice.x)?);
    Ok(PlannedPiece {
        plan: TilePlan::new(rows, columns, None, &|| Ok(()))?,
        starts: vec![(lattice.y.start(0), lattice.x.start(0))],
        points: (0..lattice.points()).collect(),
    })
}

/// Output of layer `index`, fp16 on the device.
fn read_f16(launches: &Launches<'_>, index: usize) -> Result<Vec<f32>, Error> {
    let mut bits = vec![0_u16; len(launches, index)];
    launches.read(index, &mut bits)?;
    Ok(bits.into_iter().map(|b| f16::from_bits(b).to_f32()).collect())
}

fn len(launches: &Launches<'_>, index: usize) -> usize {
    let image = (launches.piece.plan).output_of(index.min(STEPS.len() - 1));
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
