//! The tables of a piece as the kernels read them: one run of bytes for a whole piece, so that one copy brings it to
//! the device.

use super::params::{
    AxisBlock, BLACK, BLOCK_ZERO, ColumnBlock, RowBlock, Start, TILE_COLUMNS, TILE_INPUT_COLUMNS,
    TILE_INPUT_ROWS, TILE_ROWS, Tile,
};
use crate::error::Error;
use crate::memory::{ensure_headroom, try_with_capacity};
use crate::plan::{AxisPlan, Image, PlannedPiece, STEPS, Step, TapTable};

/// Every table begins at a multiple of this.
const ALIGNMENT: usize = 16;

/// Where a table lies among the bytes.
#[derive(Clone, Copy)]
pub(super) struct Table {
    pub offset: usize,
    /// Elements.
    pub len: usize,
}

/// Tables of the two axes, and what a ROI leaves of their product.
pub(super) struct AxisTables {
    pub rows: Table,
    pub columns: Table,
    /// Tiles (the head: pixels) that are wanted; `None`: all.
    pub wanted: Option<Table>,
}

/// Tables of one step.
pub(super) enum StepTables {
    /// Taps of each value: first convolution, pools, head.
    Taps(AxisTables),
    /// Blocks of values: all other convolutions.
    Blocks(AxisTables),
}

/// All tables of a piece. What differs between pieces of one geometry, [`PieceTables::write`] fills in.
pub(super) struct PieceTables {
    bytes: Vec<u8>,
    pub steps: Vec<StepTables>,
    pub row_sources: Table,
    pub column_sources: Table,
    pub starts: Table,
    pub lattice_points: Table,
}

impl PieceTables {
    /// Most bytes that the tables of a tile of these axes can take when all its pixels are stored.
    pub fn most_bytes(rows: &AxisPlan, columns: &AxisPlan) -> usize {
        let axis = |axis: &AxisPlan, inputs: usize, block: usize| {
            let layer = |(index, &step): (usize, &Step)| {
                let taps = axis.layer(index);
                let bytes = match step {
                    Step::Convolution(1..) => block * most_blocks(taps.len(), inputs),
                    _ => size_of_val(taps.all()),
                };
                bytes + ALIGNMENT
            };
            let layers: usize = STEPS.iter().enumerate().map(layer).sum();
            // A stack of patches has fewer starts than rows of input.
            let starts = size_of::<Start>() * axis.inputs() + ALIGNMENT;
            layers + size_of::<i32>() * axis.inputs() + ALIGNMENT + starts
        };
        axis(rows, TILE_INPUT_ROWS, size_of::<RowBlock>())
            + axis(columns, TILE_INPUT_COLUMNS, size_of::<ColumnBlock>())
            + size_of::<i32>() * lattice_points(rows, columns)
            + ALIGNMENT
    }

    /// Most bytes that they take more when a ROI leaves pixels out.
    pub fn most_list_bytes(rows: &AxisPlan, columns: &AxisPlan) -> usize {
        let tiles = |index: usize| {
            let rows = most_blocks(rows.layer(index).len(), TILE_INPUT_ROWS);
            rows * most_blocks(columns.layer(index).len(), TILE_INPUT_COLUMNS)
        };
        let tiles: usize = (0..STEPS.len() - 1).map(tiles).sum();
        size_of::<Tile>() * tiles
            + size_of::<i32>() * lattice_points(rows, columns)
            + ALIGNMENT * STEPS.len()
    }

    pub fn new(piece: &PlannedPiece) -> Result<Self, Error> {
        const WHAT: &str = "tables of a tile";
        let plan = &piece.plan;
        let mut most = Self::most_bytes(&plan.rows, &plan.columns);
        if plan.lattice().listed().is_some() {
            most += Self::most_list_bytes(&plan.rows, &plan.columns);
        }
        let mut writer = Writer {
            bytes: try_with_capacity(most, WHAT)?,
        };
        // The tables of one layer at a time are made before they are written.
        ensure_headroom(most, WHAT)?;
        let row_sources = writer.table(&sources(&plan.rows));
        let column_sources = writer.table(&sources(&plan.columns));
        let starts = writer.room::<Start>(piece.starts.len());
        let lattice_points = writer.room::<i32>(piece.points.len());
        let mut steps = Vec::with_capacity(STEPS.len());
        for (index, &step) in STEPS.iter().enumerate() {
            let (rows, columns) = (plan.rows.layer(index), plan.columns.layer(index));
            let output = plan.output_of(index);
            steps.push(match step {
                Step::Convolution(1..) => {
                    let (row_blocks, column_blocks): (Vec<RowBlock>, Vec<ColumnBlock>) =
                        (blocks(rows), blocks(columns));
                    let wanted = wanted_tiles(
                        output,
                        &block_of_values(&row_blocks),
                        &block_of_values(&column_blocks),
                    );
                    StepTables::Blocks(AxisTables {
                        rows: writer.table(&row_blocks),
                        columns: writer.table(&column_blocks),
                        wanted: wanted.map(|tiles| writer.table(&tiles)),
                    })
                }
                Step::Head => StepTables::Taps(AxisTables {
                    rows: writer.table(rows.all()),
                    columns: writer.table(columns.all()),
                    wanted: output.listed().map(|pixels| writer.table(pixels)),
                }),
                _ => {
                    let wanted = wanted_tiles(
                        output,
                        &even_blocks::<TILE_ROWS>(rows.len()),
                        &even_blocks::<TILE_COLUMNS>(columns.len()),
                    );
                    StepTables::Taps(AxisTables {
                        rows: writer.table(rows.all()),
                        columns: writer.table(columns.all()),
                        wanted: wanted.map(|tiles| writer.table(&tiles)),
                    })
                }
            });
        }
        Ok(Self {
            bytes: writer.bytes,
            steps,
            row_sources,
            column_sources,
            starts,
            lattice_points,
        })
    }

    /// Bytes of all of them.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Writes the tables for `piece`, whose geometry is that of the piece they were made of.
    pub fn write(&self, piece: &PlannedPiece, to: &mut [u8]) {
        to.copy_from_slice(&self.bytes);
        let starts = to[self.starts.offset..].chunks_exact_mut(size_of::<Start>());
        for (to, &(row, column)) in starts.zip(&piece.starts) {
            to[..4].copy_from_slice(&(row as i32).to_ne_bytes());
            to[4..].copy_from_slice(&(column as i32).to_ne_bytes());
        }
        let points = to[self.lattice_points.offset..].chunks_exact_mut(size_of::<i32>());
        for (to, &point) in points.zip(&piece.points) {
            to.copy_from_slice(&(point as i32).to_ne_bytes());
        }
    }
}

/// Most blocks of `values` values: all but the last are full, and each value has 3 taps at most.
fn most_blocks(values: usize, inputs: usize) -> usize {
    values.div_ceil(inputs / 3)
}

fn lattice_points(rows: &AxisPlan, columns: &AxisPlan) -> usize {
    let head = STEPS.len() - 1;
    rows.layer(head).len() * columns.layer(head).len()
}

/// Appends tables to a run of bytes, which has room for them.
struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn table<T: Copy>(&mut self, values: &[T]) -> Table {
        let offset = self.align();
        // SAFETY: every `T` is a repr(C) struct of integers without padding, or an integer.
        let bytes = unsafe {
            std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values))
        };
        self.bytes.extend_from_slice(bytes);
        Table {
            offset,
            len: values.len(),
        }
    }

    /// Room for a table of `len` elements, zeros until then.
    fn room<T>(&mut self, len: usize) -> Table {
        let offset = self.align();
        self.bytes.resize(offset + size_of::<T>() * len, 0);
        Table { offset, len }
    }

    /// Where the next table begins.
    fn align(&mut self) -> usize {
        let offset = self.bytes.len().next_multiple_of(ALIGNMENT);
        self.bytes.resize(offset, 0);
        offset
    }
}

/// Pixel of each input value, counted from the band's start.
fn sources(axis: &AxisPlan) -> Vec<i32> {
    (0..axis.inputs())
        .map(|value| axis.source(value).map_or(BLACK, |pixel| pixel as i32))
        .collect()
}

/// Cuts an axis into blocks of consecutive values, each as long as it may be.
fn blocks<const VALUES: usize, const INPUTS: usize>(
    taps: &TapTable,
) -> Vec<AxisBlock<VALUES, INPUTS>> {
    let mut blocks = Vec::new();
    let mut block = empty(0);
    for value in 0..taps.len() {
        if !push(&mut block, taps.taps_of(value)) {
            blocks.push(block);
            block = empty(value);
            // A single value has at most 3 inputs.
            push(&mut block, taps.taps_of(value));
        }
    }
    blocks.push(block);
    blocks
}

fn empty<const VALUES: usize, const INPUTS: usize>(first: usize) -> AxisBlock<VALUES, INPUTS> {
    AxisBlock {
        first: first as i32,
        count: 0,
        inputs: 0,
        input: [0; INPUTS],
        tap: [[BLOCK_ZERO; 4]; VALUES],
    }
}

/// Adds a value with these taps, unless it does not fit.
fn push<const VALUES: usize, const INPUTS: usize>(
    block: &mut AxisBlock<VALUES, INPUTS>,
    taps: &[i32],
) -> bool {
    if block.count as usize == VALUES {
        return false;
    }
    let mut with = *block;
    for (tap, &input) in taps.iter().enumerate().filter(|&(_, &input)| input >= 0) {
        let known = &with.input[..with.inputs as usize];
        let place = known.iter().position(|&other| other == input);
        let place = place.unwrap_or(known.len());
        if place == INPUTS {
            return false;
        }
        if place == with.inputs as usize {
            with.input[place] = input;
            with.inputs += 1;
        }
        with.tap[with.count as usize][tap] = place as u8;
    }
    with.count += 1;
    *block = with;
    true
}

/// For each value its block, and its place in it.
fn block_of_values<const VALUES: usize, const INPUTS: usize>(
    blocks: &[AxisBlock<VALUES, INPUTS>],
) -> Vec<(usize, usize)> {
    let of_block = |(number, block): (usize, &AxisBlock<VALUES, INPUTS>)| {
        (0..block.count as usize).map(move |place| (number, place))
    };
    blocks.iter().enumerate().flat_map(of_block).collect()
}

/// The same where all blocks are full.
fn even_blocks<const VALUES: usize>(values: usize) -> Vec<(usize, usize)> {
    (0..values)
        .map(|value| (value / VALUES, value % VALUES))
        .collect()
}

/// The tiles with at least one pixel that is stored; `None` where all pixels are.
fn wanted_tiles(
    image: &Image,
    rows: &[(usize, usize)],
    columns: &[(usize, usize)],
) -> Option<Vec<Tile>> {
    const NONE: u32 = u32::MAX;
    let pixels = image.listed()?;
    let row_blocks = rows.last().map_or(0, |last| last.0 + 1);
    let column_blocks = columns.last().map_or(0, |last| last.0 + 1);
    let mut numbers = vec![NONE; row_blocks * column_blocks];
    let mut tiles: Vec<Tile> = Vec::new();
    for &pixel in pixels {
        let (row_block, row) = rows[pixel as usize / image.columns];
        let (column_block, column) = columns[pixel as usize % image.columns];
        let number = &mut numbers[row_block * column_blocks + column_block];
        if *number == NONE {
            *number = tiles.len() as u32;
            tiles.push(Tile {
                row_block: row_block as i32,
                column_block: column_block as i32,
                wanted: [0; TILE_ROWS * TILE_COLUMNS / 32],
            });
        }
        let bit = row * TILE_COLUMNS + column;
        tiles[*number as usize].wanted[bit / 32] |= 1 << (bit % 32);
    }
    Some(tiles)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lattice::{Lattice, Padding};
    use crate::plan::AxisPlans;
    use crate::volume::Extents;

    fn axis(patch_size: u32, stride: u32, side: u64, padding: Padding) -> std::sync::Arc<AxisPlan> {
        let extents = Extents::new(side, side, 1, "volume").unwrap();
        let lattice = Lattice::new(extents, patch_size, stride, None).unwrap();
        let all: Vec<usize> = (0..lattice.x.count()).collect();
        AxisPlans::new(false, 0)
            .tile(&lattice.x, &all, padding, &|| Ok(()))
            .unwrap()
    }

    /// Blocks say of every value's taps what the tap table says.
    #[test]
    fn blocks_are_the_tap_table() {
        for (patch_size, stride) in [(32, 1), (33, 7), (65, 4), (48, 48), (257, 7)] {
            let axis = axis(patch_size, stride, 300, Padding::Patch);
            for (index, _) in STEPS
                .iter()
                .enumerate()
                .filter(|(_, step)| matches!(step, Step::Convolution(_)))
            {
                let taps = axis.layer(index);
                let blocks: Vec<RowBlock> = blocks(taps);
                let mut value = 0;
                for block in &blocks {
                    assert_eq!(block.first as usize, value);
                    assert!((1..=TILE_ROWS as i32).contains(&block.count));
                    for local in &block.tap[..block.count as usize] {
                        let expected = taps.taps_of(value);
                        for (&local, &tap) in local[..3].iter().zip(expected) {
                            match local {
                                BLOCK_ZERO => assert_eq!(tap, -1),
                                local => assert_eq!(block.input[local as usize], tap),
                            }
                        }
                        value += 1;
                    }
                }
                assert_eq!(value, taps.len());
            }
        }
    }

    /// How many of a tile's pixels are wasted on full-width settings: blocks that end early because their inputs do
    /// not fit. A few in a hundred, or the convolutions are slower than they are meant to be.
    #[test]
    fn tiles_are_nearly_full() {
        for (patch_size, stride, padding, most) in [
            (257, 8, Padding::Patch, 1.05),
            (257, 7, Padding::Patch, 1.05),
            (225, 8, Padding::Patch, 1.05),
            (65, 4, Padding::Patch, 1.2),
            (257, 8, Padding::Image, 1.3),
        ] {
            let axis = axis(patch_size, stride, 512, padding);
            for (index, step) in STEPS.iter().enumerate() {
                if let Step::Convolution(i @ 1..) = step {
                    let taps = axis.layer(index);
                    let rows = blocks::<TILE_ROWS, TILE_INPUT_ROWS>(taps);
                    let columns = blocks::<TILE_COLUMNS, TILE_INPUT_COLUMNS>(taps);
                    let made = rows.len() * TILE_ROWS * columns.len() * TILE_COLUMNS;
                    let waste = made as f64 / (taps.len() * taps.len()) as f64;
                    println!("{patch_size}/{stride} {padding:?} convolution {i}: {waste:.3}");
                    assert!(
                        waste <= most,
                        "{patch_size}/{stride} convolution {i}: {waste}"
                    );
                }
            }
        }
    }
}
