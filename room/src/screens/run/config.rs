//! A configuration as the TOML that `trainer submit` takes, each line with whether it says what would be so without it.

use serde_json::Value;

/// Every default of an experiment, as this version has them; a test of `contracts` compares.
const DEFAULTS: &str = include_str!("defaults.json");

/// A line of TOML.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    /// What stands there.
    pub text: String,
    /// Without it the same would be so.
    pub default: bool,
}

/// The lines of a configuration; TOML has no null, so what is null is left out.
///
/// # Errors
/// Names what TOML cannot hold.
pub fn lines(config: &Value) -> Result<Vec<Line>, String> {
    let defaults: Value = serde_json::from_str(DEFAULTS).unwrap_or_default();
    let mut lines = Vec::new();
    let Some(_) = config.as_object() else { return Err("it is not a table".into()) };
    table(config, Some(&defaults), "", config, &mut lines)?;
    Ok(lines)
}

/// The whole text.
///
/// # Errors
/// As `lines`.
pub fn text(config: &Value) -> Result<String, String> {
    Ok(lines(config)?.iter().map(|line| line.text.as_str()).collect::<Vec<_>>().join("\n"))
}

fn table(
    value: &Value,
    defaults: Option<&Value>,
    path: &str,
    whole: &Value,
    lines: &mut Vec<Line>,
) -> Result<(), String> {
    let entries: Vec<(&String, &Value)> =
        value.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()).collect();
    let is_plain = |value: &Value| !value.is_object() && !is_tables(value);
    for (key, value) in entries.iter().filter(|(_, value)| is_plain(value)) {
        let full = join(path, key);
        let usual = defaults.and_then(|defaults| defaults.get(key.as_str()));
        let default = usual.is_some_and(|usual| usual == *value) || is_settled(&full, value, whole);
        let value = toml_value(value).map_err(|why| format!("{full}: {why}"))?;
        lines.push(Line { text: format!("{} = {value}", key_text(key)), default });
    }
    for (key, value) in entries.iter().filter(|(_, value)| !is_plain(value)) {
        let full = join(path, key);
        let usual = defaults.and_then(|defaults| defaults.get(key.as_str()));
        match value.as_array() {
            Some(all) => {
                for one in all {
                    head(format!("[[{full}]]"), false, lines);
                    table(one, None, &full, whole, lines)?;
                }
            }
            None => {
                let at = lines.len();
                head(format!("[{full}]"), false, lines);
                let begin = lines.len();
                table(value, usual, &full, whole, lines)?;
                // A table in which all is as it would be is as if it were not there.
                if lines[begin..].iter().all(|line| line.default) && usual.is_some() {
                    lines[at..].iter_mut().for_each(|line| line.default = true);
                }
            }
        }
    }
    Ok(())
}

fn head(text: String, default: bool, lines: &mut Vec<Line>) {
    if !lines.is_empty() {
        lines.push(Line { text: String::new(), default: true });
    }
    lines.push(Line { text, default });
}

/// What an empty value becomes when the configuration is read.
fn is_settled(path: &str, value: &Value, whole: &Value) -> bool {
    let validates = whole.pointer("/train/validation").is_some_and(|table| !table.is_null());
    let loss = if validates { "validation/loss" } else { "loss" };
    path == "train.checkpoint.best_by" && value == loss
}

fn join(path: &str, key: &str) -> String {
    let key = key_text(key);
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

fn key_text(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    match !key.is_empty() && key.chars().all(bare) {
        true => key.to_owned(),
        false => toml::Value::String(key.to_owned()).to_string(),
    }
}

fn is_tables(value: &Value) -> bool {
    value.as_array().is_some_and(|all| !all.is_empty() && all.iter().all(Value::is_object))
}

fn toml_value(value: &Value) -> Result<toml::Value, String> {
    Ok(match value {
        Value::Null => return Err("a list holds null".into()),
        Value::Bool(value) => toml::Value::Boolean(*value),
        Value::String(text) => toml::Value::String(text.clone()),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => toml::Value::Integer(whole),
            (None, Some(value)) if number.is_f64() => toml::Value::Float(value),
            _ => return Err(format!("{number} is too large for a whole number of TOML")),
        },
        Value::Array(values) => {
            toml::Value::Array(values.iter().map(toml_value).collect::<Result<_, _>>()?)
        }
        Value::Object(values) => {
            let entries = values.iter().filter(|(_, value)| !value.is_null());
            let entries = entries.map(|(key, value)| Ok((key.clone(), toml_value(value)?)));
            toml::Value::Table(entries.collect::<Result<_, String>>()?)
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use serde_json::json;

    use super::*;

    fn config() -> Value {
        json!({
            "name": "a \"b\"\n[evil]", "seed": 5, "init": null, "odd key": [1, 2.5],
            "train": {
                "learning_rate": 1e-4, "steps": 7, "preview": null,
                "checkpoint": { "every": 10_000, "best_by": "loss" },
            },
            "data": { "datasets": [{ "uri": "/d", "weight": 1.0 }], "tasks": { "jpeg": 1.0 } },
        })
    }

    #[test]
    fn a_configuration_is_the_same_in_toml_but_for_what_is_null() {
        let text = text(&config()).unwrap();
        let read: Value = toml::from_str(&text).unwrap();
        let mut wanted = config();
        wanted.as_object_mut().unwrap().remove("init");
        wanted["train"].as_object_mut().unwrap().remove("preview");
        assert_eq!(read, wanted, "{text}");
    }

    #[test]
    fn what_would_be_so_anyhow_is_marked() {
        let lines = lines(&config()).unwrap();
        let default = |text: &str| lines.iter().find(|line| line.text == text).unwrap().default;
        assert!(default("learning_rate = 0.0001"));
        assert!(default("best_by = \"loss\""));
        assert!(default("[train.checkpoint]"));
        assert!(!default("steps = 7"));
        assert!(!default("[train]"));
        assert!(!default("uri = \"/d\""));
        assert!(!default("seed = 5"));
    }

    #[test]
    fn what_toml_cannot_hold_is_refused_and_named() {
        for (config, says) in [
            (json!({"seed": u64::MAX}), "seed: 18446744073709551615 is too large"),
            (json!({"a": {"b": [1, null]}}), "a.b: a list holds null"),
            (json!([1]), "not a table"),
        ] {
            let error = lines(&config).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
