//! What is told of a run.

use registry::{
    AcceptedChange, Checkpoint, CheckpointKind, DataRole, RecordedData, Run, RunDataset, RunOrigin,
};
use serde_json::Value;

use super::{Lines, RunStory};
use crate::commands::{number, run_state};

pub fn text(story: &RunStory) -> String {
    let run = &story.run;
    let mut lines = Lines::default();
    lines.add("run", format!("{} {} of experiment {}", run.short, run.name, run.experiment));
    let state = if run.state.is_none() { run_state(run) } else { "" };
    lines.add("state", terminal::states(state));
    lines.add("owner", &run.owner);
    lines.add("tags", run.tags.join(", "));
    // The job that makes it has told them.
    if run.state.is_none() {
        lines.marks(run.note.as_deref(), run.archived_at);
    }
    lines.add("created", terminal::moment(run.created_at));
    if let Some(RunOrigin { short, name, step, .. }) = &story.origin {
        lines.add("fork", format!("of {short} {name}, from its checkpoint of step {step}"));
    }
    lines.add("steps", format!("{} of {}", run.last_step, run.total_steps));
    lines.add("warning", story.warning.as_deref().unwrap_or_default());
    lines.add("seed", run.seed.to_string());
    lines.add("config", format!("sha256 {} (`--config` prints it)", run.config_digest));
    lines.add("revision", run.git_revision.as_deref().unwrap_or_default());
    lines.add("host", run.host.as_deref().unwrap_or_default());
    lines.add("device", run.device.as_deref().unwrap_or_default());
    lines.add("libtorch", run.libtorch.as_deref().unwrap_or_default());
    lines.add("folder", &run.uri);
    for RecordedData { dataset, recorded_at } in &story.datasets {
        let RunDataset { role, name, rows, uri, manifest_digest, .. } = dataset;
        lines.add(role_name(*role), format!("{name} ({rows} images) {uri}"));
        let recorded = terminal::moment(*recorded_at);
        lines.add("  manifest", format!("sha256 {manifest_digest}, recorded {recorded}"));
    }
    for change in &story.data_changes {
        let AcceptedChange { role, uri, step, before, after, accepted_by, accepted_at } = change;
        let role = role_name(*role);
        let at = terminal::moment(*accepted_at);
        lines.add(
            "other data",
            format!("from step {step} on: {role} {uri}, accepted by {accepted_by}, {at}"),
        );
        lines.add("  before", format!("sha256 {before}"));
        lines.add("  after", format!("sha256 {after}"));
    }
    for checkpoint in &story.checkpoints {
        let size = terminal::bytes(u64::try_from(checkpoint.bytes).unwrap_or(0));
        let marks = marks(story, checkpoint);
        lines.add(
            "checkpoint",
            format!("step {}{marks}, {size}, {}", checkpoint.step, checkpoint.uri),
        );
    }
    for sampling in &story.samplings {
        let job = format!("{} {}, ", sampling.short, sampling.state);
        lines.add("samples", job + &super::sampling(sampling));
    }
    let tables = [metrics(run), super::scores(&story.evaluations)];
    std::iter::once(lines.text())
        .chain(tables.into_iter().flatten())
        .collect::<Vec<_>>()
        .join("\n\n")
}

/// What each metric was first, and what it is now.
fn metrics(run: &Run) -> Option<String> {
    let mut table = terminal::Table::new(&["metric", "first", "latest"]).cut(&["metric"]);
    let value = |values: &Value, name: &str| match values.get(name) {
        None => "-".to_owned(),
        Some(value) => value.as_f64().map_or_else(|| "lost".to_owned(), number),
    };
    for name in run.latest.as_object().into_iter().flatten().map(|(name, _)| name) {
        table.row([name.clone(), value(&run.initial, name), value(&run.latest, name)]);
    }
    (!table.is_empty()).then(|| table.text(terminal::width()))
}

fn role_name(role: DataRole) -> &'static str {
    match role {
        DataRole::Train => "dataset",
        DataRole::Validation => "validation",
        DataRole::Preview => "previews",
    }
}

/// Which of the run's checkpoints it is.
fn marks(story: &RunStory, checkpoint: &Checkpoint) -> String {
    let latest = story.checkpoints.last().is_some_and(|last| last.step == checkpoint.step);
    let metric = &story.run.best_metric;
    let best = (story.best == Some(checkpoint.step)).then(|| {
        format!("best: {metric} {}", crate::commands::metric(&checkpoint.metrics, metric))
    });
    let kind = match checkpoint.kind {
        CheckpointKind::Regular => None,
        CheckpointKind::Final => Some("final".to_owned()),
        CheckpointKind::Imported => Some("imported".to_owned()),
    };
    let marks: Vec<String> =
        best.into_iter().chain(latest.then(|| "latest".to_owned())).chain(kind).collect();
    if marks.is_empty() { String::new() } else { format!(" ({})", marks.join(", ")) }
}
