//! Whether a database can hold what is written to it.

use sqlx::{Executor, PgConnection, Row};

use crate::{Error, Result};

/// Refuses a database of another encoding than UTF-8: names and the output of programs could not be stored, or
/// would not come back as they were.
pub(crate) async fn demand_utf8(connection: &mut PgConnection) -> Result<()> {
    let row = connection.fetch_one("show server_encoding").await?;
    match unfit_encoding(row.try_get(0)?) {
        Some(why) => Err(Error::Unfit(why)),
        None => Ok(()),
    }
}

/// What is wrong with an encoding, with what to do; goes on after "the database". Nothing where it is UTF-8.
pub fn unfit_encoding(encoding: &str) -> Option<String> {
    (encoding != "UTF8").then(|| {
        format!(
            "has the encoding {encoding}, in which not every text can be stored: make one with `create database \
             NAME encoding 'UTF8' template template0` (with locale 'C' or one of UTF-8), and name it in DATABASE_URL"
        )
    })
}
