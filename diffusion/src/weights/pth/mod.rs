//! PyTorch's checkpoint files (`.pth`, `.pt`), as `torch.save(state_dict)` writes them, read without
//! running anything.
//!
//! Such a file is a pickle, a program for a small machine that can call any Python function, beside
//! raw numbers. `pickle` is that machine with nothing to call: a short list of names (`names`) has a
//! fixed meaning (rebuild this tensor, begin an ordered dictionary), every other name is carried
//! along as an opaque value. `archive` and `legacy` are the two containers, `tensors` finds the state
//! dict and lays its tensors out. What always holds, whatever the bytes: no panic, no recursion,
//! and nothing is allocated on the word of the file alone; a size that it claims is first compared
//! with the file's own length or with a fixed limit.

mod archive;
mod legacy;
mod names;
mod pickle;
mod tensors;
mod values;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// Largest pickle: a tensor takes about 200 bytes of it.
const LARGEST_PICKLE: u64 = 32 << 20;
/// Tensors may share their numbers, so that what is read can be larger than the file: this many
/// times, not counting [`SMALL`].
const MOST_SHARING: u64 = 16;
const SMALL: u64 = 64 << 20;
/// Most bytes that are read of any file.
const MOST_BYTES: u64 = 64 << 30;

/// A tensor of a state dict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PthTensor {
    /// Its key in the state dict.
    pub name: String,
    /// Its shape; empty for a single number.
    pub shape: Vec<usize>,
    /// What its numbers are.
    pub kind: PthKind,
    /// The numbers: little endian, row-major, contiguous. Its length is always the product of
    /// `shape` times [`PthKind::bytes`].
    pub data: Vec<u8>,
}

/// Kinds of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PthKind {
    /// `torch.float64`.
    F64,
    /// `torch.float32`.
    F32,
    /// `torch.float16`.
    F16,
    /// `torch.bfloat16`.
    BF16,
    /// `torch.int64`.
    I64,
    /// `torch.int32`.
    I32,
    /// `torch.int16`.
    I16,
    /// `torch.int8`.
    I8,
    /// `torch.uint8`.
    U8,
    /// `torch.bool`; every byte is 0 or 1.
    Bool,
}

impl PthKind {
    /// Bytes of one number.
    pub fn bytes(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::BF16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }
}

/// Why a file cannot be read: what is wrong with it and, where there is one, the remedy. The path
/// is the caller's to add.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PthError(String);

impl PthError {
    fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

type Result<T, E = PthError> = std::result::Result<T, E>;

/// Reads the tensors of a state dict, sorted by name, in the format of torch ≥ 1.6 (a zip archive)
/// or the one before.
///
/// A dictionary that holds tensors is taken as the state dict. If it holds none, the one dictionary
/// in it that does is (`{"state_dict": {…}, "epoch": 3}`); of several, `inside` names the one that
/// is meant. Given `inside`, only that one is looked for. Tensors deeper down are not looked for.
/// Entries that are no tensors (numbers, text, objects of other classes) are left out; a tensor of a
/// kind that cannot be read is an error, and so is a tensor that repeats numbers (`expand`).
///
/// Nothing in the file is ever executed. What it asks to call, beyond the few functions of torch
/// that put tensors together, makes a value that nothing can be done with.
///
/// # Errors
/// When the file cannot be read, is damaged, is not a state dict (a TorchScript program, a whole
/// pickled module), was written big endian, or goes beyond the limits that keep a hostile file from
/// taking all memory.
#[cfg(test)]
pub fn read(path: &Path, inside: Option<&str>) -> Result<Vec<PthTensor>> {
    let (file, length) = open(path)?;
    read_from(file, length, Wanted::Inside(inside))
}

/// As [`read`], of the tensors that `choose` picks among all that the file has in its dictionaries, at
/// whatever depth (six at most). It is given their names, keys joined by `.`, and gives each its new
/// name, or none to leave it out. Where it gives nothing at all, [`read`]'s rules say which dictionary is
/// the state dict.
///
/// # Errors
/// As [`read`], and those of `choose`.
pub fn read_chosen(path: &Path, choose: &mut Choose<'_>) -> Result<Vec<PthTensor>> {
    let (file, length) = open(path)?;
    read_from(file, length, Wanted::Chosen(choose))
}

/// Gives each of these names a new one or none; nothing at all to leave the choice to the reader.
pub type Choose<'c> = dyn FnMut(&[&str]) -> Result<Option<Vec<Option<String>>>, String> + 'c;

/// Which tensors are read.
enum Wanted<'a, 'c> {
    /// Those of the dictionary of this name, or of the one that holds tensors.
    #[cfg_attr(not(test), expect(dead_code, reason = "the tests name dictionaries"))]
    Inside(Option<&'a str>),
    /// Those that a function picks.
    Chosen(&'a mut Choose<'c>),
}

fn open(path: &Path) -> Result<(File, u64)> {
    crate::regular::open(path).map_err(unreadable)
}

fn read_from<R: Read + Seek>(
    mut reader: R,
    length: u64,
    wanted: Wanted<'_, '_>,
) -> Result<Vec<PthTensor>> {
    let most = length.saturating_mul(MOST_SHARING).saturating_add(SMALL).min(MOST_BYTES);
    if read_at(&mut reader, 0, length.min(2))? == b"PK" {
        let mut archive = archive::Archive::open(reader, length)?;
        let bytes = archive.pickle()?;
        let pickle = pickle::load(&bytes)?;
        tensors::collect(&pickle, wanted, most, &mut archive)
    } else {
        let head = read_at(&mut reader, 0, length.min(LARGEST_PICKLE))?;
        let (pickle, mut legacy) = legacy::open(reader, length, &head)?;
        tensors::collect(&pickle, wanted, most, &mut legacy)
    }
}

/// The numbers of a file, by the keys of their storages.
trait Storages {
    /// Bytes of a storage, which lie within the file or were compared with what lies there.
    fn size(&self, key: &str) -> Result<u64>;
    /// All bytes of a storage.
    fn read(&mut self, key: &str) -> Result<Vec<u8>>;
}

fn unreadable(error: std::io::Error) -> PthError {
    PthError::new(format!("cannot be read: {error}"))
}

/// Reads `count` bytes; the caller has made sure that the file has them.
fn read_at<R: Read + Seek>(reader: &mut R, start: u64, count: u64) -> Result<Vec<u8>> {
    let mut bytes = reserve(count)?;
    reader.seek(SeekFrom::Start(start)).map_err(unreadable)?;
    reader.take(count).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 != count {
        return Err(PthError::new("the file is cut off; fetch it again"));
    }
    Ok(bytes)
}

/// An empty vector with room for `count` bytes.
fn reserve(count: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    usize::try_from(count)
        .ok()
        .and_then(|count| bytes.try_reserve_exact(count).ok())
        .ok_or_else(|| PthError::new(format!("there is no memory for {count} bytes of it")))?;
    Ok(bytes)
}

/// Text of the file as it may stand in a message: short, and free of control characters.
fn shown(text: &str) -> String {
    const LONGEST: usize = 80;
    let mut short: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        short.push('…');
    }
    short
}
