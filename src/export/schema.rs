//! What a table is: named columns of one kind each, filled batch by batch.

use super::ExportError;
use std::collections::BTreeSet;
use std::fmt;

/// What a column holds. Every column may have nulls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnKind {
    Text,
    Float,
    Integer,
    Boolean,
}

impl fmt::Display for ColumnKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ColumnKind::Text => "text",
            ColumnKind::Float => "floats",
            ColumnKind::Integer => "integers",
            ColumnKind::Boolean => "booleans",
        })
    }
}

/// The columns of a table, in the order in which they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema(Vec<(String, ColumnKind)>);

/// The values of one column in one batch.
#[derive(Debug, Clone, PartialEq)]
pub enum Column {
    Text(Vec<Option<String>>),
    /// Finite numbers; NaN is none.
    Float(Vec<f64>),
    Integer(Vec<Option<i64>>),
    Boolean(Vec<Option<bool>>),
}

impl Schema {
    pub fn new(columns: impl IntoIterator<Item = (impl Into<String>, ColumnKind)>) -> Schema {
        Schema(columns.into_iter().map(|(name, kind)| (name.into(), kind)).collect())
    }

    /// The columns, in order.
    pub fn columns(&self) -> &[(String, ColumnKind)] {
        &self.0
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// # Errors
    /// [`ExportError::DuplicateColumn`], because no reader could tell the two apart.
    pub(super) fn check_names(&self) -> Result<(), ExportError> {
        let mut seen = BTreeSet::new();
        match self.names().find(|name| !seen.insert(*name)) {
            None => Ok(()),
            Some(column) => Err(ExportError::DuplicateColumn { column: column.to_owned() }),
        }
    }

    /// The number of rows of a batch that fits this schema.
    ///
    /// # Errors
    /// The variant of [`ExportError`] that says how it does not fit.
    pub(super) fn check_batch(&self, batch: &[Column]) -> Result<usize, ExportError> {
        let (got, need) = (batch.len(), self.0.len());
        if got != need {
            return Err(ExportError::ColumnCount { got, need });
        }
        let n_rows = batch.first().map_or(0, Column::n_rows);
        for ((name, kind), column) in self.0.iter().zip(batch) {
            let name = || name.clone();
            let (got, need) = (column.kind(), *kind);
            if got != need {
                return Err(ExportError::ColumnKind { column: name(), got, need });
            }
            let (got, need) = (column.n_rows(), n_rows);
            if got != need {
                return Err(ExportError::ColumnLength { column: name(), got, need });
            }
            if let Some(row) = column.first_not_finite() {
                return Err(ExportError::NotFinite { column: name(), row });
            }
        }
        Ok(n_rows)
    }
}

impl Column {
    /// How many values it has.
    pub fn n_rows(&self) -> usize {
        match self {
            Column::Text(values) => values.len(),
            Column::Float(values) => values.len(),
            Column::Integer(values) => values.len(),
            Column::Boolean(values) => values.len(),
        }
    }

    pub fn kind(&self) -> ColumnKind {
        match self {
            Column::Text(_) => ColumnKind::Text,
            Column::Float(_) => ColumnKind::Float,
            Column::Integer(_) => ColumnKind::Integer,
            Column::Boolean(_) => ColumnKind::Boolean,
        }
    }

    fn first_not_finite(&self) -> Option<usize> {
        match self {
            Column::Float(values) => values.iter().position(|number| number.is_infinite()),
            Column::Text(_) | Column::Integer(_) | Column::Boolean(_) => None,
        }
    }
}

/// A value of a column of floats.
pub(super) fn number(value: f64) -> Option<f64> {
    Some(value).filter(|value| !value.is_nan())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Schema {
        Schema::new([("id", ColumnKind::Text), ("ltv", ColumnKind::Float)])
    }

    fn id(n_rows: usize) -> Column {
        Column::Text(vec![None; n_rows])
    }

    #[test]
    fn a_batch_that_fits_is_counted() {
        let batch = [id(2), Column::Float(vec![1.0, f64::NAN])];
        assert_eq!(schema().check_batch(&batch).unwrap(), 2);
    }

    #[test]
    fn a_batch_that_does_not_fit_is_refused_by_name() {
        let check = |batch: &[Column]| schema().check_batch(batch).unwrap_err();
        assert!(matches!(check(&[id(1)]), ExportError::ColumnCount { got: 1, need: 2 }));
        let error = check(&[id(1), Column::Integer(vec![Some(1)])]);
        assert_eq!(
            error.to_string(),
            "a batch has integers in the column `ltv`, which holds floats"
        );
        let error = check(&[id(1), Column::Float(vec![])]);
        assert!(matches!(error, ExportError::ColumnLength { got: 0, need: 1, .. }));
        let error = check(&[id(2), Column::Float(vec![1.0, f64::INFINITY])]);
        assert!(matches!(error, ExportError::NotFinite { row: 1, .. }));
    }

    #[test]
    fn two_columns_of_one_name_are_refused() {
        let twice = Schema::new([("id", ColumnKind::Text), ("id", ColumnKind::Float)]);
        assert!(matches!(
            twice.check_names(),
            Err(ExportError::DuplicateColumn { column }) if column == "id"
        ));
        assert!(schema().check_names().is_ok());
    }
}
