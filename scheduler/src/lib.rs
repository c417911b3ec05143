//! The scheduler: who does the jobs of the registry, and who looks after them.
//!
//! - [`worker`] claims jobs and starts one child process per attempt, with its share of the GPUs
//!   ([`gpus`]).
//! - [`doctor`] says what is wrong, and what to do.
//! - [`slurm`] writes the script by which workers run as jobs of Slurm.
//! - [`gc`] reclaims the space of what is not needed any more.
//! - [`mod@bench`] measures the queue and the registry on this server.

pub mod bench;
pub mod doctor;
pub mod gc;
pub mod gpus;
pub mod slurm;
pub mod worker;
