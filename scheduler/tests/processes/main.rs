//! The program `scheduler` as a user meets it: real processes, a real Postgres, real kills.

mod house;
mod private;
mod worker;
