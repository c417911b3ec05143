//! Human studies: which of two pictures would a person guess is from a camera?
//!
//! - `source`: where pictures come from, by the keys of their records;
//! - `gather`: the chosen pictures of all systems, made alike in all but what they show;
//! - `draw`: what is drawn: the images of a study, who is shown which pair, in what order, on which
//!   side;
//! - `server` and `page/`: the rating page; `seldom`: how often it says that something fails;
//! - `rates`: fool rates with their intervals.
//!
//! What is stored is the scheduler's business ([`registry::Study`]). Always holds: what a browser is
//! sent says neither which picture is which nor what it is a picture of.

pub mod draw;
pub mod gather;
pub mod rates;
mod seldom;
pub mod server;
pub mod source;
