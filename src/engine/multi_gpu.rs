//! Several engines as one: slices are dealt out to them in turn.
//!
//! ```text
//! engine 0   slice 0, 2, 4 ...       slice z goes to engine z % 2, whole, with the same tiles;
//! engine 1   slice 1, 3, 5 ...       they are waited for and written in order
//! ```
//! Each has memory of its own: bytes of the host add up, of the device it is the largest share that counts.

use std::sync::Arc;

use super::{
    Bytes, Engine, EngineCall, EngineInfo, Geometry, LayerWork, MemoryModel, Request, Reservation, SliceId, Span,
    TileMemory, Tiles,
};
use crate::axes::Axes;
use crate::error::Error;
use crate::mask::OutputViews;
use crate::patch_grid::Selection;
use crate::plan::AxisSizes;

/// See the module. All engines are of one kind.
pub(super) struct MultiGpu {
    engines: Vec<Box<dyn Engine>>,
}

impl MultiGpu {
    /// `engines`: one at least.
    pub fn new(engines: Vec<Box<dyn Engine>>) -> Self {
        Self { engines }
    }
}

impl Engine for MultiGpu {
    fn info(&self) -> EngineInfo {
        let infos: Vec<EngineInfo> = self.engines.iter().map(|engine| engine.info()).collect();
        let names: Vec<&str> = infos.iter().map(|info| info.name.as_str()).collect();
        let budgets = infos.iter().map(|info| info.automatic_budget);
        EngineInfo {
            name: names.join(", "),
            automatic_budget: budgets.fold(Bytes { host: u64::MAX, device: u64::MAX }, Bytes::min),
            fixed: infos.iter().map(|info| info.fixed).fold(Bytes::default(), together),
            // As many slices as leave each engine its own depth when its turn comes again.
            pipeline_depth: infos.len() * (infos[0].pipeline_depth + 1) - 1,
            memory: Arc::new(MultiMemory(infos.iter().map(|info| Arc::clone(&info.memory)).collect())),
            ..infos[0].clone()
        }
    }

    fn layers(&self) -> Vec<LayerWork> {
        self.engines[0].layers()
    }

    fn trace(&mut self, on: bool) -> Result<Vec<Span>, Error> {
        let spans = self.engines.iter_mut().map(|engine| engine.trace(on));
        Ok(spans.collect::<Result<Vec<_>, _>>()?.concat())
    }

    fn trim(&mut self) {
        self.engines.iter_mut().for_each(|engine| engine.trim());
    }

    fn begin<'a>(&'a mut self, request: Request<'a>) -> Result<Box<dyn EngineCall + 'a>, Error> {
        if let Some(name) = request.on_device() {
            return Err(Error::invalid(format!(
                "{name} in device memory: a session of several GPUs takes host memory; copy there, or make a session \
                 of that GPU alone"
            )));
        }
        let calls = self.engines.iter_mut().map(|engine| engine.begin(request));
        Ok(Box::new(MultiCall(calls.collect::<Result<_, _>>()?)))
    }
}

fn together(sum: Bytes, one: Bytes) -> Bytes {
    Bytes { host: sum.host.saturating_add(one.host), device: sum.device.max(one.device) }
}

/// The memory models of the engines.
struct MultiMemory(Vec<Arc<dyn MemoryModel>>);

impl MemoryModel for MultiMemory {
    fn call(&self, geometry: &Geometry) -> Result<Bytes, Error> {
        self.0.iter().try_fold(Bytes::default(), |sum, memory| Ok(together(sum, memory.call(geometry)?)))
    }

    fn tile(&self, axes: &Axes<AxisSizes>) -> TileMemory {
        self.0.iter().map(|memory| memory.tile(axes)).fold(TileMemory::default(), |sum, one| TileMemory {
            whole: together(sum.whole, one.whole),
            lists: sum.lists.saturating_add(one.lists),
            cached: sum.cached.saturating_add(one.cached),
        })
    }

    fn reservation(&self, slices: usize, largest: Bytes, budget: Bytes) -> Reservation {
        let of_each = slices.div_ceil(self.0.len());
        let wanted = self.0.iter().map(|memory| memory.reservation(of_each, largest, budget).wanted);
        let in_turn = Reservation::in_turn(largest, budget);
        Reservation { wanted: wanted.fold(in_turn.wanted, u64::max), ..in_turn }
    }
}

/// A call of each engine.
struct MultiCall<'a>(Vec<Box<dyn EngineCall + 'a>>);

impl<'a> MultiCall<'a> {
    fn of(&mut self, z: usize) -> &mut (dyn EngineCall + 'a) {
        let index = z % self.0.len();
        self.0[index].as_mut()
    }
}

impl EngineCall for MultiCall<'_> {
    fn reserve(&mut self, reservation: Reservation) -> Result<(), Error> {
        self.0.iter_mut().try_for_each(|call| call.reserve(reservation))
    }

    fn slice(&mut self, z: usize) -> Result<SliceId, Error> {
        self.of(z).slice(z)
    }

    fn evaluate(&mut self, slice: SliceId, tiles: Tiles<'_>) -> Result<(), Error> {
        self.of(slice.z).evaluate(slice, tiles)
    }

    fn submit(&mut self, slice: SliceId, selection: Selection) -> Result<(), Error> {
        self.of(slice.z).submit(slice, selection)
    }

    fn wait(&mut self, slice: SliceId) -> Result<u64, Error> {
        self.of(slice.z).wait(slice)
    }

    fn write(&mut self, slice: SliceId, outputs: &mut OutputViews<'_>) -> Result<(), Error> {
        self.of(slice.z).write(slice, outputs)
    }

    fn abandon(&mut self) {
        self.0.iter_mut().for_each(|call| call.abandon());
    }
}

impl Drop for MultiCall<'_> {
    /// All engines are told to stop before any is waited for.
    fn drop(&mut self) {
        self.abandon();
    }
}
