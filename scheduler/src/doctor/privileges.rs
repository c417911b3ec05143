//! What the role of this connection may do with the tables: the rights that each of the roles of
//! `migrations/roles.sql` stands for.

use registry::Result;
use sqlx::PgConnection;

use super::Findings;

const AREA: &str = "database";

/// What people want to do, in the order in which each holds the one before.
const ABILITIES: [&str; 4] = ["read", "submit", "control", "work"];

/// What an ability needs: table, column where one stands for the others, privilege.
const NEEDS: [(&str, &str, &str, &str); 38] = [
    ("read", "jobs", "", "select"),
    ("read", "dependencies", "", "select"),
    ("read", "attempts", "", "select"),
    ("read", "workers", "", "select"),
    ("read", "experiments", "", "select"),
    ("read", "runs", "", "select"),
    ("read", "series", "", "select"),
    ("read", "metrics", "", "select"),
    ("read", "checkpoints", "", "select"),
    ("read", "evaluations", "", "select"),
    ("read", "sweeps", "", "select"),
    ("submit", "jobs", "payload", "insert"),
    ("submit", "dependencies", "", "insert"),
    ("submit", "experiments", "", "insert"),
    ("submit", "experiments", "name", "update"),
    ("submit", "runs", "config", "insert"),
    ("submit", "datasets", "", "insert"),
    ("submit", "datasets", "uri", "update"),
    ("submit", "run_datasets", "", "insert"),
    ("submit", "samplings", "", "insert"),
    ("submit", "sweeps", "name", "insert"),
    ("control", "jobs", "state", "update"),
    ("control", "jobs", "stop_requested", "update"),
    ("work", "workers", "", "insert"),
    ("work", "workers", "", "update"),
    ("work", "jobs", "attempt", "update"),
    ("work", "attempts", "", "insert"),
    ("work", "attempts", "", "update"),
    ("work", "runs", "latest", "update"),
    ("work", "series", "", "insert"),
    ("work", "metrics", "", "insert"),
    ("work", "metrics", "", "delete"),
    ("work", "checkpoints", "", "insert"),
    ("work", "checkpoints", "", "delete"),
    ("work", "samplings", "step", "update"),
    ("work", "chunks", "", "insert"),
    ("work", "chunks", "", "update"),
    ("work", "evaluations", "", "insert"),
];

pub(super) async fn examine(found: &mut Findings, connection: &mut PgConnection) -> Result<()> {
    let list =
        |part: fn(&(&str, &str, &str, &str)) -> String| NEEDS.iter().map(part).collect::<Vec<_>>();
    let lacking = sqlx::query!(
        r#"select ability as "ability!", upper(privilege) || ' on ' || relation
               || case when attribute = '' then '' else '.' || attribute end as "what!"
           from unnest($1::text[], $2::text[], $3::text[], $4::text[])
               with ordinality as needs (ability, relation, attribute, privilege, place)
           where not case
               when attribute <> '' then has_column_privilege(relation, attribute, privilege)
               when privilege = 'delete' then has_table_privilege(relation, privilege)
               else has_any_column_privilege(relation, privilege)
           end
           order by place"#,
        &list(|need| need.0.to_owned()),
        &list(|need| need.1.to_owned()),
        &list(|need| need.2.to_owned()),
        &list(|need| need.3.to_owned()),
    )
    .fetch_all(&mut *connection)
    .await?;
    let row = sqlx::query!(
        r#"select current_user::text as "role!",
               pg_has_role(relowner, 'usage') and has_schema_privilege(relnamespace, 'create')
                   as "migrate!"
           from pg_class where oid = to_regclass('_sqlx_migrations')"#
    )
    .fetch_one(connection)
    .await?;

    let (mut may, mut may_not) = (Vec::new(), Vec::new());
    for ability in ABILITIES {
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
    let side = if row.migrate { &mut may } else { &mut may_not };
    side.push("migrate".into());
    let not =
        if may_not.is_empty() { String::new() } else { format!("; not {}", may_not.join(", ")) };
    let text = format!("role {} may {}{not}", row.role, may.join(", "));
    if may.iter().any(|ability| ability == "read") {
        found.ok(AREA, "privileges", text);
    } else {
        let text = format!("role {} may not {}", row.role, may_not.join(", "));
        let remedy = "an administrator grants it palette_reader, palette_user or palette_worker \
                      (migrations/roles.sql)";
        found.fail(AREA, "privileges", text, remedy);
    }
    Ok(())
}
