//! Tables on their way to the device, and what tiles that every slice of a call has keep between slices.
//!
//! Tables are copied from page-locked staging buffers. From any other memory the driver may copy at once, and the caller
//! of the copy then waits until the device gets there: cancellation is not checked meanwhile, and nothing is queued behind.

use std::sync::Arc;

use crate::axes::Axes;
use crate::engine::cuda::buffers::SLOTS;
use crate::engine::cuda::driver::{Context, Event, Graph, HostMemory};
use crate::engine::cuda::tables::TileTables;
use crate::error::Error;
use crate::plan::AxisSizes;

/// Tiles whose tables are on their way at a time: the device has work while the host turns to the next slice, and
/// not more than it can leave soon when the call is cancelled.
pub(super) const STAGING_BUFFERS: usize = 3;

/// Page-locked memory for the tables of one tile.
pub(super) struct StagingBuffer {
    pub memory: HostMemory,
    /// The tables are on the device.
    pub sent: Event,
}

impl StagingBuffer {
    pub fn new(context: &Arc<Context>, bytes: usize) -> Result<Self, Error> {
        Ok(Self { memory: HostMemory::new(context, bytes, "tables of a tile")?, sent: Event::new(context)? })
    }
}

/// Shared by all cached tiles of one geometry.
pub(super) struct CachedTables {
    pub tables: Arc<TileTables>,
    /// In each slot, the number of tiles that came,
    pub uses: [usize; SLOTS],
    /// and the layers after the first, recorded when the second one comes.
    pub graphs: [Option<Graph>; SLOTS],
}

impl CachedTables {
    pub fn new(tables: TileTables) -> Self {
        Self { tables: Arc::new(tables), uses: [0; SLOTS], graphs: [const { None }; SLOTS] }
    }
}

/// Maximum bytes on the host for a tile with so many bytes of tables: staging buffers, the tables, and their parts
/// while they are made.
pub(in crate::engine::cuda) fn host_bytes(tables: usize) -> u64 {
    ((STAGING_BUFFERS + 2) as u64).saturating_mul(tables as u64)
}

/// Bytes of the tables that cached tiles of these axes share.
pub(in crate::engine::cuda) fn cached_bytes(axes: &Axes<AxisSizes>) -> u64 {
    (size_of::<CachedTables>() + size_of::<TileTables>() + TileTables::max_bytes(axes)) as u64
}
