//! What a session with the server is like: what it may write, and who stands in between.

use registry::{Result, Server, unfit_encoding};

use super::Findings;
use super::database::AREA;

/// Checks for a pooler; false where there is one that nothing can be asked through.
pub(super) async fn pooler(found: &mut Findings, server: &mut Server) -> Result<bool> {
    let check = "pooler";
    if let Some(why) = server.mixed_sessions().await? {
        let remedy =
            "workers and `scheduler up` refuse it; the other checks are left out until then";
        found.fail(AREA, check, format!("the database {why}"), remedy);
        return Ok(false);
    }
    let session = server.session().await?;
    let text = if server.is_passed_on(&session) {
        "each session has a server process of its own, through a pooler or a forwarded port"
    } else {
        "each session has a server process of its own"
    };
    found.ok(AREA, check, text);
    Ok(true)
}

/// Checks encoding, writing and isolation.
pub(super) async fn examine(found: &mut Findings, server: &mut Server) -> Result<()> {
    let session = server.session().await?;
    match unfit_encoding(&session.encoding) {
        None => found.ok(AREA, "encoding", "its encoding is UTF8"),
        Some(why) => {
            let remedy = "no command opens it until then";
            found.fail(AREA, "encoding", format!("the database {why}"), remedy);
        }
    }
    if session.standby {
        let remedy = "let DATABASE_URL name the primary; after a failover that is another server";
        found.fail(AREA, "writes", "the server is a standby, which is read-only", remedy);
    } else if session.read_only {
        let remedy = "a server whose disk is full is often set so: make room, then `alter database NAME \
                      set default_transaction_read_only = off` (or the role, or the server)";
        found.fail(AREA, "writes", "default_transaction_read_only is on", remedy);
    } else {
        found.ok(AREA, "writes", "it can be written");
    }
    if session.isolation == "read committed" {
        found.ok(AREA, "isolation", "transactions are read committed");
    } else {
        let text = format!("default_transaction_isolation is {}", session.isolation);
        let remedy = "these programs set read committed for their own sessions; set it for the database \
                      too, or what you run beside them fails with conflicts (40001)";
        found.warn(AREA, "isolation", text, remedy);
    }
    Ok(())
}
