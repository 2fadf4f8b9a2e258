//! Buffers of the caller that lie in device memory already.

use crate::engine::Request;
use crate::engine::cuda::driver::Context;
use crate::error::Error;
use crate::volume::{Memory, StridedArray};

/// Checks the caller's buffers in device memory: on this device, aligned. Then waits for the work of the caller's
/// streams.
pub(super) fn check(context: &Context, request: &Request<'_>) -> Result<(), Error> {
    if let Memory::Cuda { stream } = request.volume.memory() {
        check_array(context, "volume", &request.volume.array())?;
        context.wait_for_callers_stream(stream)?;
    }
    let Memory::Cuda { stream } = request.outputs_memory else {
        return Ok(());
    };
    for (name, array) in request.outputs.named() {
        array.map_or(Ok(()), |array| check_array(context, name, &array))?;
    }
    if let Some(StridedArray { strides, shape, .. }) = request.outputs.logits {
        let dense = [4, 4 * request.geometry.classes];
        if strides[0] != dense[0] || (strides[1] != dense[1] && shape[1] > 1) {
            return Err(Error::invalid(format!(
                "logits in device memory with stride_class {} and stride_x {}: must be dense, {} and {}",
                strides[0], strides[1], dense[0], dense[1]
            )));
        }
    }
    context.wait_for_callers_stream(stream)
}

/// The stride of classes apart, which is that of dense ones.
fn check_array(context: &Context, name: &str, array: &StridedArray) -> Result<(), Error> {
    let StridedArray { address, strides, shape, element, .. } = array;
    // The strides of axes with one element lead nowhere.
    let used = (1..4).filter(|&axis| shape[axis] > 1).map(|axis| strides[axis]);
    if let Some(value) = [*address].into_iter().chain(used).find(|value| !value.is_multiple_of(*element)) {
        return Err(Error::invalid(format!(
            "{name} in device memory: address and strides must be multiples of {element} bytes, and \
             {value} is not"
        )));
    }
    context.check_address(*address, name)
}
