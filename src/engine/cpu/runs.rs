//! The plan's runs with their inputs written out.

use crate::error::Error;
use crate::memory::{try_filled, try_with_capacity};
use crate::plan::{MAX_RUN, TapTable, ZERO};

/// Values that the longest run reads.
pub(super) const MAX_READ: usize = MAX_RUN + 2;

/// A run of the plan, its inputs written out; in layers without runs a value by itself.
pub(super) struct Run {
    /// Among the runs of its axis.
    pub index: usize,
    /// The first of its values.
    pub first: usize,
    /// Number of its values.
    pub len: usize,
    /// The inputs that it reads, then zeros.
    pub taps: [i32; MAX_READ],
}

/// The runs of a table.
pub(super) fn runs(table: &TapTable) -> Result<Vec<Run>, Error> {
    let count = if table.runs() > 0 { table.runs() } else { table.len() };
    let mut runs = try_with_capacity(count, "runs of a tile")?;
    runs.extend((0..count).map(|run| {
        let mut taps = [ZERO; MAX_READ];
        let mut read =
            |inputs: &mut dyn Iterator<Item = i32>| taps.iter_mut().zip(inputs).for_each(|(to, tap)| *to = tap);
        if table.runs() > 0 {
            read(&mut table.inputs_of_run(run));
        } else {
            read(&mut table.taps_of(run).iter().copied());
        }
        let values = if table.runs() > 0 { table.run(run) } else { run..run + 1 };
        Run { index: run, first: values.start, len: values.len(), taps }
    }));
    Ok(runs)
}

/// For each value of these runs the index of its run.
pub(super) fn run_of_values(runs: &[Run]) -> Result<Vec<usize>, Error> {
    let mut run_of = try_filled(runs.last().map_or(0, |run| run.first + run.len), 0, "runs of a tile")?;
    runs.iter().for_each(|run| run_of[run.first..][..run.len].fill(run.index));
    Ok(run_of)
}
