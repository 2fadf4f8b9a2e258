//! The two axes of a slice, which travel together.

/// One thing for the rows and one for the columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Axes<T> {
    pub rows: T,
    pub columns: T,
}

impl<T> Axes<T> {
    pub fn as_ref(&self) -> Axes<&T> {
        Axes { rows: &self.rows, columns: &self.columns }
    }

    pub fn map<U>(self, mut f: impl FnMut(T) -> U) -> Axes<U> {
        Axes { rows: f(self.rows), columns: f(self.columns) }
    }

    pub fn try_map<U, E>(self, mut f: impl FnMut(T) -> Result<U, E>) -> Result<Axes<U>, E> {
        Ok(Axes { rows: f(self.rows)?, columns: f(self.columns)? })
    }

    pub fn zip<U>(self, other: Axes<U>) -> Axes<(T, U)> {
        Axes { rows: (self.rows, other.rows), columns: (self.columns, other.columns) }
    }
}

impl Axes<usize> {
    pub fn product(self) -> usize {
        self.rows * self.columns
    }
}
