//! Tries that have ended and that nobody keeps, with their pictures.

use registry::{Database, Result};
use time::OffsetDateTime;

use super::{Class, Fate, Item, Scope, Target};

pub(super) async fn find(db: &Database, scope: &Scope) -> Result<Vec<Item>> {
    let old = db.old_tries(scope.ended_before).await?;
    let unsigned = |number: i64| u64::try_from(number).unwrap_or(0);
    let item = Item {
        class: Class::Tries,
        what: "pictures that were tried".into(),
        why: "nobody keeps them".into(),
        place: None,
        count: unsigned(old.tries),
        bytes: unsigned(old.bytes),
        target: Target::Tries { before: scope.ended_before },
    };
    Ok((old.tries > 0).then_some(item).into_iter().collect())
}

pub(super) async fn remove(db: &Database, before: OffsetDateTime) -> Result<Fate> {
    db.remove_old_tries(before).await?;
    Ok(Fate::Gone)
}
