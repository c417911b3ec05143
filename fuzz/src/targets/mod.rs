//! What is fed with damaged files: one file of targets for each kind of reader.

mod archives;
mod datasets;
mod masks;
mod pictures;
mod texts;
mod weights;

use std::io::{Cursor, Write};
use std::path::Path;

use image::{ImageFormat, RgbImage};
use storage::Place;
use zip::write::SimpleFileOptions;

use crate::Target;

pub const ALL: &[Target] = &[
    pictures::JPEG,
    pictures::PNG,
    pictures::WEBP,
    archives::TAR,
    archives::ZIP,
    archives::PRESSED,
    archives::PARQUET,
    archives::DEVKIT,
    archives::LISTS,
    datasets::MANIFEST,
    datasets::SHARD,
    datasets::REJECTS,
    datasets::OUTPUTS,
    masks::NPZ,
    masks::STORED,
    masks::PICTURE,
    weights::SAFETENSORS,
    weights::PICKLE,
    weights::STATE,
    texts::EXPERIMENT,
    texts::PAYLOAD,
    texts::TABLES,
    texts::ADDRESSES,
];

/// A drawn photograph in a format.
fn picture(number: u64, side: u32, format: ImageFormat) -> Vec<u8> {
    encoded(&pipeline::scenes::scene(number, side), format)
}

fn encoded(picture: &RgbImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).expect("a buffer takes everything");
    bytes.into_inner()
}

/// A tar of these members.
pub fn tarred(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, *bytes).expect("a buffer takes everything");
    }
    tar.into_inner().expect("a buffer takes everything")
}

/// A zip of these members, deflated or stored.
pub fn zipped(members: &[(&str, &[u8])], deflated: bool) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let method = match deflated {
        true => zip::CompressionMethod::Deflated,
        false => zip::CompressionMethod::Stored,
    };
    let options = SimpleFileOptions::default().compression_method(method);
    for (name, bytes) in members {
        zip.start_file(*name, options).expect("a buffer takes everything");
        zip.write_all(bytes).expect("a buffer takes everything");
    }
    zip.finish().expect("a buffer takes everything").into_inner()
}

/// The first byte, which chooses what the others are, and the others.
fn chosen(bytes: &[u8], ways: u8) -> (u8, &[u8]) {
    match bytes.split_first() {
        Some((first, rest)) => (first % ways, rest),
        None => (0, bytes),
    }
}

/// Inputs that [`chosen`] takes apart again: each with the number of its way before it.
fn ways<const N: usize>(inputs: [Vec<u8>; N]) -> Vec<Vec<u8>> {
    let numbered = inputs.into_iter().enumerate();
    numbered.map(|(way, input)| [&[way as u8][..], &input].concat()).collect()
}

/// What [`parquet`] makes a sound file of.
fn parquet_seeds(sound: &[u8]) -> Vec<Vec<u8>> {
    let (_, footer) = split(sound);
    ways([sound.to_vec(), footer.to_vec()])
}

/// A parquet file: the bytes as they are, or the pages of a sound file and the bytes as its footer, whose length
/// stands behind it.
fn parquet(bytes: &[u8], sound: &[u8]) -> Vec<u8> {
    let (way, bytes) = chosen(bytes, 2);
    if way == 0 {
        return bytes.to_vec();
    }
    let length = (bytes.len() as u32).to_le_bytes();
    [split(sound).0, bytes, &length, b"PAR1"].concat()
}

/// The pages and the footer of a sound parquet file.
fn split(sound: &[u8]) -> (&[u8], &[u8]) {
    let end = sound.len() - 8;
    let length: [u8; 4] = sound[end..end + 4].try_into().expect("four bytes");
    sound[..end].split_at(end - u32::from_le_bytes(length) as usize)
}

/// Writes a file of the scratch folder, and the folders above it.
fn write(path: &Path, bytes: &[u8]) {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).expect("the scratch folder takes folders");
    }
    std::fs::write(path, bytes).expect("the scratch folder takes files");
}

fn place(path: &Path) -> Place {
    Place::folder(path).expect("a path of the scratch folder is a place")
}
