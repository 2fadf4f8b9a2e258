//! VGG16's convolutions at the sizes of a 512 x 512 slice (patches of 257 every 8), by each kernel: those for every GPU
//! and, on Hopper, its own. Those that take their weights in one order must agree; a table tells how long each takes,
//! and which is the fastest where, and the last lines of that are the measured rows of src/engine/cuda/rates.rs. On Hopper an
//! experiment comes after it.
//!
//! The kernels are launched as kernels/params.h describes, without the library, which would choose one of them.

use std::collections::HashMap;
use std::ffi::{CString, c_int, c_void};

use half::f16;

use crate::builder::Random;
use crate::cases::size;
use crate::driver::{self, Driver, call};
use crate::rates::{OF_EVERY_GPU, OF_HOPPER, Shape, Timed};

const EVERY_GPU: &str = include_str!("../../kernels/ptx/conv3_mma.compute_80.ptx");
const HOPPER: &str = include_str!("../../kernels/ptx/conv3_wgmma.compute_90a.ptx");
const SHARED_PIXELS: &str = include_str!("../../kernels/ptx/conv3_wgmma_shared.compute_90a.ptx");

/// A kernel that is loaded, with what the table in kernels/README.md says of it.
struct Kernel {
    shape: Shape,
    threads: u32,
    shared_bytes: u32,
    function: usize,
    goes_on: bool,
}

impl Kernel {
    /// Input channels at a time, and outputs of a block: the order of the weights.
    fn order(&self) -> (usize, usize) {
        (self.shape.chunk, self.shape.outputs)
    }
}

/// Of the kernels for every GPU, and of Hopper's own.
const EVERY_GPUS_BYTES: [u32; 6] = [101_664, 93_472, 59_552, 47_264, 30_304, 24_160];
const HOPPERS_BYTES: [u32; 2] = [226_720, 210_384];

/// The experiment is made like the first of Hopper's.
const SHARED_PIXELS_SHAPE: Shape = Shape {
    name: "conv3_wgmma_128_shared",
    ..OF_HOPPER[0]
};

/// Values of each axis, inputs, outputs: convolutions 2, 4, 7, 8 and 10.
const LAYERS: [[usize; 3]; 5] = [
    [665, 64, 64],
    [564, 128, 128],
    [666, 256, 256],
    [513, 256, 512],
    [773, 512, 512],
];
const TIMED: usize = 5;

const SHARED_BYTES: c_int = 8; // CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES

/// ConvParams.
#[repr(C)]
struct Params {
    /// input, output, weights, bias, row_blocks, column_blocks, tiles, cancel, overflow
    addresses: [u64; 9],
    /// column_block_count, input_columns, input_channels, columns, output_channels, layer, tile_count, unused
    numbers: [i32; 8],
}

/// RowBlock and ColumnBlock.
#[repr(C)]
#[derive(Clone, Copy)]
struct Block<const VALUES: usize, const INPUTS: usize> {
    first: i32,
    count: i32,
    inputs: i32,
    input: [i32; INPUTS],
    tap: [[u8; 4]; VALUES],
}

/// The inputs that a value of an axis reads.
type Taps = fn(usize) -> [Option<usize>; 3];

/// An axis like those of overlapping patches: runs of six values, which share an input with the next run, and every other
/// run begins with a zero.
fn of_patches(value: usize) -> [Option<usize>; 3] {
    let (run, at) = (value / 6, value % 6);
    [0, 1, 2].map(|tap| {
        let is_zero = at + tap == 0 && run % 2 == 1;
        (run * 5 + at + tap).checked_sub(1).filter(|_| !is_zero)
    })
}

/// An axis of a convolution without padding.
fn plain(value: usize) -> [Option<usize>; 3] {
    [value, value + 1, value + 2].map(Some)
}

fn blocks<const VALUES: usize, const INPUTS: usize>(
    values: usize,
    taps: Taps,
) -> Vec<Block<VALUES, INPUTS>> {
    const ZERO: u8 = 255;
    let mut blocks: Vec<Block<VALUES, INPUTS>> = Vec::new();
    for first in (0..values).step_by(VALUES) {
        let mut block = Block {
            first: first as i32,
            count: VALUES.min(values - first) as i32,
            inputs: 0,
            input: [0; INPUTS],
            tap: [[ZERO; 4]; VALUES],
        };
        for (place, taken) in block.tap[..block.count as usize].iter_mut().enumerate() {
            for (tap, input) in taps(first + place).into_iter().enumerate() {
                let Some(input) = input else { continue };
                let known = block.input[..block.inputs as usize].iter();
                let local = known.clone().position(|&known| known == input as i32);
                taken[tap] = local.unwrap_or(block.inputs as usize) as u8;
                if local.is_none() {
                    block.input[block.inputs as usize] = input as i32;
                    block.inputs += 1;
                }
            }
        }
        blocks.push(block);
    }
    blocks
}

/// The driver's calls that are needed here; device memory and modules live until the test ends.
struct Gpu<'a>(&'a Driver);

impl Gpu<'_> {
    fn memory(&self, bytes: usize) -> Result<u64, String> {
        let mut address = 0;
        call!(self.0.library(), "cuMemAlloc_v2", (&raw mut address => *mut u64, bytes => usize))?;
        Ok(address)
    }

    fn free(&self, address: u64) -> Result<(), String> {
        call!(self.0.library(), "cuMemFree_v2", (address => u64))
    }

    fn upload<T: Copy>(&self, to: u64, values: &[T]) -> Result<(), String> {
        call!(self.0.library(), "cuMemcpyHtoD_v2",
            (to => u64, values.as_ptr().cast() => *const c_void, size_of_val(values) => usize))
    }

    fn memory_of<T: Copy>(&self, values: &[T]) -> Result<u64, String> {
        let address = self.memory(size_of_val(values))?;
        self.upload(address, values)?;
        Ok(address)
    }

    /// So many halves, the same few again and again.
    fn halves(&self, count: usize, pattern: &[f16]) -> Result<u64, String> {
        let address = self.memory(count * 2)?;
        let mut done = pattern.len().min(count);
        self.upload(address, &pattern[..done])?;
        while done < count {
            let more = done.min(count - done);
            call!(self.0.library(), "cuMemcpyDtoD_v2",
                (address + done as u64 * 2 => u64, address => u64, more * 2 => usize))?;
            done += more;
        }
        Ok(address)
    }

    fn download(&self, from: u64, values: &mut [f16]) -> Result<(), String> {
        call!(self.0.library(), "cuMemcpyDtoH_v2",
            (values.as_mut_ptr().cast() => *mut c_void, from => u64, size_of_val(values) => usize))
    }

    fn module(&self, ptx: &str) -> Result<usize, String> {
        let text = CString::new(ptx).unwrap();
        let mut module = 0;
        call!(self.0.library(), "cuModuleLoadData",
            (&raw mut module => *mut usize, text.as_ptr().cast() => *const c_void))?;
        Ok(module)
    }

    fn function(&self, module: usize, name: &str, shared_bytes: u32) -> Result<usize, String> {
        let name = CString::new(name).unwrap();
        let mut function = 0;
        call!(self.0.library(), "cuModuleGetFunction",
            (&raw mut function => *mut usize, module => usize, name.as_ptr() => *const std::ffi::c_char))?;
        call!(self.0.library(), "cuFuncSetAttribute",
            (function => usize, SHARED_BYTES => c_int, shared_bytes as c_int => c_int))?;
        Ok(function)
    }

    /// Those of a module that fit this GPU.
    fn kernels(
        &self,
        module: usize,
        shapes: &[Shape],
        shared_bytes: &[u32],
        goes_on: bool,
    ) -> Vec<Kernel> {
        let kernel = |(&shape, &shared_bytes): (&Shape, &u32)| {
            let function = self.function(module, shape.name, shared_bytes);
            let function = function.inspect_err(|why| println!("{} SKIPPED: {why}", shape.name));
            Some(Kernel {
                shape,
                threads: if goes_on { 384 } else { 128 },
                shared_bytes,
                function: function.ok()?,
                goes_on,
            })
        };
        shapes.iter().zip(shared_bytes).filter_map(kernel).collect()
    }

    fn launch(&self, kernel: &Kernel, grid: [usize; 2], params: &Params) -> Result<(), String> {
        let mut pointers = [(&raw const *params).cast_mut().cast::<c_void>()];
        call!(self.0.library(), "cuLaunchKernel",
            (kernel.function => usize, grid[0] as u32 => u32, grid[1] as u32 => u32, 1 => u32, kernel.threads => u32,
             1 => u32, 1 => u32, kernel.shared_bytes => u32, 0 => usize, pointers.as_mut_ptr() => *mut *mut c_void, 0 => usize))
    }

    fn event(&self) -> Result<usize, String> {
        let mut event = 0;
        call!(self.0.library(), "cuEventCreate", (&raw mut event => *mut usize, 0 => u32))?;
        call!(self.0.library(), "cuEventRecord", (event => usize, 0 => usize))?;
        Ok(event)
    }

    /// Seconds of `work`.
    fn seconds(&self, work: impl FnOnce() -> Result<(), String>) -> Result<f64, String> {
        let begin = self.event()?;
        work()?;
        let end = self.event()?;
        let mut milliseconds = 0.0_f32;
        call!(self.0.library(), "cuEventSynchronize", (end => usize))?;
        call!(self.0.library(), "cuEventElapsedTime",
            (&raw mut milliseconds => *mut f32, begin => usize, end => usize))?;
        for event in [begin, end] {
            call!(self.0.library(), "cuEventDestroy_v2", (event => usize))?;
        }
        Ok(f64::from(milliseconds) / 1e3)
    }
}

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
            let layer = Layer {
                values,
                taps: of_patches,
                inputs,
                outputs,
            };
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
        call!(driver.library(), "cuModuleUnload", (module => usize))?;
    }
    Ok(())
}

/// What it costs to have pixels in registers, as tables want it: on plain convolutions, the only ones whose pixels wgmma can
/// read from shared memory where they are (kernels/experiments/conv3_wgmma_shared.cu).
#[test]
fn pixels_from_registers_and_from_shared_memory() {
    let Some(driver) = driver::take() else {
        return;
    };
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
        call!(driver.library(), "cuModuleUnload", (module => usize))?;
    }
    Ok(())
}

fn print_header() {
    println!(
        "{:>22} {:>22} {:>9} {:>9}",
        "values x in x out", "kernel", "ms", "TFLOP/s"
    );
}

struct Layer {
    values: usize,
    taps: Taps,
    inputs: usize,
    outputs: usize,
}

impl Layer {
    /// A line of the table; TFLOP/s.
    fn print(&self, kernel: &str, seconds: f64) -> f64 {
        let Self {
            values,
            inputs,
            outputs,
            ..
        } = self;
        let tflops = 18.0 * (values * values * inputs * outputs) as f64 / seconds / 1e12;
        let name = format!("{values}^2 x {inputs} x {outputs}");
        println!(
            "{name:>22} {kernel:>22} {:>9.3} {tflops:>9.1}",
            1e3 * seconds
        );
        tflops
    }

    /// Seconds, and what was computed: parts of it, evenly spaced.
    fn run(&self, gpu: &Gpu<'_>, kernel: &Kernel) -> Result<(f64, Vec<f16>), String> {
        let mut random = Random(41);
        let rows = blocks::<8, 12>(self.values, self.taps);
        let columns = blocks::<16, 22>(self.values, self.taps);
        let last = (0..self.values).flat_map(self.taps).flatten().max();
        let input_columns = 1 + last.expect("a value with an input");
        let scale = 1.0 / (self.inputs as f64).sqrt();
        let mut pattern = |scale: f64, offset: f64| -> Vec<f16> {
            // A prime: neighbours differ everywhere.
            (0..999_983)
                .map(|_| f16::from_f64(scale * random.symmetric() + offset))
                .collect()
        };
        let count = self.values * self.values * self.outputs;
        let across = self.outputs.div_ceil(kernel.shape.outputs);
        let made = across * kernel.shape.outputs;
        let bias = vec![0.1_f32; made];
        let memory = [
            gpu.halves(
                input_columns * input_columns * self.inputs,
                &pattern(0.5, 0.5),
            )?,
            gpu.halves(count, &[f16::NAN])?,
            gpu.halves(9 * self.inputs * made, &pattern(scale, 0.0))?,
            gpu.memory_of(&bias)?,
            gpu.memory_of(&rows)?,
            gpu.memory_of(&columns)?,
            gpu.memory_of(&[0_u32])?,
            gpu.memory_of(&[0_u32])?,
        ];
        let [.., cancel, overflow] = memory;
        let output = memory[1];
        let mut addresses = [0; 9];
        addresses[..6].copy_from_slice(&memory[..6]);
        // No list of tiles: all of them.
        addresses[7..].copy_from_slice(&[cancel, overflow]);
        let tiles = rows.len() * columns.len();
        let params = Params {
            addresses,
            numbers: [
                columns.len(),
                input_columns,
                self.inputs,
                self.values,
                self.outputs,
                0,
                tiles,
                0,
            ]
            .map(|number| number as i32),
        };
        let grid = match kernel.goes_on {
            true => [(tiles.div_ceil(2) * across).min(gpu.0.multiprocessors), 1],
            false => [tiles, across],
        };
        gpu.launch(kernel, grid, &params)?;
        let first = self.parts(gpu, output, count)?;
        let timed = size(TIMED, 1);
        let seconds = gpu
            .seconds(|| (0..timed).try_for_each(|_| gpu.launch(kernel, grid, &params)))?
            / timed as f64;
        assert!(
            self.parts(gpu, output, count)? == first,
            "{}: other bits",
            kernel.shape.name
        );
        if kernel.goes_on {
            // Other blocks take other items.
            gpu.launch(kernel, [7, 1], &params)?;
            assert!(
                self.parts(gpu, output, count)? == first,
                "{}: other bits",
                kernel.shape.name
            );
        }
        for address in memory {
            gpu.free(address)?;
        }
        Ok((seconds, first.into_iter().map(f16::from_bits).collect()))
    }

    /// Bits.
    fn parts(&self, gpu: &Gpu<'_>, output: u64, count: usize) -> Result<Vec<u16>, String> {
        const PARTS: usize = 61;
        let part = (1 << 17).min(count / PARTS);
        let mut values = vec![f16::ZERO; PARTS * part];
        for (number, values) in values.chunks_exact_mut(part).enumerate() {
            let at = (count - part) / (PARTS - 1) * number;
            gpu.download(output + at as u64 * 2, values)?;
        }
        Ok(values.into_iter().map(f16::to_bits).collect())
    }
}

/// Equal but for the rounding of sums in f32, and of what becomes of them in fp16; or where they are not.
fn agree(first: &[f16], second: &[f16]) -> Result<(), String> {
    let largest = first
        .iter()
        .fold(0.0_f32, |most, value| most.max(value.to_f32()));
    assert!(largest > 0.1 && largest.is_finite(), "{largest}");
    let differ = |(a, b): (&f16, &f16)| {
        let (a, b) = (a.to_f32(), b.to_f32());
        // NaN is not near.
        let is_near = (a - b).abs() <= a.abs() / 512.0 + 1e-3 * largest;
        (!is_near).then_some((a, b))
    };
    match first
        .iter()
        .zip(second)
        .map(differ)
        .enumerate()
        .find_map(|(i, pair)| Some((i, pair?)))
    {
        Some((index, (a, b))) => Err(format!("value {index} is {b}, not {a}")),
        None => Ok(()),
    }
}
