//! Decoding a part of a JPEG by libjpeg-turbo's code (as it lives on in mozjpeg), as safe Rust: the
//! few calls that the crate `mozjpeg` does not bind. Networks are trained on cuts of photographs, and
//! what lies beside a cut need be neither transformed nor coloured.
//!
//! Always holds: a part has the very pixels that the whole has there, with libjpeg's own defaults
//! (exact integer transform, smooth chroma), on any processor, built with its assembly or without; no
//! input makes libjpeg end the process or print; a file that ends before the part does is an error.

mod raw;

use raw::Raw;

/// libjpeg's words on why it cannot decode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(String);

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

/// A rectangle of pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rectangle {
    /// First column.
    pub left: u32,
    /// First row.
    pub top: u32,
    /// Columns, at least 1.
    pub width: u32,
    /// Rows, at least 1.
    pub height: u32,
}

impl Rectangle {
    /// A whole image of this size.
    pub fn whole(width: u32, height: u32) -> Self {
        Self { left: 0, top: 0, width, height }
    }
}

/// Decoded pixels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pixels {
    /// Where they lie: the part that was asked for, or wider (blocks are decoded as a whole).
    pub part: Rectangle,
    /// RGB, three bytes a pixel, row by row.
    pub rgb: Vec<u8>,
    /// True where libjpeg met damage in the file that it passed over or mended. The pixels may be wrong then.
    pub mended: bool,
}

/// A JPEG whose header was read and nothing else.
pub struct Header<'a> {
    raw: Raw<'a>,
}

impl<'a> Header<'a> {
    /// Reads the header. Nothing is allocated by the size that it announces.
    ///
    /// # Errors
    /// Where it is damaged, cut off or of no kind that libjpeg knows.
    pub fn read(file: &'a [u8]) -> Result<Self, Error> {
        Raw::open(file).map(|raw| Self { raw })
    }

    /// Width and height of the image.
    pub fn size(&self) -> (u32, u32) {
        self.raw.size()
    }

    /// True for grey and YCbCr: what photographs have, and what [`Self::rgb`] takes.
    pub fn is_grey_or_ycbcr(&self) -> bool {
        self.raw.is_grey_or_ycbcr()
    }

    /// Decodes at `eighths`/8 (1 to 8) of the size from now on; sides are rounded up.
    pub fn scale(&mut self, eighths: u8) {
        self.raw.scale(eighths.clamp(1, 8));
    }

    /// Decodes the part that `choose` takes of an image of the width and height that it is told, in
    /// pixels of the scaled image.
    ///
    /// # Errors
    /// For damage that libjpeg cannot pass over, a file that ends before the part does, a part that is
    /// empty or not inside the image, and colours that are neither grey nor YCbCr.
    pub fn rgb(self, choose: impl FnOnce(u32, u32) -> Rectangle) -> Result<Pixels, Error> {
        if !self.is_grey_or_ycbcr() {
            return Err(Error("colours are neither grey nor YCbCr".into()));
        }
        self.raw.rgb(choose)
    }
}
