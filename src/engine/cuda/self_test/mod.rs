//! Before a GPU is used, every kernel that a network could get computes something whose answer the CPU knows.
//!
//! ```text
//! a small slice, a network whose widths get every convolution kernel that any network's would
//! for each layer: run it on the device, read its output, compare with plain f64 loops over
//!                 what the device had as input
//! then the painted mask against that of `mask`, from the device's own logits
//! ```
//! A wrong result is impossible then, short of a fault that comes later. `device` runs this, in a context of its own, leaves
//! out a convolution kernel that fails, and does without the GPU if any other does.

mod model;
mod reference;

use std::mem::forget;
use std::sync::Arc;
use std::time::{Duration, Instant};

use half::f16;

use super::CudaEngine;
use super::device::{Device, Verdict};
use super::driver::Event;
use super::network::Launches;
use super::params::TIMEOUT;
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

const WRONG_RESULT: &str = "gave a wrong result in the self-test";
/// Kernels of the self-test take milliseconds; one that waits for its own data gives up after 9 s.
const HANGS_AFTER: Duration = Duration::from_secs(15);

/// Why the self-test ended early.
enum Stop {
    Verdict(Verdict),
    Error(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

fn wrong(kernel: &str, why: &str) -> Stop {
    Stop::Verdict(Verdict::Wrong { kernel: kernel.into(), why: why.into() })
}

/// A failure of the device while this kernel ran is the kernel's: nothing else was at work.
fn of_kernel<T>(kernel: &str, outcome: Result<T, Error>) -> Result<T, Stop> {
    outcome.map_err(|error| match error {
        Error::DeviceFailed(why) => wrong(kernel, &format!("failed in the self-test: {why}")),
        other => Stop::Error(other),
    })
}

/// Runs every kernel.
pub(super) fn run(device: &Arc<Device>) -> Result<Verdict, Error> {
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
    let outcome = try_slice(&mut engine, &call, &piece, &tables, &settings, &mut grids);
    if let Err(Stop::Verdict(Verdict::Hangs { .. })) = outcome {
        forget(engine); // ending it would wait for the kernel
    } else {
        drop(engine);
    }
    let logits = match outcome {
        Ok(logits) => logits,
        Err(Stop::Verdict(verdict)) => return Ok(verdict),
        Err(Stop::Error(error)) => return Err(error),
    };
    Ok(match painted_wrong(&call, &logits, &mask, &probability)? {
        false => Verdict::Passed,
        true => Verdict::Wrong { kernel: "scores or paint".into(), why: WRONG_RESULT.into() },
    })
}

/// The whole slice, its mask into `grids`; the logits of the lattice.
fn try_slice(
    engine: &mut CudaEngine,
    call: &Call<'_>,
    piece: &PlannedPiece,
    tables: &PieceTables,
    settings: &Settings<'_>,
    grids: &mut Grids<'_>,
) -> Result<Vec<f32>, Stop> {
    engine.begin(call)?;
    let bytes = engine.piece_bytes(piece);
    engine.reserve(engine.room(1, bytes, bytes))?;
    of_kernel("histogram or equalize", engine.intensity(call, 0))?;
    let logits = try_layers(engine, call, piece, tables, settings)?;
    let of_mask = "histogram or paint";
    of_kernel(of_mask, engine.submit(call, Selection::everything()))?;
    finish(engine, of_mask)?;
    if of_kernel(of_mask, engine.wait(call))? > 0 {
        return Err(wrong("histogram", WRONG_RESULT));
    }
    engine.mask(call, 0, grids)?;
    engine.end();
    Ok(logits)
}

/// Waits for the work of the slice, which ends with this kernel.
fn finish(engine: &CudaEngine, kernel: &str) -> Result<(), Stop> {
    let _entered = engine.device.context.enter()?;
    let done = of_kernel(kernel, Event::new(&engine.device.context))?;
    of_kernel(kernel, done.record(engine.compute()))?;
    let began = Instant::now();
    while !of_kernel(kernel, done.is_done())? {
        if began.elapsed() > HANGS_AFTER {
            forget(done);
            return Err(Stop::Verdict(Verdict::Hangs { kernel: kernel.into() }));
        }
        std::thread::yield_now();
    }
    Ok(())
}

/// Fails where a kernel says that it timed out, or that a value was beyond fp16: none is, in this network.
fn check_status(engine: &CudaEngine, kernel: &str) -> Result<(), Stop> {
    let mut word = [0_u32];
    let at = std::mem::offset_of!(Status, overflow);
    of_kernel(kernel, engine.slot()?.status.device.read(at, &mut word))?;
    match word[0] {
        0 => Ok(()),
        word if word >> TIMEOUT & 1 == 1 => Err(wrong(kernel, "timed out waiting for data in the self-test")),
        _ => Err(wrong(kernel, WRONG_RESULT)),
    }
}

/// Layer by layer; the logits of the lattice.
fn try_layers(
    engine: &mut CudaEngine,
    call: &Call<'_>,
    piece: &PlannedPiece,
    tables: &PieceTables,
    settings: &Settings<'_>,
) -> Result<Vec<f32>, Stop> {
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
    finish(engine, "histogram or equalize")?;
    // SAFETY: all of it lives until `synchronize`.
    let sent = unsafe { compute.upload(tables_at, &bytes) };
    compute.synchronize()?;
    sent?;

    let mut image = vec![0.0; WIDTH * HEIGHT];
    let mut row = vec![0.0; WIDTH];
    (call.intensity).slice(call.volume, 0, &mut row, &mut image, &|| Ok(()))?;
    let kernel = "histogram, equalize or conv3_first";
    // SAFETY: all of it lives until `finish`, or for ever.
    of_kernel(kernel, unsafe { launches.first(engine.voxels()?, engine.table) })?;
    finish(engine, kernel)?;
    let mut last = of_kernel(kernel, read_f16(&launches, 0))?;
    check_status(engine, kernel)?;
    if !close(&last, &first_layer(piece, &call.geometry.lattice, &image, settings)) {
        return Err(wrong(kernel, WRONG_RESULT));
    }
    let [logits, probabilities] = engine.slot()?.lattice_scores();
    for index in 1..=launches.last() {
        let is_last = index == launches.last();
        let weights = &engine.weights.convolutions;
        let kernel = match STEPS.get(index) {
            Some(Step::Convolution(i)) => device.kernels.convolutions()[weights[i - 1].kernel].kernel.name,
            Some(Step::Pool) => "table_max",
            _ if is_last => "dense_products or scores",
            _ => "dense_products or dense_sums",
        };
        // SAFETY: all of it lives until `finish`, or for ever.
        of_kernel(kernel, unsafe { launches.layer(index) })?;
        if is_last {
            // SAFETY: as above.
            of_kernel(kernel, unsafe { launches.scores(logits, probabilities) })?;
        }
        finish(engine, kernel)?;
        let output = if is_last {
            let mut logits = vec![0.0; CLASSES * piece.points.len()];
            of_kernel(kernel, engine.slot()?.scores.read(0, &mut logits))?;
            logits
        } else {
            of_kernel(kernel, read_f16(&launches, index))?
        };
        check_status(engine, kernel)?;
        if !close(&output, &layer(&launches, index, &last, settings.model)?) {
            return Err(wrong(kernel, WRONG_RESULT));
        }
        last = output;
    }
    Ok(last)
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
