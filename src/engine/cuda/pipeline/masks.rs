//! A slice on its way out: its masks are written on the device, downloaded, and copied to the caller's buffers.

use super::CudaCall;
use super::timeline::Lane;
use crate::engine::cuda::buffers::Mirrored;
use crate::engine::cuda::params::{AxisSample, Plane, THREADS, WriteMaskParams};
use crate::engine::{Request, SliceId};
use crate::error::Error;
use crate::mask::{Interpolation, OutputViews, PerOutput};
use crate::patch_grid::Selection;
use crate::volume::StridedArray;

impl CudaCall<'_> {
    /// Writes the slice's masks from its patches: to its slot, or to the caller's buffers in device memory.
    pub(super) fn write_masks(&mut self, slice: SliceId, selection: &Selection) -> Result<(), Error> {
        let geometry = &self.request.geometry;
        let extents = geometry.extents;
        if let Some(roi) = &mut self.buffers.slots[slice.slot].roi {
            let rows = roi.host.as_mut_slice().chunks_exact_mut(extents.width);
            for (y, row) in rows.enumerate() {
                self.request.control.cancel.check()?;
                match selection.row(y) {
                    Some(inside) => row.iter_mut().zip(inside).for_each(|(to, &i)| *to = i.into()),
                    None => row.fill(1),
                }
            }
        }
        let slot = self.slot(slice);
        if slot.region.bytes.is_empty() {
            self.enter(slice, Lane::Compute)?;
        }
        let compute = &self.streams.compute[slice.slot];
        let [logits, probabilities] = slot.score_addresses();
        let Request { outputs, decision, .. } = self.request;
        let plane = |staged: &Option<Mirrored>, callers: Option<StridedArray>| match (staged, callers) {
            (Some(staged), Some(StridedArray { element, .. })) => Plane {
                data: staged.device.address(),
                stride_x: element as i64,
                stride_y: (element * extents.width) as i64,
            },
            (None, Some(StridedArray { address, strides, .. })) => Plane {
                data: (address + slice.z * strides[3]) as u64,
                stride_x: strides[1] as i64,
                stride_y: strides[2] as i64,
            },
            (_, None) => Plane { data: 0, stride_x: 0, stride_y: 0 },
        };
        let rows = self.buffers.axes.device.address();
        let params = WriteMaskParams {
            logits,
            probabilities,
            rows,
            columns: rows + (size_of::<AxisSample>() * extents.height) as u64,
            roi: slot.roi.as_ref().map_or(0, |staged| staged.device.address()),
            mask: plane(&slot.staged.mask, outputs.mask),
            probability: plane(&slot.staged.probability, outputs.probability),
            coverage: plane(&slot.staged.coverage, outputs.coverage),
            cancel: self.streams.cancel_word(),
            width: extents.width as i32,
            height: extents.height as i32,
            grid_columns: geometry.grid.x.count() as i32,
            classes: geometry.classes as i32,
            lesion_class: decision.lesion_class as i32,
            linear: i32::from(decision.interpolation == Interpolation::Linear),
            threshold: decision.threshold.unwrap_or(0.0),
            unused: 0,
        };
        let blocks = extents.width.div_ceil(THREADS as usize) * extents.height;
        // SAFETY: all of it belongs to this call or outlives it, and the call waits for the device before it ends.
        unsafe {
            if let Some(roi) = &slot.roi {
                self.streams.upload.upload(roi.device.address(), roi.host.as_slice())?;
                slot.uploaded.record(&self.streams.upload)?;
                compute.wait_for(&slot.uploaded)?;
            }
            compute.launch(&self.device.kernels.write_mask, [blocks, 1], &params)?;
            if let Some(staged) = &slot.staged.logits {
                compute.copy(staged.device.address(), logits, self.buffers.layout().logits_bytes())?;
            } else if let Some(StridedArray { address, strides, .. }) = outputs.logits {
                let row_bytes = 4 * geometry.grid.x.count() * geometry.classes;
                for y in 0..geometry.grid.y.count() {
                    let to = address + slice.z * strides[3] + y * strides[2];
                    let from = logits + (y * row_bytes) as u64;
                    compute.copy(to as u64, from, row_bytes)?;
                }
            }
        }
        self.leave(slice, Lane::Compute)?;
        slot.computed.record(compute)
    }

    /// Planes and status of the slice come back to its slot's page-locked memory.
    pub(super) fn download(&mut self, slice: SliceId) -> Result<(), Error> {
        let download = &self.streams.download;
        download.wait_for(&self.slot(slice).computed)?;
        self.enter(slice, Lane::Download)?;
        let slot = &mut self.buffers.slots[slice.slot];
        let PerOutput { mask, probability, coverage, logits } = &mut slot.staged;
        for staged in [mask, probability, coverage, logits].into_iter().flatten().chain([&mut slot.status]) {
            // SAFETY: page-locked memory of the slot, which nobody touches before the slice has been waited for.
            unsafe { download.download(staged.host.as_mut_slice(), staged.device.address()) }?;
        }
        self.leave(slice, Lane::Download)?;
        self.slot(slice).downloaded.record(download)
    }

    /// Copies the planes of the slice, which have come back, to the caller's buffers in host memory.
    pub(super) fn copy_planes(&self, slice: SliceId, outputs: &mut OutputViews<'_>) -> Result<(), Error> {
        let cancel = &self.request.control.cancel;
        let all = &self.slot(slice).staged;
        let geometry = &self.request.geometry;
        let width = geometry.extents.width;
        for (output, staged) in [(&mut outputs.mask, &all.mask), (&mut outputs.coverage, &all.coverage)] {
            if let (Some(output), Some(staged)) = (output, staged) {
                for (y, row) in staged.host.as_slice().chunks_exact(width).enumerate() {
                    cancel.check()?;
                    output.set_row(y, slice.z, row);
                }
            }
        }
        for (output, staged, row) in [
            (&mut outputs.probability, &all.probability, width),
            (&mut outputs.logits, &all.logits, geometry.grid.x.count() * geometry.classes),
        ] {
            if let (Some(output), Some(staged)) = (output, staged) {
                for (y, row) in floats(staged.host.as_slice()).chunks_exact(row).enumerate() {
                    cancel.check()?;
                    output.set_row(y, slice.z, row);
                }
            }
        }
        Ok(())
    }
}

/// Page-locked bytes, which are aligned to pages, as f32.
fn floats(bytes: &[u8]) -> &[f32] {
    // SAFETY: any bits are an f32; what is not aligned is left out.
    let (before, floats, after) = unsafe { bytes.align_to::<f32>() };
    assert!(before.is_empty() && after.is_empty());
    floats
}
