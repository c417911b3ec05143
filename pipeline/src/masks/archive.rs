//! The public archives of masks, `imagenet_freeform_masks.npz` and its like: arrays of NumPy in a
//! zip. An array of bytes holds either the bits of 256×256 masks one after another, the first pixel
//! the highest bit (`np.packbits`), or shape [N,H,W] with a byte a pixel; what is set is the hole.
//! Masks are streamed: one is in memory at a time.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use flate2::read::DeflateDecoder;
use image::GrayImage;
use zip::{CompressionMethod, ZipArchive};

use crate::{Error, Result};

/// Side of a mask stored as bits.
const SIDE: u32 = 256;
/// Bytes of a mask stored as bits.
const PACKED: u64 = SIDE as u64 * SIDE as u64 / 8;
/// Longest header of an array.
const HEADER: u64 = 1 << 16;
/// Longest side of a mask stored as bytes.
const LONGEST: u64 = 1 << 14;

pub(super) struct Archive {
    path: PathBuf,
    /// Where the array lies in the file.
    start: u64,
    compressed: u64,
    deflated: bool,
    layout: Layout,
    /// A reader that stands before this mask.
    stream: Mutex<Option<(u64, Box<dyn Read + Send>)>>,
}

/// How the masks of an array lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    /// Bytes before the first mask.
    header: u64,
    masks: u64,
    width: u32,
    height: u32,
    packed: bool,
}

impl Layout {
    /// Bytes of a mask.
    fn stride(self) -> u64 {
        if self.packed { PACKED } else { u64::from(self.width) * u64::from(self.height) }
    }
}

impl Archive {
    /// Opens the array `key`, or the only one there is. It is read once as a whole, so that damage
    /// shows before any work.
    pub(super) fn open(path: &Path, key: Option<&str>) -> Result<Self> {
        let wrong = |message: String| Error::source(path, message);
        let damaged = |error: &dyn std::fmt::Display| wrong(format!("no npz archive: {error}"));
        let (file, _) = storage::regular::open(path).map_err(Error::io("open", path))?;
        let mut zip = ZipArchive::new(BufReader::new(file)).map_err(|error| damaged(&error))?;
        let names: Vec<String> =
            zip.file_names().filter_map(|name| Some(name.ok()?.into_owned())).collect();
        let keys: Vec<_> = names.iter().filter_map(|name| name.strip_suffix(".npy")).collect();
        let key = match (key, keys.as_slice()) {
            (Some(key), keys) if keys.contains(&key) => key,
            (None, [only]) => only,
            _ => {
                let asked = key.map_or("a key is needed".into(), |key| format!("no key `{key}`"));
                return Err(wrong(format!(
                    "{asked}: add #KEY with one of `{}`",
                    keys.join("`, `")
                )));
            }
        };
        let mut entry = zip.by_name(&format!("{key}.npy")).map_err(|error| damaged(&error))?;
        let deflated = match entry.compression() {
            CompressionMethod::Stored => false,
            CompressionMethod::Deflated => true,
            other => return Err(wrong(format!("`{key}` is compressed by {other}: save it again"))),
        };
        let layout = layout(&mut entry).map_err(|error| wrong(format!("`{key}`: {error}")))?;
        // To its end, where the checksum is compared.
        let bytes = io::copy(&mut entry, &mut io::sink()).map_err(|error| damaged(&error))?;
        if bytes != layout.masks * layout.stride() {
            return Err(wrong(format!(
                "`{key}` has {bytes} bytes of masks, not what it announces"
            )));
        }
        let start = entry.data_start().ok_or_else(|| wrong(format!("`{key}` has no data")))?;
        let compressed = entry.compressed_size();
        let path = path.to_owned();
        Ok(Self { path, start, compressed, deflated, layout, stream: Mutex::new(None) })
    }

    /// Mask `index`, 255 in the hole. Quick where indices rise, which they do within a dataset.
    pub(super) fn mask(&self, index: u64) -> Result<GrayImage> {
        let Layout { masks, width, height, packed, .. } = self.layout;
        if index >= masks {
            let message = format!("has {masks} masks, none for row {index}; wanted is one a row");
            return Err(Error::source(&self.path, message));
        }
        let bytes = self.read(index).map_err(Error::io("read", &self.path))?;
        let pixels = if packed {
            bytes
                .iter()
                .flat_map(|byte| (0..8).rev().map(move |bit| (byte >> bit & 1) * 255))
                .collect()
        } else {
            bytes.iter().map(|&byte| if byte == 0 { 0 } else { 255 }).collect()
        };
        GrayImage::from_raw(width, height, pixels)
            .ok_or_else(|| Error::source(&self.path, "holds masks of another size than announced"))
    }

    /// The bytes of mask `index`; begins again where the stream is past it.
    fn read(&self, index: u64) -> io::Result<Vec<u8>> {
        let stride = self.layout.stride();
        let mut held = self.stream.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let (mut at, mut stream) = match held.take() {
            Some((at, stream)) if at <= index => (at, stream),
            _ => (0, self.rewind()?),
        };
        skip(&mut stream, (index - at) * stride)?;
        let mut bytes = vec![0; stride as usize];
        stream.read_exact(&mut bytes)?;
        at = index + 1;
        *held = Some((at, stream));
        Ok(bytes)
    }

    /// A stream that stands before the first mask.
    fn rewind(&self) -> io::Result<Box<dyn Read + Send>> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.start))?;
        let bytes = BufReader::with_capacity(1 << 16, file).take(self.compressed);
        let mut stream: Box<dyn Read + Send> =
            if self.deflated { Box::new(DeflateDecoder::new(bytes)) } else { Box::new(bytes) };
        skip(&mut stream, self.layout.header)?;
        Ok(stream)
    }
}

fn skip(stream: &mut impl Read, bytes: u64) -> io::Result<()> {
    if io::copy(&mut stream.take(bytes), &mut io::sink())? == bytes {
        return Ok(());
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// Reads the header of an array, as NumPy's format says: magic, version, length, then a Python
/// dictionary of `descr`, `fortran_order` and `shape`.
fn layout(array: &mut impl Read) -> Result<Layout, String> {
    let cut = |error: io::Error| format!("no array: {error}");
    let mut start = [0; 8];
    array.read_exact(&mut start).map_err(cut)?;
    let wide = match start {
        [0x93, b'N', b'U', b'M', b'P', b'Y', 1, _] => 2,
        [0x93, b'N', b'U', b'M', b'P', b'Y', 2 | 3, _] => 4,
        _ => return Err("no array of NumPy".into()),
    };
    let mut length = [0; 4];
    array.read_exact(&mut length[..wide]).map_err(cut)?;
    let length = u64::from(u32::from_le_bytes(length));
    if length > HEADER {
        return Err(format!("a header of {length} bytes, at most {HEADER}"));
    }
    let mut text = vec![0; length as usize];
    array.read_exact(&mut text).map_err(cut)?;
    let text = String::from_utf8_lossy(&text);
    let field = |name: &str| text.split_once(&format!("'{name}':")).map(|(_, rest)| rest.trim());
    let bytes =
        field("descr").is_some_and(|rest| rest.starts_with("'|u1'") || rest.starts_with("'|b1'"));
    let rows = field("fortran_order").is_some_and(|rest| rest.starts_with("False"));
    let shape: Option<Vec<u64>> = field("shape")
        .and_then(|rest| rest.strip_prefix('(')?.split_once(')'))
        .and_then(|(sides, _)| {
            let sides = sides.split(',').map(str::trim).filter(|side| !side.is_empty());
            sides.map(|side| side.parse().ok()).collect()
        });
    let (true, true, Some(shape)) = (bytes, rows, shape) else {
        return Err(format!("an array of bytes in C order is wanted, this is {}", text.trim()));
    };
    let header = 8 + wide as u64 + length;
    let packed = |masks| Layout { header, masks, width: SIDE, height: SIDE, packed: true };
    match shape.as_slice() {
        [bytes] if bytes % PACKED == 0 => Ok(packed(bytes / PACKED)),
        [masks, PACKED] => Ok(packed(*masks)),
        [masks, height, width] if (height, width) == (&u64::from(SIDE), &u64::from(SIDE / 8)) => {
            Ok(packed(*masks))
        }
        [masks, height @ 1..=LONGEST, width @ 1..=LONGEST]
            if masks.checked_mul(height * width).is_some() =>
        {
            let (width, height) = (*width as u32, *height as u32);
            Ok(Layout { header, masks: *masks, width, height, packed: false })
        }
        shape => Err(format!(
            "shape {shape:?} is neither bits of {SIDE}×{SIDE} masks nor [N,H,W] with a byte a pixel"
        )),
    }
}
