//! What is said of the pictures that are read: what their masks were taken for, what of them is not kept.

use std::path::Path;

use pipeline::degrade::area;

use crate::inputs::Picture;

/// Pictures that are said one by one; of more there is a summary.
const ONE_BY_ONE: u64 = 8;
/// A hole of more than this share of a picture is likely what should be kept.
const MOST: f64 = 0.7;

/// Counts what is not said one by one.
#[derive(Default)]
pub struct Said {
    masks: u64,
    least: f64,
    most: f64,
    lost: u64,
}

impl Said {
    pub fn picture(&mut self, path: &Path, picture: &Picture) {
        let shown = path.display();
        if let Some(taken) = &picture.mask {
            let share = area(&taken.mask);
            (self.least, self.most) = match self.masks {
                0 => (share, share),
                _ => (self.least.min(share), self.most.max(share)),
            };
            self.masks += 1;
            if share > MOST {
                let other = if taken.inverted { "without" } else { "with" };
                tracing::warn!(
                    "{shown}: the hole is {taken}; if that is what should be kept, say it {other} \
                     --mask-invert"
                );
            } else if self.masks <= ONE_BY_ONE {
                tracing::info!("{shown}: the hole is {taken}");
            }
        }
        for lost in &picture.lost {
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
