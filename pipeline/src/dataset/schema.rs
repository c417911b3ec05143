//! The columns of a shard and how Parquet is to write them, after the convention by which Hugging
//! Face `datasets` knows images. An image column is uncompressed, plain, without dictionary,
//! statistics and bloom filter, one image a data page; small columns have pages of [`PAGE_ROWS`]
//! rows. Hugging Face takes a column for images only if its fields may be null: they may, and never
//! are.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef};
use parquet::basic::Compression;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use serde_json::{Map, Value, json};

/// Rows in a page of a small column.
pub(crate) const PAGE_ROWS: usize = 64;

/// `struct<bytes: binary, path: string>`.
pub(crate) fn image_fields() -> Fields {
    Fields::from(vec![
        Field::new("bytes", DataType::Binary, true),
        Field::new("path", DataType::Utf8, true),
    ])
}

/// Type of a column for the schema and for Hugging Face.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An image file.
    Image,
    /// Index of a class.
    Label,
    /// UTF-8.
    Text,
    /// A signed number of 32 bits.
    Int32,
    /// An unsigned number of 64 bits.
    Uint64,
}

/// The columns of a dataset of photographs.
pub(crate) const IMAGES: [(&str, Kind); 10] = [
    ("image", Kind::Image),
    ("label", Kind::Label),
    ("key", Kind::Text),
    ("sha256", Kind::Text),
    ("width", Kind::Int32),
    ("height", Kind::Int32),
    ("format", Kind::Text),
    ("source", Kind::Text),
    ("orientation", Kind::Int32),
    ("source_sha256", Kind::Text),
];

/// The Arrow schema of these columns. It carries the `huggingface` metadata too: some readers take it
/// from here, others from the file.
pub(crate) fn schema(columns: &[(&str, Kind)], classes: &[String]) -> SchemaRef {
    let fields: Vec<_> = columns
        .iter()
        .map(|(name, kind)| {
            let data = match kind {
                Kind::Image => DataType::Struct(image_fields()),
                Kind::Text => DataType::Utf8,
                Kind::Int32 => DataType::Int32,
                Kind::Label => DataType::Int64,
                Kind::Uint64 => DataType::UInt64,
            };
            Field::new(*name, data, true)
        })
        .collect();
    let metadata = [("huggingface".to_owned(), features(columns, classes).to_string())];
    Arc::new(Schema::new_with_metadata(fields, metadata))
}

/// How Parquet writes these columns; `classes` are the names behind a label.
pub(crate) fn properties(columns: &[(&str, Kind)], classes: &[String]) -> WriterProperties {
    let mut properties = WriterProperties::builder()
        .set_write_batch_size(1)
        .set_dictionary_enabled(false)
        .set_compression(Compression::SNAPPY)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_bloom_filter_enabled(false)
        .set_data_page_size_limit(1 << 20)
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_max_row_group_row_count(None)
        .set_key_value_metadata(Some(vec![KeyValue::new(
            "huggingface".to_owned(),
            features(columns, classes).to_string(),
        )]));
    for (name, _) in columns.iter().filter(|(_, kind)| *kind == Kind::Image) {
        let bytes = ColumnPath::new(vec![(*name).to_owned(), "bytes".to_owned()]);
        properties = properties
            .set_column_compression(bytes.clone(), Compression::UNCOMPRESSED)
            .set_column_data_page_row_count_limit(bytes.clone(), 1)
            .set_column_data_page_size_limit(bytes, 1);
    }
    properties.build()
}

/// The `huggingface` metadata: features and class names.
fn features(columns: &[(&str, Kind)], classes: &[String]) -> Value {
    let value = |dtype: &str| json!({ "dtype": dtype, "_type": "Value" });
    let features: Map<_, _> = columns
        .iter()
        .map(|(name, kind)| {
            let feature = match kind {
                Kind::Image => json!({ "_type": "Image" }),
                Kind::Label if !classes.is_empty() => {
                    json!({ "names": classes, "_type": "ClassLabel" })
                }
                Kind::Label => value("int64"),
                Kind::Text => value("string"),
                Kind::Int32 => value("int32"),
                Kind::Uint64 => value("uint64"),
            };
            ((*name).to_owned(), feature)
        })
        .collect();
    json!({ "info": { "features": features } })
}
