//! gather_max_pool: 2x2 max pooling through the tap tables.

use rayon::prelude::*;

use crate::axes::Axes;
use crate::cancel::Cancel;
use crate::error::Error;
use crate::plan::TilePlan;

/// Output pixels of one task.
const BLOCK: usize = 256;

/// `into`[pixel][channel] = the largest of the (up to) four taps of step `index`.
pub(super) fn gather_max_pool(
    plan: &TilePlan,
    index: usize,
    channels: usize,
    from: &[f32],
    into: &mut [f32],
    cancel: &Cancel,
) -> Result<(), Error> {
    let (input, output) = (plan.input_of(index), plan.output_of(index));
    let Axes { rows, columns } = plan.axes.layer(index);
    into[..output.len() * channels].par_chunks_mut(BLOCK * channels).enumerate().try_for_each(|(block, into)| {
        cancel.check()?;
        for (i, into) in into.chunks_exact_mut(channels).enumerate() {
            let (row, column) = output.position(block * BLOCK + i);
            // Every tap of a pool exists: a pool that is not complete is dropped by the plan.
            into.fill(f32::NEG_INFINITY);
            for &r in rows.taps_of(row) {
                for &c in columns.taps_of(column) {
                    let index = input.index_of(r as usize, c as usize);
                    let x = &from[index * channels..][..channels];
                    for (into, &x) in into.iter_mut().zip(x) {
                        // NaN stays.
                        *into = if x > *into || x.is_nan() { x } else { *into };
                    }
                }
            }
        }
        Ok(())
    })
}
