//! Copies: run pairs, or pooled pixels, that are black and the same as others, so that they need not be computed.

use std::collections::HashMap;

use crate::axes::Axes;
use crate::cancel::Cancel;
use crate::engine::cpu::black::{Black, BlackPairs};
use crate::engine::cpu::max_pool::MaxPool;
use crate::engine::cpu::runs::{Run, run_of_values, runs};
use crate::error::Error;
use crate::memory::{try_filled, try_reserve};

const WHAT: &str = "black pixels of a tile";

/// What is not computed, since it is black and the same as something that is.
pub(super) enum Copies {
    Nothing,
    /// For each pair, [row runs][column runs], its own index, or that of the pair which it is a copy of.
    Pairs(Vec<u32>),
    /// For each pair whether none but copies among the pooled pixels read it; for each of those, [rows][columns], its own index, or
    /// that of the pixel which it is a copy of.
    Pooled {
        unread: Vec<bool>,
        originals: Vec<u32>,
        columns: usize,
    },
}

/// Black pixels of the pool that follows run pairs of which some are `black`, and what need not be computed for it.
pub(super) fn pooled_copies(
    black: &BlackPairs,
    of: Axes<&[Run]>,
    pool: &MaxPool<'_>,
    cancel: &Cancel,
) -> Result<(Option<Black>, Copies), Error> {
    let pools = pool.taps.try_map(runs)?;
    let pools = pools.as_ref().map(|pools| &pools[..]);
    let Some(pooled) = black.output(of)?.pairs(pools, cancel)? else { return Ok((None, Copies::Nothing)) };
    let black = Some(pooled.output(pools)?);
    let Some(originals) = originals(&pooled, cancel)? else { return Ok((black, Copies::Nothing)) };
    let run_of = of.try_map(run_of_values)?;
    let columns = pools.columns.len();
    let mut unread = try_filled(of.rows.len() * of.columns.len(), true, WHAT)?;
    for (row, line) in originals.chunks_exact(columns).enumerate() {
        cancel.check()?;
        for (column, _) in
            line.iter().enumerate().filter(|&(column, &original)| original as usize == row * columns + column)
        {
            for &r in pool.taps.rows.taps_of(row) {
                for &c in pool.taps.columns.taps_of(column) {
                    unread[run_of.rows[r as usize] * of.columns.len() + run_of.columns[c as usize]] = false;
                }
            }
        }
    }
    Ok((black, Copies::Pooled { unread, originals, columns }))
}

/// For each pair the index of the first that is black and of the same kinds, else its own; `None`: all are themselves.
pub(super) fn originals(black: &BlackPairs, cancel: &Cancel) -> Result<Option<Vec<u32>>, Error> {
    let columns = &black.kinds.columns;
    let mut first = HashMap::new();
    let mut originals = try_filled(black.pairs.len(), 0, WHAT)?;
    let mut copies = false;
    for (row, (originals, pairs)) in
        originals.chunks_exact_mut(columns.len()).zip(black.pairs.chunks_exact(columns.len())).enumerate()
    {
        cancel.check()?;
        for (column, (original, &black_pair)) in originals.iter_mut().zip(pairs).enumerate() {
            let index = (row * columns.len() + column) as u32;
            *original = index;
            if black_pair {
                try_reserve(&mut first, 1, WHAT)?;
                *original = *first.entry((black.kinds.rows[row], columns[column])).or_insert(index);
                copies |= *original != index;
            }
        }
    }
    Ok(copies.then_some(originals))
}
