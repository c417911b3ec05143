//! The server: can it be reached, is it new enough, are the tables ours, how far away is it, does it
//! keep what it was given.

use std::time::Instant;

use registry::{Encryption, Result, Server, Tables};
use time::OffsetDateTime;

use super::{Findings, privileges, session};

pub(super) const AREA: &str = "database";

/// The oldest server that has what the migrations use: generated columns, and new values of an enum
/// within a transaction.
const OLDEST: i32 = 12;

/// The oldest that is tried.
const TRIED: i32 = 15;

/// Checks the server; gives it where the tables are this program's.
pub(super) async fn examine(found: &mut Findings) -> Option<Server> {
    let mut server = match Server::reach().await {
        Ok(server) => server,
        Err(error) => {
            let remedy =
                "nothing works without it; the checks of tables, queue and workers are left out";
            found.fail(AREA, "reachable", error.to_string(), remedy);
            return None;
        }
    };
    found.ok(AREA, "reachable", format!("reached at {}", server.url()));
    match look(found, &mut server).await {
        Ok(Some(Tables::Equal)) => Some(server),
        Ok(_) => None,
        Err(error) => {
            found.fail(AREA, "queries", error.to_string(), "see the server's log");
            None
        }
    }
}

/// Looks at the server; none where a pooler stands in the way.
async fn look(found: &mut Findings, server: &mut Server) -> Result<Option<Tables>> {
    if !session::pooler(found, server).await? {
        return Ok(None);
    }
    version(found, server).await?;
    distance(found, server).await?;
    session::examine(found, server).await?;
    durability(found, server).await?;
    connections(found, server).await?;
    encryption(found, server).await?;
    let tables = server.tables().await?;
    match &tables {
        Tables::Equal => {
            found.ok(AREA, "migrations", format!("the database {tables}"));
            privileges::examine(found, server).await?;
            sizes(found, server).await?;
        }
        Tables::Missing(_) if server.may_migrate().await? => {
            let remedy = "this role may do it, and every command does; the checks of queue and workers are \
                          left out until then";
            found.warn(AREA, "migrations", format!("the database {tables}"), remedy);
        }
        _ => {
            let remedy = "the checks of queue and workers are left out until then";
            found.fail(AREA, "migrations", format!("the database {tables}"), remedy);
        }
    }
    Ok(Some(tables))
}

async fn version(found: &mut Findings, server: &mut Server) -> Result<()> {
    let version = server.version().await?;
    let text = format!("Postgres {}", version.text);
    match version.number / 10_000 {
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
async fn distance(found: &mut Findings, server: &mut Server) -> Result<()> {
    const ROUNDS: usize = 20;
    const FAR: f64 = 0.05;
    const APART: f64 = 1.0;
    let mut rounds = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let (began, asked) = (OffsetDateTime::now_utc(), Instant::now());
        let clock = server.clock().await?;
        let took = asked.elapsed().as_secs_f64();
        rounds.push((took, (clock - began).as_seconds_f64() - took / 2.0));
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

async fn durability(found: &mut Findings, server: &mut Server) -> Result<()> {
    let row = server.durability().await?;
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

async fn connections(found: &mut Findings, server: &mut Server) -> Result<()> {
    const MANY: f64 = 0.8;
    let row = server.connections().await?;
    let text = format!("{} of {} connections are used", row.used, row.most);
    if row.used as f64 > MANY * row.most as f64 {
        let remedy = "raise max_connections: a worker takes up to 10, each running job up to 9";
        found.warn(AREA, "connections", text, remedy);
    } else {
        found.ok(AREA, "connections", text);
    }
    Ok(())
}

async fn encryption(found: &mut Findings, server: &mut Server) -> Result<()> {
    let Encryption { tls, host, remote, checked } = server.encryption().await?;
    match (tls, remote) {
        (Some(_), true) if !checked => {
            let remedy = "add sslmode=verify-full&sslrootcert=FILE to DATABASE_URL: without it anybody \
                          on the way can pretend to be the server";
            found.warn(AREA, "tls", "TLS, but the server's certificate is not checked", remedy);
        }
        (Some(version), _) => {
            let how = if checked { ", the server's certificate is checked" } else { "" };
            found.ok(AREA, "tls", format!("{version}{how}"));
        }
        (None, true) => {
            let remedy = "add sslmode=verify-full&sslrootcert=FILE to DATABASE_URL: what is sent, \
                          passwords too, can be read on the way";
            found.warn(AREA, "tls", format!("no TLS, and {host} is another host"), remedy);
        }
        (None, false) => found.ok(AREA, "tls", "no TLS; the server is on this host"),
    }
    Ok(())
}

async fn sizes(found: &mut Findings, server: &mut Server) -> Result<()> {
    let rows = server.biggest_tables().await?;
    let all = rows.first().map_or(0, |row| row.all);
    let bytes = |count: i64| terminal::bytes(u64::try_from(count).unwrap_or(0));
    let biggest: Vec<String> =
        rows.iter().map(|row| format!("{} {}", row.name, bytes(row.bytes))).collect();
    let text = format!("{} in all; the biggest tables: {}", bytes(all), biggest.join(", "));
    found.ok(AREA, "sizes", text);
    Ok(())
}
