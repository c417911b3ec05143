//! The private Postgres (being written).
use crate::{Home, Result};
/// The server.
#[derive(Clone, Debug)]
pub struct Server(Home);
impl Server {
    /// At home.
    pub fn new(home: &Home) -> Self { Self(home.clone()) }
    /// Runs.
    /// # Errors
    /// x
    pub fn ensure_running(&self) -> Result<String> { Ok(self.0.path().display().to_string()) }
}
