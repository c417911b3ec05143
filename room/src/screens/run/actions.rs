//! What is done with a job or a run: by the buttons of its page, or by the API.

use registry::{GoOn, Job, Kind, Run, Target};
use serde::Deserialize;
use storage::names;
use utoipa::ToSchema;

use crate::{Answer, Refusal, Room, Who};

/// What is to be done.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(tag = "action", rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Set it aside; a running one at its next checkpoint.
    Pause,
    /// Queue a paused one again, or take back what a running one was asked.
    Resume {
        /// A run goes on from the checkpoint of this step, 0 for its beginning; later ones are set aside.
        #[serde(default)]
        from: Option<i64>,
        /// Let a run go on over data that is not what was recorded.
        #[serde(default)]
        accept_changed_data: bool,
    },
    /// Give one that failed or was cancelled new tries.
    Retry {
        /// As of `resume`.
        #[serde(default)]
        from: Option<i64>,
        /// As of `resume`.
        #[serde(default)]
        accept_changed_data: bool,
    },
    /// End it; a running one at its next checkpoint.
    Cancel,
    /// End it without waiting for a checkpoint.
    CancelNow,
    /// Change its place in the queue.
    Priority {
        /// Higher goes first.
        priority: i32,
    },
    /// Call it by another name.
    Rename {
        /// The name.
        name: String,
    },
    /// Keep a text with it.
    Note {
        /// The text; an empty one takes away the one that is there.
        note: String,
    },
    /// Change the words that it is found by.
    Tag {
        /// All of them from now on.
        tags: Vec<String>,
    },
    /// Let lists leave it out.
    Archive,
    /// Let lists show it again.
    Unarchive,
}

/// An action as a form sends it.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Form {
    action: String,
    #[serde(default)]
    from: String,
    #[serde(default)]
    accept_changed_data: Option<String>,
    #[serde(default)]
    priority: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    note: String,
    #[serde(default)]
    tags: String,
}

impl Form {
    /// The action.
    ///
    /// # Errors
    /// When a field is none, or there is no such action.
    pub fn action(self) -> Answer<Action> {
        let from = match self.from.trim() {
            "" => None,
            step => Some(
                step.parse::<i64>()
                    .ok()
                    .filter(|step| *step >= 0)
                    .ok_or_else(|| Refusal::bad("the step is a whole number from 0 on"))?,
            ),
        };
        let accept_changed_data = self.accept_changed_data.is_some();
        Ok(match self.action.as_str() {
            "pause" => Action::Pause,
            "resume" => Action::Resume { from, accept_changed_data },
            "retry" => Action::Retry { from, accept_changed_data },
            "cancel" => Action::Cancel,
            "cancel_now" => Action::CancelNow,
            "priority" => Action::Priority {
                priority: self.priority.trim().parse().map_err(|_| {
                    Refusal::bad("the priority is a whole number; higher goes first")
                })?,
            },
            "rename" => Action::Rename { name: self.name.trim().to_owned() },
            "note" => Action::Note { note: self.note.replace("\r\n", "\n") },
            "tag" => {
                Action::Tag { tags: self.tags.split_whitespace().map(str::to_owned).collect() }
            }
            "archive" => Action::Archive,
            "unarchive" => Action::Unarchive,
            other => return Err(Refusal::bad(format!("there is no action `{other}`"))),
        })
    }
}

/// What an action is about: a job, or a run that no job makes.
pub enum Subject {
    /// A job, and the run that it makes.
    Job(Box<Job>),
    /// An imported run.
    Run(Box<Run>),
}

impl Action {
    /// What the page says when it is done, by its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume { .. } => "resume",
            Self::Retry { .. } => "retry",
            Self::Cancel => "cancel",
            Self::CancelNow => "cancel_now",
            Self::Priority { .. } => "priority",
            Self::Rename { .. } => "rename",
            Self::Note { .. } => "note",
            Self::Tag { .. } => "tag",
            Self::Archive => "archive",
            Self::Unarchive => "unarchive",
        }
    }

    /// Does it.
    ///
    /// # Errors
    /// Why it cannot be done as things are.
    pub async fn run(self, room: &Room, subject: &Subject, who: &Who) -> Answer<()> {
        let db = &room.database;
        let (target, tags) = match subject {
            Subject::Job(job) => (Target { kind: Kind::Job, id: job.id }, &job.tags),
            Subject::Run(run) => (Target { kind: Kind::Run, id: run.id }, &run.tags),
        };
        let name = who.name.as_str();
        let id = target.id;
        match (self, subject) {
            (Self::Rename { name }, _) => db.rename(target, &name).await?,
            (Self::Note { note }, _) => {
                let note = Some(note.trim_end()).filter(|note| !note.trim().is_empty());
                db.note(target, note).await?;
            }
            (Self::Tag { tags: wanted }, _) => {
                let word = |tag: &String| {
                    names::word(tag).map_err(|why| Refusal::bad(format!("a tag is {why}")))
                };
                wanted.iter().try_for_each(|tag| word(tag).map(drop))?;
                let gone: Vec<String> =
                    tags.iter().filter(|tag| !wanted.contains(tag)).cloned().collect();
                db.tag(target, &wanted, &gone).await?;
            }
            (Self::Archive, _) => db.archive(target).await?,
            (Self::Unarchive, _) => db.unarchive(target).await?,
            (_, Subject::Run(run)) => {
                return Err(Refusal::conflict(format!(
                    "run {} was imported: no job makes it",
                    run.short
                )));
            }
            (Self::Pause, _) => drop(db.pause(id).await?),
            (Self::Cancel, _) => drop(db.cancel(id).await?),
            (Self::CancelNow, _) => drop(db.cancel_now(id).await?),
            (Self::Priority { priority }, _) => drop(db.set_priority(id, priority).await?),
            (Self::Resume { from, accept_changed_data }, _) => {
                let how = GoOn { accepted_by: accept_changed_data.then_some(name), from };
                drop(db.resume_as(id, how).await?);
            }
            (Self::Retry { from, accept_changed_data }, _) => {
                let how = GoOn { accepted_by: accept_changed_data.then_some(name), from };
                drop(db.retry_as(id, how).await?);
            }
        }
        forget(room);
        Ok(())
    }
}

/// What pages show is asked for again after a change.
pub fn forget(room: &Room) {
    for screen in ["now/", "run/", "queue/", "runs/"] {
        room.shared.forget(screen);
    }
    room.live.tell("jobs");
}
