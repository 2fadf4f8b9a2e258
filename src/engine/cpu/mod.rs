//! The CPU engine: f32 arithmetic on the widest vectors that the machine has.
//!
//! ```text
//! convolutions but the first   `winograd`: a quarter of the multiplications, on the Winograd runs of the plan
//! first convolution, dense     `gather_conv`: taps gathered into rows, then a matrix product
//! pools                        `max_pool`, in the convolution before
//! ```
//! All of them come down to `product` (rows by a packed panel of weights), written once over `simd` for every
//! instruction set. Activations are [stored pixels][channels], channels padded to a multiple of 16 with zeros.
//! The first layer sees two channels, [intensity, 1] (see `engine::first_layer`).
//!
//! Every sum is taken in one order, whatever else is evaluated beside it, so results do not depend on threads,
//! tiles, budget or ROI.

mod black;
mod forward;
mod gather_conv;
mod max_pool;
mod product;
mod runs;
mod simd;
mod weights;
mod winograd;
mod workspace;

use std::sync::Arc;

use crate::axes::Axes;
use crate::engine::{
    Bytes, DeviceKind, Engine, EngineCall, EngineInfo, Geometry, LayerWork, MemoryModel, Request, Reservation,
    Settings, SliceId, TileMemory, Tiles,
};
use crate::error::Error;
use crate::mask::{MaskWriter, OutputViews, Scores};
use crate::memory::{Zeros, automatic_budget};
use crate::patch_grid::Selection;
use crate::plan::{AxisSizes, PlannedTile};
use forward::Forward;
use simd::Instructions;
use weights::PackedWeights;

pub(super) struct CpuEngine {
    forward: Forward,
    threads: usize,
}

impl CpuEngine {
    pub fn new(settings: &Settings<'_>) -> Result<Self, Error> {
        // Never empty.
        let instructions = Instructions::available()[0];
        Ok(Self { forward: Forward::new(settings, instructions)?, threads: settings.threads })
    }
}

impl Engine for CpuEngine {
    fn info(&self) -> EngineInfo {
        let simd = self.forward.instructions().name();
        let plural = if self.threads == 1 { "" } else { "s" };
        let weights = &self.forward.weights;
        EngineInfo {
            name: format!("cpu ({simd}, {} thread{plural})", self.threads),
            device: DeviceKind::Cpu,
            automatic_budget: Bytes::host(automatic_budget(8 << 30, self.forward.fixed_bytes())),
            fixed: Bytes::host(self.forward.fixed_bytes()),
            max_runs: weights.max_runs.map(Some),
            pipeline_depth: 0,
            preferred_tile_bytes: 256 << 20,
            macs_per_output: weights.macs_per_output.clone(),
            memory: Arc::clone(weights) as Arc<dyn MemoryModel>,
        }
    }

    fn layers(&self) -> Vec<LayerWork> {
        self.forward.layers.clone()
    }

    fn trim(&mut self) {
        self.forward.trim_to(0);
    }

    fn begin<'a>(&'a mut self, request: Request<'a>) -> Result<Box<dyn EngineCall + 'a>, Error> {
        let Geometry { grid, classes, .. } = request.geometry;
        Ok(Box::new(CpuCall {
            forward: &mut self.forward,
            request,
            image: Zeros::new(grid.pixels().product(), "one slice")?,
            nonfinite: 0,
            scores: Scores::new(grid.patches(), classes)?,
            selection: Selection::everything(),
        }))
    }
}

/// One slice at a time.
struct CpuCall<'a> {
    forward: &'a mut Forward,
    request: Request<'a>,
    /// Intensities of the model's pixels, [rows][columns].
    image: Zeros<f32>,
    nonfinite: u64,
    scores: Scores,
    selection: Selection,
}

impl EngineCall for CpuCall<'_> {
    fn reserve(&mut self, reservation: Reservation) -> Result<(), Error> {
        self.forward.trim_to(reservation.budget.host);
        Ok(())
    }

    fn slice(&mut self, z: usize) -> Result<SliceId, Error> {
        let Request { geometry, intensity, volume, control, .. } = self.request;
        let scale = geometry.grid.voxels.map(|axis| axis.scale);
        self.nonfinite = intensity.slice(volume, scale, z, &mut self.image, &control.cancel)?;
        if self.request.geometry.roi {
            self.scores.clear(&control.cancel)?;
        }
        Ok(SliceId { z, slot: 0 })
    }

    fn evaluate(&mut self, _slice: SliceId, tiles: Tiles<'_>) -> Result<(), Error> {
        let Geometry { grid, classes, .. } = self.request.geometry;
        for tile in tiles.as_slice() {
            let (logits, padded) =
                self.forward.evaluate(tile, &grid, &self.image, grid.pixels().columns, self.request.control)?;
            for (&patch, logits) in tile.patches.iter().zip(logits.chunks_exact(padded)) {
                self.request.control.cancel.check()?;
                let logits = &logits[..classes];
                if logits.iter().any(|logit| !logit.is_finite()) {
                    return Err(Error::bad_model(
                        "the network's output is not finite: its weights, with this mean and std, \
                         make activations overflow"
                            .into(),
                    ));
                }
                self.scores.set(patch, logits);
            }
        }
        Ok(())
    }

    fn submit(&mut self, _slice: SliceId, selection: Selection) -> Result<(), Error> {
        self.selection = selection;
        Ok(())
    }

    fn wait(&mut self, _slice: SliceId) -> Result<u64, Error> {
        Ok(self.nonfinite)
    }

    fn write(&mut self, slice: SliceId, outputs: &mut OutputViews<'_>) -> Result<(), Error> {
        let Request { geometry, decision, control, .. } = self.request;
        self.scores.softmax(&control.cancel)?;
        let writer = MaskWriter { grid: geometry.grid, decision };
        writer.write_slice(outputs, slice.z, &self.selection, &self.scores, &control.cancel)
    }
}

impl MemoryModel for PackedWeights {
    fn call(&self, geometry: &Geometry) -> Result<Bytes, Error> {
        let pixels = geometry.grid.pixels().product() as u64;
        let scores = Scores::bytes(geometry.grid.patches(), geometry.classes);
        Ok(Bytes::host(4 * pixels + scores))
    }

    fn tile(&self, axes: &Axes<AxisSizes>) -> TileMemory {
        TileMemory { whole: Bytes::host(self.activation_bytes_of_axes(axes)), ..TileMemory::default() }
    }

    fn planned(&self, tile: &PlannedTile) -> Bytes {
        Bytes::host(self.activation_bytes(&tile.plan))
    }
}
