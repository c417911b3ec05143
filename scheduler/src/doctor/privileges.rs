//! What the role of this connection may do with the tables.

use registry::{Result, Server};

use super::Findings;

const AREA: &str = "database";

pub(super) async fn examine(found: &mut Findings, server: &mut Server) -> Result<()> {
    let lacking = server.lacking().await?;
    let role = server.role().await?;

    let (mut may, mut may_not) = (Vec::new(), Vec::new());
    for ability in Server::ABILITIES {
        let lacks: Vec<String> = lacking
            .iter()
            .filter(|row| row.ability == ability)
            .map(|row| row.what.clone())
            .collect();
        if lacks.is_empty() {
            may.push(ability.to_owned());
        } else {
            may_not.push(format!("{ability} (lacks {})", super::few(&lacks)));
        }
    }
    let side = if role.migrates { &mut may } else { &mut may_not };
    side.push("migrate".into());
    let not =
        if may_not.is_empty() { String::new() } else { format!("; not {}", may_not.join(", ")) };
    let text = format!("role {} may {}{not}", role.name, may.join(", "));
    if may.iter().any(|ability| ability == "read") {
        found.ok(AREA, "privileges", text);
    } else {
        let text = format!("role {} may not {}", role.name, may_not.join(", "));
        let remedy = "an administrator grants it palette_reader, palette_user or palette_worker \
                      (migrations/roles.sql)";
        found.fail(AREA, "privileges", text, remedy);
    }
    let check = "schema";
    if server.anybody_may_create().await? {
        let remedy = "revoke create on schema public from public; migrations/roles.sql does it, and says who may do \
                      what";
        found.warn(
            AREA,
            check,
            "every role that may connect may make objects beside the tables",
            remedy,
        );
    } else {
        found.ok(AREA, check, "only the owner and whom it let may make objects beside the tables");
    }
    Ok(())
}
