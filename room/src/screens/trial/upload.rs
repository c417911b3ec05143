//! Files of strangers: how long they may be, and what they must be. Every one is decoded once before it is stored, by
//! the decoder that all pictures go through, a few at a time.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pipeline::image::{Format, Limits, examine, orientation};
use registry::{NewTryPicture, TryPart};
use tokio::sync::Semaphore;

use crate::{Answer, Refusal};

/// Bytes of a picture, and of a mask.
const FILE: usize = 8 << 20;
/// Bytes of a request: a picture and a mask in base64, and the rest.
pub const BODY: usize = 23 << 20;
/// Pixels of a picture.
const PIXELS: u64 = 25_000_000;
/// As many are decoded at once: each takes up to 16 bytes a pixel.
static DECODING: Semaphore = Semaphore::const_new(2);

/// The bytes of a file in base64.
///
/// # Errors
/// 400 where it is none, or too long.
pub fn decoded(text: &str, what: &str) -> Answer<Vec<u8>> {
    let bytes = STANDARD.decode(text.as_bytes());
    let bytes = bytes.map_err(|_| Refusal::bad(format!("the {what} is no base64")))?;
    match bytes.len() {
        0 => Err(Refusal::bad(format!("the {what} is empty: choose a file"))),
        length if length > FILE => Err(Refusal::bad(format!(
            "the {what} has {:.1} MiB, and at most {} MiB are taken: make it smaller",
            length as f64 / f64::from(1 << 20),
            FILE >> 20
        ))),
        _ => Ok(bytes),
    }
}

/// A file as it is stored.
///
/// # Errors
/// 400 with what is wrong with it.
pub async fn checked(bytes: Vec<u8>, what: TryPart) -> Answer<NewTryPicture> {
    let called = if what == TryPart::Mask { "mask" } else { "picture" };
    let turn = DECODING.acquire().await.map_err(|_| Refusal::later("the server ends"))?;
    let checked = tokio::task::spawn_blocking(move || {
        // It goes on when whoever asked has left, and keeps its turn.
        let _turn = turn;
        let limits = Limits { bytes: FILE as u64, pixels: PIXELS, ..Limits::DECODE };
        let (found, format) = examine(&bytes, &limits).map_err(|error| error.to_string())?;
        if let Some(damage) = found.damage {
            return Err(format!("damaged: {damage}"));
        }
        let media = match format {
            Format::Jpeg => "image/jpeg",
            Format::Png => "image/png",
            Format::Webp => "image/webp",
        };
        let (mut width, mut height) = found.image.dimensions();
        // Turned upright, as browsers and the sampler show it.
        if orientation(&bytes) >= 5 {
            (width, height) = (height, width);
        }
        if width.max(height) > 65_535 {
            return Err("a side has more than 65535 pixels".to_owned());
        }
        let (width, height) = (width.cast_signed(), height.cast_signed());
        Ok(NewTryPicture { what, sample: 0, step: 0, width, height, media, bytes })
    });
    let checked = checked.await.map_err(|_| Refusal::later("the picture was not read"))?;
    checked.map_err(|why| {
        Refusal::bad(format!("the {called} cannot be used: {why} (JPEG, PNG and WebP are read)"))
    })
}

/// The name of a picture as the network's noise depends on it: that of its file without its ending.
pub fn name(file: &str) -> String {
    let base = file.rsplit(['/', '\\']).next().unwrap_or_default();
    let fitted = storage::names::fitted(pipeline::names::stem(base));
    match fitted.trim_matches(['.', '-']) {
        "" => "picture".to_owned(),
        name => name.chars().take(80).collect(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn names_of_files_are_made_harmless() {
        for (file, wanted) in [
            ("holiday.JPG", "holiday"),
            ("../../etc/passwd", "passwd"),
            ("C:\\me\\a b.png", "a-b"),
            ("..", "picture"),
            ("", "picture"),
            (".png", "picture"),
        ] {
            assert_eq!(name(file), wanted, "{file}");
        }
        assert!(name(&"ä".repeat(500)).chars().count() <= 80);
        assert!(!name("<script>alert(1)</script>.png").contains('<'));
    }

    #[tokio::test]
    async fn what_is_no_picture_or_too_large_is_refused_with_the_reason() {
        let refused =
            async |bytes: &[u8]| checked(bytes.to_vec(), TryPart::Input).await.unwrap_err();
        assert!(refused(b"hello").await.why.contains("unknown format"));
        assert!(decoded("", "picture").unwrap_err().why.contains("empty"));
        assert!(decoded("%", "mask").unwrap_err().why.contains("base64"));
        let long = STANDARD.encode(vec![0; FILE + 1]);
        assert!(decoded(&long, "picture").unwrap_err().why.contains("at most 8 MiB"));
        // A bomb: a PNG header of 60000 by 60000 pixels.
        let mut bomb = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
        bomb.extend(60_000_u32.to_be_bytes().iter().chain(&60_000_u32.to_be_bytes()));
        bomb.extend(b"\x08\x02\0\0\0\0\0\0\0");
        let why = refused(&bomb).await.why;
        assert!(why.contains("cannot be used"), "{why}");
    }
}
