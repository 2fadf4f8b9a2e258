//! VGG16's convolutions at the sizes of a 512 x 512 slice (patches of 257 every 8), by each kernel: those for every GPU
//! and, on Hopper, its own. Those that take their weights in one order must agree; a table tells how long each takes,
//! and which is the fastest where, and the last lines of that are the measured rows of src/engine/cuda/rates.rs. On Hopper an
//! experiment comes after it.

use std::collections::HashMap;

use half::f16;

use crate::cases::size;
use crate::driver::{self, Driver};
use crate::launching::Gpu;
use crate::layers::{Layer, agree, of_patches, plain, print_header};
use crate::rates::{OF_EVERY_GPU, OF_HOPPER, Shape, Timed};

const EVERY_GPU: &str = include_str!("../../kernels/ptx/conv3_mma.compute_80.ptx");
const HOPPER: &str = include_str!("../../kernels/ptx/conv3_wgmma.compute_90a.ptx");
const SHARED_PIXELS: &str = include_str!("../../kernels/ptx/conv3_wgmma_shared.compute_90a.ptx");

/// Of the kernels for every GPU, and of Hopper's own.
const EVERY_GPUS_BYTES: [u32; 6] = [101_664, 93_472, 59_552, 47_264, 30_304, 24_160];
const HOPPERS_BYTES: [u32; 2] = [226_720, 210_384];

/// The experiment is made like the first of Hopper's.
const SHARED_PIXELS_SHAPE: Shape = Shape { name: "conv3_wgmma_128_shared", ..OF_HOPPER[0] };

/// Values of each axis, inputs, outputs: convolutions 2, 4, 7, 8 and 10.
const LAYERS: [[usize; 3]; 5] = [[665, 64, 64], [564, 128, 128], [666, 256, 256], [513, 256, 512], [773, 512, 512]];

#[test]
fn kernels_agree_and_take_so_long() {
    let Some(driver) = driver::take() else { return };
    driver.within(|| all_layers(&driver)).unwrap();
}

fn all_layers(driver: &Driver) -> Result<(), String> {
    let gpu = Gpu(driver);
    let mut modules = vec![gpu.module(EVERY_GPU)?];
    let mut kernels = gpu.kernels(modules[0], &OF_EVERY_GPU, &EVERY_GPUS_BYTES, false);
    if driver.capability == (9, 0) {
        modules.push(gpu.module(HOPPER)?);
        kernels.extend(gpu.kernels(modules[1], &OF_HOPPER, &HOPPERS_BYTES, true));
    }
    let mut timed = Timed::default();
    print_header();
    for [values, inputs, outputs] in LAYERS {
        let values = size(values, 20);
        let (inputs, outputs) = (inputs.min(size(512, 128)), outputs.min(size(512, 128)));
        let mut firsts: HashMap<(usize, usize), Vec<f16>> = HashMap::new();
        for kernel in &kernels {
            let layer = Layer { values, taps: of_patches, inputs, outputs };
            let (seconds, output) = layer.run(&gpu, kernel)?;
            let tflops = layer.print(kernel.shape.name, seconds);
            let made = outputs.next_multiple_of(kernel.shape.outputs);
            timed.add(kernel.shape, tflops * made as f64 / outputs as f64);
            match firsts.get(&kernel.order()) {
                Some(first) => {
                    if let Err(why) = agree(first, &output) {
                        panic!("{}: {why}", kernel.shape.name);
                    }
                }
                None => _ = firsts.insert(kernel.order(), output),
            }
        }
        println!("{:>22} {}", "", timed.verdict(driver, inputs, outputs));
    }
    println!("{}", timed.rows(driver));
    for module in modules {
        gpu.unload(module)?;
    }
    Ok(())
}

/// What it costs to have pixels in registers, as tables want it: on plain convolutions, the only ones whose pixels wgmma can
/// read from shared memory where they are (kernels/experiments/conv3_wgmma_shared.cu).
#[test]
fn pixels_from_registers_and_from_shared_memory() {
    let Some(driver) = driver::take() else { return };
    if driver.capability != (9, 0) {
        return println!("SKIPPED pixels from shared memory: not a GPU of compute capability 9.0");
    }
    driver.within(|| plain_layers(&driver)).unwrap();
}

fn plain_layers(driver: &Driver) -> Result<(), String> {
    let gpu = Gpu(driver);
    let modules = [gpu.module(HOPPER)?, gpu.module(SHARED_PIXELS)?];
    let of_both = [OF_HOPPER[0], SHARED_PIXELS_SHAPE];
    let mut kernels = Vec::new();
    for (module, shape) in modules.into_iter().zip(of_both) {
        kernels.extend(gpu.kernels(module, &[shape], &HOPPERS_BYTES[..1], true));
    }
    let [registers, shared] = &kernels[..] else {
        return Err("a kernel could not be loaded".into());
    };
    print_header();
    let mut wrong = None;
    // The first has 64 outputs, too few for these kernels.
    for &[values, inputs, outputs] in &LAYERS[1..] {
        let layer = Layer {
            values: size(values, 20),
            taps: plain,
            inputs: inputs.min(size(512, 128)),
            outputs: outputs.min(size(512, 128)),
        };
        // In turn, so that both meet the same clocks; the least counts.
        let [mut of_registers, mut of_shared] = [f64::INFINITY; 2];
        for _ in 0..size(3, 1) {
            let (seconds, expected) = layer.run(&gpu, registers)?;
            of_registers = of_registers.min(seconds);
            let (seconds, output) = layer.run(&gpu, shared)?;
            of_shared = of_shared.min(seconds);
            wrong = wrong.or(agree(&expected, &output).err());
        }
        layer.print(registers.shape.name, of_registers);
        layer.print(shared.shape.name, of_shared);
        println!(
            "{:>22} pixels from registers take {:.3} times as long as from shared memory",
            "",
            of_registers / of_shared
        );
    }
    if let Some(why) = wrong {
        panic!("the experiment, no part of the library, is wrong on this GPU: {why}");
    }
    for module in modules {
        gpu.unload(module)?;
    }
    Ok(())
}
