//! Which columns of a parquet file hold images, labels and keys: by the `huggingface` metadata, else
//! by their types and names; and the values of a row in whichever Arrow type they have.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field};
use parquet::basic::Compression;
use serde_json::Value;

use super::Builder;
use crate::ingest::layout::classes::MAX_CLASSES;

const IMAGES: [&str; 7] = ["image", "img", "jpg", "jpeg", "png", "webp", "bytes"];
const LABELS: [&str; 3] = ["label", "labels", "cls"];
/// Words in the names of columns that may be labels.
const LABEL_WORDS: [&str; 5] = ["label", "class", "category", "target", "cls"];

/// Places of the columns among the roots of the schema.
pub(super) struct Columns {
    image: usize,
    pub(super) label: Option<usize>,
    key: Option<usize>,
    /// Class names of the label column, index = label.
    pub(super) classes: Option<Vec<String>>,
    /// Columns that might be labels and are not read as such.
    pub(super) passed_over: Vec<String>,
}

impl Columns {
    /// Finds the columns.
    ///
    /// # Errors
    /// Without a column of images, and with several of which none is called as one usually is.
    pub(super) fn of(builder: &Builder, wanted: Option<&str>) -> Result<Self, String> {
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
        let key = named(&fields, &["key"], |field| is_text(field.data_type()));
        let label = match wanted {
            Some(wanted) => {
                let columns = || fields.iter().map(|field| field.name().as_str());
                let place = columns().position(|name| name == wanted);
                let alike = || columns().position(|name| name.eq_ignore_ascii_case(wanted));
                let place = place.or_else(alike).ok_or_else(|| {
                    let columns: Vec<_> = columns().collect();
                    format!("has no column `{wanted}`; its columns are {}", columns.join(", "))
                })?;
                if !is_label(fields[place].data_type()) {
                    return Err(format!(
                        "its column `{wanted}` is of the type {}, which is not read as labels",
                        fields[place].data_type()
                    ));
                }
                Some(place)
            }
            None => one(&fields, &LABELS, |field| is(field, "ClassLabel") && is_integer(field))
                .or_else(|| named(&fields, &LABELS, |field| is_label(field.data_type()))),
        };
        let classes = label.and_then(|label| match fields[label].data_type() {
            DataType::Boolean => Some(vec!["false".to_owned(), "true".to_owned()]),
            data if data.is_integer() => class_names(&features[fields[label].name()]["names"]),
            _ => None,
        });
        let passed_over = (0..fields.len())
            .filter(|place| ![Some(image), label, key].contains(&Some(*place)))
            .filter(|&place| {
                let (name, data) = (fields[place].name().to_lowercase(), fields[place].data_type());
                let words = LABEL_WORDS.iter().any(|word| name.contains(word));
                wanted.is_none() && (words || is_label(data) && label.is_none())
            })
            .map(|place| fields[place].name().clone())
            .collect();
        Ok(Self { image, label, key, classes, passed_over })
    }

    /// Reads no labels.
    pub(super) fn drop_label(&mut self) {
        (self.label, self.classes) = (None, None);
    }

    /// An error where a column that is needed is compressed as nothing here reads it.
    pub(super) fn check_compression(&self, builder: &Builder) -> Result<(), String> {
        let schema = builder.parquet_schema();
        for group in builder.metadata().row_groups() {
            for (leaf, column) in group.columns().iter().enumerate() {
                let name = match column.compression() {
                    _ if !self.all().contains(&schema.get_column_root_idx(leaf)) => continue,
                    Compression::BROTLI(_) => "brotli",
                    Compression::LZO => "LZO",
                    _ => continue,
                };
                return Err(format!(
                    "is compressed by {name}, which is not read; write it again with zstd, snappy \
                     or gzip"
                ));
            }
        }
        Ok(())
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

/// The field with the first of the names, in any case, that has one for which `is` holds.
fn named(fields: &[&Field], names: &[&str], is: impl Fn(&Field) -> bool) -> Option<usize> {
    let find = |same: fn(&str, &str) -> bool| {
        names
            .iter()
            .find_map(|name| fields.iter().position(|field| same(field.name(), name) && is(field)))
    };
    find(|a, b| a == b).or_else(|| find(|a, b| a.eq_ignore_ascii_case(b)))
}

/// The names of a `ClassLabel`: a list, or an object of numbers from 0 on; a number that is left out is
/// its own name, so that the others keep theirs.
fn class_names(names: &Value) -> Option<Vec<String>> {
    match names {
        Value::Array(names) => names.iter().map(|name| name.as_str().map(str::to_owned)).collect(),
        Value::Object(names) => {
            let numbers =
                names.keys().map(|number| number.parse().ok().filter(|n| *n < MAX_CLASSES));
            let last = numbers.collect::<Option<Vec<usize>>>()?.into_iter().max()?;
            let name = |number: usize| {
                let number = number.to_string();
                names.get(&number).map_or(Some(number), |name| name.as_str().map(str::to_owned))
            };
            (0..=last).map(name).collect()
        }
        _ => None,
    }
}

/// Types that labels are read of.
fn is_label(data: &DataType) -> bool {
    match data {
        DataType::Dictionary(_, values) => is_label(values),
        DataType::Boolean | DataType::Float16 | DataType::Float32 | DataType::Float64 => true,
        data => data.is_integer() || is_text(data),
    }
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

    pub(super) fn label(&self, row: usize) -> Label<'a> {
        self.label.map_or(Label::None, |column| label(column.as_ref(), row))
    }

    pub(super) fn key(&self, row: usize) -> Option<&'a str> {
        text(self.key?, row)
    }
}

fn bytes(column: &dyn Array, row: usize) -> Option<&[u8]> {
    if !column.is_valid(row) {
        return None;
    }
    match column.data_type() {
        DataType::Binary => Some(column.as_binary_opt::<i32>()?.value(row)),
        DataType::LargeBinary => Some(column.as_binary_opt::<i64>()?.value(row)),
        _ => Some(column.as_binary_view_opt()?.value(row)),
    }
}

fn text(column: &dyn Array, row: usize) -> Option<&str> {
    if !column.is_valid(row) {
        return None;
    }
    match column.data_type() {
        DataType::Utf8 => Some(column.as_string_opt::<i32>()?.value(row)),
        DataType::LargeUtf8 => Some(column.as_string_opt::<i64>()?.value(row)),
        _ => Some(column.as_string_view_opt()?.value(row)),
    }
}

/// The label of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Label<'a> {
    /// None: null, negative as Hugging Face has it, not a number, an empty text.
    None,
    Number(usize),
    Text(&'a str),
    /// A number that is not whole.
    Broken(f64),
}

/// The label in a row of a column.
pub(super) fn label(column: &dyn Array, row: usize) -> Label<'_> {
    if !column.is_valid(row) {
        return Label::None;
    }
    let float = |number: Option<f64>| match number {
        Some(number) if number.fract() != 0.0 => match number.is_finite() {
            true => Label::Broken(number),
            false => Label::None,
        },
        // From 2^53 on, floats skip whole numbers.
        Some(number) if (0.0..9e15).contains(&number) => Label::Number(number as usize),
        _ => Label::None,
    };
    match column.data_type() {
        DataType::Dictionary(..) => {
            let Some(dictionary) = column.as_any_dictionary_opt() else { return Label::None };
            match number(dictionary.keys(), row) {
                Some(place) if place < dictionary.values().len() => {
                    label(dictionary.values().as_ref(), place)
                }
                _ => Label::None,
            }
        }
        DataType::Boolean => column
            .as_boolean_opt()
            .map_or(Label::None, |column| Label::Number(usize::from(column.value(row)))),
        DataType::Float16 => {
            float(column.as_primitive_opt::<Float16Type>().map(|column| column.value(row).into()))
        }
        DataType::Float32 => {
            float(column.as_primitive_opt::<Float32Type>().map(|column| column.value(row).into()))
        }
        DataType::Float64 => {
            float(column.as_primitive_opt::<Float64Type>().map(|column| column.value(row)))
        }
        data if is_text(data) => match text(column, row) {
            Some("") | None => Label::None,
            Some(text) => Label::Text(text),
        },
        _ => number(column, row).map_or(Label::None, Label::Number),
    }
}

/// A whole number from 0 on.
fn number(column: &dyn Array, row: usize) -> Option<usize> {
    fn value<T: ArrowPrimitiveType>(column: &dyn Array, row: usize) -> Option<usize>
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
