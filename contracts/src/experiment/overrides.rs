//! What is typed in place of values of a configuration file: `--set train.steps=100`.

use std::fmt;
use std::str::FromStr;

use crate::ConfigError;

/// One key with another value.
#[derive(Clone, Debug, PartialEq)]
pub struct Override {
    keys: Vec<String>,
    value: toml::Value,
    text: String,
}

impl FromStr for Override {
    type Err = ConfigError;

    /// Reads `a.b=value`.
    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let other = |message: &str| ConfigError::other("", message);
        let (path, typed) = text
            .split_once('=')
            .ok_or_else(|| other("expected key=value, such as train.steps=100"))?;
        let keys: Vec<String> = path.split('.').map(|key| key.trim().to_owned()).collect();
        if keys.iter().any(String::is_empty) {
            return Err(other("a key is missing, expected key=value, such as train.steps=100"));
        }
        Ok(Self { keys, value: value(typed), text: text.to_owned() })
    }
}

impl fmt::Display for Override {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Override {
    /// Sets the value in the table.
    ///
    /// # Errors
    /// When one of the tables on the way is a value.
    pub fn apply(&self, table: &mut toml::Table) -> Result<(), ConfigError> {
        let Some((last, tables)) = self.keys.split_last() else { return Ok(()) };
        let mut inside = table;
        for (depth, key) in tables.iter().enumerate() {
            inside = inside
                .entry(key)
                .or_insert_with(|| toml::Value::Table(toml::Table::new()))
                .as_table_mut()
                .ok_or_else(|| {
                    let key = self.keys[..=depth].join(".");
                    ConfigError::other(key, "a value has no keys of its own")
                })?;
        }
        inside.insert(last.clone(), self.value.clone());
        Ok(())
    }

    /// Whether an error of this key is about what was set: the key itself, one in it or one around it.
    pub fn concerns(&self, key: &str) -> bool {
        concern(key, &self.keys.join("."))
    }
}

/// Whether two keys are about the same: the same key, or one in the other.
pub(super) fn concern(a: &str, b: &str) -> bool {
    let within = |inner: &str, outer: &str| {
        inner
            .strip_prefix(outer)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    !a.is_empty() && (within(a, b) || within(b, a))
}

/// A value as it is typed: TOML where it is that, else a text.
pub(super) fn value(text: &str) -> toml::Value {
    toml::from_str::<toml::Table>(&format!("value = {text}"))
        .ok()
        .and_then(|mut parsed| parsed.remove("value"))
        .unwrap_or_else(|| toml::Value::String(text.to_owned()))
}
