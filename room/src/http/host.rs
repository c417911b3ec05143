//! The host that a request names must be one of this server's: a page of a stranger whose name was made to point here
//! (DNS rebinding) names its own.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{Request, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::{Refusal, Room};

/// The names that this server answers to.
pub struct Hosts(Vec<String>);

impl Hosts {
    /// Those of this machine's own loopback, the address that is listened on, and these.
    pub fn new(address: SocketAddr, names: Vec<String>) -> Self {
        let own = ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned);
        let listened = match address.ip().is_unspecified() {
            true => None,
            false => Some(bare(&address.to_string()).to_owned()),
        };
        let names = names.iter().map(|name| bare(name).to_ascii_lowercase());
        Self(own.into_iter().chain(listened).chain(names).collect())
    }

    /// Whether this names the machine itself: nobody else's page and no proxy's visitor is led here by it.
    pub fn is_loopback(host: &str) -> bool {
        ["localhost", "127.0.0.1", "[::1]"].contains(&&*bare(host).to_ascii_lowercase())
    }

    /// The port does not matter: a tunnel has its own.
    fn know(&self, host: &str) -> bool {
        let name = bare(host).to_ascii_lowercase();
        self.0.contains(&name)
    }
}

/// A host without its port.
fn bare(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port))
            if !name.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            match name.contains(':') && !name.ends_with(']') {
                true => host,
                false => name,
            }
        }
        _ => host,
    }
}

pub async fn check(
    State(room): State<Arc<Room>>,
    request: axum::extract::Request,
    next: Next,
) -> Response {
    match named(&request) {
        Some(host) if room.hosts.know(host) => next.run(request).await,
        _ => Refusal {
            status: StatusCode::MISDIRECTED_REQUEST,
            why:
                "this server is not known by the host that was asked for; start it with --name HOST"
                    .into(),
        }
        .into_response(),
    }
}

/// The host that a request names: once, and the same wherever it says so.
pub fn named<B>(request: &Request<B>) -> Option<&str> {
    let mut headers = request.headers().get_all(header::HOST).iter();
    let header = headers.next().map(|host| host.to_str().ok());
    match (header, headers.next(), request.uri().authority()) {
        (Some(Some(host)), None, None) => Some(host),
        (Some(Some(host)), None, Some(own)) if own == host => Some(host),
        (None, None, Some(own)) => Some(own.as_str()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_names_of_this_server_are_known() {
        let hosts =
            Hosts::new(SocketAddr::from(([127, 0, 0, 1], 8100)), vec!["Lab.example".into()]);
        for host in
            ["127.0.0.1:8100", "localhost", "LOCALHOST:9", "[::1]:8100", "[::1]", "lab.example:443"]
        {
            assert!(hosts.know(host), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:8100",
            "",
            ":8100",
            "::1",
        ] {
            assert!(!hosts.know(host), "{host}");
        }
        assert!(!Hosts::new(SocketAddr::from(([0, 0, 0, 0], 1)), vec![]).know("0.0.0.0"));
    }
}
