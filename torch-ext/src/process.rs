//! How libtorch's threads share the processor with the rest of the machine.
use std::os::unix::process::CommandExt;
use std::process::Command;

const POLICY: &str = "OMP_WAIT_POLICY";
const SPIN: &str = "GOMP_SPINCOUNT";

/// Makes libtorch's OpenMP threads sleep instead of spinning while they wait for each other.
///
/// Spinning threads take the cores from the loader's threads and from each other: on two busy
/// cores a training step took six times as long. OpenMP reads the setting before `main`, so the
/// process replaces itself once, with the same arguments and process id; call this first thing in
/// `main`, before anything is opened or started. Nothing happens where `OMP_WAIT_POLICY` or
/// `GOMP_SPINCOUNT` is set already, or where the program cannot be run again.
pub fn wait_passively() {
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
    let _ = command.args(arguments).env(POLICY, "passive").exec();
}
