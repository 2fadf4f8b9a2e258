//! The CUDA engine: fp16 activations and weights, f32 sums, on own kernels (kernels/ in the source tree).
//!
//! A tower, each floor on those below; only this folder names cudarc:
//!
//! ```text
//! mod                the facade: opens the device, runs the self-test, makes the engine
//! self_test          every kernel against the CPU
//! pipeline           slices on their way: voxels in, launches, masks out
//! forward            the launches of a tile
//! buffers            arena, slots
//! status weights
//! device
//! kernels tables
//! sections
//! driver params
//! ```
//! Every output is summed in one order whatever tile it is in, so results do not depend on tiles, budget or ROI.

mod buffers;
mod device;
mod driver;
mod forward;
mod kernels;
mod params;
mod pipeline;
mod sections;
mod self_test;
mod status;
mod tables;
mod weights;

use std::sync::Arc;

use crate::axes::Axes;
use crate::engine::{
    Bytes, DeviceKind, Engine, EngineCall, EngineInfo, Geometry, LogLevel, MemoryModel, Note, Request, Reservation,
    Settings, Span, TileMemory,
};
use crate::error::Error;
use crate::mask::PerOutput;
use crate::memory::automatic_budget;
use crate::plan::AxisSizes;
use crate::process::generation;
use buffers::{BufferLayout, MAX_PIXELS, SLOTS, region_bytes, wanted_bytes};
use device::Device;
use driver::Module;
use pipeline::Pipeline;
use pipeline::staging::{cached_bytes, host_bytes};
use tables::TileTables;
use weights::PackedWeights;

pub(super) struct CudaEngine {
    pipeline: Pipeline,
    automatic_budget: Bytes,
}

impl CudaEngine {
    /// An engine on GPU number `index`.
    pub fn new(index: u32, settings: &Settings<'_>) -> Result<Self, Error> {
        let device = Device::open(index, self_test::run)?;
        let key = settings.key(&format!("cuda {index}, process {}", generation()));
        let weights = settings.model.packed(&key, || PackedWeights::new(&device, settings))?;
        let (free, _) = device.context.memory()?;
        Ok(Self {
            pipeline: Pipeline::new(&device, &weights, index)?,
            automatic_budget: Bytes {
                host: automatic_budget(64 << 30, 0),
                // Tiles shrink where other programs take memory later.
                device: free / 10 * 9 + weights.bytes(),
            },
        })
    }

    /// What the caller should know about the device.
    pub fn notes(&self) -> Vec<Note> {
        let gpu = self.pipeline.index;
        let kernels = &self.pipeline.device.kernels;
        let left_out = kernels
            .left_out
            .iter()
            .map(|out| (LogLevel::Warning, format!("cuda:{gpu}: the kernel {} is left out: {}", out.kernel, out.why)));
        let remarks = kernels.modules.iter().filter(|module| !module.remarks.is_empty()).map(|module| {
            let Module { name, remarks, .. } = module;
            (LogLevel::Info, format!("cuda:{gpu}: the driver on the kernels {name}: {remarks}"))
        });
        left_out.chain(remarks).collect()
    }

    /// Such as (9, 0): GPUs of one architecture run the same kernels.
    pub fn architecture(&self) -> (i32, i32) {
        self.pipeline.device.limits.capability
    }
}

impl Engine for CudaEngine {
    fn info(&self) -> EngineInfo {
        EngineInfo {
            name: format!("cuda:{} ({})", self.pipeline.index, self.pipeline.device.name),
            device: DeviceKind::Cuda,
            automatic_budget: self.automatic_budget,
            fixed: Bytes { host: 0, device: self.pipeline.weights.bytes() },
            max_runs: Axes::default(),
            pipeline_depth: SLOTS - 1,
            preferred_tile_bytes: u64::MAX,
            macs_per_output: self.pipeline.weights.macs_per_output.clone(),
            memory: Arc::new(CudaMemory {
                weights: Arc::clone(&self.pipeline.weights),
                multiprocessors: self.pipeline.device.limits.multiprocessors,
            }),
        }
    }

    fn trace(&mut self, on: bool) -> Result<Vec<Span>, Error> {
        self.pipeline.trace(on)
    }

    fn trim(&mut self) {
        self.pipeline.trim();
    }

    fn begin<'a>(&'a mut self, request: Request<'a>) -> Result<Box<dyn EngineCall + 'a>, Error> {
        Ok(Box::new(self.pipeline.begin(request)?))
    }
}

struct CudaMemory {
    weights: Arc<PackedWeights>,
    multiprocessors: usize,
}

impl MemoryModel for CudaMemory {
    fn call(&self, geometry: &Geometry) -> Result<Bytes, Error> {
        const LARGEST_VOXEL: usize = 8;
        let logits = geometry.grid.patches().saturating_mul(geometry.classes);
        for (what, count, remedy) in [
            ("pixels", geometry.extents.pixels(), ""),
            ("pixels", geometry.grid.pixels().product(), ""),
            ("logits", logits, ", or a larger stride"),
        ] {
            if count > MAX_PIXELS {
                return Err(Error::Unsupported(format!(
                    "a slice of {count} {what}: a GPU takes at most {MAX_PIXELS}; use the device cpu{remedy}"
                )));
            }
        }
        Ok(BufferLayout::new(geometry, LARGEST_VOXEL, PerOutput::default().map(|_: bool| true)).bytes())
    }

    fn tile(&self, axes: &Axes<AxisSizes>) -> TileMemory {
        TileMemory {
            whole: Bytes {
                host: host_bytes(TileTables::max_bytes(axes)),
                device: region_bytes(&self.weights, axes) as u64,
            },
            lists: host_bytes(TileTables::max_list_bytes(axes)),
            cached: cached_bytes(axes),
        }
    }

    fn reservation(&self, slices: usize, largest: Bytes, budget: Bytes) -> Reservation {
        let wanted = wanted_bytes(slices, largest.device, budget.device, self.multiprocessors);
        Reservation { wanted, ..Reservation::in_turn(largest, budget) }
    }
}
