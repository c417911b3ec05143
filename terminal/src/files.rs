//! Open files: as many as the system lets the process have.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// More than any program here needs; some systems allow a billion, and what goes through all of them (a
/// child that closes every file) then takes minutes.
const ENOUGH: u64 = 65_536;

/// Fewer do for no program here with its sockets, pipes and libraries, whatever it is asked to do.
const LEAST: u64 = 64;

/// Raises the soft limit of open files up to the hard one. 1,024, the usual soft limit, is for programs
/// that call `select`; shards, checkpoints, sockets and children together may need more.
///
/// # Errors
/// Where there can be too few.
pub fn raise_limit() -> anyhow::Result<()> {
    // A limit that cannot be asked for or raised is told where files run out.
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return Ok(()) };
    let raised = soft.max(hard.min(ENOUGH));
    let now = match setrlimit(Resource::RLIMIT_NOFILE, raised, hard) {
        Ok(()) => raised,
        Err(_) => soft,
    };
    anyhow::ensure!(
        now >= LEAST,
        "{now} files may be open at once and {LEAST} are needed at least: raise the limit, as by `ulimit -n 1024`"
    );
    Ok(())
}
