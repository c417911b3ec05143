//! Decoding by libjpeg-turbo's code (as it lives on in mozjpeg), as safe Rust: the calls that the crate
//! `mozjpeg` does not bind. Networks are trained on cuts of photographs, and what is beside a cut need be
//! neither transformed nor coloured; ingest needs to know what libjpeg complains about.
//!
//! Always holds: a part has the very pixels that the whole has there, with libjpeg's own defaults
//! (exact integer transform, smooth chroma), on any processor, built with its assembly or without; no
//! input makes libjpeg end the process or print. What libjpeg mends it also reports, in its own words.

mod complaints;
mod raw;

pub use complaints::{Kind, Warning};
use raw::Raw;

/// libjpeg's words on why it cannot decode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    text: String,
    unsupported: bool,
}

impl Error {
    fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), unsupported: false }
    }

    /// True for a file that may be sound, of a kind that is not read (arithmetic coding, 12 bits, …).
    pub fn is_unsupported(&self) -> bool {
        self.unsupported
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
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
    /// Where they are: the part that was asked for, or wider (blocks are decoded as a whole).
    pub part: Rectangle,
    /// RGB, three bytes a pixel, row by row.
    pub rgb: Vec<u8>,
    /// What libjpeg complained about up to here, each kind of complaint once, in its order.
    pub warnings: Vec<Warning>,
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

    /// Decodes at `eighths`/8 (1 to 8) of the size from now on; sides are rounded up.
    pub fn scale(&mut self, eighths: u8) {
        self.raw.scale(eighths.clamp(1, 8));
    }

    /// Decodes the part that `choose` takes of an image of the width and height that it is told, in
    /// pixels of the scaled image, and reads no further than it must. Grey is repeated, CMYK and YCCK
    /// are taken for inverted, as all that write them do, and multiplied (C·K/255).
    ///
    /// # Errors
    /// For damage that libjpeg cannot pass over, a part that is empty or not inside the image, and what
    /// libjpeg does not support.
    pub fn rgb(self, choose: impl FnOnce(u32, u32) -> Rectangle) -> Result<Pixels, Error> {
        self.raw.rgb(choose, false)
    }

    /// Decodes the whole image and reads on to the end mark, so that the warnings are all that there are.
    ///
    /// # Errors
    /// As [`Self::rgb`], and for what libjpeg cannot read behind the pixels.
    pub fn whole(self) -> Result<Pixels, Error> {
        self.raw.rgb(Rectangle::whole, true)
    }
}
