//! A slice on its way in: voxels to the device, their histogram, and the table of the equalisation.

use super::CudaEngine;
use super::arena::Part;
use super::params::{EqualizeParams, HistogramParams, LEVELS, Voxels, voxel_number};
use super::status::Status;
use super::timeline::Lane;
use crate::engine::Call;
use crate::error::Error;
use crate::volume::{Memory, Volume};

/// A quiet NaN, as bits.
const NAN: u32 = 0x7fc0_0000;

impl CudaEngine {
    /// Slice `z` is the one at work from now on.
    pub(super) fn take_in(&mut self, call: &Call<'_>, z: usize) -> Result<(), Error> {
        let (voxel_type, (slope, intercept)) = call.volume.voxel();
        let extents = call.geometry.extents;
        let (data, strides) = match call.volume.memory() {
            Memory::Host => {
                let size = voxel_type.size();
                let data = self.stage_voxels(call.volume, z)?;
                (data, [size, size * extents.width])
            }
            Memory::Cuda { .. } => {
                self.enter(Lane::Upload)?;
                let (data, strides) = call.volume.slice_at(z);
                (data as u64, [strides.x, strides.y])
            }
        };
        self.leave(Lane::Upload)?;
        let ((low, high), equalize) = call.intensity.settings();
        let voxels = Voxels {
            data,
            stride_x: strides[0] as i64,
            stride_y: strides[1] as i64,
            voxel_type: voxel_number(voxel_type),
            width: extents.width as i32,
            height: extents.height as i32,
            unused: 0,
            slope,
            intercept,
            low,
            high,
        };
        self.slot_mut()?.part = Part::default();
        let slot = self.slot()?;
        let compute = self.compute();
        slot.uploaded.record(&self.upload)?;
        compute.wait_for(&slot.uploaded)?;
        let kernels = &self.device.kernels;
        let lattice_words = self.buffers()?.shape().lattice_bytes() / 4;
        let [logits, _] = slot.lattice_scores();
        // SAFETY: all of it belongs to this engine, which waits for the device before it lets go of anything.
        unsafe {
            compute.fill(slot.counts.address(), 0, LEVELS)?;
            compute.fill(slot.status.device.address(), 0, size_of::<Status>() / 4)?;
            compute.fill(logits, NAN, lattice_words)?;
            let params = HistogramParams {
                voxels,
                counts: slot.counts.address(),
                nonfinite: slot.status.device.at(std::mem::offset_of!(Status, nonfinite)),
                cancel: self.cancel_word(),
            };
            // A few rows for each block, and enough blocks for a large GPU.
            let blocks = extents.height.clamp(1, 512);
            compute.launch(&kernels.histogram, [blocks, 1], &params)?;
            if equalize {
                let params = EqualizeParams {
                    counts: slot.counts.address(),
                    table: slot.table.address(),
                    cancel: self.cancel_word(),
                };
                compute.launch(&kernels.equalize, [1, 1], &params)?;
            }
        }
        self.table = if equalize { slot.table.address() } else { 0 };
        self.voxels = Some(voxels);
        self.z = z;
        Ok(())
    }

    /// Copies slice `z` to the slot's page-locked memory and on to the device; returns where it lies.
    fn stage_voxels(&mut self, volume: &Volume<'_>, z: usize) -> Result<u64, Error> {
        let width = volume.extents().width;
        let slot = self.slot_mut()?;
        let row_bytes = width * volume.voxel().0.size();
        let rows = slot.voxels.host.as_mut_slice().chunks_exact_mut(row_bytes);
        for (y, row) in rows.enumerate() {
            volume.copy_row(y, z, row);
        }
        self.enter(Lane::Upload)?;
        let slot = self.slot()?;
        let to = slot.voxels.device.address();
        // SAFETY: the slot is not written again before its slice has been waited for.
        unsafe { self.upload.upload(to, slot.voxels.host.as_slice()) }?;
        Ok(to)
    }
}
