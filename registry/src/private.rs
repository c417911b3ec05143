//! The private Postgres as this crate sees it: which URL is its, that it runs before it is asked, and that it is
//! started again where it was killed under a worker.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
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
    /// Not before this time again, and what was said the last time.
    last: Mutex<(Instant, String)>,
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
        let last = Mutex::new((Instant::now(), String::new()));
        (server.url() == url).then(|| Arc::new(Self { server, last }))
    }

    /// After a connection that failed: starts the server where it was killed, and not where somebody stopped it.
    pub async fn revive(self: &Arc<Self>) {
        let now = Instant::now();
        {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.0 > now {
                return;
            }
            last.0 = now + Self::EVERY;
        }
        let this = Arc::clone(self);
        let tried = tokio::task::spawn_blocking(move || this.server.restart_killed()).await;
        let said = match tried {
            Ok(Ok(false)) | Err(_) => return,
            Ok(Ok(true)) => {
                tracing::warn!("the private postgres was killed; it was started again");
                String::new()
            }
            Ok(Err(error)) => error.to_string(),
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if !said.is_empty() && said != last.1 {
            tracing::error!("{said}");
        }
        last.1 = said;
    }
}
