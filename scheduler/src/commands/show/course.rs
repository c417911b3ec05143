//! What is told of a run's course: that it learned nothing, or only at first.

use registry::{Database, Error, JobState, Run};

/// What is wrong with it, where something is.
///
/// # Errors
/// Those of the database.
pub async fn warning(db: &Database, run: &Run) -> Result<Option<String>, Error> {
    let succeeded = run.state == Some(JobState::Succeeded);
    let finding = db.finding(run.id, run.total_steps, succeeded).await?;
    Ok(finding.map(|finding| finding.to_string()))
}
