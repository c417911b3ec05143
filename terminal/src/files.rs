//! Open files: as many as the system lets the process have.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// More than any program here needs; some systems allow a billion, and what goes through all of them (a
/// child that closes every file) then takes minutes.
const ENOUGH: u64 = 65_536;

/// Raises the soft limit of open files up to the hard one. 1,024, the usual soft limit, is for programs
/// that call `select`; shards, checkpoints, sockets and children together may need more.
pub fn raise_limit() {
    // A limit that cannot be raised is told where files run out.
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard.min(ENOUGH)
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard.min(ENOUGH), hard);
    }
}
