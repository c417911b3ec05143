//! Weight files of any kind that people have: safetensors, or what `torch.save` wrote.
use super::{as_float, check_count, described, parse_kind, pth};
use crate::{Error, Result, regular};
use safetensors::{Dtype, SafeTensors};
use std::collections::HashMap;
use std::io::Read;
use std::path::Path;
use tch::{Kind, Tensor};

/// Tensors by name, sorted, and the description that lies beside them in a safetensors file.
pub type Described = (Vec<(String, Tensor)>, HashMap<String, String>);

/// What a file is, by what only such a file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileKind {
    Safetensors,
    /// A zip archive, or a pickle.
    Torch,
}

/// The longest header that the safetensors library reads.
const LONGEST_HEADER: u64 = 100_000_000;

/// Reads the floating-point tensors of a file onto the CPU as f32. What the file is shows in its first
/// bytes, not in its name. Whole numbers (counters, tables) are left out; nothing is executed.
///
/// `choose` is given the names of all tensors, and gives each its new name, or none to leave it out; where
/// it gives nothing at all, the one state dict of the file is read.
///
/// # Errors
/// When the file cannot be read or is of no such kind, and those of `choose`.
pub fn read_any(path: &Path, choose: &mut pth::Choose<'_>) -> Result<Described> {
    let wrong = |message: String| Error::Weights { path: path.display().to_string(), message };
    let start = start(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    match kind_of(&start) {
        Some(FileKind::Safetensors) => read_safetensors(path, choose),
        Some(FileKind::Torch) => {
            let mut tensors = Vec::new();
            let read = pth::read_chosen(path, choose).map_err(|error| wrong(error.to_string()))?;
            for entry in read {
                let Some(kind) = kind(entry.kind) else { continue };
                let tensor = as_float(&entry.name, &entry.data, &entry.shape, kind, path)?;
                tensors.push((entry.name, tensor));
            }
            Ok((tensors, HashMap::new()))
        }
        None => Err(wrong(format!("is neither safetensors nor of torch.save{}", hint(&start)))),
    }
}

fn read_safetensors(path: &Path, choose: &mut pth::Choose<'_>) -> Result<Described> {
    let wrong = |message: String| Error::Weights { path: path.display().to_string(), message };
    let bytes = regular::read(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let description = described(&bytes, path)?;
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|error| wrong(format!("is not a safetensors file: {error}")))?;
    check_count(file.len(), path)?;
    let mut views = file.tensors();
    views.sort_by(|a, b| a.0.cmp(&b.0));
    let names: Vec<&str> = views.iter().map(|(name, _)| name.as_str()).collect();
    let chosen = choose(&names).map_err(&wrong)?;
    let chosen =
        chosen.unwrap_or_else(|| names.iter().map(|name| Some((*name).to_owned())).collect());
    let mut tensors = Vec::with_capacity(views.len());
    for ((given, view), name) in views.iter().zip(chosen) {
        let Some(name) = name else { continue };
        if is_whole(view.dtype()) {
            continue;
        }
        tensors.push((name, parse_kind(given, view, path)?));
    }
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    Ok((tensors, description))
}

/// What lies beside the tensors of a safetensors file, by its keys; nothing of other files. Only the header
/// is read.
///
/// # Errors
/// When the file cannot be read, or is neither safetensors nor of `torch.save`.
pub(super) fn header_of(path: &Path) -> Result<HashMap<String, String>> {
    #[derive(serde::Deserialize)]
    struct Header {
        #[serde(rename = "__metadata__", default)]
        entries: HashMap<String, String>,
    }
    let wrong = |message: String| Error::Weights { path: path.display().to_string(), message };
    let unread = |error: std::io::Error| wrong(format!("cannot be read: {error}"));
    let start = start(path).map_err(unread)?;
    match kind_of(&start) {
        Some(FileKind::Safetensors) => {}
        Some(FileKind::Torch) => return Ok(HashMap::new()),
        None => {
            let hint = hint(&start);
            return Err(wrong(format!("is neither safetensors nor of torch.save{hint}")));
        }
    }
    let (mut file, _) = regular::open(path).map_err(unread)?;
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(unread)?;
    let mut text = Vec::new();
    // At most `LONGEST_HEADER`, as this is what safetensors is told by.
    file.take(u64::from_le_bytes(length)).read_to_end(&mut text).map_err(unread)?;
    serde_json::from_slice::<Header>(&text).map(|header| header.entries).map_err(|error| {
        wrong(format!("is not a safetensors file: its header is damaged, {error}"))
    })
}

fn is_whole(kind: Dtype) -> bool {
    use Dtype::{BOOL, I8, I16, I32, I64, U8, U16, U32, U64};
    matches!(kind, BOOL | I8 | I16 | I32 | I64 | U8 | U16 | U32 | U64)
}

/// The first bytes of a file, fewer where it is shorter.
fn start(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut start = Vec::new();
    regular::open(path)?.0.take(64).read_to_end(&mut start)?;
    Ok(start)
}

/// Safetensors: the length of a header, and the header's first byte. A zip archive: its magic. A pickle: its
/// first operation with its protocol, which may look like the length of a header, but then no `{` follows
/// where a header would begin.
fn kind_of(start: &[u8]) -> Option<FileKind> {
    if let Some((length, rest)) = start.split_first_chunk()
        && u64::from_le_bytes(*length) <= LONGEST_HEADER
        && rest.first() == Some(&b'{')
    {
        return Some(FileKind::Safetensors);
    }
    match *start {
        [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Some(FileKind::Torch),
        [0x80, 2..=5, ..] => Some(FileKind::Torch),
        _ => None,
    }
}

/// What a file is instead, where that is plain.
fn hint(start: &[u8]) -> &'static str {
    let begins = |text: &str| {
        start.get(..text.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(text.as_bytes()))
    };
    if start.is_empty() {
        ": it is empty"
    } else if begins("version https://git-lfs") {
        ": it is a pointer of Git LFS; fetch the file itself (git lfs pull)"
    } else if begins("<!doctype") || begins("<html") {
        ": it is a web page; fetch the file itself"
    } else if start.starts_with(&[0x1f, 0x8b]) {
        ": it is compressed by gzip; unpack it first"
    } else {
        ""
    }
}

fn kind(kind: pth::PthKind) -> Option<Kind> {
    match kind {
        pth::PthKind::F64 => Some(Kind::Double),
        pth::PthKind::F32 => Some(Kind::Float),
        pth::PthKind::F16 => Some(Kind::Half),
        pth::PthKind::BF16 => Some(Kind::BFloat16),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(_: &[&str]) -> Result<Option<Vec<Option<String>>>, String> {
        Ok(None)
    }

    /// A header length may have any low byte, also 0x80, which a pickle begins with; writers align headers to
    /// 8 bytes, so there are 32 of them.
    #[test]
    fn safetensors_of_every_header_length_are_told_from_pickles() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let tensors = [("w".to_owned(), Tensor::from_slice(&[1.5_f32, -2.0]))];
        let mut seen = std::collections::BTreeSet::new();
        for more in 0..(32 * 8) {
            let description = [("note".to_owned(), "x".repeat(more))].into();
            super::super::save_described(&tensors, description, &path).unwrap();
            let low = std::fs::read(&path).unwrap()[0];
            seen.insert(low);
            let (read, description) = read_any(&path, &mut all).unwrap();
            assert_eq!((read[0].1.double_value(&[1]), description["note"].len()), (-2.0, more));
        }
        assert_eq!(seen.len(), 32, "{seen:?}");
        assert!(seen.contains(&0x80));
        // Lengths whose first bytes are a pickle's protocol, or a zip archive's magic.
        for length in [0x280_u64, 0x580, u64::from(u32::from_le_bytes(*b"PK\x03\x04"))] {
            let start = [&length.to_le_bytes()[..], b"{\"w\""].concat();
            assert_eq!(kind_of(&start), Some(FileKind::Safetensors), "{length:#x}");
        }
        // And what torch writes stays what it is.
        for start in [
            &b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."[..],
            b"\x80\x04\x95",
            b"PK\x03\x04\0\0\x08\0",
        ] {
            assert_eq!(kind_of(start), Some(FileKind::Torch), "{start:?}");
        }
        for start in [&b"\x80\x01"[..], b"\x80\x06", b"PK", b"{\"a\": 1}", b"\x80{"] {
            assert_eq!(kind_of(start), None, "{start:?}");
        }
    }

    #[test]
    fn what_is_no_weights_file_is_told_for_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w");
        for (text, word) in [
            ("", "empty"),
            ("version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS"),
            ("<!DOCTYPE html><html>", "web page"),
            ("\u{1f}\u{8}", "neither safetensors"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = read_any(&path, &mut all).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        std::fs::write(&path, [0x1f, 0x8b, 8, 0]).unwrap();
        assert!(read_any(&path, &mut all).unwrap_err().to_string().contains("gzip"));
    }

    #[test]
    fn whole_numbers_in_safetensors_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let (floats, count) = ([0, 0, 0x80, 0x3f], 7_i64.to_le_bytes());
        let view =
            |kind, bytes| safetensors::tensor::TensorView::new(kind, vec![1], bytes).unwrap();
        let tensors = [("w", view(Dtype::F32, &floats[..])), ("n", view(Dtype::I64, &count[..]))];
        std::fs::write(&path, safetensors::serialize(tensors, None).unwrap()).unwrap();
        let (read, _) = read_any(&path, &mut all).unwrap();
        assert_eq!(read.len(), 1);
        assert_eq!((read[0].0.as_str(), read[0].1.double_value(&[0])), ("w", 1.0));
    }
    #[test]
    fn tensors_that_no_network_has_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let refused = |header: String| {
            let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
            std::fs::write(&path, bytes).unwrap();
            let both = [
                read_any(&path, &mut all).unwrap_err(),
                super::super::read_tensors(&path).unwrap_err(),
            ];
            let [said, same] = both.map(|error| error.to_string());
            assert_eq!(said, same);
            assert!(said.contains("w.safetensors"), "{said}");
            said
        };
        for sides in ["0,1073741824,1073741824,1073741824", "0", "9223372036854775808,0"] {
            let said = refused(format!(
                r#"{{"w":{{"dtype":"F32","shape":[{sides}],"data_offsets":[0,0]}}}}"#
            ));
            assert!(said.contains("`w` holds nothing: its shape is ["), "{said}");
        }
        let one = |number: usize| {
            format!(r#""t{number}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#)
        };
        let many: Vec<String> = (0..100_001).map(one).collect();
        let said = refused(format!("{{{}}}", many.join(",")));
        assert!(said.contains("holds 100001 tensors, 100000 at most are read"), "{said}");
    }
}
