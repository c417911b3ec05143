//! As much of MATLAB's level 5 file format as `meta.mat` of the ImageNet devkit needs: little-endian,
//! a struct array `synsets`, compressed or not, whose fields are numbers and short texts. Sizes are
//! checked before anything is allocated; what is not understood is an error.
//!
//! An element is a tag (type and length, four bytes each; or two each, with up to four bytes of data
//! beside them in the same eight) and data that is padded to eight bytes. A matrix is an element made
//! of elements: flags, dimensions, name, then its contents; a struct array has its field names and
//! then a matrix for each field of each row.

use std::io::Read;

use flate2::read::ZlibDecoder;

const HEADER: usize = 128;
/// Types of elements.
const INT8: u32 = 1;
const UINT8: u32 = 2;
const INT16: u32 = 3;
const UINT16: u32 = 4;
const INT32: u32 = 5;
const UINT32: u32 = 6;
const SINGLE: u32 = 7;
const DOUBLE: u32 = 9;
const MATRIX: u32 = 14;
const COMPRESSED: u32 = 15;
const UTF8: u32 = 16;
const UTF16: u32 = 17;
/// Classes of matrices; numbers are 6 (double) to 15 (uint64).
const STRUCT: u8 = 2;
const CHAR: u8 = 4;
/// Limits: inflated bytes, rows and fields of the array, length of a text that is kept.
const MAX_INFLATED: u64 = 64 << 20;
const MAX_ROWS: usize = 100_000;
const MAX_FIELDS: usize = 64;
const MAX_TEXT: usize = 256;

/// A row of `synsets`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Synset {
    /// `ILSVRC2012_ID`, from 1.
    pub(super) id: u32,
    /// `WNID`, such as n01440764.
    pub(super) wnid: String,
    /// True for the classes of the challenge: no other synset is below them.
    pub(super) is_leaf: bool,
}

type Result<T> = std::result::Result<T, String>;

/// Reads the array `synsets` of a file.
pub(super) fn synsets(file: &[u8]) -> Result<Vec<Synset>> {
    let header = file.get(..HEADER).ok_or("is too short for a MATLAB file")?;
    if header[124..] != [0, 1, b'I', b'M'] {
        return Err("is no little-endian MATLAB 5 file".into());
    }
    let mut rest = &file[HEADER..];
    while !rest.is_empty() {
        let (kind, data) = element(&mut rest)?;
        let inflated;
        let matrix = match kind {
            COMPRESSED => {
                inflated = inflate(data)?;
                let mut data = inflated.as_slice();
                match element(&mut data)? {
                    (MATRIX, matrix) => matrix,
                    _ => continue,
                }
            }
            MATRIX => data,
            _ => continue,
        };
        let matrix = Matrix::open(matrix)?;
        if matrix.name == b"synsets" {
            return rows(matrix);
        }
    }
    Err("has no array `synsets`".into())
}

fn inflate(data: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    ZlibDecoder::new(data)
        .take(MAX_INFLATED + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot be inflated ({error})"))?;
    if bytes.len() as u64 > MAX_INFLATED {
        return Err(format!("inflates to more than {MAX_INFLATED} bytes"));
    }
    Ok(bytes)
}

/// Takes the next element: its type and data.
fn element<'a>(rest: &mut &'a [u8]) -> Result<(u32, &'a [u8])> {
    let short = || "ends within an element".to_owned();
    let word = |bytes: &[u8], at: usize| -> Result<u32> {
        let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
        word.map(u32::from_le_bytes).ok_or_else(short)
    };
    let tag = word(rest, 0)?;
    let (kind, small) = (tag & 0xffff, (tag >> 16) as usize);
    if small > 0 {
        let data = rest.get(4..4 + small).filter(|_| small <= 4).ok_or_else(short)?;
        *rest = rest.get(8..).ok_or_else(short)?;
        return Ok((kind, data));
    }
    let length = word(rest, 4)? as usize;
    let data = rest[8..].get(..length).ok_or_else(short)?;
    // Compressed elements are not padded; writers leave the padding of the last one away.
    let padded = if kind == COMPRESSED { length } else { length.next_multiple_of(8) };
    *rest = rest[8..].get(padded..).unwrap_or_default();
    Ok((kind, data))
}

/// A matrix whose head was read.
struct Matrix<'a> {
    class: u8,
    /// Number of its elements.
    count: usize,
    name: &'a [u8],
    contents: &'a [u8],
}

impl<'a> Matrix<'a> {
    fn open(mut rest: &'a [u8]) -> Result<Self> {
        let (UINT32, [class, ..]) = element(&mut rest)? else {
            return Err("has a matrix without flags".into());
        };
        let (INT32, dimensions) = element(&mut rest)? else {
            return Err("has a matrix without dimensions".into());
        };
        let count = dimensions.chunks(4).try_fold(1_usize, |count, side| {
            let side = i32::from_le_bytes(side.try_into().ok()?);
            count.checked_mul(usize::try_from(side).ok()?)
        });
        let (INT8, name) = element(&mut rest)? else {
            return Err("has a matrix without a name".into());
        };
        let count = count.ok_or("has a matrix of impossible size")?;
        Ok(Self { class: *class, count, name, contents: rest })
    }

    /// The next matrix of a struct array's contents.
    fn next(&mut self) -> Result<&'a [u8]> {
        match element(&mut self.contents)? {
            (MATRIX, matrix) => Ok(matrix),
            (kind, _) => Err(format!("has an element of type {kind} where a matrix is expected")),
        }
    }
}

fn rows(mut array: Matrix) -> Result<Vec<Synset>> {
    if array.class != STRUCT || array.count > MAX_ROWS {
        return Err(format!("`synsets` is no array of at most {MAX_ROWS} structs"));
    }
    let (INT32, length) = element(&mut array.contents)? else {
        return Err("`synsets` has no length of field names".into());
    };
    let length = length.try_into().map(u32::from_le_bytes).unwrap_or(0) as usize;
    let (INT8, fields) = element(&mut array.contents)? else {
        return Err("`synsets` has no field names".into());
    };
    if !(1..=MAX_TEXT).contains(&length) || fields.len() / length > MAX_FIELDS {
        return Err("`synsets` has field names of impossible size".into());
    }
    let fields: Vec<&[u8]> = fields.chunks(length).map(until_zero).collect();
    let place = |name: &str| {
        let place = fields.iter().position(|field| *field == name.as_bytes());
        place.ok_or_else(|| format!("`synsets` has no field `{name}`"))
    };
    let (id, wnid, children) = (place("ILSVRC2012_ID")?, place("WNID")?, place("num_children")?);
    let mut synsets = Vec::new();
    for row in 0..array.count {
        let in_row = |error: String| format!("row {}: {error}", row + 1);
        let matrices: Vec<&[u8]> =
            fields.iter().map(|_| array.next()).collect::<Result<_>>().map_err(in_row)?;
        synsets.push(Synset {
            id: number(matrices[id]).map_err(in_row)?,
            wnid: text(matrices[wnid]).map_err(in_row)?,
            is_leaf: number(matrices[children]).map_err(in_row)? == 0,
        });
    }
    Ok(synsets)
}

fn until_zero(name: &[u8]) -> &[u8] {
    name.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// A whole number of 32 bits; it may be stored as any smaller type than its matrix says.
fn number(matrix: &[u8]) -> Result<u32> {
    let mut matrix = Matrix::open(matrix)?;
    let (kind, data) = element(&mut matrix.contents)?;
    let value = match (kind, data) {
        (INT8, &[byte, ..]) => f64::from(byte as i8),
        (UINT8, &[byte, ..]) => f64::from(byte),
        (INT16, &[a, b, ..]) => f64::from(i16::from_le_bytes([a, b])),
        (UINT16, &[a, b, ..]) => f64::from(u16::from_le_bytes([a, b])),
        (INT32, &[a, b, c, d, ..]) => f64::from(i32::from_le_bytes([a, b, c, d])),
        (UINT32, &[a, b, c, d, ..]) => f64::from(u32::from_le_bytes([a, b, c, d])),
        (SINGLE, &[a, b, c, d, ..]) => f64::from(f32::from_le_bytes([a, b, c, d])),
        (DOUBLE, bytes) => bytes.first_chunk().map_or(f64::NAN, |bytes| f64::from_le_bytes(*bytes)),
        _ => f64::NAN,
    };
    let is_number = (6..=15).contains(&matrix.class) && matrix.count == 1;
    if !is_number || value.fract() != 0.0 || !(0.0..=f64::from(u32::MAX)).contains(&value) {
        return Err("a whole number is expected".into());
    }
    Ok(value as u32)
}

/// A short text of ASCII characters.
fn text(matrix: &[u8]) -> Result<String> {
    let mut matrix = Matrix::open(matrix)?;
    let (kind, data) = element(&mut matrix.contents)?;
    let bytes: Vec<u8> = match kind {
        _ if matrix.class != CHAR || data.len() > 2 * MAX_TEXT => Vec::new(),
        INT8 | UINT8 | UTF8 => data.to_vec(),
        UINT16 | UTF16 => {
            data.chunks(2).map(|unit| if let [byte, 0] = unit { *byte } else { u8::MAX }).collect()
        }
        _ => Vec::new(),
    };
    let text = String::from_utf8(bytes).unwrap_or_default();
    if text.is_empty() || !text.is_ascii() {
        return Err("a short text is expected".into());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Written by SciPy (`tests/data/meta.py`).
    const META: &[u8] = include_bytes!("../../../tests/data/meta.mat");

    /// The same without compression, so that damage reaches the elements.
    fn plain() -> Vec<u8> {
        let (mut file, mut rest) = (META[..HEADER].to_vec(), &META[HEADER..]);
        while !rest.is_empty() {
            let (kind, data) = element(&mut rest).unwrap();
            assert_eq!(kind, COMPRESSED);
            file.extend(inflate(data).unwrap());
        }
        file
    }

    #[test]
    fn synsets_are_read_as_scipy_wrote_them() {
        let synsets = synsets(META).unwrap();
        let leaves: Vec<_> =
            synsets.iter().filter(|s| s.is_leaf).map(|s| (s.id, s.wnid.as_str())).collect();
        let expected = [
            (1, "n02119789"),
            (2, "n01440764"),
            (3, "n02102040"),
            (4, "n03000684"),
            (5, "n01443537"),
            (6, "n02979186"),
            (7, "n03028079"),
            (8, "n02100735"),
        ];
        assert_eq!(leaves, expected);
        assert_eq!(synsets.len(), 10);
        assert_eq!(super::synsets(&plain()).unwrap(), synsets);
    }

    #[test]
    fn what_is_no_such_file_is_said() {
        assert!(synsets(b"MATLAB").unwrap_err().contains("too short"));
        let mut swapped = META.to_vec();
        swapped[124..128].copy_from_slice(&[1, 0, b'M', b'I']);
        assert!(synsets(&swapped).unwrap_err().contains("little-endian"));
        assert!(synsets(&META[..HEADER]).unwrap_err().contains("no array `synsets`"));
        for cut in HEADER + 1..META.len() {
            assert!(synsets(&META[..cut]).is_err(), "{cut}");
        }
    }

    proptest! {
        #[test]
        fn damage_is_an_error_or_harmless(
            at in 0.0..1.0_f64, bytes in prop::collection::vec(any::<u8>(), 1..12), cut in 0.0..1.0_f64,
        ) {
            for mut file in [META.to_vec(), plain()] {
                let at = (at * (file.len() - bytes.len()) as f64) as usize;
                file[at..at + bytes.len()].copy_from_slice(&bytes);
                let _ = synsets(&file);
                file.truncate((cut * file.len() as f64) as usize);
                let _ = synsets(&file);
            }
        }

        #[test]
        fn any_bytes_are_an_error_or_harmless(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = synsets(&[&META[..HEADER], &bytes].concat());
        }
    }
}
