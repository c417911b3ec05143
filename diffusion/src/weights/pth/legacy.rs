//! The container of torch < 1.6: five pickles one after another (a magic number, the version of the
//! format, facts of the machine, the object, the keys of the storages in their order), then for each
//! key the number of its elements in 64 bits and the elements.

use std::collections::HashMap;
use std::io::{Read, Seek};

use super::pickle;
use super::values::{Pickle, Storage, Value};
use super::{PthError, Result, Storages, read_at, shown};

/// 0x1950a86a20f9469cfc6c, little endian.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const VERSION: i64 = 1001;

/// Where the storages lie: each within the file.
pub(super) struct Legacy<R> {
    reader: R,
    spans: HashMap<String, Span>,
}

#[derive(Clone, Copy)]
struct Span {
    start: u64,
    bytes: u64,
}

/// Reads the pickles, all of which must lie in `head`, and finds the storages.
pub(super) fn open<R: Read + Seek>(
    mut reader: R,
    length: u64,
    head: &[u8],
) -> Result<(Pickle<'_>, Legacy<R>)> {
    if head.get(257..262) == Some(b"ustar") {
        return Err(PthError::new(
            "is a tar archive, the first format of torch; load and save it with a newer one",
        ));
    }
    let mut rest = head;
    match next(&mut rest).map(|pickle| pickle.top) {
        Ok(Value::Long(number)) if number == MAGIC => {}
        _ => return Err(PthError::new("is not a file of torch.save")),
    }
    if !matches!(next(&mut rest)?.top, Value::Int(VERSION)) {
        return Err(PthError::new(format!("is not of version {VERSION} of torch's old format")));
    }
    let facts = next(&mut rest)?;
    if let Value::Dict(facts_dict) = facts.top {
        let big = facts.dict(facts_dict).entries.iter().any(|(key, value)| {
            matches!((key, value), (Value::Text("little_endian"), Value::Bool(false)))
        });
        if big {
            return Err(PthError::new(
                "was written big endian; only little endian is read: load and save it again on \
                 such a machine",
            ));
        }
    }
    let object = next(&mut rest)?;
    let keys = next(&mut rest)?;
    let mut at = (head.len() - rest.len()) as u64;

    let mut known: HashMap<&str, &Storage> = HashMap::new();
    for storage in &object.storages {
        known.entry(storage.key).or_insert(storage);
    }
    let cut_off = || PthError::new("the file is cut off; fetch it again");
    let mut spans = HashMap::new();
    for &key in keys.items(keys.top).ok_or_else(|| PthError::new("lacks the list of storages"))? {
        let Value::Text(key) = key else {
            return Err(PthError::new("the key of a storage is no text"));
        };
        let storage = known.get(key).ok_or_else(|| {
            PthError::new(format!("storage `{}` belongs to no tensor", shown(key)))
        })?;
        if length.checked_sub(8).is_none_or(|last| at > last) {
            return Err(cut_off());
        }
        let count = read_at(&mut reader, at, 8)?.first_chunk().copied().map(u64::from_le_bytes);
        let start = at + 8;
        let bytes = count
            .and_then(|count| count.checked_mul(storage.element.bytes as u64))
            .filter(|&bytes| bytes <= length - start)
            .ok_or_else(cut_off)?;
        if spans.insert(key.to_owned(), Span { start, bytes }).is_some() {
            return Err(PthError::new(format!("storage `{}` stands there twice", shown(key))));
        }
        at = start + bytes;
    }
    Ok((object, Legacy { reader, spans }))
}

fn next<'a>(rest: &mut &'a [u8]) -> Result<Pickle<'a>> {
    let pickle = pickle::load(rest)?;
    *rest = rest.get(pickle.length..).unwrap_or_default();
    Ok(pickle)
}

impl<R> Legacy<R> {
    fn span(&self, key: &str) -> Result<Span> {
        self.spans
            .get(key)
            .copied()
            .ok_or_else(|| PthError::new(format!("the file lacks storage `{}`", shown(key))))
    }
}

impl<R: Read + Seek> Storages for Legacy<R> {
    fn size(&self, key: &str) -> Result<u64> {
        Ok(self.span(key)?.bytes)
    }

    fn read(&mut self, key: &str) -> Result<Vec<u8>> {
        let span = self.span(key)?;
        read_at(&mut self.reader, span.start, span.bytes)
    }
}
