//! The server as `scheduler doctor` looks at it: over one connection, whatever tables there are. Looks only;
//! nothing is migrated.

mod health;
mod privileges;
mod session;
mod work;

use std::net::IpAddr;
use std::time::Instant;

use sqlx::PgConnection;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::database::{connect, tables};
use crate::private::on_private;
use crate::{Result, Tables, url_from_env, without_password};

pub use health::{Connections, Durability, Encryption, TableSize, Version};
pub use privileges::{Deed, Lacking, Role};
pub use session::Session;
pub use work::{Expired, Offer, SeenWorker, Wants};

/// A connection to a server.
pub struct Server {
    url: String,
    options: PgConnectOptions,
    connection: PgConnection,
    since: Instant,
}

impl Server {
    /// Connects to `DATABASE_URL`, or without it to the private Postgres (started if need be).
    ///
    /// # Errors
    /// When the server cannot be reached or started.
    pub async fn reach() -> Result<Self> {
        match url_from_env() {
            Some(url) => Self::at(url).await,
            None => on_private(Self::at).await,
        }
    }

    async fn at(url: String) -> Result<Self> {
        let (options, connection) = connect(&url).await?;
        Ok(Self { url, options, connection, since: Instant::now() })
    }

    /// Its URL as it may be shown.
    pub fn url(&self) -> String {
        without_password(&self.url)
    }

    /// How its tables stand to this program's.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn tables(&mut self) -> Result<Tables> {
        tables(&mut self.connection).await
    }

    fn host(&self) -> &str {
        self.options.get_host()
    }

    /// True where what is sent leaves this host.
    fn is_remote(&self) -> bool {
        self.options.get_socket().is_none() && !local(self.host())
    }

    /// True where a certificate that does not belong to the server is refused.
    fn checks_certificate(&self) -> bool {
        matches!(self.options.get_ssl_mode(), PgSslMode::VerifyFull | PgSslMode::VerifyCa)
    }
}

/// True for a socket or an address of this host alone.
fn local(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let loopback = address.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    host.starts_with('/') || host == "localhost" || loopback
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
