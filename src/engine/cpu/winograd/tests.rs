//! Against plain sums in f64, on every instruction set of this machine.

use half::f16;
use ndarray::{Array1, Array4};

use super::{Winograd, WinogradLayer};
use crate::axes::Axes;
use crate::cancel::Cancel;
use crate::engine::Control;
use crate::engine::cpu::max_pool::MaxPool;
use crate::engine::cpu::simd::Instructions;
use crate::engine::cpu::workspace::Workspace;
use crate::network::{CONVOLUTIONS, Convolution};
use crate::patch_grid::{Axis, Padding};
use crate::plan::{AxisPlans, MAX_RUN, STEPS, Step, TilePlan, ZERO};

/// Numbers in -1..1 that need few bits; the same for the same `seed`.
fn noise(seed: u64) -> impl FnMut() -> f32 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 54) as f32 / 512.0 - 1.0
    }
}

/// Weights of the size that VGG16's have when it is made.
fn convolution(inputs: usize, outputs: usize) -> Convolution {
    let mut noise = noise(inputs as u64);
    let scale = (6.0 / (9 * inputs) as f32).sqrt();
    let weight = Array4::from_shape_simple_fn((outputs, inputs, 3, 3), || f16::from_f32(noise() * scale));
    Convolution { weight, bias: Array1::from_shape_simple_fn(outputs, || f16::from_f32(0.1)) }
}

/// A tile, one in `wanted` of its patches wanted.
fn plan(len: usize, patch_size: usize, stride: usize, wanted: usize, max_run: Axes<usize>) -> TilePlan {
    let axis = Axis { origin: 0, len, patch_size, stride };
    let all: Vec<usize> = (0..axis.count()).collect();
    let mut plans = AxisPlans::new(usize::MAX);
    let rows =
        plans.tile(&axis, Some(&[max_run.rows; CONVOLUTIONS]), &all, Padding::Patch, &Cancel::default()).unwrap();
    let columns = plans
        .tile(
            &axis,
            Some(&[max_run.columns; CONVOLUTIONS]),
            &all[..all.len().div_ceil(2)],
            Padding::Patch,
            &Cancel::default(),
        )
        .unwrap();
    let count = all.len() * all.len().div_ceil(2);
    let patches: Vec<bool> = (0..count).map(|patch| patch % wanted == 0).collect();
    TilePlan::new(Axes { rows, columns }, (wanted > 1).then_some(&patches), &Cancel::default()).unwrap()
}

/// Largest and mean square error of step `index`, and of the pool that follows, relative to the root of the mean square output.
fn errors(
    plan: &TilePlan,
    index: usize,
    (inputs, outputs): (usize, usize),
    max_run: Axes<usize>,
    instructions: Instructions,
) -> (f64, f64) {
    let layer = convolution(inputs, outputs);
    let channels = inputs.next_multiple_of(16);
    let packed = WinogradLayer::new(&layer, channels, max_run).unwrap();
    let pooled = MaxPool::follows(index);
    let (input, output) = (plan.input_of(index), plan.output_of(index + usize::from(pooled)));
    let mut noise = noise(7);
    // Activations are what a ReLU leaves.
    let from: Vec<f32> = (0..input.len())
        .flat_map(|_| (0..channels).map(|c| if c < inputs { 1.0 } else { 0.0 }).collect::<Vec<_>>())
        .map(|used| used * noise().max(0.0))
        .collect();
    let mut into = vec![f32::NAN; output.len() * packed.outputs()];
    let workspace = Workspace::new(instructions, 2, 0, channels).unwrap();
    let mut scratch = vec![f32::NAN; packed.scratch_floats(workspace.threads())];
    let winograd = Winograd { layer: &packed, macs: 1, workspace: &workspace, control: &Control::default() };
    winograd.step(plan, index, None, &from, &mut into, &mut scratch).unwrap();
    let Axes { rows, columns } = plan.axes.layer(index);
    let convolved = |row: usize, column: usize, k: usize| {
        let mut sum = layer.bias[k].to_f64();
        for (i, &r) in rows.taps_of(row).iter().enumerate() {
            for (j, &c) in columns.taps_of(column).iter().enumerate() {
                if r != ZERO && c != ZERO {
                    let from = &from[input.index_of(r as usize, c as usize) * channels..];
                    for (channel, &x) in from[..inputs].iter().enumerate() {
                        sum += layer.weight[[k, channel, i, j]].to_f64() * f64::from(x);
                    }
                }
            }
        }
        sum.max(0.0)
    };
    let (mut worst, mut squares, mut scale) = (0.0_f64, 0.0, 0.0);
    for pixel in 0..output.len() {
        let (row, column) = output.position(pixel);
        let [rows, columns] = match pooled {
            true => {
                let pool = plan.axes.layer(index + 1);
                [pool.rows.taps_of(row).to_vec(), pool.columns.taps_of(column).to_vec()]
            }
            false => [vec![row as i32], vec![column as i32]],
        };
        for k in 0..outputs {
            let of = |&r: &i32| columns.iter().map(move |&c| (r, c));
            let pixels = rows.iter().flat_map(of);
            let want = pixels.map(|(r, c)| convolved(r as usize, c as usize, k)).fold(0.0, f64::max);
            let error = (f64::from(into[pixel * packed.outputs() + k]) - want).abs();
            assert!(error < 1e-3, "row {row} column {column} output {k}: {error} from {want}");
            worst = worst.max(error);
            squares += error * error;
            scale += want * want;
        }
        let padding = &into[pixel * packed.outputs()..][outputs..packed.outputs()];
        assert!(padding.iter().all(|&x| x == 0.0), "padding of pixel {pixel}: {padding:?}");
    }
    let count = (output.len() * outputs) as f64;
    (worst / (scale / count).sqrt(), (squares / scale).sqrt())
}

/// Runs of all lengths, widths that fill no register, with and without a ROI.
#[test]
fn awkward_shapes_equal_plain_sums() {
    for instructions in Instructions::available() {
        for (wanted, rows, columns) in [(1, 4, 4), (1, 6, 6), (3, 6, 6), (1, MAX_RUN, 4), (3, MAX_RUN, 4)] {
            let max_run = Axes { rows, columns };
            let plan = plan(75, 48, 5, wanted, max_run);
            for (index, _) in steps_with_runs() {
                let width = [(1, 1), (3, 17), (16, 33), (20, 64)][index % 4];
                let (worst, _) = errors(&plan, index, width, max_run, instructions);
                assert!(worst < 1e-4, "{instructions:?}, step {index}, {width:?}, runs of {rows} x {columns}: {worst}");
            }
        }
    }
}

fn steps_with_runs() -> impl Iterator<Item = (usize, usize)> {
    let steps = STEPS.iter().enumerate();
    steps.filter_map(|(index, step)| match step {
        Step::Convolution(i @ 1..) => Some((index, *i)),
        _ => None,
    })
}

/// Layer by layer, at the widths of VGG16: some of the outputs.
#[test]
fn rounding_errors_stay_small_at_full_width() {
    const INPUTS: [usize; 13] = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512];
    let longest = [(6, 6), (MAX_RUN, 4)].map(|(rows, columns)| Axes { rows, columns });
    let all =
        || longest.into_iter().flat_map(|max_run| Instructions::available().into_iter().map(move |i| (max_run, i)));
    for (max_run, instructions) in all() {
        let plan = plan(257, 257, 257, 1, max_run);
        for (index, layer) in steps_with_runs().filter(|&(_, layer)| layer > 4) {
            let (worst, mean) = errors(&plan, index, (INPUTS[layer], 4), max_run, instructions);
            println!(
                "{:8} runs of {} x {}, convolution {:2}, {:3} inputs: mean {mean:.1e}, largest {worst:.1e}",
                instructions.name(),
                max_run.rows,
                max_run.columns,
                layer + 1,
                INPUTS[layer]
            );
            assert!(mean < 1e-5 && worst < 2e-4, "{mean}, {worst}");
        }
    }
}
