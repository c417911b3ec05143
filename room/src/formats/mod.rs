//! Tables as files: JSON, CSV, Parquet and Arrow, written batch by batch; and event files of TensorBoard.

mod events;
pub mod tables;

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, RecordBatch};
use arrow_ipc::writer::FileWriter;
use arrow_schema::{DataType, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

pub use events::EventFile;

/// What a table is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// An array of objects; what is not finite is null.
    Json,
    /// With a line of headings; what is not finite is `NaN`, `inf` or `-inf`.
    Csv,
    /// With snappy.
    Parquet,
    /// The file format of Arrow's IPC, which is Feather 2 too.
    Arrow,
}

impl Format {
    /// The type of its content.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Csv => "text/csv; charset=utf-8",
            Self::Parquet => "application/vnd.apache.parquet",
            Self::Arrow => "application/vnd.apache.arrow.file",
        }
    }

    /// How the names of its files end.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Parquet => "parquet",
            Self::Arrow => "arrow",
        }
    }
}

/// Bytes that a writer wrote and nobody has taken yet.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Writes a table; gives the bytes of what was written so far.
pub struct TableWriter {
    sink: Sink,
    kind: Kind,
}

enum Kind {
    Json { first: bool },
    Csv(Box<csv::Writer<Sink>>),
    Parquet(Box<ArrowWriter<Sink>>),
    Arrow(Box<FileWriter<Sink>>),
}

impl TableWriter {
    /// A table of these columns.
    ///
    /// # Errors
    /// Where the format has no place for one.
    pub fn new(format: Format, schema: &SchemaRef) -> std::io::Result<Self> {
        let sink = Sink::default();
        let kind = match format {
            Format::Json => Kind::Json { first: true },
            Format::Csv => {
                let mut writer = csv::Writer::from_writer(sink.clone());
                writer.write_record(schema.fields().iter().map(|field| field.name()))?;
                Kind::Csv(Box::new(writer))
            }
            Format::Parquet => {
                let properties = WriterProperties::builder()
                    .set_compression(Compression::SNAPPY)
                    .set_max_row_group_row_count(Some(1 << 17))
                    .build();
                let writer =
                    ArrowWriter::try_new(sink.clone(), Arc::clone(schema), Some(properties));
                Kind::Parquet(Box::new(writer.map_err(std::io::Error::other)?))
            }
            Format::Arrow => {
                let writer = FileWriter::try_new(sink.clone(), schema);
                Kind::Arrow(Box::new(writer.map_err(std::io::Error::other)?))
            }
        };
        Ok(Self { sink, kind })
    }

    /// Adds rows.
    ///
    /// # Errors
    /// Where they are of other columns.
    pub fn write(&mut self, batch: &RecordBatch) -> std::io::Result<Vec<u8>> {
        match &mut self.kind {
            Kind::Json { first } => {
                let mut text = Vec::new();
                for row in 0..batch.num_rows() {
                    text.extend_from_slice(if *first { b"[\n" } else { b",\n" });
                    *first = false;
                    let names =
                        batch.schema_ref().fields().iter().map(|field| field.name().clone());
                    let values = batch.columns().iter().map(|column| json(column, row));
                    let object: serde_json::Map<_, _> = names.zip(values).collect();
                    serde_json::to_writer(&mut text, &object)?;
                }
                return Ok(text);
            }
            Kind::Csv(writer) => {
                for row in 0..batch.num_rows() {
                    writer.write_record(batch.columns().iter().map(|column| text(column, row)))?;
                }
                writer.flush()?;
            }
            Kind::Parquet(writer) => writer.write(batch).map_err(std::io::Error::other)?,
            Kind::Arrow(writer) => writer.write(batch).map_err(std::io::Error::other)?,
        }
        Ok(self.sink.take())
    }

    /// The end of the file.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn finish(self) -> std::io::Result<Vec<u8>> {
        match self.kind {
            Kind::Json { first: true } => return Ok(b"[]\n".to_vec()),
            Kind::Json { first: false } => return Ok(b"\n]\n".to_vec()),
            Kind::Csv(mut writer) => writer.flush()?,
            Kind::Parquet(writer) => {
                writer.close().map_err(std::io::Error::other)?;
            }
            Kind::Arrow(mut writer) => writer.finish().map_err(std::io::Error::other)?,
        }
        Ok(self.sink.take())
    }
}

fn json(column: &dyn Array, row: usize) -> serde_json::Value {
    match column.data_type() {
        _ if column.is_null(row) => serde_json::Value::Null,
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).into(),
        DataType::Float64 => column.as_primitive::<Float64Type>().value(row).into(),
        _ => column.as_string::<i32>().value(row).into(),
    }
}

/// A text that a spreadsheet would take for a formula begins with an apostrophe.
fn text(column: &dyn Array, row: usize) -> String {
    match column.data_type() {
        _ if column.is_null(row) => String::new(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Float64 => column.as_primitive::<Float64Type>().value(row).to_string(),
        _ => {
            let text = column.as_string::<i32>().value(row);
            match text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
                true => format!("'{text}"),
                false => text.to_owned(),
            }
        }
    }
}
