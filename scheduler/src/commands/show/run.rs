//! What is told of a run.

use registry::{AcceptedChange, Checkpoint, CheckpointKind, DataRole, RecordedData, RunDataset};

use super::{Lines, RunStory};
use crate::commands::{numbers, run_state};

pub fn text(story: &RunStory) -> String {
    let run = &story.run;
    let mut lines = Lines::default();
    lines.add("run", format!("{} {} of experiment {}", run.short, run.name, run.experiment));
    let state = if run.state.is_none() { run_state(run) } else { "" };
    lines.add("state", terminal::states(state));
    lines.add("owner", &run.owner);
    lines.add("tags", run.tags.join(", "));
    lines.add("created", terminal::moment(run.created_at));
    lines.add("steps", format!("{} of {}", run.last_step, run.total_steps));
    lines.add("first", numbers(&run.initial));
    lines.add("latest", numbers(&run.latest));
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
    for evaluation in &story.evaluations {
        lines.add("evaluation", super::evaluation(evaluation));
    }
    lines.text()
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
