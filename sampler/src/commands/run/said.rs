//! What is said of the pictures that are read: what their masks were taken for, what of them is not kept, that
//! they are far larger than what the network learned on.

use std::path::{Path, PathBuf};

use pipeline::degrade::area;
use serde::{Deserialize, Serialize};

use crate::inputs::Picture;

/// Pictures that are said one by one; of more there is a summary.
const ONE_BY_ONE: u64 = 8;
/// A hole of more than this share of a picture is likely what should be kept.
const MOST: f64 = 0.7;
/// A shorter side of more than so many times the network's shows it things larger than it learned.
const LARGE: f64 = 2.0;

/// What is to be said of a picture.
#[derive(Serialize, Deserialize)]
pub struct Seen {
    path: PathBuf,
    /// Width and height.
    size: (u32, u32),
    hole: Option<Hole>,
    /// What of the file is not kept.
    lost: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Hole {
    /// Of the picture, from 0 to 1.
    share: f64,
    /// What the mask was taken for.
    taken: String,
    inverted: bool,
}

impl Seen {
    /// Of a picture that was read.
    pub fn of(path: &Path, picture: &Picture) -> Self {
        let hole = picture.mask.as_ref().map(|taken| Hole {
            share: area(&taken.mask),
            taken: taken.to_string(),
            inverted: taken.inverted,
        });
        let (size, lost) = (picture.framed.dimensions(), picture.lost.clone());
        Self { path: path.to_owned(), size, hole, lost }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Counts what is not said one by one.
pub struct Said {
    /// Width and height of what the network learned on.
    learned: [u32; 2],
    large: bool,
    masks: u64,
    least: f64,
    most: f64,
    lost: u64,
}

impl Said {
    /// For a network that learned on images of this height and width.
    pub fn new([height, width]: [u32; 2]) -> Self {
        Self { learned: [width, height], large: false, masks: 0, least: 0.0, most: 0.0, lost: 0 }
    }

    pub fn picture(&mut self, seen: &Seen) {
        let shown = seen.path.display();
        if !self.large
            && let Some(large) = large(seen.size, self.learned)
        {
            self.large = true;
            tracing::warn!("{shown}: {large}");
        }
        if let Some(Hole { share, taken, inverted }) = &seen.hole {
            let share = *share;
            (self.least, self.most) = match self.masks {
                0 => (share, share),
                _ => (self.least.min(share), self.most.max(share)),
            };
            self.masks += 1;
            if share > MOST {
                let other = if *inverted { "without" } else { "with" };
                tracing::warn!(
                    "{shown}: the hole is {taken}; if that is what should be kept, say it {other} \
                     --mask-invert"
                );
            } else if self.masks <= ONE_BY_ONE {
                tracing::info!("{shown}: the hole is {taken}");
            }
        }
        for lost in &seen.lost {
            self.lost += 1;
            if self.lost <= ONE_BY_ONE {
                tracing::warn!("{shown}: not kept: {lost}");
            }
        }
    }

    pub fn finish(&self) {
        if self.masks > ONE_BY_ONE {
            let (count, least, most) = (self.masks, 100.0 * self.least, 100.0 * self.most);
            tracing::info!("the holes of {count} pictures are {least:.1} to {most:.1} % of them");
        }
        if self.lost > ONE_BY_ONE {
            tracing::warn!("{} more things were not kept of the pictures", self.lost - ONE_BY_ONE);
        }
    }
}

/// What is said of a picture far larger than what the network learned on.
fn large((width, height): (u32, u32), [wide, high]: [u32; 2]) -> Option<String> {
    let side = wide.min(high);
    let factor = f64::from(width.min(height)) / f64::from(side.max(1));
    (factor > LARGE).then(|| {
        format!(
            "the network learned on {wide}×{high}, this is {width}×{height}, {factor:.1} times as large: it \
             is restored in windows that show little of it; --short-side {side} scales it down, --square \
             also takes its middle"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_far_larger_by_its_shorter_side() {
        let said = large((1024, 768), [64, 64]).unwrap();
        for words in ["64×64", "1024×768, 12.0 times", "--short-side 64", "--square"] {
            assert!(said.contains(words), "{said}");
        }
        // A panorama shows things in the size that was learned.
        assert_eq!(large((1024, 128), [64, 64]), None);
        assert!(large((129, 130), [64, 64]).is_some());
        assert!(large((400, 300), [256, 128]).unwrap().contains("2.3 times"));
        assert_eq!(large((10, 10), [64, 64]), None);
    }
}
