//! The folder that the programs keep things in by themselves, `PALETTE_HOME`: its layout ([`Home`]),
//! and the Postgres that lies in it where no `DATABASE_URL` names another ([`private`]).

mod error;
mod folder;
pub mod private;

pub use error::{Error, Result};
pub use folder::{Home, Open};
