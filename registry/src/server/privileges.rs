//! What the role of a connection may do with the tables: the rights that each of the roles of
//! `migrations/roles.sql` stands for.

use sqlx::PgConnection;

use super::Server;
use crate::{Database, Error, Result};

/// What an ability needs: table, column where one stands for the others, privilege.
const NEEDS: [(&str, &str, &str, &str); 48] = [
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
    ("submit", "submissions", "", "insert"),
    ("submit", "sweeps", "name", "insert"),
    ("control", "jobs", "state", "update"),
    ("control", "jobs", "stop_requested", "update"),
    ("control", "jobs", "archived_at", "update"),
    ("control", "runs", "archived_at", "update"),
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
    ("keep scores", "evaluations", "", "insert"),
    ("make studies", "studies", "", "insert"),
    ("make studies", "study_images", "", "insert"),
    ("make studies", "study_outputs", "", "insert"),
    ("serve studies", "study_raters", "started_at", "update"),
    ("serve studies", "study_trials", "shown", "update"),
    ("serve studies", "study_answers", "", "insert"),
];

/// What is asked for before it is begun: whoever may not do it all to its end begins nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Doing a job.
    Work,
    /// Keeping the scores of outputs.
    KeepScores,
    /// Making a human study.
    MakeStudies,
    /// Serving the rating page of one.
    ServeStudies,
}

impl Deed {
    /// As the list of needs calls it, the words for it, and the role of `migrations/roles.sql` that may.
    fn told(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Work => ("work", "do jobs", "palette_worker"),
            Self::KeepScores => ("keep scores", "keep scores", "palette_worker"),
            Self::MakeStudies => ("make studies", "make studies", "palette_user"),
            Self::ServeStudies => ("serve studies", "serve studies", "palette_user"),
        }
    }
}

impl Database {
    /// Refuses where the role lacks a right that this needs, before anything is begun.
    ///
    /// # Errors
    /// [`Error::Lacks`] then; those of the database.
    pub async fn demand(&self, deed: Deed) -> Result<()> {
        const NAMED: usize = 3;
        let (ability, does, role) = deed.told();
        let mut connection = self.pool.acquire().await?;
        let lacks: Vec<String> = lacking(&mut connection)
            .await?
            .into_iter()
            .filter_map(|row| (row.ability == ability).then_some(row.what))
            .collect();
        if lacks.is_empty() {
            return Ok(());
        }
        let more = match lacks.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let lacks = lacks[..lacks.len().min(NAMED)].join(", ") + &more;
        Err(Error::Lacks { does, lacks, role })
    }
}

/// The rights that the role of a connection lacks.
async fn lacking(connection: &mut PgConnection) -> Result<Vec<Lacking>> {
    let list =
        |part: fn(&(&str, &str, &str, &str)) -> String| NEEDS.iter().map(part).collect::<Vec<_>>();
    let rows = sqlx::query_as!(
        Lacking,
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
    );
    Ok(rows.fetch_all(connection).await?)
}

/// A right that a role lacks.
#[derive(Clone, Debug)]
pub struct Lacking {
    /// What it cannot do without: one of [`Server::ABILITIES`], or a part of one.
    pub ability: String,
    /// The right, such as `INSERT on jobs.payload`.
    pub what: String,
}

/// The role of a connection.
#[derive(Clone, Debug)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// It may apply migrations.
    pub migrates: bool,
}

impl Server {
    /// What people want to do, in the order in which each holds the one before.
    pub const ABILITIES: [&str; 4] = ["read", "submit", "control", "work"];

    /// The rights that the role of this connection lacks; the tables must be this program's.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn lacking(&mut self) -> Result<Vec<Lacking>> {
        lacking(&mut self.connection).await
    }

    /// The role of this connection; the tables must be this program's.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn role(&mut self) -> Result<Role> {
        let row = sqlx::query_as!(
            Role,
            r#"select current_user::text as "name!",
                   pg_has_role(relowner, 'usage') and has_schema_privilege(relnamespace, 'create')
                       as "migrates!"
               from pg_class where oid = to_regclass('_sqlx_migrations')"#
        );
        Ok(row.fetch_one(&mut self.connection).await?)
    }

    /// True where every role that can connect may make objects in the schema of the tables, as in Postgres before 15.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn anybody_may_create(&mut self) -> Result<bool> {
        let row = sqlx::query_scalar!(
            r#"select coalesce(has_schema_privilege('public', current_schema(), 'create'), false) as "may!""#
        );
        Ok(row.fetch_one(&mut self.connection).await?)
    }

    /// True where this role could apply migrations, whatever tables there are.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn may_migrate(&mut self) -> Result<bool> {
        let row = sqlx::query_scalar!(
            r#"select coalesce((select pg_has_role(relowner, 'usage') from pg_class
                                where oid = to_regclass('_sqlx_migrations')), true)
                   and coalesce(has_schema_privilege(current_schema(), 'create'), false) as "may!""#
        );
        Ok(row.fetch_one(&mut self.connection).await?)
    }
}
