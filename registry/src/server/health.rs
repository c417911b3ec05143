//! What kind of server it is, and whether it keeps what it was given.

use time::OffsetDateTime;

use super::Server;
use crate::Result;

/// The version of a server.
#[derive(Clone, Debug)]
pub struct Version {
    /// As people write it.
    pub text: String,
    /// As `server_version_num`: 150004.
    pub number: i32,
}

/// Settings on which it depends whether a crash loses something.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the settings of these names")]
pub struct Durability {
    pub fsync: String,
    pub full_page_writes: String,
    pub synchronous_commit: String,
}

/// Connections to the server, whatever the database.
#[derive(Clone, Copy, Debug)]
pub struct Connections {
    /// Those that there are.
    pub used: i64,
    /// Those that it allows, without those kept for administrators.
    pub most: i64,
}

/// How the way to the server is protected.
#[derive(Clone, Debug)]
pub struct Encryption {
    /// The version of TLS; none where it is not used.
    pub tls: Option<String>,
    /// The server's host.
    pub host: String,
    /// That is another host than this one.
    pub remote: bool,
    /// The server's certificate is checked.
    pub checked: bool,
}

/// What a table takes.
#[derive(Clone, Debug)]
pub struct TableSize {
    /// Its name.
    pub name: String,
    /// Its bytes, with indexes.
    pub bytes: i64,
    /// Bytes of the whole database.
    pub all: i64,
}

impl Server {
    /// Its version.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn version(&mut self) -> Result<Version> {
        let row = sqlx::query_as!(
            Version,
            r#"select current_setting('server_version') as "text!",
                   current_setting('server_version_num')::integer as "number!""#
        );
        Ok(row.fetch_one(&mut self.connection).await?)
    }

    /// The time by its clock, at the moment of the answer.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn clock(&mut self) -> Result<OffsetDateTime> {
        let row = sqlx::query_scalar!(r#"select clock_timestamp() as "now!""#);
        Ok(row.fetch_one(&mut self.connection).await?)
    }

    /// Its settings of durability.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn durability(&mut self) -> Result<Durability> {
        let row = sqlx::query_as!(
            Durability,
            r#"select current_setting('fsync') as "fsync!",
                   current_setting('full_page_writes') as "full_page_writes!",
                   current_setting('synchronous_commit') as "synchronous_commit!""#
        );
        Ok(row.fetch_one(&mut self.connection).await?)
    }

    /// Its connections.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn connections(&mut self) -> Result<Connections> {
        // The sum over databases is everybody's to see, the list of connections is not.
        let row = sqlx::query_as!(
            Connections,
            r#"select (select coalesce(sum(numbackends), 0) from pg_stat_database) as "used!",
                   current_setting('max_connections')::bigint
                       - current_setting('superuser_reserved_connections')::bigint as "most!""#
        );
        Ok(row.fetch_one(&mut self.connection).await?)
    }

    /// How this connection is protected.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn encryption(&mut self) -> Result<Encryption> {
        let row = sqlx::query!(
            r#"select ssl as "ssl!", version from pg_stat_ssl where pid = pg_backend_pid()"#
        )
        .fetch_optional(&mut self.connection)
        .await?;
        Ok(Encryption {
            tls: row.filter(|row| row.ssl).map(|row| row.version.unwrap_or_else(|| "TLS".into())),
            host: self.host().to_owned(),
            remote: self.is_remote(),
            checked: self.checks_certificate(),
        })
    }

    /// The three biggest tables.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn biggest_tables(&mut self) -> Result<Vec<TableSize>> {
        let rows = sqlx::query_as!(
            TableSize,
            r#"select relname as "name!", pg_total_relation_size(pg_class.oid) as "bytes!",
                   pg_database_size(current_database()) as "all!"
               from pg_class
               where relkind = 'r' and relnamespace = (
                   select relnamespace from pg_class where oid = to_regclass('_sqlx_migrations'))
               order by 2 desc limit 3"#
        );
        Ok(rows.fetch_all(&mut self.connection).await?)
    }
}
