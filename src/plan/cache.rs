//! Plans by geometry: slices and interior tiles repeat.

use std::collections::HashMap;
use std::sync::Arc;

use super::axis::AxisPlan;
use super::numbering::PatchRow;
use crate::error::{Check, Error};
use crate::lattice::{Axis, Padding};

/// Makes plans and keeps them.
pub(crate) struct AxisPlans {
    /// Of the chains that the engine wants.
    most_chain: Option<usize>,
    known: HashMap<Key, Arc<AxisPlan>>,
    bytes: usize,
    /// Tables kept for reuse, at most, in bytes.
    limit: usize,
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    patches: PatchRow,
    /// Of those, the ones that are in the plan, where not all are.
    part: Option<Vec<usize>>,
}

impl AxisPlans {
    /// Keeps tables of at most `limit` bytes. `most_chain`: values of the longest chain, where there are to be chains.
    pub fn new(most_chain: Option<usize>, limit: usize) -> Self {
        Self { most_chain, known: HashMap::new(), bytes: 0, limit }
    }

    /// Most bytes of tables that are kept.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// The plan of the patches `indices` (ascending, not empty) of `axis`.
    pub fn tile(
        &mut self,
        axis: &Axis,
        indices: &[usize],
        padding: Padding,
        check: Check<'_>,
    ) -> Result<Arc<AxisPlan>, Error> {
        if self.most_chain.is_none() {
            return self.numbered(PatchRow::new(axis, indices, padding), check);
        }
        let all: Vec<usize> = (0..axis.count()).collect();
        let all_patches = PatchRow::new(axis, &all, padding);
        if indices.len() == all.len() {
            return self.numbered(all_patches, check);
        }
        let key = Key { patches: all_patches.clone(), part: Some(indices.to_vec()) };
        if let Some(plan) = self.known.get(&key) {
            return Ok(Arc::clone(plan));
        }
        let whole = self.numbered(all_patches, check)?;
        let base = axis.start(indices[0]) - axis.start(0);
        Ok(self.keep(key, whole.restrict(indices, base)))
    }

    /// The plan of `count` patches that share nothing.
    pub fn isolated(&mut self, patch_size: usize, count: usize, check: Check<'_>) -> Result<Arc<AxisPlan>, Error> {
        self.numbered(PatchRow::isolated(patch_size, count), check)
    }

    /// The plan of all of `patches`.
    fn numbered(&mut self, patches: PatchRow, check: Check<'_>) -> Result<Arc<AxisPlan>, Error> {
        let key = Key { patches, part: None };
        if let Some(plan) = self.known.get(&key) {
            return Ok(Arc::clone(plan));
        }
        let plan = key.patches.number(self.most_chain, check)?;
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

    /// Forgets all plans.
    pub fn forget(&mut self) {
        self.known = HashMap::new();
        self.bytes = 0;
    }

    /// Bytes of the tables that are kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}
