//! A slice on its way out: painted on the device, fetched, and written to the caller's buffers.

use super::CudaEngine;
use super::buffers::{Slot, Staged};
use super::params::{AxisFill, PaintParams, Plane, THREADS};
use super::timeline::Lane;
use crate::engine::Call;
use crate::error::Error;
use crate::lattice::Selection;
use crate::mask::{DevicePlane, Fill, Grids};

impl CudaEngine {
    /// The slice at work is painted from its lattice: to its slot, or to the caller's buffers in device memory.
    pub(super) fn paint(&mut self, call: &Call<'_>, selection: &Selection) -> Result<(), Error> {
        let extents = call.geometry.extents;
        if let Some(roi) = &mut self.slot_mut()?.roi {
            let rows = roi.host.as_mut_slice().chunks_exact_mut(extents.width);
            for (y, row) in rows.enumerate() {
                match selection.row(y) {
                    Some(inside) => row.iter_mut().zip(inside).for_each(|(to, &i)| *to = i.into()),
                    None => row.fill(1),
                }
            }
        }
        if self.slot()?.part.bytes.is_empty() {
            self.enter(Lane::Compute)?;
        }
        let buffers = self.buffers()?;
        let slot = self.slot()?;
        let compute = self.compute();
        let [logits, probabilities] = slot.lattice_scores();
        let z = self.z;
        let plane = |staged: &Option<Staged>, callers: Option<DevicePlane>, size: i64| match callers {
            Some(plane) => Plane {
                data: (plane.address + z * plane.strides[3]) as u64,
                stride_x: plane.strides[1] as i64,
                stride_y: plane.strides[2] as i64,
            },
            None => Plane {
                data: staged.as_ref().map_or(0, |staged| staged.device.address()),
                stride_x: size,
                stride_y: size * extents.width as i64,
            },
        };
        let planes = call.planes;
        let row_fills = buffers.fills.device.address();
        let params = PaintParams {
            logits,
            probabilities,
            rows: row_fills,
            columns: row_fills + (size_of::<AxisFill>() * extents.height) as u64,
            roi: (slot.roi.as_ref()).map_or(0, |staged| staged.device.address()),
            mask: plane(&slot.mask, planes.and_then(|p| p.mask), 1),
            probability: plane(&slot.probability, planes.and_then(|p| p.probability), 4),
            coverage: plane(&slot.coverage, planes.and_then(|p| p.coverage), 1),
            cancel: self.cancel_word(),
            width: extents.width as i32,
            height: extents.height as i32,
            lattice_columns: call.geometry.lattice.x.count() as i32,
            classes: call.geometry.classes as i32,
            lesion_class: call.lesion_class as i32,
            linear: i32::from(call.fill == Fill::Linear),
        };
        let blocks = extents.width.div_ceil(THREADS as usize) * extents.height;
        // SAFETY: all of it belongs to this engine, which waits for the device before it lets go of anything.
        unsafe {
            if let Some(roi) = &slot.roi {
                (self.upload).upload(roi.device.address(), roi.host.as_slice())?;
                slot.uploaded.record(&self.upload)?;
                compute.wait_for(&slot.uploaded)?;
            }
            compute.launch(&self.device.kernels.paint, [blocks, 1], &params)?;
            if let Some(staged) = &slot.logits {
                let bytes = buffers.shape().lattice_bytes();
                compute.copy(staged.device.address(), logits, bytes)?;
            }
            if let Some(plane) = planes.and_then(|p| p.logits) {
                let lattice = call.geometry.lattice;
                let row_bytes = 4 * lattice.x.count() * call.geometry.classes;
                for y in 0..lattice.y.count() {
                    let to = plane.address + z * plane.strides[3] + y * plane.strides[2];
                    let from = logits + (y * row_bytes) as u64;
                    compute.copy(to as u64, from, row_bytes)?;
                }
            }
        }
        self.leave(Lane::Compute)?;
        slot.computed.record(compute)
    }

    /// Planes and status of the slice at work come back to its slot's page-locked memory.
    pub(super) fn fetch(&mut self) -> Result<(), Error> {
        self.download.wait_for(&self.slot()?.computed)?;
        self.enter(Lane::Download)?;
        let slot = self.slot_mut()?;
        let staged = [&mut slot.mask, &mut slot.probability, &mut slot.coverage, &mut slot.logits];
        let staged = staged.into_iter().flatten().chain([&mut slot.status]);
        let copies: Vec<(*mut [u8], u64)> = staged
            .map(|staged| {
                let to: *mut [u8] = staged.host.as_mut_slice();
                (to, staged.device.address())
            })
            .collect();
        for (to, from) in copies {
            // SAFETY: page-locked memory of the slot, which nobody touches before the slice has been waited for.
            unsafe { self.download.download(&mut *to, from) }?;
        }
        self.leave(Lane::Download)?;
        self.slot()?.downloaded.record(&self.download)
    }
}

/// Writes the planes of a slot, which have come back, to slice `z` of the caller's buffers.
pub(super) fn write_planes(slot: &Slot, call: &Call<'_>, z: usize, grids: &mut Grids<'_>) {
    let width = call.geometry.extents.width;
    let lattice = call.geometry.lattice;
    for (grid, staged) in [(&mut grids.mask, &slot.mask), (&mut grids.coverage, &slot.coverage)] {
        if let (Some(grid), Some(staged)) = (grid, staged) {
            let rows = staged.host.as_slice().chunks_exact(width);
            for (y, row) in rows.enumerate() {
                grid.set_row(y, z, row);
            }
        }
    }
    for (grid, staged, row) in [
        (&mut grids.probability, &slot.probability, width),
        (&mut grids.logits, &slot.logits, lattice.x.count() * call.geometry.classes),
    ] {
        if let (Some(grid), Some(staged)) = (grid, staged) {
            let rows = floats(staged.host.as_slice()).chunks_exact(row);
            for (y, row) in rows.enumerate() {
                grid.set_row(y, z, row);
            }
        }
    }
}

/// Page-locked bytes, which are aligned to pages, as f32.
fn floats(bytes: &[u8]) -> &[f32] {
    // SAFETY: any bits are an f32; what is not aligned is left out.
    let (before, floats, after) = unsafe { bytes.align_to::<f32>() };
    assert!(before.is_empty() && after.is_empty());
    floats
}
