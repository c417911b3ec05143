//! The private Postgres as this crate sees it: which URL is its, that it runs before it is asked, and that it is
//! started again where it was killed under a worker.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use home::Home;
use home::private::Server;

use crate::{ATTEMPT_VARIABLE, Result};

/// The folder of its socket, where this is its URL.
pub(crate) fn socket_of(url: &str) -> Option<PathBuf> {
    let server = Server::new(&Home::from_env().ok()?);
    (server.url() == url).then(|| server.socket())
}

/// Starts the private Postgres if need be and opens it, waiting while another command still starts it.
pub(crate) async fn on_private<T>(open: impl AsyncFn(String) -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + Duration::from_secs(60);
    let server = Arc::new(Server::new(&Home::from_env()?));
    loop {
        let starting = Arc::clone(&server);
        let url = tokio::task::spawn_blocking(move || starting.ensure_running())
            .await
            .map_err(|error| home::Error::Postgres(error.to_string()))??;
        match open(url).await {
            Err(error) if error.is_starting() && Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            result => return result,
        }
    }
}

/// The private server under a process that works for long: started again where it was killed.
#[derive(Debug)]
pub(crate) struct Revival {
    server: Server,
    last: Mutex<Last>,
}

/// The last attempt.
#[derive(Debug)]
struct Last {
    /// None while it is under way; else not before this time again.
    next: Option<Instant>,
    said: String,
}

impl Revival {
    /// How often it is tried.
    const EVERY: Duration = Duration::from_secs(2);

    /// That of this URL; none for another server. Nor for the child of a worker, which is there to see to it: what
    /// an attempt starts ends with it.
    pub fn of(url: &str) -> Option<Arc<Self>> {
        if std::env::var_os(ATTEMPT_VARIABLE).is_some() {
            return None;
        }
        let server = Server::new(&Home::from_env().ok()?);
        let last = Mutex::new(Last { next: Some(Instant::now()), said: String::new() });
        (server.url() == url).then(|| Arc::new(Self { server, last }))
    }

    /// After a connection that failed: starts the server where it was killed, and not where somebody stopped it.
    /// Who asks may give up sooner; it goes on, once at a time, and says itself what comes of it.
    pub async fn revive(self: &Arc<Self>) {
        if self.lock().next.take_if(|next| *next <= Instant::now()).is_none() {
            return;
        }
        let this = Arc::clone(self);
        let _ = tokio::task::spawn_blocking(move || this.restart()).await;
    }

    fn restart(&self) {
        let said = match self.server.restart_killed() {
            Ok(false) => None,
            Ok(true) => {
                tracing::warn!("the private postgres was killed; it was started again");
                Some(String::new())
            }
            Err(error) => Some(error.to_string()),
        };
        let mut last = self.lock();
        if let Some(said) = said {
            if !said.is_empty() && said != last.said {
                tracing::error!("{said}");
            }
            last.said = said;
        }
        last.next = Some(Instant::now() + Self::EVERY);
    }

    fn lock(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
