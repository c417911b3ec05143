//! The server: can it be reached, is it new enough, are the tables ours, how far away is it, does it
//! keep what it was given.

use std::time::Instant;

use registry::{Result, Tables, connect, on_private, tables, url_from_env, without_password};
use sqlx::PgConnection;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use time::OffsetDateTime;

use super::{Findings, privileges};

const AREA: &str = "database";

/// The oldest server that has what the migrations use: generated columns, and new values of an enum
/// within a transaction.
const OLDEST: i32 = 12;

/// The oldest that is tried.
const TRIED: i32 = 15;

/// Checks the server; gives a connection where the tables are this program's.
pub(super) async fn examine(found: &mut Findings) -> Option<PgConnection> {
    let opened = match url_from_env() {
        Some(url) => connect(&url).await.map(|opened| (url, opened)),
        None => {
            on_private(async |url| {
                let opened = connect(&url).await?;
                Ok((url, opened))
            })
            .await
        }
    };
    let (url, (options, mut connection)) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            let remedy =
                "nothing works without it; the checks of tables, queue and workers are left out";
            found.fail(AREA, "reachable", error.to_string(), remedy);
            return None;
        }
    };
    found.ok(AREA, "reachable", format!("reached at {}", without_password(&url)));
    match look(found, &options, &mut connection).await {
        Ok(Tables::Equal) => Some(connection),
        Ok(_) => None,
        Err(error) => {
            found.fail(AREA, "queries", error.to_string(), "see the server's log");
            None
        }
    }
}

async fn look(
    found: &mut Findings,
    options: &PgConnectOptions,
    connection: &mut PgConnection,
) -> Result<Tables> {
    version(found, connection).await?;
    distance(found, connection).await?;
    settings(found, connection).await?;
    connections(found, connection).await?;
    encryption(found, options, connection).await?;
    let tables = tables(connection).await?;
    match &tables {
        Tables::Equal => {
            found.ok(AREA, "migrations", format!("the database {tables}"));
            privileges::examine(found, connection).await?;
            sizes(found, connection).await?;
        }
        Tables::Missing(_) if may_migrate(connection).await? => {
            let remedy = "this role may do it, and every command does; the checks of queue and workers are \
                          left out until then";
            found.warn(AREA, "migrations", format!("the database {tables}"), remedy);
        }
        _ => {
            let remedy = "the checks of queue and workers are left out until then";
            found.fail(AREA, "migrations", format!("the database {tables}"), remedy);
        }
    }
    Ok(tables)
}

/// True where this role could apply migrations.
async fn may_migrate(connection: &mut PgConnection) -> Result<bool> {
    Ok(sqlx::query_scalar!(
        r#"select coalesce((select pg_has_role(relowner, 'usage') from pg_class
                            where oid = to_regclass('_sqlx_migrations')), true)
               and coalesce(has_schema_privilege(current_schema(), 'create'), false) as "may!""#
    )
    .fetch_one(connection)
    .await?)
}

async fn version(found: &mut Findings, connection: &mut PgConnection) -> Result<()> {
    let row = sqlx::query!(
        r#"select current_setting('server_version') as "text!",
               current_setting('server_version_num')::integer as "number!""#
    )
    .fetch_one(connection)
    .await?;
    let text = format!("Postgres {}", row.text);
    match row.number / 10_000 {
        ..OLDEST => found.fail(AREA, "version", text, format!("use Postgres {TRIED} or newer")),
        OLDEST..TRIED => {
            let remedy = format!("should work, but is not tried: use Postgres {TRIED} or newer");
            found.warn(AREA, "version", text, remedy);
        }
        _ => found.ok(AREA, "version", text),
    }
    Ok(())
}

/// How long an answer takes, and how far the clocks are apart: by the quickest of the answers, which
/// says it best.
async fn distance(found: &mut Findings, connection: &mut PgConnection) -> Result<()> {
    const ROUNDS: usize = 20;
    const FAR: f64 = 0.05;
    const APART: f64 = 1.0;
    let mut rounds = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let (began, asked) = (OffsetDateTime::now_utc(), Instant::now());
        let server = sqlx::query_scalar!(r#"select clock_timestamp() as "now!""#)
            .fetch_one(&mut *connection)
            .await?;
        let took = asked.elapsed().as_secs_f64();
        rounds.push((took, (server - began).as_seconds_f64() - took / 2.0));
    }
    rounds.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (median, apart) = (rounds[ROUNDS / 2].0, rounds[0].1);
    let text = format!("an answer takes {:.1} ms (median of {ROUNDS})", median * 1e3);
    if median > FAR {
        let remedy =
            "run workers nearer to the server: each claim and renewal takes several answers";
        found.warn(AREA, "latency", text, remedy);
    } else {
        found.ok(AREA, "latency", text);
    }
    if apart.abs() > APART {
        let side = if apart > 0.0 { "ahead of" } else { "behind" };
        let text = format!("the server's clock is {:.1} s {side} this host's", apart.abs());
        let remedy = "let both follow a time server (NTP); leases go by the server's clock and hold, \
                      but ages and waits are shown wrongly here";
        found.warn(AREA, "clock", text, remedy);
    } else {
        let text =
            format!("the server's clock and this host's are {:.0} ms apart", apart.abs() * 1e3);
        found.ok(AREA, "clock", text);
    }
    Ok(())
}

async fn settings(found: &mut Findings, connection: &mut PgConnection) -> Result<()> {
    let row = sqlx::query!(
        r#"select current_setting('fsync') as "fsync!",
               current_setting('full_page_writes') as "full_page_writes!",
               current_setting('synchronous_commit') as "synchronous_commit!""#
    )
    .fetch_one(connection)
    .await?;
    let (mut sound, check) = (true, "durability");
    if row.fsync == "off" {
        let remedy = "set fsync = on: a crash of the machine can destroy the database";
        found.fail(AREA, check, "fsync is off", remedy);
        sound = false;
    }
    if row.full_page_writes == "off" {
        let remedy = "set full_page_writes = on, unless the file system never tears a page (ZFS)";
        found.warn(AREA, check, "full_page_writes is off", remedy);
        sound = false;
    }
    if row.synchronous_commit == "off" {
        let remedy = "set synchronous_commit = on: a crash forgets the last claims and checkpoints";
        found.warn(AREA, check, "synchronous_commit is off", remedy);
        sound = false;
    }
    if sound {
        let text = format!(
            "fsync, full_page_writes and synchronous_commit are on{}",
            match row.synchronous_commit.as_str() {
                "on" => String::new(),
                other => format!(" ({other})"),
            }
        );
        found.ok(AREA, check, text);
    }
    Ok(())
}

async fn connections(found: &mut Findings, connection: &mut PgConnection) -> Result<()> {
    const MANY: f64 = 0.8;
    // The sum over databases is everybody's to see, the list of connections is not.
    let row = sqlx::query!(
        r#"select (select coalesce(sum(numbackends), 0) from pg_stat_database) as "used!",
               current_setting('max_connections')::bigint
                   - current_setting('superuser_reserved_connections')::bigint as "most!""#
    )
    .fetch_one(connection)
    .await?;
    let text = format!("{} of {} connections are used", row.used, row.most);
    if row.used as f64 > MANY * row.most as f64 {
        let remedy = "raise max_connections: a worker takes up to 10, each running job up to 9";
        found.warn(AREA, "connections", text, remedy);
    } else {
        found.ok(AREA, "connections", text);
    }
    Ok(())
}

async fn encryption(
    found: &mut Findings,
    options: &PgConnectOptions,
    connection: &mut PgConnection,
) -> Result<()> {
    let row = sqlx::query!(
        r#"select ssl as "ssl!", version from pg_stat_ssl where pid = pg_backend_pid()"#
    )
    .fetch_optional(connection)
    .await?;
    let host = options.get_host();
    let remote = options.get_socket().is_none() && !local(host);
    let checked = matches!(options.get_ssl_mode(), PgSslMode::VerifyFull | PgSslMode::VerifyCa);
    let secret = row.as_ref().is_some_and(|row| row.ssl);
    match (secret, remote) {
        (true, true) if !checked => {
            let remedy = "add sslmode=verify-full&sslrootcert=FILE to DATABASE_URL: without it anybody \
                          on the way can pretend to be the server";
            found.warn(AREA, "tls", "TLS, but the server's certificate is not checked", remedy);
        }
        (true, _) => {
            let version = row.and_then(|row| row.version).unwrap_or_else(|| "TLS".into());
            let how = if checked { ", the server's certificate is checked" } else { "" };
            found.ok(AREA, "tls", format!("{version}{how}"));
        }
        (false, true) => {
            let remedy = "add sslmode=verify-full&sslrootcert=FILE to DATABASE_URL: what is sent, \
                          passwords too, can be read on the way";
            found.warn(AREA, "tls", format!("no TLS, and {host} is another host"), remedy);
        }
        (false, false) => found.ok(AREA, "tls", "no TLS; the server is on this host"),
    }
    Ok(())
}

/// True for a socket or an address of this host alone.
fn local(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let loopback = address.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
    host.starts_with('/') || host == "localhost" || loopback
}

async fn sizes(found: &mut Findings, connection: &mut PgConnection) -> Result<()> {
    let rows = sqlx::query!(
        r#"select relname as "name!", pg_total_relation_size(pg_class.oid) as "bytes!",
               pg_database_size(current_database()) as "all!"
           from pg_class
           where relkind = 'r' and relnamespace = (
               select relnamespace from pg_class where oid = to_regclass('_sqlx_migrations'))
           order by 2 desc limit 3"#
    )
    .fetch_all(connection)
    .await?;
    let all = rows.first().map_or(0, |row| row.all);
    let bytes = |count: i64| terminal::bytes(u64::try_from(count).unwrap_or(0));
    let biggest: Vec<String> =
        rows.iter().map(|row| format!("{} {}", row.name, bytes(row.bytes))).collect();
    let text = format!("{} in all; the biggest tables: {}", bytes(all), biggest.join(", "));
    found.ok(AREA, "sizes", text);
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn hosts_that_nobody_can_listen_to_are_local() {
        for host in ["/run/postgresql", "localhost", "127.0.0.1", "127.1.2.3", "::1", "[::1]"] {
            assert!(super::local(host), "{host}");
        }
        for host in ["db", "10.0.0.1", "db.localhost.org", "::2"] {
            assert!(!super::local(host), "{host}");
        }
    }
}
