//! Reading configurations: TOML files, and values that serde refuses told in the one form.

use std::path::Path;

use serde::de::DeserializeOwned;
use toml::Value;

use crate::ConfigError;
use crate::config_error::nearest;

/// A configuration file is text that people write; more than this is something else.
const LARGEST_FILE: u64 = 1 << 20;

/// A value that a message shows is cut to this many characters.
const SHOWN: usize = 80;

/// Reads a configuration file.
///
/// # Errors
/// For a file that cannot be read, and for keys and values that are not allowed; each names the file.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let table = parse(&read_text(path)?).map_err(|error| error.of(path.display().to_string()))?;
    deserialize(Value::Table(table), &[]).map_err(|error| error.of(path.display().to_string()))
}

/// The text of a configuration file.
///
/// # Errors
/// When it cannot be read or is no text of such a size; names the file.
pub fn read_text(path: &Path) -> Result<String, ConfigError> {
    storage::limited::read_text(path, LARGEST_FILE)
        .map_err(|error| ConfigError::other("", error.to_string()).of(path.display().to_string()))
}

/// The table that a text is in TOML.
///
/// # Errors
/// Names the line.
pub(crate) fn parse(text: &str) -> Result<toml::Table, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let message = error.message().replace('\n', ", ");
        // An error of nesting has no position.
        let line = error.span().map(|span| text[..span.start].matches('\n').count() + 1);
        ConfigError::other(
            "",
            line.map_or(message.clone(), |line| format!("line {line}: {message}")),
        )
    })
}

/// A value of a type; `known` are all keys that there are, in full, for those who look in the wrong
/// table.
///
/// # Errors
/// Names key, value and what is allowed.
pub(crate) fn deserialize<T: DeserializeOwned>(
    value: Value,
    known: &[String],
) -> Result<T, ConfigError> {
    serde_path_to_error::deserialize(value.clone()).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { "" } else { &path };
        explained(path, error.inner().message(), &value, known)
    })
}

/// As [`deserialize`], of the JSON that is stored.
///
/// # Errors
/// Names key, value and what is allowed.
pub(crate) fn from_json<T: DeserializeOwned>(json: &serde_json::Value) -> Result<T, ConfigError> {
    serde_path_to_error::deserialize(json).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { "" } else { &path };
        let message = error.inner().to_string();
        // JSON's null has no form in TOML; what is shown of values is then left out.
        let value = Value::try_from(json).unwrap_or_else(|_| Value::Table(toml::Table::new()));
        explained(path, &message, &value, &[])
    })
}

/// What serde says at a path of a value, in the one form.
fn explained(path: &str, message: &str, value: &Value, known: &[String]) -> ConfigError {
    // The place of a key that is an enum's has no name of its own there.
    let path = path.strip_suffix(".?").unwrap_or(path);
    let written = at(value, path);
    if let Some((name, expected)) = named(message, "unknown field") {
        return ConfigError::unknown(key_of(path, name), &listed(expected), known);
    }
    if let Some((name, expected)) = named(message, "unknown variant") {
        let allowed = listed(expected);
        // The name of a key, as in `data.tasks`, or a value.
        let inside = written.and_then(|value| value.get(name)).is_some();
        let ending = path.strip_suffix(name).and_then(|path| path.strip_suffix('.'));
        if inside || (ending.is_some() && written.is_some()) {
            return ConfigError::unknown(key_of(path, name), &allowed, known);
        }
        let path = ending.unwrap_or(path);
        return ConfigError::value(path, format!("\"{name}\""), allowed.join(", "))
            .meant(nearest(name, allowed.iter().copied()));
    }
    if let Some((name, _)) = named(message, "missing field") {
        return ConfigError::missing(key_of(path, name));
    }
    let expected = message.split_once(", expected ").map(|(_, expected)| in_words(expected));
    match (written.map(shown), expected) {
        (Some(value), Some(allowed)) => ConfigError::value(path, value, allowed),
        (Some(value), None) if !names(message, &value) => {
            ConfigError::value(path, value, message.replace('\n', ", "))
        }
        _ => ConfigError::other(path, message.replace('\n', ", ")),
    }
}

/// The name and the rest of "`kind` `name`, expected …".
fn named<'a>(message: &'a str, kind: &str) -> Option<(&'a str, &'a str)> {
    message.strip_prefix(kind)?.strip_prefix(" `")?.split_once('`')
}

/// The names in backquotes.
fn listed(expected: &str) -> Vec<&str> {
    expected.split('`').skip(1).step_by(2).collect()
}

/// A key of the table at `path`, which may be named by its end already.
fn key_of(path: &str, name: &str) -> String {
    match path {
        "" => name.to_owned(),
        path if path == name || path.ends_with(&format!(".{name}")) => path.to_owned(),
        path => format!("{path}.{name}"),
    }
}

/// What a value must be, in words of a person who writes TOML.
fn in_words(expected: &str) -> String {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number of at least 0".to_owned(),
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a sequence" => "a list".to_owned(),
        other if other.starts_with("struct ") || other == "a map" => "a table".to_owned(),
        other => other.replace('\n', ", "),
    }
}

/// Whether a message shows the value itself.
fn names(message: &str, value: &str) -> bool {
    message.contains(value.trim_matches('"'))
}

/// The value at `a.b[0].c`.
fn at<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    path.split(['.', '[']).filter(|part| !part.is_empty()).try_fold(value, |value, part| match part
        .strip_suffix(']')
    {
        Some(index) => value.get(index.parse::<usize>().ok()?),
        None => value.get(part),
    })
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
