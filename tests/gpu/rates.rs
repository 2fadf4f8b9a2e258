//! The library's table of rates (src/engine/cuda/rates.rs) beside what was timed: whether it chose the fastest kernel, and
//! the rows that belong there.

use std::process::Command;

#[path = "../../src/engine/cuda/rates.rs"]
mod table;

pub use table::{OF_EVERY_GPU, OF_HOPPER, Shape};

use crate::driver::Driver;

/// Each kernel that runs on a GPU, and its rates at every layer, in TFLOP/s, outputs in vain included.
#[derive(Default)]
pub struct Timed {
    kernels: Vec<(Shape, Vec<f64>)>,
}

impl Timed {
    pub fn add(&mut self, kernel: Shape, tflops: f64) {
        match self.kernels.iter_mut().find(|(of, _)| of.name == kernel.name) {
            Some((_, rates)) => rates.push(tflops),
            None => self.kernels.push((kernel, vec![tflops])),
        }
    }

    /// For the layer that came last: its fastest kernel, and how much longer the table's choice takes.
    pub fn verdict(&self, gpu: &Driver, inputs: usize, outputs: usize) -> String {
        let seconds = |(kernel, rates): &(Shape, Vec<f64>)| {
            outputs.next_multiple_of(kernel.outputs) as f64 / rates[rates.len() - 1]
        };
        let quickest = self.kernels.iter().min_by(|a, b| seconds(a).total_cmp(&seconds(b)));
        let quickest = quickest.expect("a kernel");
        let shapes = self.kernels.iter().map(|(kernel, _)| *kernel);
        let chosen = match table::fastest(gpu.capability, shapes, inputs, outputs) {
            Some(index) => &self.kernels[index],
            None => return format!("fastest: {}; the table chooses none", quickest.0.name),
        };
        if chosen.0.name == quickest.0.name {
            return format!("fastest: {}, the table's choice", quickest.0.name);
        }
        let slower = 100.0 * (seconds(chosen) / seconds(quickest) - 1.0);
        format!("fastest: {}; the table's choice, {}, takes {slower:.1} % longer", quickest.0.name, chosen.0.name)
    }

    /// The rows for the table: geometric means over the layers.
    pub fn rows(&self, gpu: &Driver) -> String {
        let rows = self.kernels.iter().map(|(kernel, rates)| {
            let logarithms: f64 = rates.iter().map(|rate| rate.ln()).sum();
            let mean = (logarithms / rates.len() as f64).exp();
            format!("            (\"{}\", {mean:.1}),\n", kernel.name)
        });
        format!(
            "    // {}, measured {}\n    Rates {{\n        capability: {:?},\n        tflops: &[\n{}        ],\n    }},",
            gpu.name,
            today(),
            gpu.capability,
            rows.collect::<String>()
        )
    }
}

fn today() -> String {
    let date = Command::new("date").arg("+%Y-%m-%d").output();
    let date = date.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    date.unwrap_or_default()
}
