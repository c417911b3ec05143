//! Labels of parquet files as they come from the field.

use std::sync::Arc;

use arrow_array::types::Int8Type;
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, DictionaryArray, Float32Array, Float64Array,
    RecordBatch, StringArray, UInt8Array,
};
use arrow_schema::{DataType, Field, Schema};

use super::*;

/// A parquet file of four images and this column.
fn parquet_of(at: &Path, name: &str, column: &str, labels: ArrayRef) -> PathBuf {
    let images: BinaryArray = (0..labels.len() as u64).map(|row| Some(image(row))).collect();
    let fields = vec![
        Field::new("image", DataType::Binary, true),
        Field::new(column, labels.data_type().clone(), true),
    ];
    let schema = Arc::new(Schema::new(fields));
    let columns: Vec<ArrayRef> = vec![Arc::new(images), labels];
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
    let path = at.join(name);
    let file = fs::File::create(&path).unwrap();
    let mut writer = ::parquet::arrow::ArrowWriter::try_new(file, schema, None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    path
}

#[test]
fn labels_of_parquet_are_of_many_types_or_named() {
    let at = tempfile::tempdir().unwrap();
    let text = || StringArray::from(vec![Some("dog"), Some("cat"), None, Some("cat")]);
    let categories: DictionaryArray<Int8Type> =
        vec![Some("dog"), Some("cat"), None, Some("cat")].into_iter().collect();
    type Case<'a> = (&'a str, ArrayRef, &'a [&'a str], [Option<&'a str>; 4]);
    let cases: [Case; 5] = [
        ("label", Arc::new(text()), &["cat", "dog"], [Some("dog"), Some("cat"), None, Some("cat")]),
        (
            "Label",
            Arc::new(categories),
            &["cat", "dog"],
            [Some("dog"), Some("cat"), None, Some("cat")],
        ),
        (
            "labels",
            Arc::new(Float32Array::from(vec![2.0, 0.0, f32::NAN, -1.0])),
            &["0", "1", "2"],
            [Some("2"), Some("0"), None, None],
        ),
        (
            "label",
            Arc::new(BooleanArray::from(vec![true, false, true, true])),
            &["false", "true"],
            [Some("true"), Some("false"), Some("true"), Some("true")],
        ),
        (
            "cls",
            Arc::new(UInt8Array::from(vec![1, 0, 1, 0])),
            &["0", "1"],
            [Some("1"), Some("0"), Some("1"), Some("0")],
        ),
    ];
    for (column, labels, classes, expected) in cases {
        let source = parquet_of(at.path(), "a.parquet", column, labels);
        let read = ingested(&source);
        assert_eq!(read.classes, classes, "{column}");
        let found: Vec<_> = read.rows.iter().map(|(_, class)| class.as_deref()).collect();
        assert_eq!(found, expected, "{column}");
    }
    // Another name: named, and read where it is asked for; an error where a list wants labels.
    let source = parquet_of(at.path(), "b.parquet", "fine_label", Arc::new(text()));
    let without = ingested(&source);
    assert!(without.classes.is_empty());
    assert!(without.notes().contains("passed over is `fine_label`, see --label-column"));
    let with = tried(&source, |o| o.label_column = Some("Fine_Label".into())).unwrap();
    assert_eq!(with.class("b/1"), Some("cat"));
    assert_eq!(with.unlabelled, 1);
    let none = tried(&source, |o| o.label_column = Some("coarse".into())).err().unwrap();
    assert!(none.contains("has no column `coarse`; its columns are image, fine_label"), "{none}");
    let list = write(at.path(), "classes.txt", "cat\ndog\n");
    let listed = tried(&source, |o| o.classes = Some(list)).err().unwrap();
    assert!(listed.contains("`fine_label`; name one by --label-column"), "{listed}");
    // Numbers that are not whole are no labels.
    let halves = Arc::new(Float64Array::from(vec![0.5, 1.0]));
    let source = parquet_of(at.path(), "c.parquet", "label", halves);
    let read = ingested(&source);
    assert!(read.rows.iter().all(|(_, class)| class.is_none()) && read.classes.is_empty());
    assert!(read.notes().contains("not whole numbers, the first 0.5"), "{}", read.notes());
    let asked = tried(&source, |o| o.label_column = Some("label".into())).err().unwrap();
    assert!(asked.contains("not whole numbers"), "{asked}");
    // Files of a set that are named by themselves are what is meant.
    let source = parquet_of(at.path(), "train-00001-of-00003.parquet", "label", Arc::new(text()));
    assert_eq!(ingested(&source).rows.len(), 4);
    // What is no parquet file is called what it is.
    let page = write(at.path(), "d.parquet", "<html>403</html>");
    assert!(refused(&page).contains("is no parquet file but a web page"), "{}", refused(&page));
}

#[test]
fn odd_parquet_files_have_their_labels_or_say_why_not() {
    let Some(parquet) = odd("parquet") else { return };
    let text = ingested(&parquet.join("string_label.parquet"));
    assert!(text.rows.iter().all(|(_, class)| class.is_some()), "{:?}", text.rows);
    let float = ingested(&parquet.join("float_label.parquet"));
    assert!(float.rows.iter().all(|(_, class)| class.is_some()), "{:?}", float.notes);
    let upper = ingested(&parquet.join("uppercase_cols.parquet"));
    assert!(upper.rows.iter().all(|(_, class)| class.is_some()), "{:?}", upper.notes);
    let names = ingested(&parquet.join("hf_names_dict.parquet"));
    assert!(names.classes.iter().all(|name| name.parse::<u32>().is_err()), "{:?}", names.classes);
    let message = refused(&parquet.join("c_brotli.parquet"));
    assert!(message.contains("compressed by brotli, which is not read"), "{message}");
    let message = refused(&parquet.join("partial"));
    assert!(message.contains("train-00002-of-00003.parquet is missing"), "{message}");
}
