//! The tables of a piece as the kernels read them: one run of bytes for a whole piece, so that one copy brings it to
//! the device.

use super::params::{
    AxisBlock, BLACK, BLOCK_ZERO, ColumnBlock, RowBlock, Start, TILE_COLUMNS, TILE_ROWS, Tile,
};
use crate::error::Error;
use crate::memory::try_with_capacity;
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

/// All tables of a piece.
pub(super) struct PieceTables {
    pub bytes: Vec<u8>,
    /// Number of the bytes, also when they have been taken out.
    pub len: usize,
    pub steps: Vec<StepTables>,
    pub row_sources: Table,
    pub column_sources: Table,
    pub starts: Table,
    pub lattice_points: Table,
}

impl PieceTables {
    /// Most bytes that the tables of a tile of these axes can take, whatever the ROI.
    pub fn most_bytes(rows: &AxisPlan, columns: &AxisPlan) -> usize {
        const EVERY_TABLE: usize = 64;
        // A block takes 4 bytes a tap of its values, 4 a distinct input (at most one a tap) and its head.
        let axis = |axis: &AxisPlan| {
            let taps =
                (0..STEPS.len()).map(|index| 24 * axis.layer(index).all().len() + EVERY_TABLE);
            taps.sum::<usize>() + size_of::<ColumnBlock>() * STEPS.len() + 12 * axis.inputs()
        };
        // A tile has 4 x 7 pixels at least, but for the last of each axis. The head and the lattice list points.
        let product = |index: usize| {
            let (rows, columns) = (rows.layer(index).len(), columns.layer(index).len());
            rows * columns + size_of::<Tile>() * (rows + columns + 1)
        };
        let head = STEPS.len() - 1;
        let points = rows.layer(head).len() * columns.layer(head).len();
        axis(rows)
            + axis(columns)
            + (0..head).map(product).sum::<usize>()
            + 8 * points
            + EVERY_TABLE
    }

    pub fn new(piece: &PlannedPiece) -> Result<Self, Error> {
        let plan = &piece.plan;
        let mut writer = Writer { bytes: Vec::new() };
        let row_sources = writer.table(&sources(&plan.rows))?;
        let column_sources = writer.table(&sources(&plan.columns))?;
        let starts: Vec<Start> = piece
            .starts
            .iter()
            .map(|&(row, column)| Start {
                row: row as i32,
                column: column as i32,
            })
            .collect();
        let starts = writer.table(&starts)?;
        let points: Vec<i32> = piece.points.iter().map(|&point| point as i32).collect();
        let lattice_points = writer.table(&points)?;
        let mut steps = Vec::with_capacity(STEPS.len());
        for (index, &step) in STEPS.iter().enumerate() {
            let (rows, columns) = (plan.rows.layer(index), plan.columns.layer(index));
            let output = plan.output_of(index);
            steps.push(match step {
                Step::Convolution(i) if i > 0 => {
                    let (row_blocks, column_blocks): (Vec<RowBlock>, Vec<ColumnBlock>) =
                        (blocks(rows), blocks(columns));
                    let wanted = wanted_tiles(
                        output,
                        &block_of_values(&row_blocks),
                        &block_of_values(&column_blocks),
                    );
                    StepTables::Blocks(AxisTables {
                        rows: writer.table(&row_blocks)?,
                        columns: writer.table(&column_blocks)?,
                        wanted: wanted.map(|tiles| writer.table(&tiles)).transpose()?,
                    })
                }
                Step::Head => StepTables::Taps(AxisTables {
                    rows: writer.table(rows.all())?,
                    columns: writer.table(columns.all())?,
                    wanted: output
                        .listed()
                        .map(|pixels| writer.table(pixels))
                        .transpose()?,
                }),
                _ => {
                    let wanted = wanted_tiles(
                        output,
                        &even_blocks::<TILE_ROWS>(rows.len()),
                        &even_blocks::<TILE_COLUMNS>(columns.len()),
                    );
                    StepTables::Taps(AxisTables {
                        rows: writer.table(rows.all())?,
                        columns: writer.table(columns.all())?,
                        wanted: wanted.map(|tiles| writer.table(&tiles)).transpose()?,
                    })
                }
            });
        }
        Ok(Self {
            len: writer.bytes.len(),
            bytes: writer.bytes,
            steps,
            row_sources,
            column_sources,
            starts,
            lattice_points,
        })
    }
}

/// Appends tables to a run of bytes.
struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn table<T: Copy>(&mut self, values: &[T]) -> Result<Table, Error> {
        let offset = self.bytes.len().next_multiple_of(ALIGNMENT);
        // SAFETY: every `T` is a repr(C) struct of integers without padding, or an integer.
        let bytes = unsafe {
            std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values))
        };
        let needed = offset + bytes.len();
        if self.bytes.capacity() < needed {
            let mut larger = try_with_capacity(needed.next_power_of_two(), "tables of a tile")?;
            larger.extend_from_slice(&self.bytes);
            self.bytes = larger;
        }
        self.bytes.resize(offset, 0);
        self.bytes.extend_from_slice(bytes);
        Ok(Table {
            offset,
            len: values.len(),
        })
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
                    let rows = blocks::<TILE_ROWS, { super::super::params::TILE_INPUT_ROWS }>(taps);
                    let columns =
                        blocks::<TILE_COLUMNS, { super::super::params::TILE_INPUT_COLUMNS }>(taps);
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
