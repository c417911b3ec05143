//! Which columns of a parquet file hold images, labels and keys: by the `huggingface` metadata, else
//! by their types and names; and the values of a row in whichever Arrow type they have.

use std::fs::File;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

const IMAGES: [&str; 7] = ["image", "img", "jpg", "jpeg", "png", "webp", "bytes"];
const LABELS: [&str; 3] = ["label", "labels", "cls"];

/// Places of the columns among the roots of the schema.
pub(super) struct Columns {
    image: usize,
    pub(super) label: Option<usize>,
    key: Option<usize>,
    /// Class names of the label column, index = label.
    pub(super) classes: Option<Vec<String>>,
}

impl Columns {
    /// Finds the columns.
    ///
    /// # Errors
    /// Without a column of images, and with several of which none is called as one usually is.
    pub(super) fn of(builder: &ParquetRecordBatchReaderBuilder<File>) -> Result<Self, String> {
        let fields: Vec<&Field> = builder.schema().fields().iter().map(AsRef::as_ref).collect();
        let metadata = builder.metadata().file_metadata().key_value_metadata();
        let features = metadata
            .and_then(|pairs| pairs.iter().find(|pair| pair.key == "huggingface"))
            .and_then(|pair| serde_json::from_str::<Value>(pair.value.as_deref()?).ok())
            .map(|value| value["info"]["features"].clone())
            .unwrap_or_default();
        let is = |field: &Field, kind: &str| features[field.name()]["_type"] == kind;
        let image = one(&fields, &IMAGES, |field| is(field, "Image") && is_image(field))
            .or_else(|| one(&fields, &IMAGES, is_image_struct))
            .or_else(|| named(&fields, &IMAGES, |field| is_binary(field.data_type())))
            .ok_or_else(|| {
                let names: Vec<_> = fields.iter().map(|field| field.name().as_str()).collect();
                format!(
                    "has no column of images, or several of which none is called {}; its columns \
                     are {}",
                    IMAGES.join(", "),
                    names.join(", ")
                )
            })?;
        let is_integer = |field: &Field| field.data_type().is_integer();
        let label = one(&fields, &LABELS, |field| is(field, "ClassLabel") && is_integer(field))
            .or_else(|| named(&fields, &LABELS, is_integer));
        let key = named(&fields, &["key"], |field| is_text(field.data_type()));
        let classes = label.and_then(|label| {
            let names = features[fields[label].name()]["names"].as_array()?;
            names.iter().map(|name| name.as_str().map(str::to_owned)).collect()
        });
        Ok(Self { image, label, key, classes })
    }

    /// The columns that rows are made of.
    pub(super) fn all(&self) -> Vec<usize> {
        [Some(self.image), self.label, self.key].into_iter().flatten().collect()
    }

    /// The rows of a batch of these columns; a projection keeps the order of the schema.
    pub(super) fn rows<'a>(&self, batch: &'a RecordBatch) -> Result<Rows<'a>, String> {
        let mut order = self.all();
        order.sort_unstable();
        let column = |root: usize| {
            let place = order.iter().position(|&other| other == root);
            place.and_then(|place| batch.columns().get(place))
        };
        let image = column(self.image).ok_or("has no column of images")?;
        let label = self.label.and_then(column);
        Ok(Rows { image, label, key: self.key.and_then(column) })
    }
}

/// The field that `is` holds for; of several the one that has the first of the names.
fn one(fields: &[&Field], names: &[&str], is: impl Fn(&Field) -> bool) -> Option<usize> {
    let mut all = (0..fields.len()).filter(|&place| is(fields[place]));
    match (all.next(), all.next()) {
        (Some(only), None) => Some(only),
        (None, _) => None,
        _ => named(fields, names, is),
    }
}

/// The field with the first of the names that has one for which `is` holds.
fn named(fields: &[&Field], names: &[&str], is: impl Fn(&Field) -> bool) -> Option<usize> {
    names.iter().find_map(|name| fields.iter().position(|field| field.name() == name && is(field)))
}

fn is_binary(data: &DataType) -> bool {
    matches!(data, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
}

fn is_text(data: &DataType) -> bool {
    matches!(data, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// `struct<bytes: binary, …>`.
fn is_image_struct(field: &Field) -> bool {
    let DataType::Struct(inner) = field.data_type() else { return false };
    inner.find("bytes").is_some_and(|(_, bytes)| is_binary(bytes.data_type()))
}

fn is_image(field: &Field) -> bool {
    is_image_struct(field) || is_binary(field.data_type())
}

/// The rows of one batch.
pub(super) struct Rows<'a> {
    image: &'a ArrayRef,
    label: Option<&'a ArrayRef>,
    key: Option<&'a ArrayRef>,
}

impl<'a> Rows<'a> {
    pub(super) fn bytes(&self, row: usize) -> Option<&'a [u8]> {
        let Some(image) = self.image.as_struct_opt() else { return bytes(self.image, row) };
        image.is_valid(row).then(|| bytes(image.column_by_name("bytes")?, row))?
    }

    pub(super) fn path(&self, row: usize) -> Option<&'a str> {
        let image = self.image.as_struct_opt()?;
        image.is_valid(row).then(|| text(image.column_by_name("path")?, row))?
    }

    pub(super) fn label(&self, row: usize) -> Option<usize> {
        label(self.label?, row)
    }

    pub(super) fn key(&self, row: usize) -> Option<&'a str> {
        text(self.key?, row)
    }
}

fn bytes(column: &ArrayRef, row: usize) -> Option<&[u8]> {
    if !column.is_valid(row) {
        return None;
    }
    match column.data_type() {
        DataType::Binary => Some(column.as_binary_opt::<i32>()?.value(row)),
        DataType::LargeBinary => Some(column.as_binary_opt::<i64>()?.value(row)),
        _ => Some(column.as_binary_view_opt()?.value(row)),
    }
}

fn text(column: &ArrayRef, row: usize) -> Option<&str> {
    if !column.is_valid(row) {
        return None;
    }
    match column.data_type() {
        DataType::Utf8 => Some(column.as_string_opt::<i32>()?.value(row)),
        DataType::LargeUtf8 => Some(column.as_string_opt::<i64>()?.value(row)),
        _ => Some(column.as_string_view_opt()?.value(row)),
    }
}

/// A label; null and negative ones are none, as Hugging Face has it.
pub(super) fn label(column: &ArrayRef, row: usize) -> Option<usize> {
    fn value<T: ArrowPrimitiveType>(column: &ArrayRef, row: usize) -> Option<usize>
    where
        T::Native: TryInto<usize>,
    {
        column.as_primitive_opt::<T>()?.value(row).try_into().ok()
    }
    if !column.is_valid(row) {
        return None;
    }
    match column.data_type() {
        DataType::Int8 => value::<Int8Type>(column, row),
        DataType::Int16 => value::<Int16Type>(column, row),
        DataType::Int32 => value::<Int32Type>(column, row),
        DataType::Int64 => value::<Int64Type>(column, row),
        DataType::UInt8 => value::<UInt8Type>(column, row),
        DataType::UInt16 => value::<UInt16Type>(column, row),
        DataType::UInt32 => value::<UInt32Type>(column, row),
        DataType::UInt64 => value::<UInt64Type>(column, row),
        _ => None,
    }
}
