//! The registry: one line a degradation, and what is made of the lines. The order is fixed for good,
//! since a task's place is part of the key of its draws; new ones go to the end.

use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::{Degradation, Degraded};
use crate::Result;
use random::{Rng, key};

macro_rules! degradations {
    ($($name:ident: $Type:ident, $what:literal;)*) => {
        $(use super::$name::$Type;)*

        /// What the network is asked to restore.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum Task {
            $(#[doc = $what] $Type,)*
        }

        impl Task {
            /// All tasks; those of the paper first, in its order.
            pub const ALL: [Self; [$(stringify!($name)),*].len()] = [$(Self::$Type),*];

            /// The name as written in configurations.
            pub fn name(self) -> &'static str {
                match self { $(Self::$Type => stringify!($name),)* }
            }

            /// True where a masked region is to be generated and the rest of the source is known
            /// (the device fills the masked region with noise); false where the whole image is
            /// generated.
            pub fn has_hole(self) -> bool {
                match self { $(Self::$Type => $Type::HOLE,)* }
            }
        }

        /// The table `[data.degradation]`: every number of every degradation, one table each.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct DegradationConfig {
            $(#[doc = $what] pub $name: $Type,)*
        }

        impl DegradationConfig {
            /// Checks every number.
            ///
            /// # Errors
            /// Names the key, its value and what is allowed.
            pub fn validate(&self) -> Result<()> {
                $(self.$name.validate(concat!("data.degradation.", stringify!($name)))?;)*
                Ok(())
            }
        }

        /// One evaluation degradation: fixed, or drawn from a fixed seed and the record's key, so
        /// that every model sees the same pairs. As text `colorization`,
        /// `inpainting:free-form-10-20`, `inpainting:center`, `uncropping:right-half`, `jpeg:10`,
        /// `jpeg:10:jpeg-encoder`, `superresolution:4`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub enum Evaluation {
            $(#[doc = $what] $Type(<$Type as Degradation>::Form),)*
        }

        impl Evaluation {
            /// What the paper reports first for a task.
            pub fn default_for(task: Task) -> Self {
                match task { $(Task::$Type => Self::$Type(Default::default()),)* }
            }

            /// The task that it belongs to.
            pub fn task(self) -> Task {
                match self { $(Self::$Type(_) => Task::$Type,)* }
            }

            /// Degrades a target; what is random depends on `seed` and the record's `key` alone.
            ///
            /// # Errors
            /// When a codec refuses the image (sides over 65535).
            pub fn apply(self, target: &RgbImage, seed: u64, key: &str) -> Result<Degraded> {
                match self { $(Self::$Type(form) => $Type::evaluate(form, target, seed, key),)* }
            }

            /// What follows the colon of its text, or nothing.
            pub(super) fn form(self) -> String {
                match self { $(Self::$Type(form) => form.to_string(),)* }
            }

            /// The evaluation of a task that the text after the colon says, if it says one.
            pub(super) fn of_form(task: Task, text: &str) -> Option<Self> {
                match task { $(Task::$Type => $Type::form(text).map(Self::$Type),)* }
            }
        }

        /// How the evaluations are written, for errors.
        pub(super) const FORMS: &[&str] = &[$($Type::FORMS),*];

        /// Degrades a target for training, everything drawn from `seed`.
        ///
        /// # Errors
        /// When a codec refuses the image (sides over 65535).
        pub fn train(
            task: Task,
            config: &DegradationConfig,
            target: &RgbImage,
            seed: u64,
        ) -> Result<Degraded> {
            let rng = &mut Rng::new(key(&[seed, 0x6465_6772, task as u64]));
            match task { $(Task::$Type => config.$name.train(target, rng),)* }
        }
    };
}

degradations! {
    colorization: Colorization, "Grey to colour.";
    inpainting: Inpainting, "A hole inside the image.";
    uncropping: Uncropping, "Missing borders.";
    jpeg: Jpeg, "Blocks and colour bleeding of strong JPEG compression.";
    superresolution: Superresolution, "Fine detail of an image that was scaled down.";
}
