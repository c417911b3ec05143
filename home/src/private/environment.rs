//! Settings of a user's other servers, which come by the environment (`PG*`) and are none of the private one's.

use std::process::Command;

/// Runs a program of the server without them: they would name its folder, its port, its time zone, its role.
pub(super) fn without_settings(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"PG") {
            command.env_remove(name);
        }
    }
    command
}

/// Lets `PGOPTIONS` not reach the private Postgres: it is a part of every connection that this process makes, and
/// the only variable that its URL is not stronger than. Called where a program begins, before it has a second thread.
/// With a `DATABASE_URL` it means what it means to `psql`.
#[allow(unsafe_code)]
pub fn shut_out_options() {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if !set("DATABASE_URL") && set("PGOPTIONS") {
        // SAFETY: no other thread reads the environment, as there is none yet.
        unsafe { std::env::remove_var("PGOPTIONS") };
    }
}
