//! VGG16's convolutions at the sizes of a 512 x 512 slice (patches of 257 every 8) by each kernel: all must agree, and a table
//! tells how long each takes.

use crate::cases::size;
use crate::driver::{self, Driver};
use crate::launching::{Gpu, Kernel, Shape};
use crate::layers::{Layer, agree, print_header};

const EVERY_GPU: &str = include_str!("../../kernels/ptx/conv3_mma.compute_80.ptx");
const HOPPER: &str = include_str!("../../kernels/ptx/conv3_wgmma.compute_90a.ptx");

/// Threads and shared memory as in the table of kernels/README.md.
const FOR_EVERY_GPU: [Shape; 4] = [
    Shape::new("conv3_32_128", 32, 128, 59_552),
    Shape::new("conv3_32_64", 32, 64, 47_264),
    Shape::new("conv3_16_128", 16, 128, 30_304),
    Shape::new("conv3_16_64", 16, 64, 24_160),
];
const FOR_HOPPER: [Shape; 2] =
    [Shape::new("conv3_wgmma_128", 64, 128, 226_720), Shape::new("conv3_wgmma_64", 64, 64, 210_384)];

/// Values of each axis, inputs, outputs: convolutions 2, 4, 7, 8 and 10.
const LAYERS: [[usize; 3]; 5] = [[665, 64, 64], [564, 128, 128], [666, 256, 256], [513, 256, 512], [773, 512, 512]];

#[test]
fn kernels_agree_and_take_so_long() {
    let Some(driver) = driver::take() else {
        return;
    };
    driver.within(|| all_layers(&driver)).unwrap();
}

fn all_layers(driver: &Driver) -> Result<(), String> {
    let gpu = Gpu(driver);
    let mut modules = vec![gpu.module(EVERY_GPU)?];
    let mut kernels = gpu.kernels(modules[0], &FOR_EVERY_GPU)?;
    if driver.capability == (9, 0) {
        modules.push(gpu.module(HOPPER)?);
        kernels.extend(gpu.kernels(modules[1], &FOR_HOPPER)?);
    }
    // A kernel that traps here takes the GPU with it: those that PATCHMASK_WITHOUT names stay out here, too.
    kernels.retain(|kernel| !driver::is_left_out(kernel.shape.name));
    print_header();
    for [values, inputs, outputs] in LAYERS {
        let values = size(values, 20);
        let (inputs, outputs) = (inputs.min(size(512, 128)), outputs.min(size(512, 128)));
        let layer = Layer { values, inputs, outputs };
        let mut first: Option<(&Kernel, Vec<half::f16>)> = None;
        for kernel in &kernels {
            let (seconds, output) = layer.run(&gpu, kernel)?;
            layer.print(kernel.shape.name, seconds);
            match &first {
                Some((other, expected)) => {
                    if let Err(why) = agree(expected, &output) {
                        panic!("{} and {}: {why}", other.shape.name, kernel.shape.name);
                    }
                }
                None => first = Some((kernel, output)),
            }
        }
    }
    modules.into_iter().try_for_each(|module| gpu.unload(module))
}
