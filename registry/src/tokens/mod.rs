//! Tokens of the control room: who may enter it from elsewhere, as what. Owns `room_tokens`. Of a token only its SHA-256
//! is kept.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Database, Error, Result};

/// What somebody may do in the control room; each role may do what the ones before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RoomRole {
    /// Look at everything.
    Reader,
    /// Submit, cancel, pause, resume, rename, try.
    User,
    /// Make tokens, send tests of alerts.
    Admin,
}

impl RoomRole {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Reader, Self::User, Self::Admin];

    /// Its name, as the database has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::User => "user",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for RoomRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for RoomRole {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let found = Self::ALL.into_iter().find(|role| role.name() == text);
        found.ok_or_else(|| "expected one of reader, user, admin".into())
    }
}

/// A token to keep.
#[derive(Clone, Debug)]
pub struct NewRoomToken {
    /// The owner of what is submitted with it.
    pub name: String,
    /// What it may.
    pub role: RoomRole,
    /// Its SHA-256.
    pub digest: [u8; 32],
    /// Who makes it.
    pub made_by: String,
    /// It is refused from then on.
    pub expires_at: Option<OffsetDateTime>,
}

/// A row of `room_tokens`, without the digest.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the columns, as in NewRoomToken")]
pub struct RoomToken {
    pub id: Uuid,
    pub name: String,
    pub role: RoomRole,
    pub made_by: String,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
    /// The day that it was last used on.
    pub used_on: Option<String>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub revoked_at: Option<OffsetDateTime>,
}

/// A token that is not revoked; it may have expired.
#[derive(Clone, Debug)]
pub struct ValidRoomToken {
    /// The token.
    pub id: Uuid,
    /// The owner of what is submitted with it.
    pub name: String,
    /// What it may.
    pub role: RoomRole,
    /// Its SHA-256.
    pub digest: Vec<u8>,
    /// It is refused from then on.
    pub expires_at: Option<OffsetDateTime>,
}

/// A role as the database has it. One that a newer program made is the least that there is.
fn role(text: &str) -> RoomRole {
    text.parse().unwrap_or(RoomRole::Reader)
}

impl Database {
    /// Keeps a token.
    ///
    /// # Errors
    /// When the name cannot be an owner's, and those of the database.
    pub async fn create_room_token(&self, token: &NewRoomToken) -> Result<Uuid> {
        storage::names::word(&token.name)
            .map_err(|error| Error::Invalid(format!("the name of a token: {error}")))?;
        let id = Uuid::new_v4();
        sqlx::query!(
            "insert into room_tokens (id, name, role, digest, made_by, expires_at)
             values ($1, $2, $3, $4, $5, $6)",
            id,
            token.name,
            token.role.name(),
            &token.digest[..],
            token.made_by,
            token.expires_at,
        )
        .execute(&self.pool)
        .await?;
        Ok(id)
    }

    /// The newest tokens, those that hold first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn room_tokens(&self) -> Result<Vec<RoomToken>> {
        let rows = sqlx::query!(
            r#"select id, name, role, made_by, created_at, expires_at, used_on::text, revoked_at
               from room_tokens
               order by revoked_at is not null, created_at desc, id
               limit 1000"#
        );
        let rows = rows.fetch_all(&self.pool).await?;
        let tokens = rows.into_iter().map(|row| RoomToken {
            id: row.id,
            name: row.name,
            role: role(&row.role),
            made_by: row.made_by,
            created_at: row.created_at,
            expires_at: row.expires_at,
            used_on: row.used_on,
            revoked_at: row.revoked_at,
        });
        Ok(tokens.collect())
    }

    /// The tokens that are not revoked, 10,000 at most.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn valid_room_tokens(&self) -> Result<Vec<ValidRoomToken>> {
        let rows = sqlx::query!(
            "select id, name, role, digest, expires_at from room_tokens
             where revoked_at is null and (expires_at is null or expires_at > now())
             order by created_at desc limit 10000"
        );
        let rows = rows.fetch_all(&self.pool).await?;
        let token = rows.into_iter().map(|row| ValidRoomToken {
            id: row.id,
            name: row.name,
            role: role(&row.role),
            digest: row.digest,
            expires_at: row.expires_at,
        });
        Ok(token.collect())
    }

    /// Takes the token of this id back, or all of this name. Gives how many held until now.
    ///
    /// # Errors
    /// [`Error::NotFound`] where none was ever called so, and those of the database.
    pub async fn revoke_room_tokens(&self, named: &str) -> Result<u64> {
        let first = crate::find::id_range(named);
        let (first, last) = first.map_or((None, None), |(first, last)| (Some(first), Some(last)));
        let found = sqlx::query!(
            r#"select id, name = $1 as "named!", revoked_at is not null as "revoked!" from room_tokens
               where name = $1 or id between $2 and $3"#,
            named,
            first,
            last,
        );
        let mut found = found.fetch_all(&self.pool).await?;
        if found.iter().any(|row| row.named) {
            found.retain(|row| row.named);
        } else if found.len() > 1 {
            let examples: Vec<String> =
                found.iter().take(3).map(|row| crate::short(&row.id)).collect();
            return Err(Error::Ambiguous {
                name: named.into(),
                count: found.len(),
                examples: examples.join(", "),
            });
        }
        if found.is_empty() {
            return Err(Error::NotFound {
                what: "token".into(),
                name: named.into(),
                meant: String::new(),
                list: "room token list".into(),
            });
        }
        let valid: Vec<Uuid> =
            found.into_iter().filter(|row| !row.revoked).map(|row| row.id).collect();
        let revoked = sqlx::query!(
            "update room_tokens set revoked_at = now() where id = any($1) and revoked_at is null",
            &valid,
        );
        Ok(revoked.execute(&self.pool).await?.rows_affected())
    }

    /// Notes that a token is used today.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn note_room_token(&self, id: Uuid) -> Result<()> {
        let noted = sqlx::query!(
            "update room_tokens set used_on = current_date
             where id = $1 and used_on is distinct from current_date",
            id,
        );
        noted.execute(&self.pool).await?;
        Ok(())
    }

    /// Whether the role of this connection may name owners of what it submits other than itself.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn may_name_owners(&self) -> Result<bool> {
        let may = sqlx::query_scalar!(r#"select names_owners() as "may!""#);
        Ok(may.fetch_one(&self.pool).await?)
    }
}
