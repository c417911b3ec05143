//! The control room: what runs, how well, and what to press, in a browser.
//!
//! One server beside the database. Whoever runs it enters without a token on its own machine, and nobody else. Pages are
//! rendered here and work without scripts where that is sensible; scripts keep them up to date. Everything that a page
//! shows is JSON under `/api/v1` too, and described by `/api/v1/openapi.json`.
//!
//! - [`Room`] is what all screens share; `screens` has a folder a screen, each with its pages and its part of the API.
//! - `http` stands between strangers and the screens: hosts, who asks, tokens against forged requests, headers.
//! - `shared` answers once what many pages ask; `live` tells pages that something changed.

mod access;
mod alerts;
mod api;
mod assets;
mod bars;
mod child;
mod export;
mod format;
mod formats;
mod http;
mod live;
mod page;
mod refusal;
mod rows;
mod screens;
mod shared;
mod work;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use registry::{Database, Lease};
use storage::Place;
use tokio::net::TcpListener;
use tower::ServiceExt;

pub use access::{Key, Role, Token, Who};
pub use alerts::{Targets, Unfit};
pub use export::{Export, export};
pub use refusal::{Answer, Refusal};
pub use screens::toml_text;

/// What the server works with.
pub struct Options {
    /// The registry.
    pub database: Database,
    /// The folder of the programs that do what needs the networks.
    pub programs: PathBuf,
    /// Names that a browser may call this server by, beside those of the address that it listens on.
    pub names: Vec<String>,
    /// What sessions and their tokens are signed with.
    pub key: Key,
    /// Where alerts are sent to.
    pub targets: Targets,
    /// Lease of the workers.
    pub lease: Lease,
    /// Pictures that people try are made beside this server, and not by workers.
    pub try_here: bool,
    /// The user of this process enters without a token, on this machine.
    pub local: bool,
    /// Browsers send the session over TLS only.
    pub secure: bool,
    /// Where tables of results are, and what they are filled by.
    pub tables: Tables,
    /// Datasets that are shown beside those of the registry.
    pub data: Vec<Place>,
}

/// Where tables of results are.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// Their files.
    pub files: Vec<PathBuf>,
    /// Where this laboratory has what they name.
    pub profile: Option<PathBuf>,
}

/// What all screens share.
#[derive(Clone)]
pub struct Room {
    /// The registry, with the rights of this server; for requests of readers one that changes nothing.
    pub database: Database,
    /// The folder of the programs.
    pub programs: PathBuf,
    /// Answers that many pages ask for.
    pub shared: Arc<shared::Shared>,
    /// Work that blocks.
    pub work: Arc<work::Work>,
    /// Where tables of results are, and what they are filled by.
    pub tables: Tables,
    /// Datasets that are shown beside those of the registry.
    pub data: Vec<Place>,
    /// What tells pages that something changed.
    pub live: Arc<live::Live>,
    /// What the doctor found last.
    pub doctor: Arc<screens::Doctor>,
    /// Lease of the workers.
    pub lease: Lease,
    /// Where alerts are sent to.
    pub targets: Targets,
    /// Who makes what people try.
    pub tries: Arc<screens::trial::service::Service>,
    /// The tokens that hold.
    tokens: Arc<access::Tokens>,
    guesses: Arc<access::Guesses>,
    hosts: Arc<http::Hosts>,
    key: Key,
    local: bool,
    secure: bool,
}

/// Connections at once. A page holds one for its events, and opens some more for its pictures.
const LIMITS: web::Limits = web::Limits { requests: 1000, ..web::Limits::of(1024) };

/// What requests that are under way have when the end is asked for.
const GRACE: Duration = Duration::from_secs(5);

/// Answers browsers until `end` comes.
///
/// # Errors
/// When the listener has no address.
pub async fn serve(
    options: Options,
    listener: TcpListener,
    end: impl Future<Output = ()>,
) -> std::io::Result<()> {
    let hosts = http::Hosts::new(listener.local_addr()?, options.names);
    let tries = Arc::new(screens::trial::service::Service::new(options.try_here));
    let (end_tries, ended) = tokio::sync::watch::channel(false);
    let trying = tokio::spawn(Arc::clone(&tries).run(
        options.database.clone(),
        options.programs.clone(),
        ended,
    ));
    let shared = Arc::<shared::Shared>::default();
    let room = Arc::new(Room {
        tries,
        live: Arc::new(live::Live::start(options.database.clone(), Arc::clone(&shared))),
        database: options.database,
        programs: options.programs,
        shared,
        doctor: Arc::default(),
        lease: options.lease,
        targets: options.targets,
        work: Arc::default(),
        tables: options.tables,
        data: options.data,
        tokens: Arc::default(),
        guesses: Arc::default(),
        hosts: Arc::new(hosts),
        key: options.key,
        local: options.local,
        secure: options.secure,
    });
    let told = Arc::clone(&room);
    let alerting = tokio::spawn(alerts::run(
        room.database.clone(),
        room.targets.clone(),
        room.lease,
        move || {
            told.shared.forget("alerts/");
            told.live.tell("alerts");
        },
    ));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let ending = async {
        let _ = stopped.await;
    };
    let serving = tokio::spawn(web::serve(listener, router(Arc::clone(&room)), LIMITS, ending));
    end.await;
    room.live.end();
    alerting.abort();
    let _ = end_tries.send(true);
    let _ = stop.send(());
    // Whoever does not read an answer does not keep the program.
    let _ = tokio::time::timeout(GRACE, serving).await;
    let _ = tokio::time::timeout(GRACE, trying).await;
    Ok(())
}

/// The guards, and behind them all pages and the API: twice, for those who may only look and for all others.
fn router(room: Arc<Room>) -> Router {
    let reading = Room { database: room.database.reading(), ..Room::clone(&room) };
    let (readers, others) = (pages(Arc::new(reading)), pages(Arc::clone(&room)));
    let chosen = Router::new().fallback(async move |request: Request| {
        // Who enters notes the use of their token.
        let looks = request.uri().path() != "/login"
            && request.extensions().get::<Who>().is_none_or(|who| who.role == Role::Reader);
        let pages = if looks { &readers } else { &others };
        pages.clone().oneshot(request).await
    });
    http::guarded(chosen, &room).with_state(room)
}

/// All pages and the API, without guards.
fn pages(room: Arc<Room>) -> Router {
    let (screens, document) = api::describe(screens::routes()).split_for_parts();
    screens
        .merge(assets::routes())
        .merge(http::routes())
        .merge(api::document(document))
        .fallback(async || Refusal::missing("there is no such page"))
        .with_state(room)
}
