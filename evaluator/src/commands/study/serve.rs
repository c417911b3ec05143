//! `evaluator study serve`: the rating page, until SIGINT or SIGTERM.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use registry::{Database, Deed, Signals};
use terminal::Usage;
use tokio::net::TcpListener;

use crate::study::server;

#[derive(Args)]
#[command(after_help = "\
Examples:
  evaluator study serve colorization
  evaluator study serve colorization --bind 0.0.0.0:8090 --public")]
pub struct Serve {
    /// The study.
    study: String,
    /// Address to listen on; port 0 takes any free one.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8090")]
    bind: String,
    /// Listen to other machines too. The page is served without TLS: put a proxy before it that has
    /// it, or whoever listens on the way reads the links.
    #[arg(long)]
    public: bool,
}

/// What requests that are under way have when the end is asked for.
const GRACE: Duration = Duration::from_secs(5);

/// A rater's browser opens some six connections.
const LIMITS: web::Limits = web::Limits::of(256);

impl Serve {
    pub fn run(self) -> anyhow::Result<()> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let served = runtime.block_on(self.serve());
        runtime.shutdown_background();
        served
    }

    async fn serve(self) -> anyhow::Result<()> {
        let addresses = self.addresses().await?;
        let database = Database::open().await?;
        let study = database.study(&self.study).await?;
        database.demand(Deed::ServeStudies).await?;
        let failed = || format!("cannot listen on {}; name another with --bind", self.bind);
        let listener = TcpListener::bind(addresses.as_slice()).await.with_context(failed)?;
        let address = listener.local_addr().with_context(failed)?;
        let mut asked = Box::pin(Signals::hear()?.first(|| {}));
        terminal::print(&format!("study {} at http://{address}", study.name))?;
        let (end, ending) = tokio::sync::oneshot::channel::<()>();
        let router = server::router(database, study.id);
        let serving = tokio::spawn(web::serve(listener, router, LIMITS, async {
            let _ = ending.await;
        }));
        asked.as_mut().await;
        let _ = end.send(());
        // Whoever does not read an answer does not keep the program.
        match tokio::time::timeout(GRACE, serving).await {
            Ok(served) => Ok(served?),
            Err(_) => Ok(()),
        }
    }

    /// Where to listen, all of it on this machine unless `--public` is given.
    async fn addresses(&self) -> anyhow::Result<Vec<SocketAddr>> {
        let found = tokio::net::lookup_host(&self.bind).await;
        let addresses: Vec<SocketAddr> = found
            .map_err(|error| Usage::new(format!("--bind {} is no HOST:PORT: {error}", self.bind)))?
            .collect();
        if !self.public && addresses.iter().any(|address| !address.ip().is_loopback()) {
            return Err(Usage::new(format!(
                "--bind {} is reached from other machines, and the page is served without TLS: \
                 listen on 127.0.0.1 behind a proxy that has it, or say --public",
                self.bind
            ))
            .into());
        }
        Ok(addresses)
    }
}
