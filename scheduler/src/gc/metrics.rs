//! Points that nobody will see again: an attempt wrote them past the step from which a later one went on.
//! That stays so whatever happens to the job, because an attempt can only go back further; so no lock
//! is needed.

use registry::{Database, Result};
use uuid::Uuid;

use super::{Class, Fate, Item, Scope, Target};

pub(super) async fn find(db: &Database, scope: &Scope) -> Result<Vec<Item>> {
    let runs = db.hidden_points(scope.ended_before).await?;
    let unsigned = |number: i64| u64::try_from(number).unwrap_or(0);
    Ok(runs
        .into_iter()
        .map(|run| Item {
            class: Class::Metrics,
            what: format!("run {} hidden points", run.short),
            why: "a later attempt took another course".into(),
            place: None,
            count: unsigned(run.count),
            bytes: unsigned(run.bytes),
            target: Target::Points { run: run.run },
        })
        .collect())
}

pub(super) async fn remove(db: &Database, run: Uuid) -> Result<Fate> {
    db.delete_hidden_points(run).await?;
    Ok(Fate::Gone)
}
