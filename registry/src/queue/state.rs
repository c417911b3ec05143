//! The states of a job and the rules of its way from one to another: [`next`]. Owns no data. These
//! statements write `jobs.state`, and no others (a test counts them):
//!
//! - what a user asks (`control`) and the end of an attempt (`attempts`) lock the row, ask [`next`] and
//!   write what it says;
//! - a submission (`jobs`) writes the first state: queued, or paused where it is to be held;
//! - a claim (`claim`) chooses, the best job or one in the foreground, and moves in one statement, so that
//!   no other worker comes between: [`Event::Claim`];
//! - a success (`attempts`) is one statement, because that is half of what a job costs
//!   (`docs/decisions/0015-what-a-claim-costs.md`): [`Event::Succeed`], whatever was asked meanwhile;
//! - what waits for a job that will not succeed (`attempts`) is cancelled in one statement, however many
//!   there are: [`Event::Cancel`] of queued and paused ones;
//! - a job that makes tries and was paused (`tries/serving`) is cancelled when another is made: [`Event::Cancel`].
//!
//! The last five keep to [`next`] by their conditions; `tests/model.rs` compares them with it.
//!
//! ```text
//!            submit                 claim
//!              │       ┌──────────────────────────────┐
//!              ▼       │                              ▼
//!           ┌────────────┐  stopped, failed or lost ┌─────────┐  exit 0   ┌───────────┐
//!       ┌──▶│   queued   │◀─────── (tries left) ────│ running │──────────▶│ succeeded │
//!       │   └────────────┘                          └─────────┘           └───────────┘
//!       │     │   ▲    │                              │  │  │
//!       │   pause resume cancel           stopped,    │  │  │ no tries left, bad configuration
//!       │     ▼   │    │   ┌─── pause was asked for ──┘  │  ▼
//!       │   ┌────────┐◀┼───┘                             │ ┌────────┐
//!       │   │ paused │ │                                 │ │ failed │──┐
//!       │   └────────┘ │            stopped,             │ └────────┘  │
//!       │     │ cancel ▼        cancel was asked for     │             │
//!       │     │   ┌───────────┐                          │             │
//!       │     └──▶│ cancelled │◀─────────────────────────┘             │
//!       │         └───────────┘                                        │
//!       └───────────────┴──────────────── retry ───────────────────────┘
//! ```
//!
//! One way back from success: `trainer extend` gives a run more steps, which queues it again.
//!
//! A running job is not moved by a user's wish: the wish is noted beside it ([`StopRequest`]) and
//! comes true when its attempt ends. Only `cancel --force` moves it, to cancelled at once: its attempt
//! is stale from then on and is killed by whoever has it.

use serde::{Deserialize, Serialize};

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "job_state", rename_all = "lowercase")]
pub enum JobState {
    /// Waits for a worker (and for its parents, and for its time).
    Queued,
    /// An attempt holds its lease.
    Running,
    /// Set aside until it is resumed.
    Paused,
    /// Done.
    Succeeded,
    /// Given up; `retry` queues it again.
    Failed,
    /// Not wanted any more; `retry` queues it again.
    Cancelled,
}

impl JobState {
    /// Every state.
    pub const ALL: [Self; 6] =
        [Self::Queued, Self::Running, Self::Paused, Self::Succeeded, Self::Failed, Self::Cancelled];

    /// Its name, as the database and the tables write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// True when nothing will happen to it by itself any more.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

impl std::fmt::Display for JobState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl std::str::FromStr for JobState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|state| state.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("no state `{text}`; there are {names}")
        })
    }
}

/// What a running job was asked to do at its next checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "stop_request", rename_all = "lowercase")]
pub enum StopRequest {
    /// Write a checkpoint and wait in the queue again, for a job of higher priority.
    Yield,
    /// Write a checkpoint and be set aside.
    Pause,
    /// End for good.
    Cancel,
}

/// What happens to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A worker takes it.
    Claim,
    /// Its attempt ended well.
    Succeed,
    /// Its attempt ended because it was asked to (pause, cancel, or its worker shutting down).
    Stop,
    /// Its attempt failed; `again` when it may be tried once more.
    Fail {
        /// Tries are left and another try may help.
        again: bool,
    },
    /// The lease of its attempt ran out; `again` when tries are left.
    Lose {
        /// Tries are left.
        again: bool,
    },
    /// A user sets it aside.
    Pause,
    /// A user queues it again after a pause.
    Resume,
    /// A user, or the failure of a parent, ends it.
    Cancel,
    /// A user ends it without waiting for a checkpoint.
    Force,
    /// A job of higher priority asks it to give way.
    Yield,
    /// A user gives it new tries after its end.
    Retry,
    /// A user gives it more to do.
    Extend,
}

/// The state after an event, or only a wish that is noted beside the running job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The job is in this state now.
    State(JobState),
    /// The job goes on running; its attempt is asked to stop.
    Ask(StopRequest),
    /// The job goes on running; what it was asked is taken back.
    TakeBack,
}

/// An event that does not fit the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is {state}, {remedy}")]
pub struct Refused {
    /// The state that it is in.
    pub state: JobState,
    remedy: &'static str,
}

/// The state that follows from a state, what the attempt was asked, and an event.
///
/// # Errors
/// When the event does not fit the state.
pub fn next(state: JobState, asked: Option<StopRequest>, event: Event) -> Result<Next, Refused> {
    use JobState::{Cancelled, Failed, Paused, Queued, Running, Succeeded};
    let to = |state| Ok(Next::State(state));
    let refuse = |remedy| Err(Refused { state, remedy });
    match (state, event) {
        (Queued, Event::Claim) => to(Running),
        (_, Event::Claim) => refuse("only a queued job can be claimed"),

        (Running, Event::Succeed) => to(Succeeded),
        (Running, Event::Stop) => to(when_stopped(asked)),
        // What was asked for wins over another try, but never hides a failure that is final.
        (Running, Event::Fail { again: true } | Event::Lose { again: true }) => {
            to(when_stopped(asked))
        }
        (Running, Event::Fail { again: false } | Event::Lose { again: false }) => match asked {
            Some(StopRequest::Cancel) => to(Cancelled),
            _ => to(Failed),
        },
        (_, Event::Succeed | Event::Stop | Event::Fail { .. } | Event::Lose { .. }) => {
            refuse("it has no attempt that could end")
        }

        (Queued | Paused, Event::Pause) => to(Paused),
        (Running, Event::Pause) if asked == Some(StopRequest::Cancel) => {
            refuse("it is being cancelled")
        }
        (Running, Event::Pause) => Ok(Next::Ask(StopRequest::Pause)),
        (_, Event::Pause) => refuse("there is nothing to pause"),

        (Paused | Queued, Event::Resume) => to(Queued),
        (Running, Event::Resume) if asked == Some(StopRequest::Pause) => Ok(Next::TakeBack),
        (Running, Event::Resume) => refuse("there is nothing to resume"),
        (_, Event::Resume) => refuse("`scheduler retry` queues it again"),

        (Queued | Paused | Cancelled, Event::Cancel) => to(Cancelled),
        (Running, Event::Cancel) => Ok(Next::Ask(StopRequest::Cancel)),
        (Succeeded | Failed, Event::Cancel) => refuse("there is nothing to cancel"),

        (Queued | Paused | Cancelled | Running, Event::Force) => to(Cancelled),
        (Succeeded | Failed, Event::Force) => refuse("there is nothing to cancel"),

        (Running, Event::Yield) if asked.is_none() => Ok(Next::Ask(StopRequest::Yield)),
        (Running, Event::Yield) => refuse("it stops already"),
        (_, Event::Yield) => refuse("it has nothing to give way with"),

        (Failed | Cancelled, Event::Retry) => to(Queued),
        (Queued, Event::Retry) => to(Queued),
        (Paused, Event::Retry) => refuse("`scheduler resume` queues it again"),
        (_, Event::Retry) => refuse("there is nothing to retry"),

        (Succeeded | Queued, Event::Extend) => to(Queued),
        (Paused, Event::Extend) => to(Paused),
        (Running, Event::Extend) => {
            refuse("and goes by the steps that it began with: pause it first")
        }
        (Failed | Cancelled, Event::Extend) => {
            refuse("`scheduler retry` queues it again, then extend it")
        }
    }
}

fn when_stopped(asked: Option<StopRequest>) -> JobState {
    match asked {
        None | Some(StopRequest::Yield) => JobState::Queued,
        Some(StopRequest::Pause) => JobState::Paused,
        Some(StopRequest::Cancel) => JobState::Cancelled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: [Option<StopRequest>; 4] =
        [None, Some(StopRequest::Yield), Some(StopRequest::Pause), Some(StopRequest::Cancel)];
    const EVENTS: [Event; 14] = [
        Event::Claim,
        Event::Succeed,
        Event::Stop,
        Event::Fail { again: true },
        Event::Fail { again: false },
        Event::Lose { again: true },
        Event::Lose { again: false },
        Event::Pause,
        Event::Resume,
        Event::Cancel,
        Event::Retry,
        Event::Force,
        Event::Yield,
        Event::Extend,
    ];

    /// One letter a state (QRPSFC), `y`/`p`/`c` for a wish, `b` for one taken back, `-` for refused.
    fn letter(next: Result<Next, Refused>) -> char {
        match next {
            Ok(Next::State(JobState::Queued)) => 'Q',
            Ok(Next::State(JobState::Running)) => 'R',
            Ok(Next::State(JobState::Paused)) => 'P',
            Ok(Next::State(JobState::Succeeded)) => 'S',
            Ok(Next::State(JobState::Failed)) => 'F',
            Ok(Next::State(JobState::Cancelled)) => 'C',
            Ok(Next::Ask(StopRequest::Yield)) => 'y',
            Ok(Next::Ask(StopRequest::Pause)) => 'p',
            Ok(Next::Ask(StopRequest::Cancel)) => 'c',
            Ok(Next::TakeBack) => 'b',
            Err(_) => '-',
        }
    }

    #[test]
    fn every_state_meets_every_event_as_the_table_says() {
        // Columns: claim succeed stop fail+ fail lose+ lose pause resume cancel retry force yield
        // extend.
        let table = [
            (JobState::Queued, ["R------PQCQC-Q"; 4]),
            (
                JobState::Running,
                ["-SQQFQFp-c-Cy-", "-SQQFQFp-c-C--", "-SPPFPFpbc-C--", "-SCCCCC--c-C--"],
            ),
            (JobState::Paused, ["-------PQC-C-P"; 4]),
            (JobState::Succeeded, ["-------------Q"; 4]),
            (JobState::Failed, ["----------Q---"; 4]),
            (JobState::Cancelled, ["---------CQC--"; 4]),
        ];
        assert_eq!(table.len(), JobState::ALL.len());
        for (state, rows) in table {
            for (asked, row) in ASKED.into_iter().zip(rows) {
                let got: String =
                    EVENTS.into_iter().map(|event| letter(next(state, asked, event))).collect();
                assert_eq!(got, row, "{state} asked {asked:?}");
            }
        }
    }

    #[test]
    fn states_read_back_what_they_write() {
        for state in JobState::ALL {
            assert_eq!(state.to_string().parse(), Ok(state));
        }
        assert!("done".parse::<JobState>().unwrap_err().contains("succeeded"));
    }
}
