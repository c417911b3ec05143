//! The version that stored data carries: the key `version` beside its own. Data without one is of before
//! there were versions and has the form of version 1.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::read::from_json;
use crate::{Error, Result};

/// The version that is written, and the latest that is read.
pub const VERSION: u64 = 1;

const KEY: &str = "version";

/// The JSON to store for a value that is a JSON object.
///
/// # Errors
/// When the value is no JSON object.
pub fn write(value: &impl Serialize) -> Result<Value> {
    let wrong = |message: String| Error::Damaged { what: "what is to be stored".into(), message };
    let mut json = serde_json::to_value(value).map_err(|error| wrong(error.to_string()))?;
    let object = json.as_object_mut().ok_or_else(|| wrong("no JSON object".to_owned()))?;
    object.insert(KEY.to_owned(), VERSION.into());
    Ok(json)
}

/// A value that was stored; `what` it is and the `program` that reads it are for the messages.
///
/// # Errors
/// When it is damaged, or of a later version.
pub fn read<T: DeserializeOwned>(json: &Value, what: &str, program: &'static str) -> Result<T> {
    let damaged = |message: String| Error::Damaged { what: what.to_owned(), message };
    let mut json = json.clone();
    let version = json.as_object_mut().and_then(|object| object.remove(KEY));
    if let Some(version) = version {
        let number = version.as_u64();
        let version = number.ok_or_else(|| damaged(format!("its version is {version}")))?;
        if version > VERSION {
            let (what, known) = (what.to_owned(), VERSION);
            return Err(Error::Newer { what, version, known, program });
        }
    }
    from_json(&json).map_err(|error| damaged(error.to_string()))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Held {
        count: u32,
    }

    #[test]
    fn what_is_written_is_read_also_as_it_was_before_there_were_versions() {
        let stored = write(&Held { count: 3 }).unwrap();
        assert_eq!(stored, json!({ "count": 3, "version": 1 }));
        for json in [stored, json!({ "count": 3 })] {
            assert_eq!(read::<Held>(&json, "it", "sampler").unwrap(), Held { count: 3 });
        }
    }

    #[test]
    fn later_versions_and_damage_are_told_apart() {
        let message =
            |json: &Value| read::<Held>(json, "the job", "sampler").unwrap_err().to_string();
        let newer = message(&json!({ "count": 3, "more": true, "version": 2 }));
        assert_eq!(
            newer,
            "the job has version 2, this sampler reads versions up to 1: update sampler"
        );
        let damaged = message(&json!({ "count": "many" }));
        assert!(damaged.starts_with("the job is damaged: count is \"many\""), "{damaged}");
        assert!(message(&json!({ "count": 3, "version": "new" })).contains("its version is"));
        assert!(message(&json!(3)).starts_with("the job is damaged"));
    }
}
