//! Rules, as people make them.

use time::OffsetDateTime;
use uuid::Uuid;

use super::AlertKind;
use crate::{Database, Error, Result};

/// A rule to make.
#[derive(Clone, Debug)]
pub struct NewAlertRule {
    /// What it looks for.
    pub kind: AlertKind,
    /// What the kind counts; its default where none is given.
    pub amount: Option<f64>,
    /// Where to send to, by the names that the server's file gives.
    pub targets: Vec<String>,
    /// Only what belongs to this owner; everybody's otherwise.
    pub owner: Option<String>,
    /// Of a sweep whose runs all die, pause what is still queued.
    pub pauses: bool,
    /// Who made it.
    pub made_by: String,
}

/// A row of `alert_rules`.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the columns, described in migrations/")]
pub struct AlertRule {
    pub id: Uuid,
    pub kind: String,
    pub amount: Option<f64>,
    pub targets: Vec<String>,
    pub owner: Option<String>,
    pub pauses: bool,
    pub enabled: bool,
    pub made_by: String,
    pub since: OffsetDateTime,
}

/// Most rules that there may be: each is looked at every few seconds.
const MOST_RULES: i64 = 200;

impl Database {
    /// Makes a rule. What happened before it is not told.
    ///
    /// # Errors
    /// When its number is out of range, it has no target, or there are too many rules.
    pub async fn add_alert_rule(&self, new: &NewAlertRule) -> Result<Uuid> {
        let amount = new.amount.or(new.kind.amount());
        match (amount, new.kind.bounds()) {
            (Some(amount), Some((least, most))) if !(least..=most).contains(&amount) => {
                return Err(Error::Invalid(format!(
                    "the number of a rule `{}` is {least} to {most}, not {amount}",
                    new.kind
                )));
            }
            (Some(_), None) => {
                return Err(Error::Invalid(format!("a rule `{}` takes no number", new.kind)));
            }
            _ => {}
        }
        if new.targets.is_empty() || new.targets.len() > 20 {
            return Err(Error::Invalid("a rule has 1 to 20 targets".into()));
        }
        let mut targets = new.targets.clone();
        targets.sort();
        targets.dedup();
        let id = sqlx::query_scalar!(
            "insert into alert_rules (kind, amount, targets, owner, pauses, made_by)
             select $1, $2, $3, $4, $5, $6
             where (select count(*) from alert_rules) < $7
             returning id",
            new.kind.name(),
            amount,
            &targets,
            new.owner,
            new.pauses,
            new.made_by,
            MOST_RULES,
        )
        .fetch_optional(&self.pool)
        .await?;
        id.ok_or_else(|| {
            Error::Invalid(format!("there are {MOST_RULES} rules already: delete one first"))
        })
    }

    /// All rules, the oldest first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn alert_rules(&self) -> Result<Vec<AlertRule>> {
        let rows = sqlx::query_as!(
            AlertRule,
            "select id, kind, amount, targets, owner, pauses, enabled, made_by, since
             from alert_rules order by since, id"
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }

    /// Turns a rule on or off. What happens while it is off is not told later.
    ///
    /// # Errors
    /// When there is none.
    pub async fn enable_alert_rule(&self, id: Uuid, enabled: bool) -> Result<()> {
        let done = sqlx::query!(
            "update alert_rules
             set enabled = $2, since = case when $2 and not enabled then now() else since end
             where id = $1",
            id,
            enabled,
        )
        .execute(&self.pool)
        .await?;
        found(done.rows_affected(), id)
    }

    /// Removes a rule; what it found stays.
    ///
    /// # Errors
    /// When there is none.
    pub async fn remove_alert_rule(&self, id: Uuid) -> Result<()> {
        let done = sqlx::query!("delete from alert_rules where id = $1", id);
        found(done.execute(&self.pool).await?.rows_affected(), id)
    }
}

fn found(rows: u64, id: Uuid) -> Result<()> {
    match rows {
        0 => Err(Error::NotFound {
            what: "alert rule".into(),
            name: id.to_string(),
            meant: String::new(),
            list: "room".into(),
        }),
        _ => Ok(()),
    }
}
