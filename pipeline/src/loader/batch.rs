//! A batch and how it comes to be: one buffer each for targets, sources and masks, cut into pieces that
//! threads fill apart from each other and that are joined again without a copy.

use bytes::{Bytes, BytesMut};

use super::sample::Sample;
use crate::{ImageSize, Task};

/// One rank's slice of a global batch. Images are `[B,H,W,3]`, as they were decoded, bytes 0 to 255; masks
/// are 0 or 1.
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
    /// The photographs, `[B,H,W,3]`.
    pub target: Vec<u8>,
    /// What the network is given, `[B,H,W,3]`; 128 in the holes.
    pub source: Vec<u8>,
    /// 1 where pixels are to be generated, `[B,H,W]`.
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
        self.target.extend_from_slice(sample.target.as_raw());
        self.source.extend_from_slice(sample.degraded.source.as_raw());
        self.mask.extend_from_slice(sample.degraded.mask.as_raw());
        self.tasks.push(sample.task);
        self.keys.push(sample.key);
        self.positions.push(position);
    }

    /// Joins the pieces of [`Self::cut`], all of them filled and in order.
    pub(super) fn join(index: u64, size: ImageSize, pieces: Vec<Self>) -> Batch {
        let (mut buffers, mut tasks, mut keys, mut positions) =
            <([BytesMut; 3], Vec<_>, Vec<_>, Vec<_>)>::default();
        for mut piece in pieces {
            for (whole, part) in buffers.iter_mut().zip([piece.target, piece.source, piece.mask]) {
                whole.unsplit(part);
            }
            tasks.append(&mut piece.tasks);
            keys.append(&mut piece.keys);
            positions.append(&mut piece.positions);
        }
        let [target, source, mask] = buffers.map(Vec::from);
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

#[cfg(test)]
mod tests {
    use image::{GrayImage, RgbImage};

    use super::*;
    use crate::Degraded;

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
        for (at, pixel) in batch.target.chunks(3).enumerate() {
            let value = (at / 128) as u8;
            assert_eq!(pixel, [value, value + 1, value + 2]);
        }
        // The next batch may lie where this one did.
        let pieces = Piece::cut(count, 3, size.pixels(), Some(batch));
        assert_eq!(pieces[0].target.as_ptr() as usize, starts[0]);
        assert!(pieces.iter().all(|piece| piece.target.is_empty()));
    }
}
