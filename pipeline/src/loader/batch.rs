//! A batch and how it comes to be: one buffer for each kind of plane, cut into pieces that threads
//! fill apart from each other and that are joined again without a copy.

use bytes::{Bytes, BytesMut};

use super::sample::Sample;
use crate::{ImageSize, Task};

/// One rank's slice of a global batch. Planes are `[B,C,H,W]`, bytes 0 to 255; masks 0 or 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Number of the global batch.
    pub index: u64,
    /// Images in this slice, B.
    pub size: usize,
    /// Height of the images.
    pub height: usize,
    /// Width of the images.
    pub width: usize,
    /// The photographs, `[B,3,H,W]`.
    pub target: Vec<u8>,
    /// What the network is given, `[B,3,H,W]`; 128 in the holes.
    pub source: Vec<u8>,
    /// 1 where pixels are to be generated, `[B,1,H,W]`.
    pub mask: Vec<u8>,
    /// Task of each image.
    pub tasks: Vec<Task>,
    /// Key of each image.
    pub keys: Vec<String>,
    /// Position of each image in the stream, bB + k: the key of all its randomness.
    pub positions: Vec<u64>,
}

/// A run of consecutive images of a batch: room for them first, the images once it is filled.
pub(super) struct Piece {
    target: BytesMut,
    source: BytesMut,
    mask: BytesMut,
    tasks: Vec<Task>,
    keys: Vec<String>,
    positions: Vec<u64>,
}

impl Piece {
    /// Room for `count` images of `pixels` pixels, in pieces of `each` images (the last may be
    /// smaller); in the memory of a batch that is used no more, where there is one.
    pub(super) fn cut(count: usize, each: usize, pixels: usize, used: Option<Batch>) -> Vec<Self> {
        let used = used.map(|batch| [batch.target, batch.source, batch.mask]).unwrap_or_default();
        let [target, source, mask] = used.map(room);
        let mut left = Self::new(target, source, mask);
        left.target.reserve(3 * pixels * count);
        left.source.reserve(3 * pixels * count);
        left.mask.reserve(pixels * count);
        let mut pieces = Vec::with_capacity(count.div_ceil(each));
        for _ in 1..count.div_ceil(each) {
            let rest = Self::new(
                left.target.split_off(3 * pixels * each),
                left.source.split_off(3 * pixels * each),
                left.mask.split_off(pixels * each),
            );
            pieces.push(std::mem::replace(&mut left, rest));
        }
        pieces.push(left);
        pieces
    }

    fn new(target: BytesMut, source: BytesMut, mask: BytesMut) -> Self {
        let (tasks, keys, positions) = Default::default();
        Self { target, source, mask, tasks, keys, positions }
    }

    /// Appends an image.
    pub(super) fn push(&mut self, position: u64, sample: Sample) {
        planar(sample.target.as_raw(), &mut self.target);
        planar(sample.degraded.source.as_raw(), &mut self.source);
        self.mask.extend_from_slice(sample.degraded.mask.as_raw());
        self.tasks.push(sample.task);
        self.keys.push(sample.key);
        self.positions.push(position);
    }

    /// Joins the pieces of [`Self::cut`], all of them filled and in order.
    pub(super) fn join(index: u64, size: ImageSize, pieces: Vec<Self>) -> Batch {
        let (mut planes, mut tasks, mut keys, mut positions) =
            <([BytesMut; 3], Vec<_>, Vec<_>, Vec<_>)>::default();
        for mut piece in pieces {
            for (whole, part) in planes.iter_mut().zip([piece.target, piece.source, piece.mask]) {
                whole.unsplit(part);
            }
            tasks.append(&mut piece.tasks);
            keys.append(&mut piece.keys);
            positions.append(&mut piece.positions);
        }
        let [target, source, mask] = planes.map(Vec::from);
        let (height, width) = (size.height as usize, size.width as usize);
        let size = positions.len();
        Batch { index, size, height, width, target, source, mask, tasks, keys, positions }
    }
}

/// The memory of a vector, empty.
fn room(used: Vec<u8>) -> BytesMut {
    let mut room = Bytes::from(used).try_into_mut().unwrap_or_default();
    room.clear();
    room
}

/// Pixels that are taken apart at a time.
const STRIP: usize = 256;

/// Appends interleaved RGB as three planes, into room that is there already.
fn planar(pixels: &[u8], out: &mut BytesMut) {
    let count = pixels.len() / 3;
    // Room that was never written stays so until a plane comes to it.
    let mut red = out.split_off(out.len());
    let mut green = red.split_off(count);
    let mut blue = green.split_off(count);
    let rest = blue.split_off(count);
    for pixels in pixels.chunks(3 * STRIP) {
        let mut strip = [[0; STRIP]; 3];
        let [reds, greens, blues] = &mut strip;
        let pixels = pixels.as_chunks::<3>().0;
        for (((pixel, red), green), blue) in pixels.iter().zip(reds).zip(greens).zip(blues) {
            [*red, *green, *blue] = *pixel;
        }
        for (plane, strip) in [&mut red, &mut green, &mut blue].into_iter().zip(&strip) {
            plane.extend_from_slice(&strip[..pixels.len()]);
        }
    }
    for piece in [red, green, blue, rest] {
        out.unsplit(piece);
    }
}

#[cfg(test)]
mod tests {
    use image::{GrayImage, RgbImage};

    use super::*;
    use crate::Degraded;

    #[test]
    fn planes_hold_every_third_byte() {
        for count in [0, 1, 3, 4, 5, 16, 67, 256, 1000] {
            let pixels: Vec<u8> = (0..3 * count).map(|i| (i * 89 % 251) as u8).collect();
            let mut out = BytesMut::with_capacity(pixels.len() + 9);
            out.extend_from_slice(&[9; 2]);
            let start = out.as_ptr();
            planar(&pixels, &mut out);
            assert_eq!((out.as_ptr(), out.capacity()), (start, pixels.len() + 9));
            let plane = |channel: usize| pixels.iter().skip(channel).step_by(3).copied();
            let expected: Vec<u8> = [9, 9].into_iter().chain((0..3).flat_map(plane)).collect();
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn pieces_are_joined_where_they_lie() {
        let (size, count) = (ImageSize { height: 8, width: 16 }, 7);
        let mut pieces = Piece::cut(count, 3, size.pixels(), None);
        assert_eq!(pieces.len(), 3);
        let starts = [0, 1, 2].map(|piece: usize| pieces[piece].target.as_ptr() as usize);
        assert_eq!(starts.map(|start| start - starts[0]), [0, 9 * 128, 18 * 128]);
        for position in 0..count {
            let value = position as u8;
            let picture = RgbImage::from_pixel(16, 8, image::Rgb([value, value + 1, value + 2]));
            let sample = Sample {
                key: position.to_string(),
                task: Task::Jpeg,
                target: picture.clone(),
                degraded: Degraded { source: picture, mask: GrayImage::new(16, 8) },
            };
            pieces[position / 3].push(position as u64, sample);
        }
        let batch = Piece::join(5, size, pieces);
        assert_eq!(batch.target.as_ptr() as usize, starts[0]);
        assert_eq!((batch.index, batch.size, batch.height, batch.width), (5, 7, 8, 16));
        assert_eq!(batch.positions, (0..7).collect::<Vec<_>>());
        for (at, plane) in batch.target.chunks(128).enumerate() {
            assert!(plane.iter().all(|&value| usize::from(value) == at / 3 + at % 3));
        }
        // The next batch may lie where this one did.
        let pieces = Piece::cut(count, 3, size.pixels(), Some(batch));
        assert_eq!(pieces[0].target.as_ptr() as usize, starts[0]);
        assert!(pieces.iter().all(|piece| piece.target.is_empty()));
    }
}
