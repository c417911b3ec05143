//! `show --config`: what a run was made from, as the TOML that `trainer submit` takes.

use anyhow::Context;
use registry::{Run, RunOrigin};
use serde_json::Value;

/// The configuration of a run, with lines about where it is from.
pub fn of_run(run: &Run, origin: Option<&RunOrigin>) -> anyhow::Result<String> {
    let revision = run.git_revision.as_deref().unwrap_or("unknown");
    let from = origin.map_or_else(String::new, |RunOrigin { short, step, .. }| {
        format!(" --from {short}@{step}")
    });
    let mut head = format!(
        "# The configuration of run {} {}, with every default written out; revision {revision}.\n\
         # `scheduler show {} --config > again.toml && trainer submit again.toml{from}` trains it again.\n",
        run.short,
        run.name.replace(char::is_control, " "),
        run.short
    );
    if run.config.get("name").and_then(Value::as_str).is_some_and(|name| name != run.name) {
        head += "# It was submitted by the name below, and renamed since.\n";
    }
    let (toml, short) = (text(&run.config), &run.short);
    Ok(head
        + &toml.with_context(|| {
            format!("the configuration of run {short} is no TOML (--json prints it)")
        })?)
}

/// A JSON object as TOML. TOML has no null: what is null is left out, as in a file that does not set it.
pub fn text(value: &Value) -> anyhow::Result<String> {
    match toml_value(value)? {
        Some(toml::Value::Table(table)) => Ok(toml::to_string(&table)?.trim_end().to_owned()),
        _ => anyhow::bail!("it is not a table"),
    }
}

fn toml_value(value: &Value) -> anyhow::Result<Option<toml::Value>> {
    Ok(Some(match value {
        Value::Null => return Ok(None),
        Value::Bool(value) => toml::Value::Boolean(*value),
        Value::String(text) => toml::Value::String(text.clone()),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => toml::Value::Integer(whole),
            (None, Some(value)) if number.is_f64() => toml::Value::Float(value),
            _ => anyhow::bail!("{number} is too large for a whole number of TOML"),
        },
        Value::Array(values) => {
            let values = values.iter().map(|value| {
                // Left out it would be another list.
                toml_value(value)?.context("a list holds null")
            });
            toml::Value::Array(values.collect::<anyhow::Result<_>>()?)
        }
        Value::Object(values) => {
            let mut table = toml::Table::new();
            for (key, value) in values {
                let value = toml_value(value).with_context(|| key.clone())?;
                table.extend(value.map(|value| (key.clone(), value)));
            }
            toml::Value::Table(table)
        }
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_configuration_is_the_same_in_toml_but_for_what_is_null() {
        let config = json!({
            "name": "a \"b\"", "seed": 5, "init": null,
            "train": { "learning_rate": 1e-5, "ema": [0.9, 0.99], "preview": null, "device": "cpu" },
            "data": { "datasets": [{ "uri": "/d", "weight": 1.0 }], "none": [], "mean": 0.5 },
        });
        let text = text(&config).unwrap();
        let read: Value = toml::from_str(&text).unwrap();
        let mut wanted = config;
        wanted.as_object_mut().unwrap().remove("init");
        wanted["train"].as_object_mut().unwrap().remove("preview");
        assert_eq!(read, wanted, "{text}");
    }

    #[test]
    fn what_toml_cannot_hold_is_refused_and_named() {
        for (config, says) in [
            (json!({"seed": u64::MAX}), "seed: 18446744073709551615 is too large"),
            (json!({"a": {"b": [1, null]}}), "a: b: a list holds null"),
            (json!([1]), "not a table"),
        ] {
            let error = format!("{:#}", text(&config).unwrap_err());
            assert!(error.contains(says), "{error}");
        }
    }
}
