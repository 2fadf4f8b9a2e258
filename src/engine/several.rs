//! Several engines as one: slices are dealt out to them in turn.
//!
//! ```text
//! engine 0   slice 0, 2, 4 ...       slice z goes to engine z % 2, whole, with the same pieces;
//! engine 1   slice 1, 3, 5 ...       they are waited for and written in order
//! ```
//! Each has memory of its own: bytes of the host add up, of the device it is the largest share that counts.

use super::{Bytes, Call, Control, Device, Engine, Geometry, LayerWork, Pieces, PlannedPiece, Room, Selection, Span};
use crate::error::Error;
use crate::mask::Grids;
use crate::plan::AxisPlan;
use crate::volume::Memory;

/// See the module. All engines are of one kind.
pub(super) struct Several {
    engines: Vec<Box<dyn Engine>>,
    /// Slices that were submitted in this call, and those of them that were written.
    submitted: usize,
    written: usize,
}

impl Several {
    /// `engines`: one at least.
    pub fn new(engines: Vec<Box<dyn Engine>>) -> Self {
        Self { engines, submitted: 0, written: 0 }
    }

    /// The engine of the slice that comes next.
    fn next(&mut self) -> &mut dyn Engine {
        let index = self.submitted % self.engines.len();
        self.engines[index].as_mut()
    }

    /// The engine of the oldest slice that is not written yet.
    fn oldest(&mut self) -> &mut dyn Engine {
        let index = self.written % self.engines.len();
        self.engines[index].as_mut()
    }

    fn together(&self, bytes: impl Fn(&dyn Engine) -> Bytes) -> Bytes {
        let bytes = self.engines.iter().map(|engine| bytes(engine.as_ref()));
        bytes.fold(Bytes::default(), |sum, of_one| Bytes {
            host: sum.host.saturating_add(of_one.host),
            device: sum.device.max(of_one.device),
        })
    }

    fn on_host(&self, bytes: impl Fn(&dyn Engine) -> u64) -> u64 {
        self.together(|engine| Bytes::host(bytes(engine))).host
    }

    fn each(&mut self, mut step: impl FnMut(&mut dyn Engine) -> Result<(), Error>) -> Result<(), Error> {
        let mut engines = self.engines.iter_mut();
        engines.try_for_each(|engine| step(engine.as_mut()))
    }
}

impl Engine for Several {
    fn name(&self) -> String {
        let names: Vec<String> = self.engines.iter().map(|engine| engine.name()).collect();
        names.join(", ")
    }

    fn device(&self) -> Device {
        self.engines[0].device()
    }

    fn automatic_budget(&self) -> Bytes {
        let budgets = self.engines.iter().map(|engine| engine.automatic_budget());
        let least = Bytes { host: u64::MAX, device: u64::MAX };
        budgets.fold(least, |least, budget| Bytes {
            host: least.host.min(budget.host),
            device: least.device.min(budget.device),
        })
    }

    fn fixed_bytes(&self) -> Bytes {
        self.together(|engine| engine.fixed_bytes())
    }

    fn most_chain(&self) -> Option<usize> {
        self.engines[0].most_chain()
    }

    fn call_bytes(&self, geometry: &Geometry) -> Bytes {
        self.together(|engine| engine.call_bytes(geometry))
    }

    fn tile_bytes(&self, rows: &AxisPlan, columns: &AxisPlan) -> Bytes {
        self.together(|engine| engine.tile_bytes(rows, columns))
    }

    fn list_bytes(&self, rows: &AxisPlan, columns: &AxisPlan) -> u64 {
        self.on_host(|engine| engine.list_bytes(rows, columns))
    }

    fn piece_bytes(&self, piece: &PlannedPiece) -> Bytes {
        self.together(|engine| engine.piece_bytes(piece))
    }

    fn standing_bytes(&self, rows: &AxisPlan, columns: &AxisPlan) -> u64 {
        self.on_host(|engine| engine.standing_bytes(rows, columns))
    }

    fn unit_macs(&self) -> (&[u64], u64) {
        self.engines[0].unit_macs()
    }

    fn layers(&self) -> Vec<LayerWork> {
        self.engines[0].layers()
    }

    fn trace(&mut self, on: bool) -> Result<Vec<Span>, Error> {
        let spans = self.engines.iter_mut().map(|engine| engine.trace(on));
        Ok(spans.collect::<Result<Vec<_>, _>>()?.concat())
    }

    /// As many slices as leave each engine its own lag when its turn comes again.
    fn lag(&self) -> usize {
        self.engines.len() * (self.engines[0].lag() + 1) - 1
    }

    fn check(&self, geometry: &Geometry) -> Result<(), Error> {
        self.engines.iter().try_for_each(|engine| engine.check(geometry))
    }

    fn room(&self, slices: usize, largest: Bytes, budget: Bytes) -> Room {
        let of_each = slices.div_ceil(self.engines.len());
        let rooms = (self.engines.iter()).map(|engine| engine.room(of_each, largest, budget));
        rooms.fold(Room::in_turn(largest, budget), |most, room| Room { wanted: most.wanted.max(room.wanted), ..most })
    }

    fn release(&mut self, room: Room, control: &Control) -> Result<(), Error> {
        self.each(|engine| engine.release(room, control))
    }

    fn reserve(&mut self, room: Room) -> Result<(), Error> {
        self.each(|engine| engine.reserve(room))
    }

    fn trim(&mut self) {
        for engine in &mut self.engines {
            engine.trim();
        }
    }

    fn begin(&mut self, call: &Call<'_>) -> Result<(), Error> {
        (self.submitted, self.written) = (0, 0);
        for (name, there) in [("volume", call.volume.memory() != Memory::Host), ("outputs", call.planes.is_some())] {
            if there {
                return Err(Error::invalid(format!(
                    "{name} in device memory: a session of several GPUs takes host memory; copy there, or make a \
                     session of that GPU alone"
                )));
            }
        }
        self.each(|engine| engine.begin(call))
    }

    fn intensity(&mut self, call: &Call<'_>, z: usize) -> Result<(), Error> {
        self.next().intensity(call, z)
    }

    fn network(&mut self, call: &Call<'_>, pieces: Pieces<'_>) -> Result<(), Error> {
        self.next().network(call, pieces)
    }

    fn submit(&mut self, call: &Call<'_>, selection: Selection) -> Result<(), Error> {
        self.next().submit(call, selection)?;
        self.submitted += 1;
        Ok(())
    }

    fn wait(&mut self, call: &Call<'_>) -> Result<u64, Error> {
        self.oldest().wait(call)
    }

    fn mask(&mut self, call: &Call<'_>, z: usize, grids: &mut Grids<'_>) -> Result<(), Error> {
        self.oldest().mask(call, z, grids)?;
        self.written += 1;
        Ok(())
    }

    fn abandon(&mut self) {
        for engine in &mut self.engines {
            engine.abandon();
        }
    }

    fn end(&mut self) {
        self.abandon(); // all of them, before any is waited for
        for engine in &mut self.engines {
            engine.end();
        }
    }
}
