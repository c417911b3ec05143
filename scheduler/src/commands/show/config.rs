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
    room::toml_text(value).map_err(anyhow::Error::msg)
}
