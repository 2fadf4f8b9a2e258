//! A planned piece: lattice points that an engine evaluates together, and where its input lies.

use super::{AxisPlan, STEPS, TilePlan};

/// A tile, or some patches stacked on the row axis.
pub(crate) struct PlannedPiece {
    pub plan: TilePlan,
    /// First pixel (row, column) of the crop that each band of input rows is counted from. A tile has one
    /// band; stacked patches have one each.
    pub starts: Vec<(i64, i64)>,
    /// Lattice index of each stored lattice point.
    pub points: Vec<usize>,
}

impl PlannedPiece {
    /// Bytes of all of it but the axes, which pieces share.
    pub fn bytes(&self) -> u64 {
        let lists = size_of_val(&self.starts[..]) + size_of_val(&self.points[..]);
        (size_of::<Self>() + self.plan.bytes() + lists) as u64
    }

    /// Most bytes that a tile of these axes can be; without a ROI nothing is `listed`.
    pub fn most_bytes(rows: &AxisPlan, columns: &AxisPlan, listed: bool) -> u64 {
        let head = STEPS.len() - 1;
        let points = rows.layer(head).len() * columns.layer(head).len();
        let lists = if listed { TilePlan::most_list_bytes(rows, columns) } else { 0 };
        (size_of::<Self>() + TilePlan::IMAGE_BYTES + size_of::<(i64, i64)>()) as u64
            + (size_of::<usize>() * points) as u64
            + lists
    }
}
