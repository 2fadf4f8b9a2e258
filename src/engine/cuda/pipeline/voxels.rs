//! A slice on its way in: voxels to the device, resampled where need be, their histogram, and the table of the equalisation.

use super::CudaCall;
use super::timeline::Lane;
use crate::axes::Axes;
use crate::engine::SliceId;
use crate::engine::cuda::buffers::Region;
use crate::engine::cuda::params::{EqualizeParams, HistogramParams, LEVELS, ResampleParams, THREADS, Voxels};
use crate::engine::cuda::status::Status;
use crate::error::Error;
use crate::volume::{Memory, StridedArray, VoxelType};

/// A quiet NaN, as bits.
const NAN: u32 = 0x7fc0_0000;

impl CudaCall<'_> {
    /// The slice as the first layer reads it: its voxels or resampled pixels, and the address of the equalisation's table or 0.
    pub fn input(&self, slice: SliceId) -> (Voxels, u64) {
        let slot = self.slot(slice);
        let mut voxels = self.voxels(slice);
        if let Some(pixels) = &slot.pixels {
            let Axes { rows, columns } = self.request.geometry.grid.pixels();
            let size = VoxelType::F64.size() as i64;
            voxels = Voxels {
                data: pixels.address(),
                stride_x: size,
                stride_y: size * columns as i64,
                voxel_type: VoxelType::F64 as i32,
                width: columns as i32,
                height: rows as i32,
                slope: 1.0,
                intercept: 0.0,
                ..voxels
            };
        }
        let (_, equalize) = self.request.intensity.settings();
        (voxels, if equalize { slot.table.address() } else { 0 })
    }

    /// The caller's voxels.
    fn voxels(&self, slice: SliceId) -> Voxels {
        let volume = self.request.volume;
        let (voxel_type, (slope, intercept)) = volume.voxel();
        let extents = self.request.geometry.extents;
        let ((low, high), _) = self.request.intensity.settings();
        let slot = self.slot(slice);
        let (data, [stride_x, stride_y]) = match volume.memory() {
            Memory::Host => {
                let size = voxel_type.size();
                (slot.voxels.device.address(), [size, size * extents.width])
            }
            Memory::Cuda { .. } => {
                let StridedArray { address, strides, .. } = volume.array();
                ((address + slice.z * strides[3]) as u64, [strides[1], strides[2]])
            }
        };
        Voxels {
            data,
            stride_x: stride_x as i64,
            stride_y: stride_y as i64,
            voxel_type: voxel_type as i32,
            width: extents.width as i32,
            height: extents.height as i32,
            unused: 0,
            slope,
            intercept,
            low,
            high,
        }
    }

    /// Sends the slice's voxels and computes what the first layer needs of all of them.
    pub(super) fn take_in(&mut self, slice: SliceId) -> Result<(), Error> {
        self.buffers.slots[slice.slot].region = Region::default();
        self.upload_voxels(slice)?;
        let slot = self.slot(slice);
        let compute = &self.streams.compute[slice.slot];
        slot.uploaded.record(&self.streams.upload)?;
        compute.wait_for(&slot.uploaded)?;
        let kernels = &self.device.kernels;
        let logit_words = self.buffers.layout().logits_bytes() / 4;
        let [logits, _] = slot.score_addresses();
        let (voxels, table) = self.input(slice);
        let (counts, cancel) = (slot.counts.address(), self.streams.cancel_word());
        // SAFETY: all of it belongs to this call or outlives it, and the call waits for the device before it ends.
        unsafe {
            compute.fill(counts, 0, LEVELS)?;
            compute.fill(slot.status.device.address(), 0, size_of::<Status>() / 4)?;
            compute.fill(logits, NAN, logit_words)?;
            let nonfinite = slot.status.device.at(std::mem::offset_of!(Status, nonfinite));
            if let Some(pixels) = &slot.pixels {
                let [rows, columns] = self.buffers.layout().taps_at().map(|at| self.buffers.axes.device.at(at));
                let params = ResampleParams {
                    voxels: self.voxels(slice),
                    rows,
                    columns,
                    output: pixels.address(),
                    nonfinite,
                    cancel,
                    width: voxels.width,
                    height: voxels.height,
                };
                let blocks = (voxels.width as usize).div_ceil(THREADS as usize) * voxels.height as usize;
                compute.launch(&kernels.resample, [blocks, 1], &params)?;
            }
            // A few rows for each block, and enough blocks for a large GPU.
            let blocks = (voxels.height as usize).clamp(1, 512);
            let params = HistogramParams { voxels, counts, nonfinite, cancel };
            compute.launch(&kernels.histogram, [blocks, 1], &params)?;
            if table != 0 {
                compute.launch(&kernels.equalize, [1, 1], &EqualizeParams { counts, table, cancel })?;
            }
        }
        Ok(())
    }

    /// Copies the slice to the slot's page-locked memory and on to the device, unless it is there.
    fn upload_voxels(&mut self, slice: SliceId) -> Result<(), Error> {
        let volume = self.request.volume;
        let in_host_memory = volume.memory() == Memory::Host;
        if in_host_memory {
            let row_bytes = volume.extents().width * volume.voxel().0.size();
            let voxels = &mut self.buffers.slots[slice.slot].voxels;
            for (y, row) in voxels.host.as_mut_slice().chunks_exact_mut(row_bytes).enumerate() {
                self.request.control.cancel.check()?;
                volume.copy_row(y, slice.z, row);
            }
        }
        self.enter(slice, Lane::Upload)?;
        if in_host_memory {
            let voxels = &self.slot(slice).voxels;
            // SAFETY: the slot is not written again before its slice has been waited for.
            unsafe { self.streams.upload.upload(voxels.device.address(), voxels.host.as_slice()) }?;
        }
        self.leave(slice, Lane::Upload)
    }
}
