//! The program `scheduler` as a user meets it: real processes, a real Postgres, real kills.

#![allow(clippy::unwrap_used, reason = "a test fails where a value is missing")]

mod again;
mod ailing;
mod analysis;
mod asked;
mod compared;
mod database;
mod databases;
mod deploy;
mod disk;
mod doctor;
mod endpoint;
mod flood;
mod gc;
mod gpus;
mod harmless;
mod laboratory;
mod lists;
mod marks;
mod messages;
mod outages;
mod pilots;
mod private;
mod roles;
mod strays;
mod submits;
mod tls;
mod worker;
