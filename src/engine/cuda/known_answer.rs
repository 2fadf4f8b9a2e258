//! Before a device is used, every kernel computes something whose answer the CPU knows.
//!
//! ```text
//! a small slice, a network whose widths make use of every convolution kernel
//! for each layer: run it on the device, read its output, compare with plain f64 loops over
//!                 what the device had as input
//! then the painted mask against that of `mask`, from the device's own logits
//! ```
//! A wrong result is impossible then, short of a fault that comes later: a convolution kernel that fails is left out,
//! and any other makes the device unusable.

use std::sync::Arc;

use half::f16;
use safetensors::tensor::{Dtype, TensorView};

use super::CudaEngine;
use super::device::Device;
use super::network::Launches;
use super::params::CHANNEL_GRAIN;
use super::tables::PieceTables;
use crate::engine::first_layer::first_layer_weight;
use crate::engine::{Call, Control, Engine, Geometry, Settings};
use crate::error::Error;
use crate::intensity::Intensity;
use crate::lattice::{Lattice, Padding, Selection};
use crate::mask::{Fill, Grids, Painter, Scores};
use crate::network::CONVOLUTIONS;
use crate::plan::{AxisPlans, PatchRow, PlannedPiece, STEPS, Step, TilePlan};
use crate::volume::{Volume, VolumeMut};
use crate::weights::Model;

const PATCH_SIZE: u32 = 32;
const STRIDE: u32 = 16;
/// Side of the last feature map.
const SIDE: usize = 1;
/// Of the slice. Its lattice has 3 x 2 points.
const WIDTH: usize = 34;
const HEIGHT: usize = 17;
const CLASSES: usize = 3;
/// Inputs and outputs in every combination that some kernel is made for, and tails.
const WIDTHS: [usize; CONVOLUTIONS] = [16, 16, 72, 32, 32, 96, 64, 64, 128, 24, 64, 16, 40];
const DENSE: [usize; 2] = [48, CLASSES];
/// torchvision's indices of the convolutions.
const FEATURES: [usize; CONVOLUTIONS] = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28];

/// Runs every kernel; the name of the first that is wrong.
pub(super) fn first_wrong_kernel(device: &Arc<Device>) -> Result<Option<&'static str>, Error> {
    let model = tiny_model()?;
    let settings = Settings {
        model: &model,
        feature_side: SIDE,
        mean: [0.4; 3],
        std: [0.3; 3],
        threads: 1,
    };
    let mut random = Random(7);
    let voxels: Vec<i16> = (0..WIDTH * HEIGHT)
        .map(|_| (600.0 * random.next()) as i16)
        .collect();
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
    let tables = PieceTables::new(&piece)?;
    let mut engine = CudaEngine::on(Arc::clone(device), 0, &settings)?;
    engine.begin(&call)?;
    let bytes = engine.piece_bytes(&piece);
    engine.reserve(bytes, bytes)?;
    engine.intensity(&call, 0)?;
    let logits = match try_layers(&engine, &call, &piece, &tables, &settings)? {
        Ok(logits) => logits,
        Err(kernel) => return Ok(Some(kernel)),
    };
    engine.submit(&call, Selection::everything())?;
    engine.wait(&call)?;
    engine.mask(&call, 0, &mut grids)?;
    engine.end();
    Ok(painted_wrong(&call, &logits, &mask, &probability)?.then_some("scores or paint"))
}

/// Layer by layer; the logits of the lattice, or the name of the first kernel that is wrong.
fn try_layers(
    engine: &CudaEngine,
    call: &Call<'_>,
    piece: &PlannedPiece,
    tables: &PieceTables,
    settings: &Settings<'_>,
) -> Result<Result<Vec<f32>, &'static str>, Error> {
    let device = &engine.device;
    let _entered = device.context.enter()?;
    let launches = engine.launches(call, piece, tables)?;
    // SAFETY: the tables live longer than the engine.
    unsafe { (engine.compute).upload(launches.arena.tables(), &tables.bytes) }?;
    engine.compute.synchronize()?;
    let buffers = engine.buffers()?;

    let mut image = vec![0.0; WIDTH * HEIGHT];
    let mut row = vec![0.0; WIDTH];
    (call.intensity).slice(call.volume, 0, &mut row, &mut image, &|| Ok(()))?;
    // SAFETY: all of it lives until `synchronize`.
    unsafe { launches.first(engine.voxels()?, engine.table) }?;
    engine.compute.synchronize()?;
    let mut last = read_f16(&launches, 0)?;
    let expected = first_layer(piece, &call.geometry.lattice, &image, settings);
    if !close(&last, &expected) {
        return Ok(Err("histogram, equalize or conv3_first"));
    }
    for index in 1..launches.layers() {
        // SAFETY: all of it lives until `synchronize`.
        unsafe { launches.layer(index) }?;
        engine.compute.synchronize()?;
        let is_last = index + 1 == launches.layers();
        let output = if is_last {
            read_f32(&launches, index)?
        } else {
            read_f16(&launches, index)?
        };
        let expected = layer(&launches, index, &last, settings.model)?;
        if !close(&output, &expected) {
            let weights = &engine.weights.convolutions;
            return Ok(Err(match STEPS.get(index) {
                Some(Step::Convolution(i)) => {
                    device.kernels.convolutions()[weights[i - 1].kernel]
                        .kernel
                        .name
                }
                Some(Step::Pool) => "table_max",
                _ if is_last => "dense_f32",
                _ => "dense_f16",
            }));
        }
        last = output;
    }
    // SAFETY: the buffers live until the engine has waited.
    unsafe { launches.scores(buffers.logits.address(), buffers.probabilities.address()) }?;
    engine.compute.synchronize()?;
    Ok(Ok(last))
}

/// Whether the mask or the probabilities differ from those that `mask` makes of the same logits.
fn painted_wrong(
    call: &Call<'_>,
    padded_logits: &[f32],
    mask: &[u8],
    probability: &[f32],
) -> Result<bool, Error> {
    let lattice = call.geometry.lattice;
    let mut scores = Scores::new(lattice.points(), CLASSES)?;
    for (point, logits) in padded_logits.chunks_exact(CHANNEL_GRAIN).enumerate() {
        scores.set(point, &logits[..CLASSES]);
    }
    scores.softmax(&|| Ok(()))?;
    let mut expected_mask = vec![0; WIDTH * HEIGHT];
    let mut expected = vec![0.0; WIDTH * HEIGHT];
    let (mut mask_out, mut probability_out) = outputs(&mut expected_mask, &mut expected);
    let painter = Painter {
        lattice,
        width: WIDTH,
        height: HEIGHT,
        fill: call.fill,
        lesion_class: call.lesion_class,
    };
    let mut grids = grids(&mut mask_out, &mut probability_out)?;
    painter.slice(&mut grids, 0, &Selection::everything(), &scores, &|| Ok(()))?;
    let expected: Vec<f64> = expected.into_iter().map(f64::from).collect();
    Ok(mask != expected_mask || !close(probability, &expected))
}

fn outputs<'a>(
    mask: &'a mut [u8],
    probability: &'a mut [f32],
) -> (VolumeMut<'a, u8>, VolumeMut<'a, f32>) {
    (
        VolumeMut::from_slice(mask),
        VolumeMut::from_slice(probability),
    )
}

fn grids<'a>(
    mask: &'a mut VolumeMut<'_, u8>,
    probability: &'a mut VolumeMut<'_, f32>,
) -> Result<Grids<'a>, Error> {
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
    let mut plans = AxisPlans::new(0);
    let mut axis = |axis: &crate::lattice::Axis| {
        let all: Vec<usize> = (0..axis.count()).collect();
        plans.get(PatchRow::new(axis, &all, Padding::Patch), &|| Ok(()))
    };
    let (rows, columns) = (axis(&lattice.y)?, axis(&lattice.x)?);
    Ok(PlannedPiece {
        plan: TilePlan::new(rows, columns, None, &|| Ok(()))?,
        starts: vec![(lattice.y.start(0), lattice.x.start(0))],
        points: (0..lattice.points()).collect(),
    })
}

/// The first layer in f64, [rows][columns][channels].
fn first_layer(
    piece: &PlannedPiece,
    lattice: &Lattice,
    image: &[f32],
    settings: &Settings<'_>,
) -> Vec<f64> {
    let (rows, columns) = (&piece.plan.rows, &piece.plan.columns);
    let (top, left) = piece.starts[0];
    let convolution = &settings.model.convolutions()[0];
    let intensity = |r: i32, c: i32| {
        let y = rows.pixel(r as usize, top, lattice.y.len);
        let x = columns.pixel(c as usize, left, lattice.x.len);
        y.zip(x)
            .map_or(0.0, |(y, x)| f64::from(image[y * WIDTH + x]))
    };
    convolve(piece, 0, 3, padded(WIDTHS[0]), |output, tap, r, c| {
        if output >= WIDTHS[0] {
            return 0.0;
        }
        let weight = |channel| {
            f64::from(first_layer_weight(
                convolution,
                settings,
                output,
                tap,
                channel,
            ))
        };
        weight(0) * intensity(r, c) + weight(1)
    })
    .with_bias(|output| convolution.bias.get(output).map_or(0.0, |b| b.to_f64()))
    .relu()
}

/// Layer `index`, not the first, in f64, from the device's input [pixels][channels].
fn layer(
    launches: &Launches<'_>,
    index: usize,
    input: &[f32],
    model: &Model,
) -> Result<Vec<f64>, Error> {
    let piece = launches.piece;
    let inputs = launches.channels_of(index - 1);
    let outputs = launches.channels_of(index);
    let at = |r: i32, c: i32| {
        let width = piece.plan.input_of(index.min(STEPS.len() - 1)).columns;
        &input[(r as usize * width + c as usize) * inputs..][..inputs]
    };
    Ok(match STEPS.get(index) {
        Some(&Step::Convolution(i)) => {
            let convolution = &model.convolutions()[i];
            let (made, read, ..) = convolution.weight.dim();
            convolve(piece, index, 3, outputs, |output, tap, r, c| {
                if output >= made {
                    return 0.0;
                }
                let products = (0..read).map(|channel| {
                    f64::from(at(r, c)[channel])
                        * convolution.weight[[output, channel, tap / 3, tap % 3]].to_f64()
                });
                products.sum()
            })
            .with_bias(|output| convolution.bias.get(output).map_or(0.0, |b| b.to_f64()))
            .relu()
        }
        Some(Step::Pool) => {
            let (rows, columns) = (
                piece.plan.rows.layer(index),
                piece.plan.columns.layer(index),
            );
            let mut values = Vec::new();
            for r in 0..rows.len() {
                for c in 0..columns.len() {
                    for channel in 0..outputs {
                        let taps = (rows.taps_of(r).iter())
                            .flat_map(|&r| columns.taps_of(c).iter().map(move |&c| (r, c)));
                        let largest = taps.map(|(r, c)| f64::from(at(r, c)[channel]));
                        values.push(largest.fold(f64::NEG_INFINITY, f64::max));
                    }
                }
            }
            values
        }
        _ => {
            let number = index + 1 - STEPS.len();
            let first = model.first_dense(SIDE)?;
            let dense = match number {
                0 => &first,
                _ => &model.dense()[number - 1],
            };
            let (made, read) = dense.weight.dim();
            // The feature map has one position, so that a point's features follow each other. The head finds them by
            // its tables.
            let head = STEPS.len() - 1;
            let (rows, columns) = (piece.plan.rows.layer(head), piece.plan.columns.layer(head));
            let mut values = Vec::new();
            for point in 0..rows.len() * columns.len() {
                let features = if number == 0 {
                    let (r, c) = (point / columns.len(), point % columns.len());
                    at(rows.taps_of(r)[0], columns.taps_of(c)[0])
                } else {
                    &input[point * inputs..][..inputs]
                };
                for output in 0..outputs {
                    let product =
                        |i: usize| f64::from(features[i]) * dense.weight[[output, i]].to_f64();
                    let sum = if output < made {
                        (0..read).map(product).sum::<f64>() + dense.bias[output].to_f64()
                    } else {
                        0.0
                    };
                    values.push(if number + 1 == DENSE.len() {
                        sum
                    } else {
                        sum.max(0.0)
                    });
                }
            }
            values
        }
    })
}

/// Sums of `term(output, tap, input row, input column)` over the taps that exist.
fn convolve(
    piece: &PlannedPiece,
    index: usize,
    side: usize,
    outputs: usize,
    term: impl Fn(usize, usize, i32, i32) -> f64,
) -> Sums {
    let (rows, columns) = (
        piece.plan.rows.layer(index),
        piece.plan.columns.layer(index),
    );
    let mut values = Vec::with_capacity(rows.len() * columns.len() * outputs);
    for r in 0..rows.len() {
        for c in 0..columns.len() {
            for output in 0..outputs {
                let mut sum = 0.0;
                for tap in 0..side * side {
                    let (r, c) = (rows.taps_of(r)[tap / side], columns.taps_of(c)[tap % side]);
                    if r >= 0 && c >= 0 {
                        sum += term(output, tap, r, c);
                    }
                }
                values.push(sum);
            }
        }
    }
    Sums { values, outputs }
}

struct Sums {
    values: Vec<f64>,
    outputs: usize,
}

impl Sums {
    fn with_bias(mut self, bias: impl Fn(usize) -> f64) -> Self {
        for (index, value) in self.values.iter_mut().enumerate() {
            *value += bias(index % self.outputs);
        }
        self
    }

    fn relu(self) -> Vec<f64> {
        self.values
            .into_iter()
            .map(|value| value.max(0.0))
            .collect()
    }
}

fn padded(channels: usize) -> usize {
    channels.next_multiple_of(CHANNEL_GRAIN)
}

/// Output of layer `index`, fp16 on the device.
fn read_f16(launches: &Launches<'_>, index: usize) -> Result<Vec<f32>, Error> {
    let mut bits = vec![0_u16; len(launches, index)];
    launches.read(index, &mut bits)?;
    Ok(bits
        .into_iter()
        .map(|b| f16::from_bits(b).to_f32())
        .collect())
}

/// Output of the last layer.
fn read_f32(launches: &Launches<'_>, index: usize) -> Result<Vec<f32>, Error> {
    let mut values = vec![0.0_f32; len(launches, index)];
    launches.read(index, &mut values)?;
    Ok(values)
}

fn len(launches: &Launches<'_>, index: usize) -> usize {
    let image = (launches.piece.plan).output_of(index.min(STEPS.len() - 1));
    image.len() * launches.channels_of(index)
}

/// Equal but for the rounding to fp16 (2^-11 of a value) and that of sums in f32.
fn close(values: &[f32], expected: &[f64]) -> bool {
    let largest = expected
        .iter()
        .fold(0.0_f64, |most, value| most.max(value.abs()));
    values.len() == expected.len()
        && largest > 0.0
        && values.iter().zip(expected).all(|(&value, &expected)| {
            let error = (f64::from(value) - expected).abs();
            error <= expected.abs() / 1024.0 + 1e-5 * largest
        })
}

/// Numbers from -0.5 to 0.5 (Knuth's MMIX generator).
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = (self.0)
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64 - 0.5
    }
}

/// A network of one input channel, scaled so that activations stay near 1.
fn tiny_model() -> Result<Model, Error> {
    let mut random = Random(3);
    let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    let mut layer = |name: String, outputs: usize, shape: Vec<usize>| {
        let inputs: usize = shape.iter().product();
        let scale = (24.0 / inputs as f64).sqrt();
        let mut numbers = |count: usize, scale: f64| {
            let number = |_| f16::from_f64(scale * random.next()).to_bits().to_le_bytes();
            (0..count).flat_map(number).collect::<Vec<u8>>()
        };
        let weights = numbers(outputs * inputs, scale);
        let biases = numbers(outputs, 0.2);
        let shape = [vec![outputs], shape].concat();
        tensors.push((format!("{name}.weight"), shape, weights));
        tensors.push((format!("{name}.bias"), vec![outputs], biases));
    };
    let mut inputs = 1;
    for (index, outputs) in FEATURES.into_iter().zip(WIDTHS) {
        layer(format!("features.{index}"), outputs, vec![inputs, 3, 3]);
        inputs = outputs;
    }
    for (number, outputs) in DENSE.into_iter().enumerate() {
        layer(format!("classifier.{}", 3 * number), outputs, vec![inputs]);
        inputs = outputs;
    }
    let failed = |error: safetensors::SafeTensorError| Error::Panic(error.to_string());
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| {
            let view = TensorView::new(Dtype::F16, shape.clone(), bytes).map_err(failed)?;
            Ok((name.as_str(), view))
        })
        .collect::<Result<Vec<_>, Error>>()?;
    let bytes = safetensors::serialize(views, None).map_err(failed)?;
    Model::from_bytes(&bytes)
}
