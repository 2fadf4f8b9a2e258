//! Tiles on their way through the network: those that every slice of a call has, recorded once and replayed, and
//! those that come once.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use super::CudaCall;
use super::staging::{CachedTables, STAGING_BUFFERS, StagingBuffer};
use super::timeline::Lane;
use crate::engine::SliceId;
use crate::engine::cuda::buffers::{Region, region_bytes};
use crate::engine::cuda::forward::Launches;
use crate::engine::cuda::tables::TileTables;
use crate::error::Error;
use crate::plan::PlannedTile;

/// The outcome of a graph; `None` where the device has no memory for it: the same goes without, too.
fn if_memory_allows<T>(outcome: Result<T, Error>) -> Result<Option<T>, Error> {
    match outcome {
        Err(Error::DeviceOutOfMemory(_)) => Ok(None),
        outcome => outcome.map(Some),
    }
}

impl CudaCall<'_> {
    pub fn launches<'t>(
        &'t self,
        slice: SliceId,
        tile: &'t PlannedTile,
        tables: &'t TileTables,
        region: Region,
    ) -> Launches<'t> {
        Launches {
            device: self.device,
            weights: self.weights,
            arena: self.arena,
            region,
            stream: &self.streams.compute[slice.slot],
            tile,
            tables,
            grid: self.request.geometry.grid,
            classes: self.request.geometry.classes,
            multiprocessors: self.device.limits.multiprocessors,
            cancel: self.streams.cancel_word(),
            overflow: self.slot(slice).overflow_word(),
        }
    }

    /// The slice's region of the arena, which is large enough for this tile of it. The slice waits for those before it
    /// whose regions overlap its own.
    pub fn claim(&mut self, slice: SliceId, tile: &PlannedTile, tables: &TileTables) -> Result<Region, Error> {
        let sizes = tile.plan.sizes();
        let max_tables = TileTables::max_bytes(&sizes) + TileTables::max_list_bytes(&sizes);
        let bytes = region_bytes(self.weights, &sizes);
        let known = &self.slot(slice).region;
        let is_new = known.bytes.is_empty();
        let region = if is_new { self.arena.region(slice.slot, self.largest) } else { Some(known.clone()) };
        let region = region
            .filter(|region| bytes <= region.bytes.len() && tables.len() <= max_tables)
            .ok_or_else(|| Error::Panic("a tile is larger than its reservation".into()))?;
        if is_new {
            for other in self.in_flight.iter().map(|&slot| &self.buffers.slots[slot]) {
                if other.region.overlaps(&region) {
                    self.streams.compute[slice.slot].wait_for(&other.computed)?;
                }
            }
            self.enter(slice, Lane::Compute)?;
            self.buffers.slots[slice.slot].region = region.clone();
        }
        Ok(region)
    }

    /// Evaluates the tiles that every slice of the call has.
    pub(super) fn evaluate_cached(&mut self, slice: SliceId, tiles: &[PlannedTile]) -> Result<(), Error> {
        let control = self.request.control;
        let [logits, probabilities] = self.slot(slice).score_addresses();
        for (number, tile) in tiles.iter().enumerate() {
            control.cancel.check()?;
            let geometry = tile.plan.geometry();
            let cached = match self.cached.entry(geometry) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => new.insert(CachedTables::new(TileTables::new(tile, &control.cancel)?)),
            };
            cached.uses[slice.slot] += 1;
            let (tables, uses) = (Arc::clone(&cached.tables), cached.uses[slice.slot]);
            let region = self.claim(slice, tile, &tables)?;
            // A tile that is alone finds its tables where they were.
            if uses == 1 || tiles.len() > 1 {
                self.send(slice, &tables, tile, &region)?;
                // A staging buffer was free: tables that were sent from it have come, and the work before them is done.
                if let Some(done) = number.checked_sub(STAGING_BUFFERS + 1) {
                    control.add_macs(tiles[done].plan.macs(&self.weights.macs_per_output));
                }
            }
            let launches = self.launches(slice, tile, &tables, region);
            let (voxels, table) = self.input(slice);
            // SAFETY: all of it belongs to this call or outlives it, and the call waits for the device before it ends.
            let rest = || unsafe { launches.rest(logits, probabilities) };
            let recorded = match uses {
                2 => if_memory_allows(self.streams.compute[slice.slot].record(rest))?,
                _ => None,
            };
            let known = self.cached.get(&geometry).and_then(|known| known.graphs[slice.slot].as_ref());
            // SAFETY: as above.
            unsafe {
                launches.first(voxels, table)?;
                let replayed = match recorded.as_ref().or(known) {
                    Some(graph) => if_memory_allows(self.streams.compute[slice.slot].replay(graph))?,
                    None => None,
                };
                if replayed.is_none() {
                    rest()?;
                }
            }
            if let (Some(_), Some(cached)) = (&recorded, self.cached.get_mut(&geometry)) {
                cached.graphs[slice.slot] = recorded;
            }
        }
        Ok(())
    }

    /// Evaluates a tile that may not come again.
    pub(super) fn evaluate_once(&mut self, slice: SliceId, tile: &PlannedTile) -> Result<(), Error> {
        let tables = TileTables::new(tile, &self.request.control.cancel)?;
        let region = self.claim(slice, tile, &tables)?;
        self.send(slice, &tables, tile, &region)?;
        let launches = self.launches(slice, tile, &tables, region);
        let (voxels, table) = self.input(slice);
        let [logits, probabilities] = self.slot(slice).score_addresses();
        // SAFETY: as in `evaluate_cached`.
        unsafe {
            launches.first(voxels, table)?;
            launches.rest(logits, probabilities)
        }
    }

    /// Copies a tile's tables to its region, later; waits for a free staging buffer now.
    fn send(&mut self, slice: SliceId, tables: &TileTables, tile: &PlannedTile, region: &Region) -> Result<(), Error> {
        let to = self.arena.at(region.bytes.start);
        let buffer = self.free_staging_buffer(tables.len())?;
        // The last one is used last. It stays here whatever fails: the device may be at it.
        self.staging.push_back(buffer);
        let number = self.staging.len() - 1;
        let buffer = &mut self.staging[number];
        let bytes = &mut buffer.memory.as_mut_slice()[..tables.len()];
        tables.write(tile, bytes);
        let compute = &self.streams.compute[slice.slot];
        // SAFETY: the buffer is neither written again nor freed before its tables have been sent.
        unsafe { compute.upload(to, bytes) }?;
        buffer.sent.record(compute)
    }

    /// A buffer of so many bytes that nothing is copied from any more.
    fn free_staging_buffer(&mut self, bytes: usize) -> Result<StagingBuffer, Error> {
        if self.staging.len() == STAGING_BUFFERS {
            self.streams.wait_for(&self.staging[0].sent, &self.request.control.cancel)?;
            let oldest = self.staging.pop_front();
            if let Some(buffer) = oldest.filter(|buffer| buffer.memory.as_slice().len() >= bytes) {
                return Ok(buffer);
            }
        }
        StagingBuffer::new(&self.device.context, bytes)
    }
}
