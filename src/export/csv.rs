//! Comma-separated values with a header.
//!
//! A null is an empty field, as is an empty text: this format cannot tell them apart. Floats are
//! written with the fewest digits that read back as the same number, never with an exponent, and
//! booleans as `true` and `false`.

use super::schema::number;
use super::{Column, Schema};
use ::csv::{Writer, WriterBuilder};
use std::fmt::{Display, Write};
use std::fs::File;
use std::io;

const BUFFER_BYTES: usize = 1 << 16;

pub(super) struct CsvTable {
    writer: Writer<File>,
    /// Where numbers and booleans are spelled, kept so that a cell costs no allocation.
    scratch: String,
}

impl CsvTable {
    pub(super) fn start(file: File, schema: &Schema) -> io::Result<CsvTable> {
        let mut writer = WriterBuilder::new().buffer_capacity(BUFFER_BYTES).from_writer(file);
        writer.write_record(schema.names())?;
        Ok(CsvTable { writer, scratch: String::new() })
    }

    pub(super) fn write(&mut self, batch: &[Column], n_rows: usize) -> io::Result<()> {
        for row in 0..n_rows {
            for column in batch {
                let field = match column {
                    Column::Text(values) => values[row].as_deref().unwrap_or_default(),
                    Column::Float(values) => spelled(number(values[row]), &mut self.scratch),
                    Column::Integer(values) => spelled(values[row], &mut self.scratch),
                    Column::Boolean(values) => spelled(values[row], &mut self.scratch),
                };
                self.writer.write_field(field)?;
            }
            // The fields are there already; this ends their record.
            self.writer.write_record(None::<&[u8]>)?;
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// A value in the shortest spelling that reads back as the same one.
fn spelled(value: Option<impl Display>, scratch: &mut String) -> &str {
    scratch.clear();
    if let Some(value) = value {
        // Writing into a string cannot fail.
        let _ = write!(scratch, "{value}");
    }
    scratch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_back_as_themselves() {
        let mut scratch = String::new();
        for number in [0.1, 1.0 / 3.0, 1e21, 5e-324, f64::MAX, -0.0, 12.0] {
            let text = spelled(Some(number), &mut scratch);
            assert_eq!(text.parse::<f64>().unwrap().to_bits(), number.to_bits(), "{text}");
        }
        assert_eq!(spelled(Some(i64::MIN), &mut scratch), "-9223372036854775808");
        assert_eq!(spelled(None::<f64>, &mut scratch), "");
    }
}
