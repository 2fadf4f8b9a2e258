//! The forward pass on the device: every layer of a tile is a launch (a dense one, two), from one half of its region of
//! the arena to the other.

use super::buffers::{ACTIVATION_BYTES, ALIGNMENT, Arena, Region, half_bytes};
use super::device::Device;
use super::driver::Stream;
use super::params::{
    ConvParams, FirstParams, GEMM_OUTPUTS, GEMM_PATCHES, GemmParams, MaxPoolParams, SPLIT_K_OUTPUTS, SUBTILE_COLUMNS,
    SUBTILE_ROWS, ScoresParams, SplitKParams, THREADS, Voxels,
};
use super::tables::{StepTables, Table, TileTables};
use super::weights::PackedWeights;
use crate::axes::Axes;
use crate::error::Error;
use crate::network::CONVOLUTIONS;
use crate::patch_grid::PatchGrid;
use crate::plan::{HEAD, PlannedTile, STEPS, Step};

/// The layers of one tile, ready to be launched.
pub(super) struct Launches<'a> {
    pub device: &'a Device,
    pub weights: &'a PackedWeights,
    pub arena: &'a Arena,
    pub region: Region,
    pub stream: &'a Stream,
    pub tile: &'a PlannedTile,
    pub tables: &'a TileTables,
    pub grid: PatchGrid,
    pub classes: usize,
    /// Maximum blocks of kernels that go from subtile to subtile.
    pub multiprocessors: usize,
    /// Words of device memory.
    pub cancel: u64,
    pub overflow: u64,
}

impl Launches<'_> {
    /// The first layer, from voxels. `table`: of the equalisation, or 0.
    ///
    /// # Safety
    /// Voxels, table and everything in `self` live until the stream has done its work.
    pub unsafe fn first(&self, voxels: Voxels, table: u64) -> Result<(), Error> {
        let tables = &self.tables.steps[0];
        let axes = &self.tile.plan.axes;
        let output = axes.sizes().output(0);
        let PatchGrid { x, y, .. } = self.grid;
        let layer = &self.weights.first;
        let params = FirstParams {
            voxels,
            table,
            output: self.output_of(0),
            weights: layer.weights.address(),
            bias: layer.bias.address(),
            row_taps: self.at(tables.rows),
            column_taps: self.at(tables.columns),
            row_sources: self.at(self.tables.row_sources),
            column_sources: self.at(self.tables.column_sources),
            starts: self.at(self.tables.starts),
            subtiles: self.at_some(tables.wanted),
            cancel: self.cancel,
            overflow: self.overflow,
            rows: output.rows as i32,
            columns: output.columns as i32,
            channels: layer.outputs as i32,
            band_rows: (axes.rows.inputs() / self.tile.starts.len()) as i32,
            crop_x: x.origin as i32,
            crop_y: y.origin as i32,
            crop_width: x.len as i32,
            crop_height: y.len as i32,
            layer: 0,
            unused: 0,
        };
        let subtiles = even_subtiles(output, tables.wanted);
        // SAFETY: by contract, and the tables are those of the plan that sized the arena.
        unsafe { self.stream.launch(&self.device.kernels.first, [subtiles, 1], &params) }
    }

    /// All further layers, and the scores of the patches to `logits` and `probabilities`.
    ///
    /// # Safety
    /// Everything lives until the stream has done its work, and `logits` and `probabilities` are large
    /// enough for all patches of the slice.
    pub unsafe fn rest(&self, logits: u64, probabilities: u64) -> Result<(), Error> {
        for index in 1..=self.last() {
            // SAFETY: by contract.
            unsafe { self.layer(index) }?;
        }
        // SAFETY: by contract.
        unsafe { self.scores(logits, probabilities) }
    }

    /// The index of the last layer. They are the plan's steps, then the later dense layers.
    pub fn last(&self) -> usize {
        HEAD + self.weights.dense.len() - 1
    }

    /// Address of layer `index`'s output, which the next one reads.
    fn output_of(&self, index: usize) -> u64 {
        self.arena.at(self.offset_of(index))
    }

    /// The same, from the arena's beginning.
    fn offset_of(&self, index: usize) -> usize {
        let [first, _] = half_bytes(self.weights, &self.tile.plan.sizes());
        let halves = self.tables.len().next_multiple_of(ALIGNMENT);
        self.region.bytes.start + halves + index % 2 * first
    }

    /// Copies layer `index`'s output, not the last one's, which has none, to `values`; the stream has done its work.
    pub fn read<T: Copy>(&self, index: usize, values: &mut [T]) -> Result<(), Error> {
        self.arena.read(self.offset_of(index), values)
    }

    /// Channels of layer `index`'s output, padding included.
    pub fn channels_of(&self, index: usize) -> usize {
        match STEPS.get(index) {
            Some(Step::Convolution(0)) => self.weights.first.outputs,
            Some(Step::Convolution(i)) => self.weights.convolutions[i - 1].outputs,
            Some(Step::Pool) => self.channels_of(index - 1),
            _ => self.weights.dense[index - HEAD].layer.outputs,
        }
    }

    /// Layer `index`, not the first.
    ///
    /// # Safety
    /// Everything in `self` lives until the stream has done its work.
    pub unsafe fn layer(&self, index: usize) -> Result<(), Error> {
        let tables = self.tables.steps.get(index);
        // SAFETY: by contract, and the tables are those of the plan that sized the arena.
        unsafe {
            match (STEPS.get(index), tables) {
                (Some(&Step::Convolution(i)), Some(tables)) => self.convolution(index, i, tables),
                (Some(Step::Pool), Some(tables)) => self.pool(index, tables),
                _ => self.dense(index, tables),
            }
        }
    }

    unsafe fn convolution(&self, index: usize, number: usize, tables: &StepTables) -> Result<(), Error> {
        let layer = &self.weights.convolutions[number - 1];
        let kernel = &self.device.kernels.convolutions[layer.kernel];
        let subtiles = match tables.wanted {
            Some(subtiles) => subtiles.len,
            None => tables.rows.len * tables.columns.len,
        };
        let params = ConvParams {
            input: self.output_of(index - 1),
            output: self.output_of(index),
            weights: layer.weights.address(),
            bias: layer.bias.address(),
            row_sections: self.at(tables.rows),
            column_sections: self.at(tables.columns),
            subtiles: self.at_some(tables.wanted),
            cancel: self.cancel,
            overflow: self.overflow,
            column_section_count: tables.columns.len as i32,
            input_columns: self.tile.plan.input_of(index).columns as i32,
            input_channels: layer.inputs as i32,
            columns: self.tile.plan.output_of(index).columns as i32,
            output_channels: layer.outputs as i32,
            layer: number as i32,
            subtile_count: subtiles as i32,
            unused: 0,
        };
        let blocks = kernel.blocks(subtiles, layer.outputs, self.multiprocessors);
        // SAFETY: by contract of `layer`.
        unsafe { self.stream.launch(&kernel.kernel, blocks, &params) }
    }

    unsafe fn pool(&self, index: usize, tables: &StepTables) -> Result<(), Error> {
        let output = self.tile.plan.output_of(index);
        let params = MaxPoolParams {
            input: self.output_of(index - 1),
            output: self.output_of(index),
            row_taps: self.at(tables.rows),
            column_taps: self.at(tables.columns),
            subtiles: self.at_some(tables.wanted),
            cancel: self.cancel,
            rows: output.rows as i32,
            columns: output.columns as i32,
            input_columns: self.tile.plan.input_of(index).columns as i32,
            channels: self.channels_of(index) as i32,
        };
        let subtiles = even_subtiles(self.tile.plan.sizes().output(index), tables.wanted);
        let kernel = &self.device.kernels.gather_max_pool;
        // SAFETY: by contract of `layer`.
        unsafe { self.stream.launch(kernel, [subtiles, 1], &params) }
    }

    /// Launches its products and the addition of its sums; the last layer's are added by `scores`. Layers after the head
    /// have no tables.
    unsafe fn dense(&self, index: usize, tables: Option<&StepTables>) -> Result<(), Error> {
        let [row_taps, column_taps, pixels] = match tables {
            Some(tables) => [self.at(tables.rows), self.at(tables.columns), self.at_some(tables.wanted)],
            None => [0; 3],
        };
        let input_columns = tables.map_or(0, |_| self.tile.plan.input_of(index).columns);
        let number = index - HEAD;
        let dense = &self.weights.dense[number];
        let layer = &dense.layer;
        let kernels = &self.device.kernels;
        let patches = self.tile.patches.len();
        let products = GemmParams {
            input: self.output_of(index - 1),
            sums: self.sums_of(index),
            weights: layer.weights.address(),
            row_taps,
            column_taps,
            pixels,
            cancel: self.cancel,
            patches: patches as i32,
            columns: self.tile.plan.patches().columns as i32,
            side: dense.side as i32,
            split_rows: dense.split_rows as i32,
            input_columns: input_columns as i32,
            input_channels: layer.inputs as i32,
            output_channels: layer.outputs as i32,
            unused: 0,
        };
        let blocks = [patches.div_ceil(GEMM_PATCHES), layer.outputs.div_ceil(GEMM_OUTPUTS) * dense.splits()];
        // SAFETY: by contract of `layer`.
        unsafe { self.stream.launch(&kernels.gemm, blocks, &products) }?;
        if index == self.last() {
            return Ok(());
        }
        let sums = SplitKParams {
            sums: products.sums,
            bias: layer.bias.address(),
            output: self.output_of(index),
            cancel: self.cancel,
            overflow: self.overflow,
            patches: products.patches,
            output_channels: products.output_channels,
            splits: dense.splits() as i32,
            layer: (CONVOLUTIONS + number) as i32,
        };
        let blocks = (patches * layer.outputs).div_ceil(SPLIT_K_OUTPUTS * THREADS as usize);
        // SAFETY: by contract of `layer`.
        unsafe { self.stream.launch(&kernels.split_k_reduce, [blocks, 1], &sums) }
    }

    /// Address of the sums of dense layer `index`: behind its output, whose pixels are multiples of 32 bytes.
    fn sums_of(&self, index: usize) -> u64 {
        let output = self.tile.patches.len() * self.channels_of(index) * ACTIVATION_BYTES;
        self.output_of(index) + output as u64
    }

    /// Scores of the patches from the last layer's sums.
    ///
    /// # Safety
    /// As [`Launches::rest`].
    pub unsafe fn scores(&self, logits: u64, probabilities: u64) -> Result<(), Error> {
        let patches = self.tile.patches.len();
        let number = self.weights.dense.len() - 1;
        let dense = &self.weights.dense[number];
        let layer = &dense.layer;
        let params = ScoresParams {
            sums: self.sums_of(self.last()),
            bias: layer.bias.address(),
            grid_indices: self.at(self.tables.patch_indices),
            logits,
            probabilities,
            cancel: self.cancel,
            overflow: self.overflow,
            patches: patches as i32,
            classes: self.classes as i32,
            padded_classes: layer.outputs as i32,
            splits: dense.splits() as i32,
            layer: (CONVOLUTIONS + number) as i32,
            unused: 0,
        };
        let blocks = [patches.div_ceil(THREADS as usize), 1];
        let kernel = &self.device.kernels.scores;
        // SAFETY: by contract.
        unsafe { self.stream.launch(kernel, blocks, &params) }
    }

    fn at(&self, table: Table) -> u64 {
        self.arena.at(self.region.bytes.start + table.offset)
    }

    fn at_some(&self, table: Option<Table>) -> u64 {
        table.map_or(0, |table| self.at(table))
    }
}

/// Subtiles of full sections, or those that are wanted.
fn even_subtiles(image: Axes<usize>, wanted: Option<Table>) -> usize {
    match wanted {
        Some(subtiles) => subtiles.len,
        None => image.rows.div_ceil(SUBTILE_ROWS) * image.columns.div_ceil(SUBTILE_COLUMNS),
    }
}
