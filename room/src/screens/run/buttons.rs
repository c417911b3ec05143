//! What can be done with a job as it is: what each button says, what it does, and why it is refused.

use registry::state::{Event, next};
use registry::{Job, JobState, StopRequest};
use serde::Serialize;
use utoipa::ToSchema;

/// Something that can be done.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Button {
    /// The action's name.
    pub action: &'static str,
    /// What stands on it.
    pub label: &'static str,
    /// What happens.
    pub says: &'static str,
    /// Why it cannot be done now.
    pub refused: Option<String>,
}

/// Those of a job, in the order of the page.
pub fn buttons(job: &Job, with_marks: bool) -> Vec<Button> {
    let asked = job.stop_requested;
    let running = job.state == JobState::Running;
    let refused = |event| next(job.state, asked, event).err().map(|refused| refused.to_string());
    let cancel = match (job.state, asked) {
        (JobState::Running, Some(StopRequest::Cancel)) => Some("it was asked already".to_owned()),
        (JobState::Cancelled, _) => Some("it is cancelled".to_owned()),
        _ => refused(Event::Cancel),
    };
    // The commands take these too, and change nothing.
    let resume = match job.state {
        JobState::Queued => Some("it is queued".to_owned()),
        _ => refused(Event::Resume),
    };
    let retry = match job.state {
        JobState::Queued if job.attempts_used == 0 => Some("it is queued".to_owned()),
        _ => refused(Event::Retry),
    };
    let pause = match (running, asked) {
        (true, Some(StopRequest::Pause)) => Some("it was asked already".to_owned()),
        _ if job.state == JobState::Paused => Some("it is paused".to_owned()),
        _ => refused(Event::Pause),
    };
    let button = |action, label, says, refused| Button { action, label, says, refused };
    let checkpoint = job.run_id == Some(job.id);
    let mut all = vec![
        button(
            "pause",
            "Pause",
            match (running, checkpoint) {
                (true, true) => "It writes a checkpoint and is set aside until it is resumed.",
                (true, false) => {
                    "It stops at the next safe point and is set aside until it is resumed."
                }
                _ => "No worker takes it until it is resumed.",
            },
            pause,
        ),
        button(
            "resume",
            "Resume",
            match running {
                true => "Takes back that it was asked to stop.",
                false => "Queues it again; it goes on where it was.",
            },
            resume,
        ),
        button(
            "retry",
            "Retry",
            match job.state {
                JobState::Queued => "It need not wait for its next try, and has all tries again.",
                _ => "Gives it new tries and queues it; it goes on where it was.",
            },
            retry,
        ),
        button(
            "cancel",
            "Cancel",
            match (running, checkpoint) {
                (true, true) => {
                    "It writes a checkpoint and ends. What waits for it is cancelled too."
                }
                _ => "It ends. What waits for it is cancelled too.",
            },
            cancel,
        ),
        button(
            "cancel_now",
            "Cancel at once",
            "Kills what runs; what it made since its last checkpoint is lost. What waits for it is cancelled too.",
            match running {
                true => refused(Event::Force),
                false => Some("it does not run".to_owned()),
            },
        ),
    ];
    if with_marks {
        let open = (!job.state.is_final()).then(|| format!("it is {}", job.state));
        all.push(match job.archived_at {
            None => button(
                "archive",
                "Archive",
                "Lists leave it out from now on. Nothing is lost.",
                open,
            ),
            Some(_) => button("unarchive", "Unarchive", "Lists show it again.", None),
        });
    }
    all
}
