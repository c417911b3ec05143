//! Rights that one process at a time has, whatever its host.

use std::time::Duration;

use sqlx::PgConnection;

use crate::{Database, Result};

/// Such a right; ends with the process, however that ends.
#[derive(Debug)]
pub struct Lock {
    #[expect(dead_code, reason = "held, never read")]
    connection: PgConnection,
}

impl Database {
    /// Takes the right of this name, any two numbers that nothing else uses; none where another process has
    /// it. Waits for two seconds: one that was killed has it until the server notices.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn lock(&self, name: (i32, i32)) -> Result<Option<Lock>> {
        const PATIENCE: usize = 20;
        let mut connection = self.connect(self.limits.statement).await?;
        for _ in 0..PATIENCE {
            let locked = sqlx::query_scalar!(
                r#"select pg_try_advisory_lock($1, $2) as "locked!""#,
                name.0,
                name.1,
            )
            .fetch_one(&mut connection)
            .await?;
            if locked {
                return Ok(Some(Lock { connection }));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(None)
    }
}
