//! One convolution by itself: tables of its axes, tensors of random numbers, its time and what it gives.

use std::time::{Duration, Instant};

use half::f16;

use crate::cases::size;
use crate::launching::{Gpu, Kernel, Params, Shape};
use crate::support::Random;

/// Launches before those that are timed, and those, take at least this long together: an idle GPU clocks down.
const AT_LEAST: Duration = Duration::from_millis(50);

/// RowSection and ColumnSection.
#[repr(C)]
#[derive(Clone, Copy)]
struct Section<const VALUES: usize, const INPUTS: usize> {
    first: i32,
    count: i32,
    inputs: i32,
    input: [i32; INPUTS],
    tap: [[u8; 4]; VALUES],
}

/// The inputs that a value of an axis reads, on one like those of overlapping patches: runs of six values, which share an
/// input with the next run, and every other run begins with a zero.
fn taps(value: usize) -> [Option<usize>; 3] {
    let (run, at) = (value / 6, value % 6);
    [0, 1, 2].map(|tap| {
        let is_zero = at + tap == 0 && run % 2 == 1;
        (run * 5 + at + tap).checked_sub(1).filter(|_| !is_zero)
    })
}

fn sections<const VALUES: usize, const INPUTS: usize>(values: usize) -> Vec<Section<VALUES, INPUTS>> {
    const ZERO: u8 = 255;
    let mut sections: Vec<Section<VALUES, INPUTS>> = Vec::new();
    for first in (0..values).step_by(VALUES) {
        let mut section = Section {
            first: first as i32,
            count: VALUES.min(values - first) as i32,
            inputs: 0,
            input: [0; INPUTS],
            tap: [[ZERO; 4]; VALUES],
        };
        for (place, taken) in section.tap[..section.count as usize].iter_mut().enumerate() {
            for (tap, input) in taps(first + place).into_iter().enumerate() {
                let Some(input) = input else { continue };
                let known = section.input[..section.inputs as usize].iter();
                let local = known.clone().position(|&known| known == input as i32);
                taken[tap] = local.unwrap_or(section.inputs as usize) as u8;
                if local.is_none() {
                    section.input[section.inputs as usize] = input as i32;
                    section.inputs += 1;
                }
            }
        }
        sections.push(section);
    }
    sections
}

pub fn print_header() {
    println!("{:>22} {:>22} {:>9} {:>9}", "values x in x out", "kernel", "ms", "TFLOP/s");
}

/// Weights in the order of a kernel (kernels/conv3.cuh), the same for every kernel; zeros for outputs that do not exist.
fn packed(random: &[f16], inputs: usize, outputs: usize, shape: &Shape) -> Vec<f16> {
    let Shape { chunk, outputs: panel, .. } = *shape;
    let weight = |output: usize, tap: usize, channel: usize| match output < outputs {
        true => random[((output * 9 + tap) * inputs + channel) % random.len()],
        false => f16::ZERO,
    };
    let step = panel * chunk;
    let mut packed = vec![f16::ZERO; outputs.div_ceil(panel) * inputs * 9 * panel];
    for (number, values) in packed.chunks_exact_mut(step).enumerate() {
        let (first_output, number) = (number / (inputs / chunk * 9) * panel, number % (inputs / chunk * 9));
        for output in 0..panel {
            for channel in 0..chunk {
                let swizzle = output / (64 / chunk) % (chunk / 8);
                let at = output * chunk + ((channel / 8) ^ swizzle) * 8 + channel % 8;
                values[at] = weight(first_output + output, number % 9, number / 9 * chunk + channel);
            }
        }
    }
    packed
}

pub struct Layer {
    pub values: usize,
    pub inputs: usize,
    pub outputs: usize,
}

impl Layer {
    /// A line of the table.
    pub fn print(&self, kernel: &str, seconds: f64) {
        let Self { values, inputs, outputs, .. } = self;
        let tflops = 18.0 * (values * values * inputs * outputs) as f64 / seconds / 1e12;
        let name = format!("{values}^2 x {inputs} x {outputs}");
        println!("{name:>22} {kernel:>22} {:>9.3} {tflops:>9.1}", 1e3 * seconds);
    }

    /// Seconds, and what was computed: parts of it, evenly spaced.
    pub fn run(&self, gpu: &Gpu<'_>, kernel: &Kernel) -> Result<(f64, Vec<f16>), String> {
        let mut random = Random(41);
        let rows = sections::<8, 12>(self.values);
        let columns = sections::<16, 22>(self.values);
        let last = (0..self.values).flat_map(taps).flatten().max();
        let input_columns = 1 + last.expect("a value with an input");
        let scale = 1.0 / (self.inputs as f64).sqrt();
        let mut pattern = |scale: f64, offset: f64| -> Vec<f16> {
            // A prime: neighbours differ everywhere.
            (0..999_983).map(|_| f16::from_f64(scale * random.symmetric() + offset)).collect()
        };
        let count = self.values * self.values * self.outputs;
        let across = self.outputs.div_ceil(kernel.shape.outputs);
        let made = across * kernel.shape.outputs;
        let bias = vec![0.1_f32; made];
        let memory = [
            gpu.halves(input_columns * input_columns * self.inputs, &pattern(0.5, 0.5))?,
            gpu.halves(count, &[f16::NAN])?,
            gpu.memory_of(&packed(&pattern(scale, 0.0), self.inputs, self.outputs, &kernel.shape))?,
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
        // No list of subtiles: all of them.
        addresses[7..].copy_from_slice(&[cancel, overflow]);
        let subtiles = rows.len() * columns.len();
        let params = Params {
            addresses,
            numbers: [columns.len(), input_columns, self.inputs, self.values, self.outputs, 0, subtiles, 0]
                .map(|number| number as i32),
        };
        let grid = match kernel.shape.goes_on() {
            true => [(subtiles.div_ceil(2) * across).min(gpu.0.multiprocessors), 1],
            false => [subtiles, across],
        };
        gpu.launch(kernel, grid, &params)?;
        let first = self.parts(gpu, output, count)?;
        // Warm up, and find out how many launches take so long.
        let began = Instant::now();
        let mut launches = 0;
        while launches == 0 || (began.elapsed() < AT_LEAST && size(1, 0) == 1) {
            gpu.launch(kernel, grid, &params)?;
            gpu.synchronize()?;
            launches += 1;
        }
        let seconds = gpu.seconds(|| (0..launches).try_for_each(|_| gpu.launch(kernel, grid, &params)))?;
        let seconds = seconds / launches as f64;
        assert!(self.parts(gpu, output, count)? == first, "{}: other bits", kernel.shape.name);
        if kernel.shape.goes_on() {
            // Other blocks take other items.
            gpu.launch(kernel, [7, 1], &params)?;
            assert!(self.parts(gpu, output, count)? == first, "{}: other bits", kernel.shape.name);
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
pub fn agree(first: &[f16], second: &[f16]) -> Result<(), String> {
    let largest = first.iter().fold(0.0_f32, |most, value| most.max(value.to_f32()));
    assert!(largest > 0.1 && largest.is_finite(), "{largest}");
    let differ = |(a, b): (&f16, &f16)| {
        let (a, b) = (a.to_f32(), b.to_f32());
        // NaN is not near.
        let is_near = (a - b).abs() <= a.abs() / 512.0 + 1e-3 * largest;
        (!is_near).then_some((a, b))
    };
    match first.iter().zip(second).map(differ).enumerate().find_map(|(i, pair)| Some((i, pair?))) {
        Some((index, (a, b))) => Err(format!("value {index} is {b}, not {a}")),
        None => Ok(()),
    }
}
