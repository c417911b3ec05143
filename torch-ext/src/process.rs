//! How libtorch's threads and memory get on with the rest of the machine.
use std::os::unix::process::CommandExt;
use std::process::Command;

const POLICY: &str = "OMP_WAIT_POLICY";
const SPIN: &str = "GOMP_SPINCOUNT";

/// Turns that an OpenMP thread waits before it sleeps: some tenths of a millisecond.
const TURNS: &str = "20000";

/// Makes libtorch's OpenMP threads spin for a moment only while they wait for each other, then sleep.
///
/// Threads that spin without end take the cores from the loader's threads and from each other: on
/// two busy cores a training step took six times as long. Threads that sleep at once are woken too
/// late where the cores are idle: a step took up to a third longer. OpenMP reads the setting before
/// `main`, so the process replaces itself once, with the same arguments and process id; call this
/// first thing in `main`, before anything is opened or started. Nothing happens where
/// `OMP_WAIT_POLICY` or `GOMP_SPINCOUNT` is set already, or where the program cannot be run again.
pub fn wait_briefly() {
    if std::env::var_os(POLICY).is_some() || std::env::var_os(SPIN).is_some() {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut arguments = std::env::args_os();
    let mut command = Command::new(program);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    // Returns only where it fails; then this process goes on, slower.
    let _ = command.args(arguments).env(SPIN, TURNS).exec();
}

/// Keeps freed memory for the next training step instead of giving it back to the system and taking
/// it again page by page: with glibc's own thresholds a step of the demo's network faulted in 20 MB
/// anew, a fifth of its time. Call it early in `main`; a process gives all back when it ends.
pub fn keep_memory() {
    #[cfg(target_env = "gnu")]
    {
        // Larger blocks are mapped and unmapped one by one; 32 MiB is the most that glibc allows.
        const MAPPED: libc::c_int = 32 << 20;
        // SAFETY: mallopt takes malloc's lock and sets two numbers, which malloc reads in one piece each.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED);
            libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
        }
    }
}
