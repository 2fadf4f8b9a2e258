//! Plans by geometry: slices and interior tiles repeat.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::axis::AxisPlan;
use super::neighbourhood::Neighbourhood;
use super::value_numbering::{PatchRow, reach};
use super::winograd_runs::MaxRuns;
use crate::cancel::Cancel;
use crate::error::Error;
use crate::memory::{try_push, try_reserve};
use crate::patch_grid::{Axis, Padding};

const WHAT: &str = "plan of an axis";

/// Makes plans and keeps them.
pub(crate) struct AxisPlans {
    known: HashMap<Key, Arc<AxisPlan>>,
    bytes: usize,
    /// Tables kept for reuse, at most, in bytes.
    limit: usize,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    patches: PatchRow,
    /// `None`: no Winograd runs.
    max_runs: Option<MaxRuns>,
    /// The patches in the plan, counted from the first; `None`: all.
    chosen: Option<Vec<Range<usize>>>,
}

impl AxisPlans {
    /// Keeps tables of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { known: HashMap::new(), bytes: 0, limit }
    }

    /// Maximum bytes of tables that are kept.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// The plan of the patches `indices` (ascending, not empty) of `axis`; `max_runs`: `None` for no Winograd runs.
    pub fn tile(
        &mut self,
        axis: &Axis,
        max_runs: Option<&MaxRuns>,
        indices: &[usize],
        padding: Padding,
        cancel: &Cancel,
    ) -> Result<Arc<AxisPlan>, Error> {
        let chosen = ranges(indices)?;
        let Some(max_runs) = max_runs else {
            return self.numbered(PatchRow::new(axis, &chosen, padding), None, cancel);
        };
        let neighbourhood = Neighbourhood::new(axis, max_runs, reach(padding) as usize);
        let around = neighbourhood.of(indices[0]..indices[indices.len() - 1] + 1);
        let patches = PatchRow::new(axis, &around, padding);
        if chosen == around {
            return self.numbered(patches, Some(max_runs), cancel);
        }
        // The neighbourhood's plan goes from range to range without a gap; the tile lies in one of them.
        let gap = if indices[0] < around[0].end { around[0].start } else { around[1].start - around[0].len() };
        let chosen = chosen.into_iter().map(|range| range.start - gap..range.end - gap);
        let mut key = Key { patches, max_runs: Some(*max_runs), chosen: Some(chosen.collect()) };
        if let Some(plan) = self.known.get(&key) {
            return Ok(Arc::clone(plan));
        }
        let whole = self.numbered(key.patches.clone(), Some(max_runs), cancel)?;
        let base = axis.start(indices[0]) - axis.start(around[0].start);
        let plan = whole.restrict(key.chosen.iter().flatten().cloned().flatten(), base, cancel)?;
        let plan = self.keep(key.clone(), plan)?;
        // Tiles that come next are of the same neighbourhood.
        key.chosen = None;
        self.insert(key, whole)?;
        Ok(plan)
    }

    /// The plan of all patches of `axis`.
    pub fn whole(
        &mut self,
        axis: &Axis,
        max_runs: Option<&MaxRuns>,
        padding: Padding,
        cancel: &Cancel,
    ) -> Result<Arc<AxisPlan>, Error> {
        self.numbered(PatchRow::new(axis, &[0..axis.count()], padding), max_runs, cancel)
    }

    /// The plan of `count` patches that share nothing.
    pub fn isolated(
        &mut self,
        patch_size: usize,
        count: usize,
        max_runs: Option<&MaxRuns>,
        cancel: &Cancel,
    ) -> Result<Arc<AxisPlan>, Error> {
        self.numbered(PatchRow::isolated(patch_size, count), max_runs, cancel)
    }

    /// The plan of all of `patches`.
    fn numbered(
        &mut self,
        patches: PatchRow,
        max_runs: Option<&MaxRuns>,
        cancel: &Cancel,
    ) -> Result<Arc<AxisPlan>, Error> {
        let key = Key { patches, max_runs: max_runs.copied(), chosen: None };
        if let Some(plan) = self.known.get(&key) {
            return Ok(Arc::clone(plan));
        }
        let plan = key.patches.number(max_runs, cancel)?;
        self.keep(key, plan)
    }

    fn keep(&mut self, key: Key, plan: AxisPlan) -> Result<Arc<AxisPlan>, Error> {
        let plan = Arc::new(plan);
        if self.bytes + plan.bytes() > self.limit {
            self.forget();
        }
        self.insert(key, Arc::clone(&plan))?;
        Ok(plan)
    }

    fn insert(&mut self, key: Key, plan: Arc<AxisPlan>) -> Result<(), Error> {
        try_reserve(&mut self.known, 1, WHAT)?;
        let bytes = plan.bytes();
        if self.known.insert(key, plan).is_none() {
            self.bytes += bytes;
        }
        Ok(())
    }

    pub fn forget(&mut self) {
        self.known = HashMap::new();
        self.bytes = 0;
    }

    /// Bytes of the tables that are kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Ascending numbers as ranges.
fn ranges(indices: &[usize]) -> Result<Vec<Range<usize>>, Error> {
    let (first, last) = (indices[0], indices[indices.len() - 1]);
    let mut ranges = Vec::new();
    if last - first + 1 == indices.len() {
        try_push(&mut ranges, first..last + 1, WHAT)?;
        return Ok(ranges);
    }
    for run in indices.chunk_by(|a, b| a + 1 == *b) {
        try_push(&mut ranges, run[0]..run[run.len() - 1] + 1, WHAT)?;
    }
    Ok(ranges)
}
