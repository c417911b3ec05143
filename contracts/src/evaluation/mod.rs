//! Evaluations: which pictures are scored against which, and how. `evaluator run` makes such a request of its
//! arguments, `evaluator submit` of a row of a table and a profile, and a scoring job has it as its payload.

mod pictures;
mod request;

pub use pictures::{ImageColumn, PictureSet};
pub use request::{EvaluationRequest, SIZES, SPLITS, SUBSETS, check_numbers};
