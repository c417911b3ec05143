//! A small classifier of photographs, trained here where no public network fits: for small pictures of
//! few classes. Exported as TorchScript, it is an extractor like any other.

mod export;
mod network;
mod photographs;
mod train;

pub use export::export;
pub use photographs::Photographs;
pub use train::{Options, Trained, train};
