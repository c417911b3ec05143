//! What a worker answers over plain HTTP: `GET /metrics` for Prometheus, `GET /healthz` and `GET /readyz` for whoever
//! starts workers. Metrics of its own attempts are counted from its reports (`meter`); those of the queue are asked from
//! the database when somebody scrapes (`census`), never so that a scrape hangs. `GET /metrics/worker` leaves them out.
//!
//! The text is written by hand (`exposition`): the crate `prometheus-client` writes OpenMetrics
//! alone and wants every value registered, while ours come afresh at each scrape.

mod census;
mod exposition;
mod meter;

use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use registry::{Database, Error, Result};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use census::Counter;
use exposition::Exposition;
use meter::Meter;

use super::Reporter;

/// `[HOST:]PORT`; this machine alone is answered where no host is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    host: String,
    port: u16,
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = text.rsplit_once(':').unwrap_or(("127.0.0.1", text));
        let host = host.trim_start_matches('[').trim_end_matches(']');
        match port.parse() {
            Ok(port) if !host.is_empty() => Ok(Self { host: host.to_owned(), port }),
            _ => Err("[HOST:]PORT, such as 9464 or 0.0.0.0:9464".into()),
        }
    }
}

/// Few scrape a worker, and descriptors are for its jobs.
const LIMITS: web::Limits = web::Limits::of(64);

/// The endpoint of a worker; gone when it is dropped.
pub struct Endpoint {
    address: SocketAddr,
    meter: Arc<Meter>,
    task: JoinHandle<()>,
}

impl Endpoint {
    /// Listens and answers from now on. Port 0 is any that is free.
    ///
    /// # Errors
    /// When nobody can listen there: the port is taken, the host is not this one.
    pub async fn start(address: &Address, database: Database) -> Result<Self> {
        let failed = |error: std::io::Error| {
            Error::Failed(format!(
                "cannot listen on {}:{}: {error}; name another port with --metrics",
                address.host, address.port
            ))
        };
        let listener =
            TcpListener::bind((address.host.as_str(), address.port)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let meter = Arc::new(Meter::default());
        let scraped =
            Arc::new(Scraped { meter: Arc::clone(&meter), queue: Counter::new(database) });
        let router = Router::new()
            .route("/metrics", get(metrics).fallback(nothing))
            .route("/metrics/worker", get(own_metrics).fallback(nothing))
            .route("/healthz", get(async || "ok\n").fallback(nothing))
            .route("/readyz", get(ready).fallback(nothing))
            .fallback(nothing)
            .with_state(scraped);
        let task = tokio::spawn(web::serve(listener, router, LIMITS, std::future::pending()));
        Ok(Self { address, meter, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Counts what goes to this reporter.
    pub fn counting(&self, report: Reporter) -> Reporter {
        let meter = Arc::clone(&self.meter);
        Arc::new(move |said| {
            meter.count(&said);
            report(said);
        })
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Scraped {
    meter: Arc<Meter>,
    queue: Counter,
}

async fn metrics(State(scraped): State<Arc<Scraped>>) -> impl IntoResponse {
    let mut text = Exposition::default();
    scraped.meter.write(&mut text);
    scraped.queue.write(scraped.meter.worker(), &mut text).await;
    finish(text)
}

/// Without the queue's, which every worker would count anew: for where there are many workers.
async fn own_metrics(State(scraped): State<Arc<Scraped>>) -> impl IntoResponse {
    let mut text = Exposition::default();
    scraped.meter.write(&mut text);
    finish(text)
}

fn finish(mut text: Exposition) -> impl IntoResponse {
    if let Some(bytes) = resident_memory() {
        text.gauge("palette_worker_resident_memory_bytes", "Memory of the worker itself.", bytes);
    }
    ([(header::CONTENT_TYPE, exposition::CONTENT_TYPE)], text.finish())
}

/// Whether it claims jobs; asks nobody, as it is probed every few seconds.
async fn ready(State(scraped): State<Arc<Scraped>>) -> (StatusCode, String) {
    match scraped.meter.unready() {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, why + "\n"),
    }
}

async fn nothing() -> (StatusCode, &'static str) {
    (StatusCode::NOT_FOUND, "there are /metrics, /metrics/worker, /healthz and /readyz\n")
}

/// Bytes of memory that this process holds; none where the system does not say.
fn resident_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_host_is_this_machine_alone() {
        let parse =
            |text: &str| text.parse::<Address>().map(|it| format!("{} {}", it.host, it.port));
        assert_eq!(parse("9464").unwrap(), "127.0.0.1 9464");
        assert_eq!(parse("0.0.0.0:9464").unwrap(), "0.0.0.0 9464");
        assert_eq!(parse("[::1]:9464").unwrap(), "::1 9464");
        for wrong in ["", ":9464", "host", "host:", "host:99999", "9464:"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
