//! One JSON object per line, its keys in the order of the schema, `null` for null.

use super::schema::number;
use super::{Column, Schema};
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::fs::File;
use std::io::{self, BufWriter, Write};

pub(super) struct NdjsonTable {
    output: BufWriter<File>,
}

impl NdjsonTable {
    pub(super) fn start(file: File) -> NdjsonTable {
        NdjsonTable { output: BufWriter::new(file) }
    }

    pub(super) fn write(
        &mut self,
        schema: &Schema,
        batch: &[Column],
        n_rows: usize,
    ) -> io::Result<()> {
        for row in 0..n_rows {
            serde_json::to_writer(&mut self.output, &Row { schema, batch, row })?;
            self.output.write_all(b"\n")?;
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// One row as an object. Going through a map of values would sort the keys and copy the texts.
struct Row<'a> {
    schema: &'a Schema,
    batch: &'a [Column],
    row: usize,
}

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(Some(self.batch.len()))?;
        for (name, column) in self.schema.names().zip(self.batch) {
            match column {
                Column::Text(values) => object.serialize_entry(name, &values[self.row])?,
                Column::Float(values) => object.serialize_entry(name, &number(values[self.row]))?,
                Column::Integer(values) => object.serialize_entry(name, &values[self.row])?,
                Column::Boolean(values) => object.serialize_entry(name, &values[self.row])?,
            }
        }
        object.end()
    }
}
