//! What is drawn for people: contact sheets, charts, animations, and their encoding as PNG files. Knows
//! nothing of datasets, networks or stores: pixels come in, the bytes of a file go out.

mod animation;
mod chart;
mod error_map;
mod pixels;
mod sheet;
mod text;

pub use animation::animation;
pub use chart::Chart;
pub use error_map::{Difference, FULL, difference};
pub use image::RgbImage;
pub use pixels::{
    PngMeta, THUMBNAIL_SIDE, from_batch, from_mask, png, png_text, png_with, thumbnail,
};
pub use sheet::{Sheet, page};

/// What can go wrong between pixels and a file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A sheet or an animation without pictures.
    #[error("empty: nothing to draw, no picture")]
    Empty,
    /// A sheet that would be larger than 30000 pixels a side.
    #[error("too large: a sheet of {width}x{height}, show fewer pictures")]
    TooLarge {
        /// Its width in pixels.
        width: u64,
        /// Its height in pixels.
        height: u64,
    },
    /// Two pictures that cannot be compared.
    #[error("not comparable: pictures of {first} and {second} pixels")]
    Sizes {
        /// The size of one.
        first: String,
        /// That of the other.
        second: String,
    },
    /// Pixels that cannot be encoded.
    #[error("not encodable: {0}")]
    Encoding(String),
}

/// Result with the crate's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;
