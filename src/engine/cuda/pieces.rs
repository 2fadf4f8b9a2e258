//! Pieces on their way through the network: those that every slice of a call has, recorded once and replayed, and
//! those that come once.

use super::CudaEngine;
use super::driver::Graph;
use super::network::{Launches, arena_bytes};
use super::tables::PieceTables;
use crate::engine::{Call, Control};
use crate::error::Error;
use crate::plan::PlannedPiece;

/// Tables kept on the host for copies that are still to be made, at most, in bytes.
const MOST_KEPT: usize = 64 << 20;
/// A piece that every slice of the call has.
pub(super) struct Standing {
    tables: PieceTables,
    /// The layers after the first, recorded when they come for the second time.
    graph: Option<Graph>,
    uses: usize,
}

impl CudaEngine {
    /// What the kernels of a piece are started with.
    pub(super) fn launches<'a>(
        &'a self,
        call: &Call<'_>,
        piece: &'a PlannedPiece,
        tables: &'a PieceTables,
    ) -> Result<Launches<'a>, Error> {
        let arena = self.arena.as_ref();
        let arena = arena.ok_or_else(|| Error::Panic("no room for activations".into()))?;
        let plan = &piece.plan;
        if arena_bytes(&self.weights, &plan.rows, &plan.columns) > arena.bytes()
            || tables.len > PieceTables::most_bytes(&plan.rows, &plan.columns)
        {
            return Err(Error::Panic("a tile is larger than was foreseen".into()));
        }
        Ok(Launches {
            device: &self.device,
            weights: &self.weights,
            arena,
            stream: &self.compute,
            piece,
            tables,
            lattice: call.geometry.lattice,
            classes: call.geometry.classes,
            cancel: self.cancel_word(),
            overflow: self.overflow_word(),
        })
    }

    /// Evaluates the pieces that stand for the whole call.
    pub(super) fn standing(
        &mut self,
        call: &Call<'_>,
        pieces: &[PlannedPiece],
    ) -> Result<(), Error> {
        for (number, piece) in pieces.iter().enumerate() {
            call.control.check()?;
            if number == self.standing.len() {
                self.standing.push(Standing {
                    tables: PieceTables::new(piece)?,
                    graph: None,
                    uses: 0,
                });
            }
            let standing = &self.standing[number];
            let launches = self.launches(call, piece, &standing.tables)?;
            let buffers = self.buffers()?;
            let (logits, probabilities) =
                (buffers.logits.address(), buffers.probabilities.address());
            // SAFETY: all of it belongs to this engine, which waits for the device before it lets go of anything.
            let graph = unsafe {
                // A piece that is alone finds its tables where they were.
                if standing.uses == 0 || pieces.len() > 1 {
                    let to = launches.arena.tables();
                    self.compute.upload(to, &standing.tables.bytes)?;
                }
                launches.first(self.voxels()?, self.table)?;
                let rest = || launches.rest(logits, probabilities);
                match (&standing.graph, standing.uses) {
                    (Some(graph), _) => {
                        self.compute.replay(graph)?;
                        None
                    }
                    (None, 0) => {
                        rest()?;
                        None
                    }
                    (None, _) => {
                        let graph = self.compute.record(rest)?;
                        self.compute.replay(&graph)?;
                        Some(graph)
                    }
                }
            };
            let standing = &mut self.standing[number];
            standing.uses += 1;
            if graph.is_some() {
                standing.graph = graph;
            }
        }
        Ok(())
    }

    /// Evaluates a piece that may not come again.
    pub(super) fn once(&mut self, call: &Call<'_>, piece: &PlannedPiece) -> Result<(), Error> {
        let mut tables = PieceTables::new(piece)?;
        let bytes = std::mem::take(&mut tables.bytes);
        let slot = self.next_slot;
        let kept: usize = self.slot(slot)?.kept.iter().map(Vec::len).sum();
        if kept + bytes.len() > MOST_KEPT {
            self.settle(call.control)?;
        }
        self.slot(slot)?.kept.push(bytes);
        let buffers = self.buffers()?;
        let (logits, probabilities) = (buffers.logits.address(), buffers.probabilities.address());
        let launches = self.launches(call, piece, &tables)?;
        let bytes = (buffers.slots[slot].kept.last()).map_or(&[][..], |bytes| &bytes[..]);
        // SAFETY: as in `standing`; the tables are kept until the slice is done.
        unsafe {
            self.compute.upload(launches.arena.tables(), bytes)?;
            launches.first(self.voxels()?, self.table)?;
            launches.rest(logits, probabilities)
        }
    }

    /// Waits for the compute stream, so that what it used can be let go.
    fn settle(&mut self, control: &Control) -> Result<(), Error> {
        let number = self.next_slot;
        let slot = &self.buffers()?.slots[number];
        slot.computed.record(&self.compute)?;
        self.wait_for(&slot.computed, control)?;
        self.slot(number)?.kept.clear();
        Ok(())
    }
}
