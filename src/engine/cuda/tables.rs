//! The tables of a tile as the kernels read them: consecutive bytes for a whole tile, so that one copy brings it to
//! the device.

use super::params::{
    BLACK, ColumnSection, RowSection, SUBTILE_COLUMNS, SUBTILE_INPUT_COLUMNS, SUBTILE_INPUT_ROWS, SUBTILE_ROWS, Start,
    Subtile, bytes_of,
};
use super::sections::{even_sections, listed_pixels, max_sections, section_of_values, sections, wanted_subtiles};
use crate::axes::Axes;
use crate::cancel::Cancel;
use crate::error::Error;
use crate::memory::{ensure_headroom, try_with_capacity};
use crate::plan::{AxisPlan, AxisSizes, HEAD, PlannedTile, STEPS, Step};

/// Every table begins at a multiple of this.
const ALIGNMENT: usize = 16;

#[derive(Clone, Copy)]
pub(super) struct Table {
    pub offset: usize,
    /// Elements.
    pub len: usize,
}

/// Tables of the two axes of a step: sections of convolutions but the first, else taps of each value. And those of
/// their product that a ROI leaves.
pub(super) struct StepTables {
    pub rows: Table,
    pub columns: Table,
    /// Subtiles (the head: pixels) that are wanted; `None`: all.
    pub wanted: Option<Table>,
}

/// All tables of a tile. [`TileTables::write`] fills in those that differ between tiles of one geometry.
pub(super) struct TileTables {
    bytes: Vec<u8>,
    pub steps: Vec<StepTables>,
    pub row_sources: Table,
    pub column_sources: Table,
    pub starts: Table,
    pub patch_indices: Table,
}

impl TileTables {
    /// Maximum bytes of the tables of a tile of these axes when all its pixels are stored.
    pub fn max_bytes(axes: &Axes<AxisSizes>) -> usize {
        let axis = |axis: &AxisSizes, inputs: usize, section: usize| {
            let layer = |(index, &step): (usize, &Step)| {
                let bytes = match step {
                    Step::Convolution(1..) => section * max_sections(axis.output(index), inputs),
                    _ => size_of::<i32>() * axis.taps(index),
                };
                bytes + ALIGNMENT
            };
            let layers: usize = STEPS.iter().enumerate().map(layer).sum();
            // A stack of patches has fewer starts than rows of input.
            let starts = size_of::<Start>() * axis.inputs + ALIGNMENT;
            layers + size_of::<i32>() * axis.inputs + ALIGNMENT + starts
        };
        axis(&axes.rows, SUBTILE_INPUT_ROWS, size_of::<RowSection>())
            + axis(&axes.columns, SUBTILE_INPUT_COLUMNS, size_of::<ColumnSection>())
            + size_of::<i32>() * axes.patches()
            + ALIGNMENT
    }

    /// Maximum bytes of further tables when a ROI leaves pixels out.
    pub fn max_list_bytes(axes: &Axes<AxisSizes>) -> usize {
        let subtiles = |index: usize| {
            let Axes { rows, columns } = axes.output(index);
            max_sections(rows, SUBTILE_INPUT_ROWS) * max_sections(columns, SUBTILE_INPUT_COLUMNS)
        };
        let subtiles: usize = (0..HEAD).map(subtiles).sum();
        size_of::<Subtile>() * subtiles + size_of::<i32>() * axes.patches() + ALIGNMENT * STEPS.len()
    }

    pub fn new(tile: &PlannedTile, cancel: &Cancel) -> Result<Self, Error> {
        const WHAT: &str = "tables of a tile";
        let plan = &tile.plan;
        let axes = &plan.axes;
        let mut max = Self::max_bytes(&plan.sizes());
        if plan.patches().listed().is_some() {
            max += Self::max_list_bytes(&plan.sizes());
        }
        let mut writer = Writer { bytes: try_with_capacity(max, WHAT)? };
        // The tables of one layer at a time are made before they are written.
        ensure_headroom(max, WHAT)?;
        let row_sources = writer.table(&sources(&axes.rows));
        let column_sources = writer.table(&sources(&axes.columns));
        let starts = writer.zeros::<Start>(tile.starts.len());
        let patch_indices = writer.zeros::<i32>(tile.patches.len());
        let mut steps = Vec::with_capacity(STEPS.len());
        for (index, &step) in STEPS.iter().enumerate() {
            cancel.check()?;
            let Axes { rows, columns } = axes.layer(index);
            let output = plan.output_of(index);
            let subtiles = |rows: &[_], columns: &[_]| wanted_subtiles(output, Axes { rows, columns }, cancel);
            steps.push(match step {
                Step::Convolution(1..) => {
                    let (row_sections, column_sections): (Vec<RowSection>, Vec<ColumnSection>) =
                        (sections(rows), sections(columns));
                    let wanted = subtiles(&section_of_values(&row_sections), &section_of_values(&column_sections))?;
                    StepTables {
                        rows: writer.table(&row_sections),
                        columns: writer.table(&column_sections),
                        wanted: wanted.map(|subtiles| writer.table(&subtiles)),
                    }
                }
                Step::Head => StepTables {
                    rows: writer.table(rows.all()),
                    columns: writer.table(columns.all()),
                    wanted: listed_pixels(output)?.map(|pixels| writer.table(&pixels)),
                },
                _ => {
                    let (row_sections, column_sections) =
                        (even_sections::<SUBTILE_ROWS>(rows.len()), even_sections::<SUBTILE_COLUMNS>(columns.len()));
                    let wanted = subtiles(&row_sections, &column_sections)?;
                    StepTables {
                        rows: writer.table(rows.all()),
                        columns: writer.table(columns.all()),
                        wanted: wanted.map(|subtiles| writer.table(&subtiles)),
                    }
                }
            });
        }
        Ok(Self { bytes: writer.bytes, steps, row_sources, column_sources, starts, patch_indices })
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Writes the tables for `tile`, whose geometry is that of the tile they were made of.
    pub fn write(&self, tile: &PlannedTile, to: &mut [u8]) {
        to.copy_from_slice(&self.bytes);
        let starts = to[self.starts.offset..].chunks_exact_mut(size_of::<Start>());
        for (to, &(row, column)) in starts.zip(&tile.starts) {
            to.copy_from_slice(bytes_of(&[Start { row: row as i32, column: column as i32 }]));
        }
        let indices = to[self.patch_indices.offset..].chunks_exact_mut(size_of::<i32>());
        for (to, &patch) in indices.zip(&tile.patches) {
            to.copy_from_slice(&(patch as i32).to_ne_bytes());
        }
    }
}

/// Appends tables to bytes of sufficient capacity.
struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn table<T: Copy>(&mut self, values: &[T]) -> Table {
        let offset = self.align();
        self.bytes.extend_from_slice(bytes_of(values));
        Table { offset, len: values.len() }
    }

    /// A table of `len` elements that is filled in later.
    fn zeros<T>(&mut self, len: usize) -> Table {
        let offset = self.align();
        self.bytes.resize(offset + size_of::<T>() * len, 0);
        Table { offset, len }
    }

    /// Offset of the next table.
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
    use std::sync::Arc;

    use super::*;
    use crate::engine::cuda::sections::tests::axis;
    use crate::patch_grid::Padding;
    use crate::plan::TilePlan;

    fn both(axis: &Arc<AxisPlan>) -> Axes<Arc<AxisPlan>> {
        Axes { rows: Arc::clone(axis), columns: Arc::clone(axis) }
    }

    /// The patches of a square slice from `first` on, those where `wanted` says so.
    fn tile(axis: &Arc<AxisPlan>, first: usize, wanted: Option<fn(usize) -> bool>) -> PlannedTile {
        let axes = both(axis);
        let wanted: Option<Vec<bool>> = wanted.map(|wanted| (0..axes.sizes().patches()).map(wanted).collect());
        let plan = TilePlan::new(axes, wanted.as_deref(), &Cancel::default()).unwrap();
        PlannedTile {
            patches: (first..first + plan.patches().len()).collect(),
            starts: vec![(first as i64, 3 - first as i64)],
            plan,
        }
    }
    /// The memory that is allocated for tables, and counted, is enough whatever a ROI leaves of the tile.
    #[test]
    fn tables_are_no_larger_than_estimated() {
        for (patch_size, stride, padding) in
            [(32, 1, Padding::Patch), (33, 7, Padding::Patch), (48, 48, Padding::Patch), (65, 4, Padding::Image)]
        {
            let axis = axis(patch_size, stride, 150, padding);
            let max = TileTables::max_bytes(&both(&axis).sizes());
            let whole = TileTables::new(&tile(&axis, 0, None), &Cancel::default()).unwrap();
            assert!(whole.len() <= max, "{} of {max}", whole.len());
            let with_lists = max + TileTables::max_list_bytes(&both(&axis).sizes());
            for wanted in [|_| false, |patch| patch == 0, |patch| patch % 3 > 0] {
                let some = TileTables::new(&tile(&axis, 0, Some(wanted)), &Cancel::default()).unwrap();
                println!("{patch_size}/{stride}: {} of {with_lists}", some.len());
                assert!(some.len() <= with_lists, "{} of {with_lists}", some.len());
            }
        }
    }

    /// Tables serve any tile of the same axes.
    #[test]
    fn tiles_of_one_geometry_share_tables() {
        let axis = axis(33, 7, 150, Padding::Patch);
        let (here, there) = (tile(&axis, 0, None), tile(&axis, 1000, None));
        let bytes = |made_of: &PlannedTile, of: &PlannedTile| {
            let tables = TileTables::new(made_of, &Cancel::default()).unwrap();
            let mut bytes = vec![0; tables.len()];
            tables.write(of, &mut bytes);
            bytes
        };
        assert!(bytes(&here, &there) == bytes(&there, &there));
        assert!(bytes(&here, &here) != bytes(&here, &there));
        let cancel = Cancel::default();
        cancel.request();
        let stopped = TileTables::new(&here, &cancel);
        assert_eq!(stopped.err(), Some(Error::Cancelled));
    }
}
