//! What a file is by its first bytes, for messages about what is not read.

use std::path::Path;

/// Bytes at the start of a file that are looked at.
pub(super) const HEAD: usize = 512;

/// A format and what to do with a file of it that is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Format {
    pub(super) name: &'static str,
    pub(super) remedy: &'static str,
}

const fn format(name: &'static str, remedy: &'static str) -> Format {
    Format { name, remedy }
}

const FOLDER: &str = "unpack it and name the folder";
const SINGLE: &str = "name the folder that it is in";

/// Formats by the bytes at a place.
const KNOWN: [(usize, &[u8], Format); 37] = [
    (0, b"PK\x03\x04", format("a zip archive", FOLDER)),
    (0, b"PK\x05\x06", format("an empty zip archive", FOLDER)),
    (0, b"PK\x07\x08", format("a part of a zip archive in several parts", "join the parts")),
    (
        0,
        b"7z\xbc\xaf\x27\x1c",
        format("a 7z archive", "unpack it (`7z x FILE`) and name the folder"),
    ),
    (0, b"Rar!\x1a\x07", format("a RAR archive", "unpack it (`unrar x FILE`) and name the folder")),
    (0, b"\x1f\x8b", format("gzip data", "unpack it (`gunzip -k FILE`)")),
    (0, b"\x1f\x9d", format("data of compress (.Z)", "unpack it (`gunzip -k FILE`)")),
    (0, b"\xfd7zXZ\0", format("xz data", "unpack it first: xz -dk FILE")),
    (0, b"\x5d\0\0", format("lzma data", "unpack it first: xz -dk FILE")),
    (0, b"LZIP", format("lzip data", "unpack it first: lzip -dk FILE")),
    (0, b"\x28\xb5\x2f\xfd", format("zstd data", "unpack it first: zstd -d FILE")),
    (0, b"\x04\x22\x4d\x18", format("lz4 data", "unpack it first: lz4 -d FILE")),
    (0, b"BZh", format("bzip2 data", "unpack it first: bunzip2 -k FILE")),
    (0, b"!<arch>\n", format("an ar archive", FOLDER)),
    (0, b"070701", format("a cpio archive", FOLDER)),
    (0, b"070707", format("a cpio archive", FOLDER)),
    (0, b"hsqs", format("a squashfs image", "mount it and name the folder")),
    (0, b"\xff\xd8\xff", format("a single JPEG image", SINGLE)),
    (0, b"\x89PNG\r\n\x1a\n", format("a single PNG image", SINGLE)),
    (0, b"GIF8", format("a single GIF image", SINGLE)),
    (8, b"WEBP", format("a single WebP image", SINGLE)),
    (0, b"BM", format("a single BMP image", SINGLE)),
    (0, b"II*\0", format("a single TIFF image", SINGLE)),
    (0, b"MM\0*", format("a single TIFF image", SINGLE)),
    (4, b"ftypavif", format("a single AVIF image", SINGLE)),
    (4, b"ftyphei", format("a single HEIF image", SINGLE)),
    (4, b"ftyp", format("an MP4 or QuickTime film", "take its frames out as images")),
    (0, b"%PDF", format("a PDF document", "take its images out")),
    (0, b"PAR1", format("a parquet file", "give --layout parquet")),
    (0, b"PARE", format("an encrypted parquet file", "decrypt it first")),
    (0, b"ARROW1", format("an Arrow file", "write it as parquet")),
    (0, b"\x89HDF\r\n\x1a\n", format("an HDF5 file", "write its images as files or parquet")),
    (0, b"\x93NUMPY", format("an array of NumPy", "write its images as files or parquet")),
    (0, b"SQLite format 3\0", format("an SQLite database", "write its images as files or parquet")),
    (0, b"\x80\x04\x95", format("a Python pickle", "write its images as files or parquet")),
    (
        0,
        b"version https://git-lfs",
        format("a pointer of Git LFS, not the file", "fetch the file: git lfs pull"),
    ),
    (257, b"ustar", format("a tar archive", "give it the ending .tar")),
];

const WEB: Format = format(
    "a web page (HTML)",
    "the address it came from wants a login or gives an error; see the page in a browser",
);
const XML: Format = format("an XML file", "name the archive or folder with the images");
const JSON: Format = format("a JSON file", "name the archive or folder with the images");
const TEXT: Format = format("a text file", "name the archive or folder with the images");
const EMPTY: Format = format("empty", "download it again");
const ZEROS: Format = format("zeros alone", "its download did not finish: download it again");
const BROTLI: Format = format("brotli data, by its ending", "unpack it first: brotli -dk FILE");
const UNKNOWN: Format =
    format("data of an unknown format", "name a tar, a zip, a parquet file or a folder of images");

/// What a file with this beginning is; the name helps where a format has no mark of its own.
pub(super) fn of(head: &[u8], name: &Path) -> Format {
    let starts =
        |place: usize, mark: &[u8]| head.get(place..).is_some_and(|rest| rest.starts_with(mark));
    if let Some((_, _, format)) = KNOWN.iter().find(|(place, mark, _)| starts(*place, mark)) {
        return *format;
    }
    if head.is_empty() {
        return EMPTY;
    }
    if head.iter().all(|&byte| byte == 0) {
        return ZEROS;
    }
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    let lower: Vec<u8> = text.iter().take(64).map(u8::to_ascii_lowercase).collect();
    if [&b"<!doctype html"[..], b"<html", b"<head", b"<body"].iter().any(|m| lower.starts_with(m)) {
        return WEB;
    }
    let is_text = is_text(head);
    match text.first() {
        Some(b'<') if is_text => XML,
        Some(b'{' | b'[') if is_text => JSON,
        _ if is_text => TEXT,
        _ if name.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("br")) => BROTLI,
        _ => UNKNOWN,
    }
}

/// True for bytes of UTF-8 without control characters; a character may be cut off at the end.
fn is_text(head: &[u8]) -> bool {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if head.len() - error.valid_up_to() < 4 && error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    text.chars().all(|c| !c.is_control() || c.is_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_their_first_bytes() {
        let of = |head: &[u8]| super::of(head, Path::new("x.tar")).name;
        assert_eq!(of(b"PK\x03\x04..."), "a zip archive");
        assert_eq!(of(b"\n <!DOCTYPE HTML><p>"), "a web page (HTML)");
        assert_eq!(of(b"\xff\xd8\xff\xe0"), "a single JPEG image");
        assert_eq!(of(b"RIFF\0\0\0\0WEBPVP8 "), "a single WebP image");
        assert_eq!(of(b""), "empty");
        assert_eq!(of(&[0; 512]), "zeros alone");
        assert_eq!(of("Entrée refusée é".as_bytes()), "a text file");
        assert_eq!(of(&"é".as_bytes()[..1]), "a text file");
        assert_eq!(of(b"<?xml version='1.0'?>"), "an XML file");
        assert_eq!(of(b"{\"error\": 1}"), "a JSON file");
        assert_eq!(of(b"\x01\x02\x03"), "data of an unknown format");
        assert_eq!(super::of(b"\x1b\x02\xf8", Path::new("a.tar.br")).remedy, BROTLI.remedy);
    }
}
