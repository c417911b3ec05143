//! `up`, `down`, `url`: the private Postgres.

use home::Home;
use home::private::Server;
use registry::Blocking;

/// The URL of a server of the user's own, which is not ours to start or stop.
fn foreign() -> Option<String> {
    registry::url_from_env()
}

pub fn up() -> anyhow::Result<()> {
    let database = Blocking::open()?;
    database.wait(database.demand_sessions())?;
    if foreign().is_some() {
        terminal::print(
            "DATABASE_URL is set: its tables are up to date, no private server is needed",
        )
    } else {
        if let Some(open) = Home::from_env()?.is_open() {
            tracing::warn!("{}: {}", open.text, open.remedy);
        }
        terminal::print(&format!(
            "{0}\nlook inside:  psql '{0}'\nstop it:      scheduler down",
            database.url()
        ))
    }
}

pub fn down() -> anyhow::Result<()> {
    let home = Home::from_env()?;
    let stopped = Server::new(&home).stop()?;
    let Some(url) = foreign() else {
        return terminal::print(if stopped { "stopped" } else { "it was not running" });
    };
    let done = if stopped { "is stopped" } else { "was not running" };
    terminal::print(&format!(
        "the private Postgres under {} {done}; that of DATABASE_URL ({}) is not touched",
        home.path().display(),
        registry::without_password(&url)
    ))
}

pub fn url() -> anyhow::Result<()> {
    match foreign() {
        // Without its password: what is printed ends up in logs.
        Some(url) => terminal::print(&registry::without_password(&url)),
        None => terminal::print(&Server::new(&Home::from_env()?).url()),
    }
}
