//! Plans by geometry: slices and interior tiles repeat.

use std::collections::HashMap;
use std::sync::Arc;

use super::axis::AxisPlan;
use super::value_numbering::PatchRow;
use crate::cancel::Cancel;
use crate::error::Error;
use crate::patch_grid::{Axis, Padding};

/// Makes plans and keeps them.
pub(crate) struct AxisPlans {
    /// Values of the longest Winograd run; `None`: no runs.
    max_run: Option<usize>,
    known: HashMap<Key, Arc<AxisPlan>>,
    bytes: usize,
    /// Tables kept for reuse, at most, in bytes.
    limit: usize,
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    patches: PatchRow,
    /// Indices of the patches in the plan; `None`: all.
    chosen: Option<Vec<usize>>,
}

impl AxisPlans {
    /// Keeps tables of at most `limit` bytes. `max_run`: values of the longest Winograd run; `None`: no runs.
    pub fn new(max_run: Option<usize>, limit: usize) -> Self {
        Self { max_run, known: HashMap::new(), bytes: 0, limit }
    }

    /// Maximum bytes of tables that are kept.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// The plan of the patches `indices` (ascending, not empty) of `axis`.
    pub fn tile(
        &mut self,
        axis: &Axis,
        indices: &[usize],
        padding: Padding,
        cancel: &Cancel,
    ) -> Result<Arc<AxisPlan>, Error> {
        if self.max_run.is_none() {
            return self.numbered(PatchRow::new(axis, indices, padding), cancel);
        }
        let all: Vec<usize> = (0..axis.count()).collect();
        let all_patches = PatchRow::new(axis, &all, padding);
        if indices.len() == all.len() {
            return self.numbered(all_patches, cancel);
        }
        let key = Key { patches: all_patches.clone(), chosen: Some(indices.to_vec()) };
        if let Some(plan) = self.known.get(&key) {
            return Ok(Arc::clone(plan));
        }
        let whole = self.numbered(all_patches, cancel)?;
        let base = axis.start(indices[0]) - axis.start(0);
        Ok(self.keep(key, whole.restrict(indices, base)))
    }

    /// The plan of `count` patches that share nothing.
    pub fn isolated(&mut self, patch_size: usize, count: usize, cancel: &Cancel) -> Result<Arc<AxisPlan>, Error> {
        self.numbered(PatchRow::isolated(patch_size, count), cancel)
    }

    /// The plan of all of `patches`.
    fn numbered(&mut self, patches: PatchRow, cancel: &Cancel) -> Result<Arc<AxisPlan>, Error> {
        let key = Key { patches, chosen: None };
        if let Some(plan) = self.known.get(&key) {
            return Ok(Arc::clone(plan));
        }
        let plan = key.patches.number(self.max_run, cancel)?;
        Ok(self.keep(key, plan))
    }

    fn keep(&mut self, key: Key, plan: AxisPlan) -> Arc<AxisPlan> {
        let plan = Arc::new(plan);
        if self.bytes + plan.bytes() > self.limit {
            self.forget();
        }
        self.bytes += plan.bytes();
        self.known.insert(key, Arc::clone(&plan));
        plan
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
