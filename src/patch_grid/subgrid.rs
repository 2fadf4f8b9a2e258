//! Subgrids, and the strips of rows and columns that they are the products of.

use super::grid::PatchGrid;
use super::selection::Selection;
use crate::axes::Axes;
use crate::cancel::Cancel;
use crate::error::Error;
use crate::memory::try_with_capacity;

/// Patches that are evaluated together: the product of some rows and columns of the grid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subgrid {
    pub rows: Vec<usize>,
    pub columns: Vec<usize>,
    /// The wanted ones, row-major over the product; `None`: all.
    pub wanted: Option<Vec<bool>>,
}

impl Subgrid {
    /// The wanted rows and columns among `rows` x `columns`; `None` if nothing is wanted.
    pub fn new(
        rows: &[usize],
        columns: &[usize],
        selection: &Selection,
        grid: &PatchGrid,
        cancel: &Cancel,
    ) -> Result<Option<Self>, Error> {
        let among = Axes { rows: rows.iter().copied(), columns: columns.iter().copied() };
        let Axes { rows, columns } = selection.among(among, grid, cancel)?;
        if selection.is_everything() {
            return Ok(Some(Self { rows, columns, wanted: None }));
        }
        let mut wanted = try_with_capacity(rows.len() * columns.len(), "patches of a tile")?;
        for &y in &rows {
            cancel.check()?;
            wanted.extend(columns.iter().map(|&x| selection.contains_patch(y * grid.x.count() + x)));
        }
        let all = wanted.iter().all(|&wanted| wanted);
        Ok((!rows.is_empty()).then_some(Self { rows, columns, wanted: (!all).then_some(wanted) }))
    }

    pub fn patches(&self) -> usize {
        match &self.wanted {
            Some(wanted) => wanted.iter().filter(|&&wanted| wanted).count(),
            None => self.rows.len() * self.columns.len(),
        }
    }
}

/// Limits of the strips of an axis.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StripLimits {
    /// Patches from the first to the last of a strip, at most.
    pub max: usize,
    /// Patches after which plans come again.
    pub period: usize,
}

/// Rows or columns with the same remainder by `phases` together, ascending: patches with an odd stride share next to nothing
/// with their neighbours after the first pool, but with those two on.
pub(crate) fn interleaved(wanted: &[usize], phases: usize) -> Result<Vec<usize>, Error> {
    let mut interleaved = try_with_capacity(wanted.len(), "patches of a slice")?;
    for phase in 0..phases {
        interleaved.extend(wanted.iter().filter(|&index| index % phases == phase));
    }
    Ok(interleaved)
}

/// The wanted rows or columns, ascending or [`interleaved`], cut into strips.
#[derive(Clone, Copy)]
pub(crate) struct Strips<'a> {
    wanted: &'a [usize],
    /// Patches of each, but for the last and those that would reach too far.
    len: usize,
    max: usize,
}

impl<'a> Strips<'a> {
    /// Strips of `len` patches, or of a few less where many have one plan then.
    pub fn new(wanted: &'a [usize], len: usize, limits: StripLimits) -> Self {
        const MANY: usize = 8;
        let StripLimits { max, period } = limits;
        let many = len >= MANY * period && wanted.len() >= MANY * len;
        Self { wanted, len: if many { len - len % period } else { len }, max }
    }

    /// Patches of the longest.
    pub fn longest(self) -> usize {
        self.len
    }

    pub fn iter(self) -> impl Iterator<Item = &'a [usize]> + Clone {
        let Self { wanted: mut rest, len, max } = self;
        std::iter::from_fn(move || {
            let first = *rest.first()?;
            let longest = &rest[..rest.len().min(len)];
            let gap = longest.windows(2).position(|pair| pair[1] < pair[0] || pair[1] - first >= max);
            let (strip, after) = rest.split_at(gap.map_or(longest.len(), |last| last + 1));
            rest = after;
            Some(strip)
        })
    }
}

/// Ways to split rows and columns, `wanted` in so many phases, into strips, from one strip for each phase to single patches:
/// all strips of about the same length, squares preferred.
pub(crate) fn splits(
    wanted: Axes<&[usize]>,
    phases: usize,
    limits: Axes<StripLimits>,
) -> impl Iterator<Item = Axes<Strips<'_>>> {
    let counts = wanted.map(<[usize]>::len);
    let longest = counts.zip(limits).map(|(count, limits)| count.div_ceil(phases).min(limits.max));
    let lengths = std::iter::successors(Some([longest.rows, longest.columns]), move |&[row, column]| {
        if row == 1 && column == 1 {
            None
        } else if row >= column {
            Some([shorter(row, counts.rows), column])
        } else {
            Some([row, shorter(column, counts.columns)])
        }
    });
    lengths.map(move |[row, column]| Axes {
        rows: Strips::new(wanted.rows, row, limits.rows),
        columns: Strips::new(wanted.columns, column, limits.columns),
    })
}

/// The next shorter strip length: about a quarter more strips, all of nearly equal length.
fn shorter(strip: usize, len: usize) -> usize {
    let strips = len.div_ceil(strip);
    let more = (strips + strips.div_ceil(4)).min(len);
    len.div_ceil(more).min(strip - 1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_covers_everything_once_and_respects_the_limit() {
        let rows: Vec<usize> = (0..37).collect();
        let columns: Vec<usize> = (5..22).collect();
        let wanted = Axes { rows: &rows[..], columns: &columns[..] };
        let lists =
            |strips: Axes<Strips<'_>>| strips.map(|strips| strips.iter().map(<[usize]>::to_vec).collect::<Vec<_>>());
        let none = StripLimits { max: 1000, period: 1 };
        let anything = Axes { rows: none, columns: none };
        for limit in [1, 2, 7, 64, 300, 1000] {
            let fits = |strips: &Axes<Strips<'_>>| lists(*strips).map(|strips| strips[0].len()).product() <= limit;
            let strips = lists(splits(wanted, 1, anything).find(fits).expect("single patches fit"));
            assert_eq!(strips.rows.concat(), rows);
            assert_eq!(strips.columns.concat(), columns);
        }
        let last = lists(splits(wanted, 1, anything).last().expect("there is one"));
        assert_eq!(last.map(|strips| strips.len()), Axes { rows: 37, columns: 17 });
    }

    /// Strips end where they would reach too far: patches on both sides of a gap are not evaluated together.
    #[test]
    fn strips_do_not_reach_over_gaps() {
        let strips = |len, max| {
            Strips::new(&[0, 1, 2, 50, 51, 60], len, StripLimits { max, period: 1 }).iter().collect::<Vec<_>>()
        };
        assert_eq!(strips(6, 10), [&[0, 1, 2][..], &[50, 51], &[60]]);
        assert_eq!(strips(2, 100), [[0, 1], [2, 50], [51, 60]]);
        assert_eq!(strips(6, 1).len(), 6);
    }

    #[test]
    fn phases_have_strips_of_their_own() {
        let wanted = interleaved(&[0, 1, 2, 3, 5, 7, 8, 9], 2).unwrap();
        let strips = |len, max| Strips::new(&wanted, len, StripLimits { max, period: 1 }).iter().collect::<Vec<_>>();
        assert_eq!(strips(9, 100), [&[0, 2, 8][..], &[1, 3, 5, 7, 9]]);
        assert_eq!(strips(2, 100), [&[0, 2][..], &[8], &[1, 3], &[5, 7], &[9]]);
        assert_eq!(strips(9, 5), [&[0, 2][..], &[8], &[1, 3, 5], &[7, 9]]);
    }

    /// Many strips begin with a period each; few are as long as they may be.
    #[test]
    fn many_strips_have_one_plan() {
        let wanted: Vec<usize> = (0..1000).collect();
        let longest = |len, period| Strips::new(&wanted, len, StripLimits { max: 1000, period }).longest();
        assert_eq!((longest(100, 12), longest(125, 12), longest(126, 12), longest(95, 12)), (96, 120, 126, 95));
    }
}
