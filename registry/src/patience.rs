//! An end to waiting for an answer. A network that drops what it should carry closes nothing, so a
//! statement that is under way when it begins to would wait for as long as the system keeps the
//! connection: hours.

use std::io::ErrorKind;
use std::time::Duration;

use crate::{Error, Result};

/// The answer, or an outage when it does not come in time. What was asked for may have happened all
/// the same, as whenever an answer is lost.
pub async fn within<T>(limit: Duration, answer: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(limit, answer).await {
        Ok(answer) => answer,
        Err(_) => {
            let late = format!("no answer within {limit:?}");
            Err(Error::Database(std::io::Error::new(ErrorKind::TimedOut, late).into()))
        }
    }
}
