//! Copies of checkpoints of object stores. Whoever needs one that is gone fetches it again.

use std::time::Duration;

use registry::Result;

use super::{Class, Fate, Item, Scope, Target, blocking, tree};

/// What was given out within this time may still be read, and stays whatever the cache takes.
const FRESH: Duration = Duration::from_secs(3600);

pub(super) fn find(scope: &Scope, notes: &mut Vec<String>) -> Result<Vec<Item>> {
    let folder = scope.home.checkpoint_cache();
    tree::inside(&scope.home, &folder)?;
    let mut copies = storage::cache::copies(&folder)?;
    copies.sort_by(|a, b| (a.used, &a.name).cmp(&(b.used, &b.name)));
    let mut total: u64 = copies.iter().map(|copy| copy.bytes).sum();
    let most = scope.policy.cache_bytes.map_or(u64::MAX, |size| size.0);
    let mut items = Vec::new();
    for copy in copies {
        let why = if scope.policy.older_than.is_some() && scope.is_older(copy.used, FRESH) {
            "not used for so long"
        } else if total > most && scope.now.duration_since(copy.used).is_ok_and(|age| age >= FRESH)
        {
            "the least recently used"
        } else {
            continue;
        };
        if copy.busy {
            notes.push(format!("copy {} is being fetched: left alone", copy.name));
            continue;
        }
        total -= copy.bytes;
        items.push(Item {
            class: Class::Cache,
            what: format!("copy {}", copy.name),
            why: why.into(),
            place: Some(folder.join(&copy.name).display().to_string()),
            count: 1,
            bytes: copy.bytes,
            target: Target::Copy { name: copy.name },
        });
    }
    if total > most {
        let (total, most) = (total, scope.policy.cache_bytes.map(|size| size.to_string()));
        notes.push(format!(
            "the cache takes {total} bytes, more than {}: all of it was used within the hour",
            most.unwrap_or_default()
        ));
    }
    Ok(items)
}

pub(super) async fn remove(scope: &Scope, name: &str) -> Result<Fate> {
    let (folder, name) = (scope.home.checkpoint_cache(), name.to_owned());
    let gone = blocking(move || Ok(storage::cache::discard(&folder, &name)?)).await?;
    Ok(if gone { Fate::Gone } else { Fate::Left("it is being fetched".into()) })
}
