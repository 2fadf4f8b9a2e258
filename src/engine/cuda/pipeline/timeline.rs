//! Notes of when slices were on their way to the device, at work, and on their way back: for benchmarks, taken only when
//! asked for. Slices of one size that are at work side by side have lanes of their own.

use std::sync::Arc;

use crate::engine::Span;
use crate::engine::cuda::buffers::{SLOTS, of_each_slot};
use crate::engine::cuda::driver::{Context, Event, Stream};
use crate::error::Error;

/// A slice's stations.
#[derive(Clone, Copy)]
pub(in crate::engine::cuda) enum Lane {
    Upload,
    Compute,
    Download,
}

const LANES: [(Lane, &str); 3] = [(Lane::Upload, "upload"), (Lane::Compute, "compute"), (Lane::Download, "download")];

/// Beginning and end.
type Ends = [Event; 2];

pub(super) struct Timeline {
    /// When the call began.
    origin: Event,
    slots: [[Ends; LANES.len()]; SLOTS],
    spans: Vec<Span>,
}

impl Timeline {
    pub fn new(context: &Arc<Context>) -> Result<Self, Error> {
        let ends = || Ok([Event::timed(context)?, Event::timed(context)?]);
        Ok(Self {
            origin: Event::timed(context)?,
            slots: of_each_slot(|| Ok([ends()?, ends()?, ends()?]))?,
            spans: Vec::new(),
        })
    }

    /// A call begins; `stream` is idle.
    pub fn begin(&mut self, stream: &Stream) -> Result<(), Error> {
        self.spans.clear();
        self.origin.record(stream)
    }

    /// Work that `stream` is given from now on is the slot's.
    pub fn enter(&self, slot: usize, lane: Lane, stream: &Stream) -> Result<(), Error> {
        self.slots[slot][lane as usize][0].record(stream)
    }

    /// The stream has been given all of it; before any event that says the slice is done there.
    pub fn leave(&self, slot: usize, lane: Lane, stream: &Stream) -> Result<(), Error> {
        self.slots[slot][lane as usize][1].record(stream)
    }

    /// Notes the slot's slice, which is done; `turn` is that of its region of the arena.
    pub fn note(&mut self, slot: usize, slice: usize, turn: usize, device: u32) -> Result<(), Error> {
        for (station, name) in LANES {
            let [begin, end] = &self.slots[slot][station as usize];
            let number = match station {
                Lane::Compute => format!(" {turn}"),
                _ => String::new(),
            };
            self.spans.push(Span {
                lane: format!("cuda:{device} {name}{number}"),
                slice,
                begin: self.origin.seconds_until(begin)?,
                end: self.origin.seconds_until(end)?,
            });
        }
        Ok(())
    }

    pub fn spans(&self) -> Vec<Span> {
        self.spans.clone()
    }
}
