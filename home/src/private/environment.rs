//! The environment variables `PG*` are meant for other servers. They must not reach the private one; nor must ours: a
//! server that an attempt has started again would be taken for what the attempt left behind, and ended with it.

use std::process::Command;

/// Runs a program of the server without them: they would name its folder, its port, its time zone, its role.
pub(super) fn without_settings(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        let name_is = |start: &[u8]| name.as_encoded_bytes().starts_with(start);
        if name_is(b"PG") || name_is(b"PALETTE_") {
            command.env_remove(name);
        }
    }
    command
}

/// Keeps `PGOPTIONS` from the private Postgres. Every new connection takes it, and the URL cannot override it as it does
/// the other variables. To be called first in `main`, while there is one thread. With a `DATABASE_URL` the variable stays
/// and means what it means to `psql`.
#[allow(unsafe_code)]
pub fn shut_out_options() {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if !set("DATABASE_URL") && set("PGOPTIONS") {
        // SAFETY: this is called first in `main`, when the process has one thread.
        unsafe { std::env::remove_var("PGOPTIONS") };
    }
}
