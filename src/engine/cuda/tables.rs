//! The tables of a piece as the kernels read them: one run of bytes for a whole piece, so that one copy brings it to
//! the device.

use super::blocks::{block_of_values, blocks, even_blocks, listed_pixels, most_blocks, wanted_tiles};
use super::params::{
    BLACK, ColumnBlock, RowBlock, Start, TILE_COLUMNS, TILE_INPUT_COLUMNS, TILE_INPUT_ROWS, TILE_ROWS, Tile,
};
use crate::error::{Check, Error};
use crate::memory::{ensure_headroom, try_with_capacity};
use crate::plan::{AxisPlan, PlannedPiece, STEPS, Step};

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
        size_of::<Tile>() * tiles + size_of::<i32>() * lattice_points(rows, columns) + ALIGNMENT * STEPS.len()
    }

    pub fn new(piece: &PlannedPiece, check: Check<'_>) -> Result<Self, Error> {
        const WHAT: &str = "tables of a tile";
        let plan = &piece.plan;
        let mut most = Self::most_bytes(&plan.rows, &plan.columns);
        if plan.lattice().listed().is_some() {
            most += Self::most_list_bytes(&plan.rows, &plan.columns);
        }
        let mut writer = Writer { bytes: try_with_capacity(most, WHAT)? };
        // The tables of one layer at a time are made before they are written.
        ensure_headroom(most, WHAT)?;
        let row_sources = writer.table(&sources(&plan.rows));
        let column_sources = writer.table(&sources(&plan.columns));
        let starts = writer.room::<Start>(piece.starts.len());
        let lattice_points = writer.room::<i32>(piece.points.len());
        let mut steps = Vec::with_capacity(STEPS.len());
        for (index, &step) in STEPS.iter().enumerate() {
            check()?;
            let (rows, columns) = (plan.rows.layer(index), plan.columns.layer(index));
            let output = plan.output_of(index);
            steps.push(match step {
                Step::Convolution(1..) => {
                    let (row_blocks, column_blocks): (Vec<RowBlock>, Vec<ColumnBlock>) =
                        (blocks(rows), blocks(columns));
                    let wanted =
                        wanted_tiles(output, &block_of_values(&row_blocks), &block_of_values(&column_blocks), check)?;
                    StepTables::Blocks(AxisTables {
                        rows: writer.table(&row_blocks),
                        columns: writer.table(&column_blocks),
                        wanted: wanted.map(|tiles| writer.table(&tiles)),
                    })
                }
                Step::Head => StepTables::Taps(AxisTables {
                    rows: writer.table(rows.all()),
                    columns: writer.table(columns.all()),
                    wanted: listed_pixels(output)?.map(|pixels| writer.table(&pixels)),
                }),
                _ => {
                    let wanted = wanted_tiles(
                        output,
                        &even_blocks::<TILE_ROWS>(rows.len()),
                        &even_blocks::<TILE_COLUMNS>(columns.len()),
                        check,
                    )?;
                    StepTables::Taps(AxisTables {
                        rows: writer.table(rows.all()),
                        columns: writer.table(columns.all()),
                        wanted: wanted.map(|tiles| writer.table(&tiles)),
                    })
                }
            });
        }
        Ok(Self { bytes: writer.bytes, steps, row_sources, column_sources, starts, lattice_points })
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
        let bytes = unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values)) };
        self.bytes.extend_from_slice(bytes);
        Table { offset, len: values.len() }
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
    (0..axis.inputs()).map(|value| axis.source(value).map_or(BLACK, |pixel| pixel as i32)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::cuda::blocks::tests::axis;
    use crate::lattice::Padding;
    use crate::plan::TilePlan;
    use std::sync::Arc;

    /// The patches of a square slice from `first` on, those where `wanted` says so.
    fn piece(axis: &Arc<AxisPlan>, first: usize, wanted: Option<fn(usize) -> bool>) -> PlannedPiece {
        let points = lattice_points(axis, axis);
        let wanted: Option<Vec<bool>> = wanted.map(|wanted| (0..points).map(wanted).collect());
        let (rows, columns) = (Arc::clone(axis), Arc::clone(axis));
        let plan = TilePlan::new(rows, columns, wanted.as_deref(), &go).unwrap();
        PlannedPiece {
            points: (first..first + plan.lattice().len()).collect(),
            starts: vec![(first as i64, 3 - first as i64)],
            plan,
        }
    }

    fn go() -> Result<(), Error> {
        Ok(())
    }

    /// What is allocated for tables, and counted, is enough for them whatever a ROI leaves of the tile.
    #[test]
    fn tables_are_no_larger_than_foreseen() {
        for (patch_size, stride, padding) in
            [(32, 1, Padding::Patch), (33, 7, Padding::Patch), (48, 48, Padding::Patch), (65, 4, Padding::Image)]
        {
            let axis = axis(patch_size, stride, 150, padding);
            let most = PieceTables::most_bytes(&axis, &axis);
            let whole = PieceTables::new(&piece(&axis, 0, None), &go).unwrap();
            assert!(whole.len() <= most, "{} of {most}", whole.len());
            let with_lists = most + PieceTables::most_list_bytes(&axis, &axis);
            for wanted in [|_| false, |point| point == 0, |point| point % 3 > 0] {
                let some = PieceTables::new(&piece(&axis, 0, Some(wanted)), &go).unwrap();
                println!("{patch_size}/{stride}: {} of {with_lists}", some.len());
                assert!(some.len() <= with_lists, "{} of {with_lists}", some.len());
            }
        }
    }

    /// Tables serve any piece of the same axes.
    #[test]
    fn pieces_of_one_geometry_share_tables() {
        let axis = axis(33, 7, 150, Padding::Patch);
        let (here, there) = (piece(&axis, 0, None), piece(&axis, 1000, None));
        let bytes = |made_of: &PlannedPiece, of: &PlannedPiece| {
            let tables = PieceTables::new(made_of, &go).unwrap();
            let mut bytes = vec![0; tables.len()];
            tables.write(of, &mut bytes);
            bytes
        };
        assert!(bytes(&here, &there) == bytes(&there, &there));
        assert!(bytes(&here, &here) != bytes(&here, &there));
        let stopped = PieceTables::new(&here, &|| Err(Error::Cancelled));
        assert_eq!(stopped.err(), Some(Error::Cancelled));
    }
}
