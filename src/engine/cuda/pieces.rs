//! Pieces on their way through the network: those that every slice of a call has, recorded once and replayed, and
//! those that come once.
//!
//! Tables go to the device from page-locked places. From any other memory the driver may copy at once, and whoever
//! asks waits until the device gets there: deaf to a wish to stop, and with nothing queued behind.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use super::CudaEngine;
use super::arena::{Part, part_bytes};
use super::buffers::SLOTS;
use super::driver::{Context, Event, Graph, HostMemory};
use super::network::Launches;
use super::tables::PieceTables;
use super::timeline::Lane;
use crate::engine::{Call, Control, Engine};
use crate::error::Error;
use crate::plan::{AxisPlan, PlannedPiece};

/// Pieces whose tables are on their way at a time: the device has work while the host turns to the next slice, and
/// not more than it can leave soon when the call is cancelled.
pub(super) const PLACES: usize = 3;

/// Page-locked memory for the tables of one piece.
pub(super) struct Place {
    memory: HostMemory,
    /// They are on the device.
    sent: Event,
}

impl Place {
    fn new(context: &Arc<Context>, bytes: usize) -> Result<Self, Error> {
        Ok(Self { memory: HostMemory::new(context, bytes, "tables of a tile")?, sent: Event::new(context)? })
    }
}

/// What the pieces of one geometry share, of those that every slice of the call has.
pub(super) struct Standing {
    tables: Arc<PieceTables>,
    /// In each slot, the pieces that came,
    uses: [usize; SLOTS],
    /// and the layers after the first, recorded when they come for the second time.
    graphs: [Option<Graph>; SLOTS],
}

/// Most bytes on the host for a tile with so many bytes of tables: places, the tables, and what they are made of.
pub(super) fn host_bytes(tables: usize) -> u64 {
    ((PLACES + 2) as u64).saturating_mul(tables as u64)
}

/// Bytes of the tables that standing pieces of these axes share.
pub(super) fn standing_bytes(rows: &AxisPlan, columns: &AxisPlan) -> u64 {
    (size_of::<Standing>() + size_of::<PieceTables>() + PieceTables::most_bytes(rows, columns)) as u64
}

/// What a graph gives; `None` where the device has no memory for it: the same goes without, too.
fn without_memory<T>(outcome: Result<T, Error>) -> Result<Option<T>, Error> {
    match outcome {
        Err(Error::DeviceOutOfMemory(_)) => Ok(None),
        outcome => outcome.map(Some),
    }
}

impl CudaEngine {
    /// What the kernels of a piece are started with.
    pub(super) fn launches<'a>(
        &'a self,
        call: &Call<'_>,
        piece: &'a PlannedPiece,
        tables: &'a PieceTables,
        part: Part,
    ) -> Result<Launches<'a>, Error> {
        Ok(Launches {
            device: &self.device,
            weights: &self.weights,
            arena: self.arena()?,
            part,
            stream: self.compute(),
            piece,
            tables,
            lattice: call.geometry.lattice,
            classes: call.geometry.classes,
            multiprocessors: self.device.multiprocessors,
            cancel: self.cancel_word(),
            overflow: self.slot()?.overflow_word(),
        })
    }

    /// The part of the arena for the slice at work, which has room for this piece of it. The slice waits for those before
    /// it whose part has some of its own.
    pub(super) fn claim(&mut self, piece: &PlannedPiece, tables: &PieceTables) -> Result<Part, Error> {
        let (rows, columns) = (&piece.plan.rows, &piece.plan.columns);
        let most = PieceTables::most_bytes(rows, columns) + PieceTables::most_list_bytes(rows, columns);
        let bytes = part_bytes(&self.weights, rows, columns);
        let known = &self.slot()?.part;
        let part = match known.bytes.is_empty() {
            false => Some(known.clone()),
            true => self.arena()?.part(self.next_slot, self.largest),
        };
        let part = part
            .filter(|part| bytes <= part.bytes.len() && tables.len() <= most)
            .ok_or_else(|| Error::Panic("a tile is larger than was foreseen".into()))?;
        if known.bytes.is_empty() {
            let slots = &self.buffers()?.slots;
            for &other in &self.in_flight {
                if slots[other].part.overlaps(&part) {
                    self.compute().wait_for(&slots[other].computed)?;
                }
            }
            self.enter(Lane::Compute)?;
            self.slot_mut()?.part = part.clone();
        }
        Ok(part)
    }

    /// Evaluates the pieces that stand for the whole call.
    pub(super) fn standing(&mut self, call: &Call<'_>, pieces: &[PlannedPiece]) -> Result<(), Error> {
        let slot = self.next_slot;
        for (number, piece) in pieces.iter().enumerate() {
            call.control.check()?;
            let geometry = piece.plan.geometry();
            let standing = match self.standing.entry(geometry) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => new.insert(Standing {
                    tables: Arc::new(PieceTables::new(piece, &|| call.control.check())?),
                    uses: [0; SLOTS],
                    graphs: [const { None }; SLOTS],
                }),
            };
            standing.uses[slot] += 1;
            let (tables, uses) = (Arc::clone(&standing.tables), standing.uses[slot]);
            let part = self.claim(piece, &tables)?;
            // A piece that is alone finds its tables where they were.
            if uses == 1 || pieces.len() > 1 {
                self.send(&tables, piece, &part, call.control)?;
                // A place was free: tables that were sent from it have come, and the work before them is done.
                if let Some(done) = number.checked_sub(PLACES + 1) {
                    let (convolutions, head) = self.unit_macs();
                    let macs = pieces[done].plan.macs(convolutions, head);
                    call.control.add_macs(macs);
                }
            }
            let launches = self.launches(call, piece, &tables, part)?;
            let [logits, probabilities] = self.slot()?.lattice_scores();
            // SAFETY: all of it belongs to this engine, which waits for the device before it lets go of anything.
            let rest = || unsafe { launches.rest(logits, probabilities) };
            let recorded = match uses {
                2 => without_memory(self.compute().record(rest))?,
                _ => None,
            };
            let known = (self.standing.get(&geometry)).and_then(|known| known.graphs[slot].as_ref());
            // SAFETY: as above.
            unsafe {
                launches.first(self.voxels()?, self.table)?;
                let replayed = match recorded.as_ref().or(known) {
                    Some(graph) => without_memory(self.compute().replay(graph))?,
                    None => None,
                };
                if replayed.is_none() {
                    rest()?;
                }
            }
            if let (Some(_), Some(standing)) = (&recorded, self.standing.get_mut(&geometry)) {
                standing.graphs[slot] = recorded;
            }
        }
        Ok(())
    }

    /// Evaluates a piece that may not come again.
    pub(super) fn once(&mut self, call: &Call<'_>, piece: &PlannedPiece) -> Result<(), Error> {
        let tables = PieceTables::new(piece, &|| call.control.check())?;
        let part = self.claim(piece, &tables)?;
        self.send(&tables, piece, &part, call.control)?;
        let launches = self.launches(call, piece, &tables, part)?;
        let [logits, probabilities] = self.slot()?.lattice_scores();
        // SAFETY: as in `standing`.
        unsafe {
            launches.first(self.voxels()?, self.table)?;
            launches.rest(logits, probabilities)
        }
    }

    /// Copies a piece's tables to its part, later; waits for a free place now.
    fn send(
        &mut self,
        tables: &PieceTables,
        piece: &PlannedPiece,
        part: &Part,
        control: &Control,
    ) -> Result<(), Error> {
        let to = self.arena()?.at(part.bytes.start);
        let place = self.free_place(tables.len(), control)?;
        // The last one is used last. It stays here whatever fails: the device may be at it.
        self.places.push_back(place);
        let number = self.places.len() - 1;
        let place = &mut self.places[number];
        let bytes = &mut place.memory.as_mut_slice()[..tables.len()];
        tables.write(piece, bytes);
        // SAFETY: the place is neither written again nor freed before they have been sent.
        unsafe { self.compute[self.next_slot].upload(to, bytes) }?;
        place.sent.record(&self.compute[self.next_slot])
    }

    /// A place for so many bytes that nothing is copied from any more.
    fn free_place(&mut self, bytes: usize, control: &Control) -> Result<Place, Error> {
        if self.places.len() == PLACES {
            self.wait_for(&self.places[0].sent, control)?;
            let oldest = self.places.pop_front();
            if let Some(place) = oldest.filter(|place| place.memory.as_slice().len() >= bytes) {
                return Ok(place);
            }
        }
        Place::new(&self.device.context, bytes)
    }
}
