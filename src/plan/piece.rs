//! A planned piece: lattice points that an engine evaluates together, and where its input lies.

use super::TilePlan;

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
    /// Bytes of the plan's lists and of the points.
    pub fn bytes(&self) -> u64 {
        (self.plan.bytes() + 8 * self.points.len()) as u64
    }
}
