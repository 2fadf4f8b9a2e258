//! The CPU engine: f32 arithmetic on the widest vectors that the machine has.
//!
//! ```text
//! convolutions but the first   `winograd`: a quarter of the multiplications, on the chains of the plan
//! first convolution, dense     `table_conv`: taps gathered into rows, then a matrix product
//! pools                        `table_max`
//! ```
//! All of them come down to `product` (rows by a packed panel of weights), written once over `simd` for every
//! instruction set. Activations are [stored pixels][channels], channels padded to a multiple of 16 with zeros.
//! The first layer sees two channels, [intensity, 1] (see `engine::first_layer`).
//!
//! Every sum is taken in one order, whatever else is evaluated beside it, so results do not depend on threads,
//! tiles, budget or ROI.

mod arena;
mod network;
mod product;
mod simd;
mod table_conv;
mod table_max;
mod weights;
mod winograd;
mod workspace;

use crate::engine::{Bytes, Call, Device, Engine, Geometry, LayerWork, Pieces, Room, Settings};
use crate::error::Error;
use crate::lattice::Selection;
use crate::mask::{Grids, Painter, Scores};
use crate::memory::{try_filled, usable_bytes};
use crate::plan::{AxisPlan, PlannedPiece};
use network::Network;
pub(crate) use simd::Instructions;

/// See the module.
pub(crate) struct CpuEngine {
    network: Network,
    threads: usize,
    /// Of the call that runs.
    slice: Option<Slice>,
}

/// The slice at work.
struct Slice {
    /// Intensities, [height][width].
    image: Vec<f32>,
    /// One row of voxels.
    row: Vec<f64>,
    nonfinite: u64,
    scores: Scores,
    selection: Selection,
}

impl CpuEngine {
    pub fn new(settings: &Settings<'_>) -> Result<Self, Error> {
        // Never empty.
        let instructions = Instructions::available()[0];
        Ok(Self { network: Network::new(settings, instructions)?, threads: settings.threads, slice: None })
    }

    /// What [`Engine::begin`] made.
    fn slice(&mut self) -> Result<(&mut Network, &mut Slice), Error> {
        let slice = self.slice.as_mut();
        Ok((&mut self.network, slice.ok_or_else(|| Error::Panic("no call has begun".into()))?))
    }
}

impl Engine for CpuEngine {
    fn name(&self) -> String {
        let simd = self.network.instructions().name();
        let plural = if self.threads == 1 { "" } else { "s" };
        format!("cpu ({simd}, {} thread{plural})", self.threads)
    }

    fn device(&self) -> Device {
        Device::Cpu
    }

    /// A quarter of the memory that the process may use, at most 8 GiB, and room for tiles beside the weights however small
    /// the machine.
    fn automatic_budget(&self) -> Bytes {
        const MOST: u64 = 8 << 30;
        const LEAST_FOR_TILES: u64 = 256 << 20;
        let bytes = usable_bytes().map_or(MOST, |bytes| bytes / 4).min(MOST);
        Bytes::host(bytes.max(self.network.fixed_bytes() + LEAST_FOR_TILES))
    }

    fn fixed_bytes(&self) -> Bytes {
        Bytes::host(self.network.fixed_bytes())
    }

    fn most_chain(&self) -> Option<usize> {
        Some(self.network.weights.most_chain())
    }

    fn call_bytes(&self, geometry: &Geometry) -> Bytes {
        let pixels = geometry.extents.pixels() as u64;
        let points = geometry.lattice.points();
        Bytes::host(4 * pixels + 8 * geometry.extents.width as u64 + Scores::bytes(points, geometry.classes))
    }

    fn tile_bytes(&self, rows: &AxisPlan, columns: &AxisPlan) -> Bytes {
        Bytes::host(self.network.tile_bytes(rows, columns))
    }

    fn small_tile_bytes(&self) -> u64 {
        256 << 20
    }

    fn piece_bytes(&self, piece: &PlannedPiece) -> Bytes {
        Bytes::host(self.network.piece_bytes(&piece.plan))
    }

    fn unit_macs(&self) -> (&[u64], u64) {
        let weights = &self.network.weights;
        (&weights.convolution_macs, weights.head_macs)
    }

    fn layers(&self) -> Vec<LayerWork> {
        self.network.layers.clone()
    }

    fn lag(&self) -> usize {
        0
    }

    fn reserve(&mut self, room: Room) -> Result<(), Error> {
        self.network.trim_to(room.budget.host);
        Ok(())
    }

    fn trim(&mut self) {
        self.network.trim();
    }

    fn begin(&mut self, call: &Call<'_>) -> Result<(), Error> {
        let Geometry { extents, lattice, classes, .. } = call.geometry;
        self.slice = Some(Slice {
            image: try_filled(extents.pixels(), 0.0, "one slice")?,
            row: try_filled(extents.width, 0.0, "one row")?,
            nonfinite: 0,
            scores: Scores::new(lattice.points(), classes)?,
            selection: Selection::everything(),
        });
        Ok(())
    }

    fn intensity(&mut self, call: &Call<'_>, z: usize) -> Result<(), Error> {
        let (_, slice) = self.slice()?;
        let Slice { image, row, .. } = slice;
        let check = || call.control.check();
        slice.nonfinite = call.intensity.slice(call.volume, z, row, image, &check)?;
        slice.scores.clear();
        Ok(())
    }

    fn network(&mut self, call: &Call<'_>, pieces: Pieces<'_>) -> Result<(), Error> {
        let Geometry { extents, lattice, classes, .. } = call.geometry;
        let (network, slice) = self.slice()?;
        for piece in pieces.as_slice() {
            let (image, width) = (&slice.image, extents.width);
            let (logits, padded) = network.run(piece, &lattice, image, width, call.control)?;
            for (&point, logits) in piece.points.iter().zip(logits.chunks_exact(padded)) {
                let logits = &logits[..classes];
                if logits.iter().any(|logit| !logit.is_finite()) {
                    return Err(Error::bad_model(
                        "the network's output is not finite: its weights, with this mean and std, \
                         make activations overflow"
                            .into(),
                    ));
                }
                slice.scores.set(point, logits);
            }
        }
        Ok(())
    }

    fn submit(&mut self, _call: &Call<'_>, selection: Selection) -> Result<(), Error> {
        self.slice()?.1.selection = selection;
        Ok(())
    }

    fn wait(&mut self, _call: &Call<'_>) -> Result<u64, Error> {
        Ok(self.slice()?.1.nonfinite)
    }

    fn mask(&mut self, call: &Call<'_>, z: usize, grids: &mut Grids<'_>) -> Result<(), Error> {
        let (_, slice) = self.slice()?;
        let check = || call.control.check();
        slice.scores.softmax(&check)?;
        let painter = Painter {
            lattice: call.geometry.lattice,
            width: call.geometry.extents.width,
            height: call.geometry.extents.height,
            fill: call.fill,
            lesion_class: call.lesion_class,
        };
        painter.slice(grids, z, &slice.selection, &slice.scores, &check)
    }

    fn end(&mut self) {
        self.slice = None;
    }
}
