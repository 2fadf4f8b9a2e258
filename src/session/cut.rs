//! What a slice is cut into, and whether it is planned once for all slices of a call.

use std::collections::HashSet;
use std::sync::Arc;

use super::tiles::{Cutter, Piece};
use crate::engine::Bytes;
use crate::error::Error;
use crate::memory::{ensure_headroom, try_with_capacity};
use crate::plan::{AxisPlans, PlannedPiece, TilePlan};

/// The pieces of a slice.
pub(super) enum Cut {
    /// Planned one at a time: a ROI's plans are large, stacks of single patches are many, and so may tiles be.
    Pieces(Vec<Piece>),
    /// Planned once for all slices.
    Standing(Standing),
}

/// Planned pieces that are held together.
pub(super) struct Standing {
    pub pieces: Vec<PlannedPiece>,
    /// What they take on the host all together, with their axes and what the engine keeps for them.
    pub bytes: u64,
}

impl Cut {
    /// Plans the pieces once where they can stand for the whole call, and the budget has room for that besides the
    /// `largest` of them.
    pub fn new(cutter: &Cutter<'_>, pieces: Vec<Piece>, largest: Bytes, plans: &mut AxisPlans) -> Result<Self, Error> {
        if cutter.lists || !cutter.sharing {
            return Ok(Self::Pieces(pieces));
        }
        let room = cutter.budget.less(largest).host;
        Ok(match Standing::new(cutter, &pieces, room, plans)? {
            Some(standing) => Self::Standing(standing),
            None => Self::Pieces(pieces),
        })
    }
}

impl Standing {
    /// Plans all pieces; `None` where that takes more than `room`.
    fn new(cutter: &Cutter<'_>, pieces: &[Piece], room: u64, plans: &mut AxisPlans) -> Result<Option<Self>, Error> {
        const WHAT: &str = "plans of a slice";
        let images = pieces.len().saturating_mul(TilePlan::IMAGE_BYTES);
        if images as u64 > room {
            return Ok(None);
        }
        ensure_headroom(images, WHAT)?;
        let mut standing = Self { pieces: try_with_capacity(pieces.len(), WHAT)?, bytes: 0 };
        let (mut axes, mut geometries) = (HashSet::new(), HashSet::new());
        for piece in pieces {
            (cutter.check)()?;
            let planned = cutter.plan(piece, plans)?;
            let (rows, columns) = (&planned.plan.rows, &planned.plan.columns);
            standing.bytes += planned.bytes();
            for axis in [rows, columns] {
                if axes.insert(Arc::as_ptr(axis)) {
                    standing.bytes += axis.bytes() as u64;
                }
            }
            if geometries.insert(planned.plan.geometry()) {
                standing.bytes += cutter.engine.standing_bytes(rows, columns);
            }
            if standing.bytes > room {
                return Ok(None);
            }
            standing.pieces.push(planned);
        }
        Ok(Some(standing))
    }
}
