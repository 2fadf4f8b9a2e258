//! Buffers of the caller that lie in device memory already.

use crate::engine::cuda::driver::Context;
use crate::engine::{Geometry, Request};
use crate::error::Error;
use crate::volume::Memory;

/// Checks the caller's buffers in device memory: on this device, aligned. Then waits for the work of the caller's
/// streams.
pub(super) fn check(context: &Context, request: &Request<'_>) -> Result<(), Error> {
    let Geometry { extents, grid, .. } = request.geometry;
    let shape = [extents.width, extents.height, extents.depth];
    // The strides of axes with one element lead nowhere.
    let used = |strides: &[usize], shape: &[usize]| -> Vec<usize> {
        let pairs = strides.iter().zip(shape);
        let used = pairs.filter(|&(_, &extent)| extent > 1);
        used.map(|(&stride, _)| stride).collect()
    };
    let aligned = |name: &str, address: usize, strides: &[usize], size: usize| {
        for &value in [address].iter().chain(strides) {
            if !value.is_multiple_of(size) {
                return Err(Error::invalid(format!(
                    "{name} in device memory: address and strides must be multiples of {size} bytes, and \
                     {value} is not"
                )));
            }
        }
        context.check_address(address, name)
    };
    if let Memory::Cuda { stream } = request.volume.memory() {
        let (address, strides) = request.volume.slice_at(0);
        let size = request.volume.voxel().0.size();
        let strides = [strides.x, strides.y, strides.z];
        aligned("volume", address, &used(&strides, &shape), size)?;
        context.wait_for_callers_stream(stream)?;
    }
    let Some(planes) = request.planes else {
        return Ok(());
    };
    for (name, plane, size) in [
        ("mask", planes.mask, 1),
        ("probability", planes.probability, 4),
        ("coverage", planes.coverage, 1),
        ("logits", planes.logits, 4),
    ] {
        if let Some(plane) = plane {
            let shape = match name {
                "logits" => [grid.x.count(), grid.y.count(), extents.depth],
                _ => shape,
            };
            aligned(name, plane.address, &used(&plane.strides[1..], &shape), size)?;
        }
    }
    if let Some(plane) = planes.logits {
        let dense = [4, 4 * request.geometry.classes];
        let one_column = grid.x.count() == 1;
        if plane.strides[0] != dense[0] || (plane.strides[1] != dense[1] && !one_column) {
            return Err(Error::invalid(format!(
                "logits in device memory with stride_class {} and stride_x {}: must be dense, {} and {}",
                plane.strides[0], plane.strides[1], dense[0], dense[1]
            )));
        }
    }
    context.wait_for_callers_stream(planes.stream)
}
