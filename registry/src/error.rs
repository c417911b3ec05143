//! The one error of this crate. Constraints of the database carry names and are mapped here and
//! nowhere else ([`CONSTRAINTS`]), so that callers match on meaning and never on names or SQL states.

use std::time::Instant;

use crate::queue::state::Refused;
use crate::{Lease, pooler};

/// What can go wrong in the registry.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The attempt is not the newest any more: another worker has the job, or it has ended. The
    /// process that made the write must stop at once.
    #[error(
        "attempt {number} of job {job} is stale: the job was given to another attempt or ended"
    )]
    Stale {
        /// The job, by its short id.
        job: String,
        /// The attempt that wrote.
        number: i32,
    },
    /// Nothing in the database goes by this id or name.
    #[error("no {what} `{name}`{meant} (see `scheduler {list}`)")]
    NotFound {
        /// What was looked for: `job`, `run`, `job or sweep`.
        what: String,
        /// As the user typed it.
        name: String,
        /// Names that are like it, as [`crate::meant`] says them.
        meant: String,
        /// The command that lists what there is.
        list: String,
    },
    /// A name that several have, where one is to be changed.
    #[error("{count} {what} are called `{name}` ({examples}): give the id of one")]
    Several {
        /// What they are: `jobs`, `runs`.
        what: &'static str,
        /// As the user typed it.
        name: String,
        /// How many there are.
        count: usize,
        /// Their short ids.
        examples: String,
    },
    /// A prefix that more than one id begins with.
    #[error("`{name}` is the beginning of {count} ids ({examples}): type more of it")]
    Ambiguous {
        /// As the user typed it.
        name: String,
        /// How many there are.
        count: usize,
        /// A few of them.
        examples: String,
    },
    /// The job's state does not allow what was asked for.
    #[error("job {job}: {refused}")]
    Refused {
        /// The job, by its short id.
        job: String,
        /// Why.
        #[source]
        refused: Refused,
    },
    /// A job that is to be queued after one that has failed or was cancelled.
    #[error("cannot queue after job {parent}, which is {state}: `scheduler retry {parent}` first")]
    ParentEnded {
        /// The job to wait for, by its short id.
        parent: String,
        /// Its state.
        state: crate::JobState,
    },
    /// As many jobs of a sweep run as it allows.
    #[error("as many jobs of its sweep run as may at once: wait, or raise the limit")]
    SweepFull,
    /// Another job for several hosts waits for them at this moment.
    #[error("another job for several hosts waits for them at this moment: try again")]
    GangAssembles,
    /// As much waits or is kept as may be.
    #[error("{0}")]
    TooMany(String),
    /// A value that cannot be taken as it is.
    #[error("{0}")]
    Invalid(String),
    /// What could not be done, through no fault of what was asked for.
    #[error("{0}")]
    Failed(String),
    /// The home, or the private Postgres in it.
    #[error(transparent)]
    Home(#[from] home::Error),
    /// The tables were made by another version of the programs.
    #[error("database {0}")]
    Migrations(String),
    /// A file or folder of ours.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// A place that files lie in.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// `DATABASE_URL` names a server that cannot be reached or a database that cannot be opened.
    #[error("cannot open the database at {url}: {}{}", told(source), remedy(source))]
    Open {
        /// The URL without its password.
        url: String,
        /// What the server or the system says.
        source: sqlx::Error,
    },
    /// The role that the database was opened with lacks a right.
    #[error(
        "the database does not allow this to the role of DATABASE_URL: {0} (`scheduler doctor` says \
         what it may; an administrator grants it palette_reader, palette_user or palette_worker)"
    )]
    Denied(String),
    /// The role that the database was opened with may not do all of what is asked for, so that none of it was begun.
    #[error(
        "the role of DATABASE_URL may not {does} (it lacks {lacks}): an administrator grants it {role} \
         (migrations/roles.sql)"
    )]
    Lacks {
        /// What it may not do.
        does: &'static str,
        /// The rights that are missing.
        lacks: String,
        /// Who has them.
        role: &'static str,
    },
    /// The database is not one that this program can use.
    #[error("the database {0}")]
    Unfit(String),
    /// Any other failure of the database.
    #[error("database: {}", told(.0))]
    Database(sqlx::Error),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        if let Some(what) = denied(&error) {
            return Self::Denied(what.to_owned());
        }
        if pooler::mixes(&error) {
            return Self::Unfit(pooler::REMEDY.to_owned());
        }
        match constraint(&error) {
            Some(SWEEP_FULL) => Self::SweepFull,
            Some(GANG_ASSEMBLES) => Self::GangAssembles,
            Some(name) => match CONSTRAINTS.iter().find(|(known, _)| *known == name) {
                Some((_, text)) => Self::Invalid((*text).to_owned()),
                None => Self::Database(error),
            },
            None => Self::Database(error),
        }
    }
}

/// The index that lets one gang assemble at a time.
const GANG_ASSEMBLES: &str = "gangs_assembling_idx";

/// The constraint that keeps a sweep within its limit.
const SWEEP_FULL: &str = "sweeps_running_check";

/// What the constraints that a value from outside can violate say to whoever gave it. Any other is a
/// fault of this crate.
const CONSTRAINTS: [(&str, &str); 14] = [
    ("room_tokens_times_check", "a token expires before the year 9999"),
    (
        "jobs_resources_check",
        "gpus and gpu_memory must not be negative, nor the most below the least",
    ),
    ("jobs_archived_check", "it was queued again at this moment: only what has ended is archived"),
    ("jobs_run_fkey", "the run that the job is about is gone"),
    ("sweeps_at_most_check", "at least one job must be able to run"),
    ("studies_name_key", "there is a study of this name already: choose another name"),
    ("studies_name_check", "the name of a study has 1 to 200 characters"),
    ("studies_seconds_check", "a pair is shown for 0.1 to 60 seconds"),
    ("study_systems_name_key", "two systems have one name"),
    ("study_systems_name_check", "the name of a system has 1 to 200 characters"),
    ("study_images_reference_check", "a picture of a study is empty or has more than 32 MiB"),
    ("study_outputs_output_check", "a picture of a study is empty or has more than 32 MiB"),
    ("study_raters_number_key", "somebody else invited raters at the same moment: do it again"),
    ("study_answers_times_check", "times are milliseconds of 0 to 3600000"),
];

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A failure with this file or folder.
    pub fn io(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.display().to_string();
        move |source| Self::Io { path, source }
    }

    /// True when the same statement may succeed later: the server could not be reached, shuts down, is read-only
    /// or full for now, ended the statement (a time limit, a lock, a conflict). False for what can never succeed: a
    /// right, a constraint, a value or an encoding that does not fit.
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Database(error) | Self::Open { source: error, .. } => outage(error),
            _ => false,
        }
    }

    /// True when a holder of a lease who has tried since then does well to try again: in an outage, and for the length
    /// of a lease where the database lets the role in no more, or not do this: somebody may be changing the
    /// password or the rights.
    pub fn may_pass(&self, since: Instant, lease: &Lease) -> bool {
        self.is_outage() || (self.is_denial() && since.elapsed() < lease.length)
    }

    fn is_denial(&self) -> bool {
        const INVALID_AUTHORIZATION: &str = "28";
        match self {
            Self::Denied(_) | Self::Lacks { .. } => true,
            Self::Database(error) | Self::Open { source: error, .. } => error
                .as_database_error()
                .and_then(sqlx::error::DatabaseError::code)
                .is_some_and(|code| code.starts_with(INVALID_AUTHORIZATION)),
            _ => false,
        }
    }

    /// True when the server has no connection left for this role, or a pooler none for now.
    pub fn is_full(&self) -> bool {
        const TOO_MANY_CONNECTIONS: &str = "53300";
        match self {
            Self::Database(sqlx::Error::PoolTimedOut) => true,
            Self::Database(error) | Self::Open { source: error, .. } => error
                .as_database_error()
                .and_then(sqlx::error::DatabaseError::code)
                .is_some_and(|code| code == TOO_MANY_CONNECTIONS),
            _ => false,
        }
    }

    /// True where what was asked for is at fault: a value that cannot be taken, a `DATABASE_URL` that is none.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Invalid(_) | Self::ParentEnded { .. } => true,
            Self::Open { source, .. } => matches!(source, sqlx::Error::Configuration(_)),
            Self::Storage(error) => error.is_usage(),
            _ => false,
        }
    }

    /// True when the private server is there but not ready: it starts up (57P03), or its socket is not
    /// there yet.
    pub(crate) fn is_starting(&self) -> bool {
        match self {
            Self::Open { source: sqlx::Error::Database(error), .. } => {
                error.code().is_some_and(|code| code == "57P03")
            }
            Self::Open { source: sqlx::Error::Io(_), .. } => true,
            _ => false,
        }
    }

    /// True for a stale attempt.
    pub fn is_stale(&self) -> bool {
        matches!(self, Self::Stale { .. })
    }
}

fn outage(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| passes(&code)),
        _ => false,
    }
}

/// True for SQL states that may pass by themselves: connections (08), conflicts (40), resources (53), an operator's or
/// a limit's hand (57, 55, 25P03, 25P04), a server that is read-only for now (25006), its disk (58), its own faults (XX).
fn passes(code: &str) -> bool {
    const PASSING: [&str; 8] = ["08", "25", "40", "53", "55", "57", "58", "XX"];
    /// A database that was dropped (57P04) does not come back.
    const DROPPED: &str = "57P04";
    code != DROPPED && PASSING.iter().any(|class| code.starts_with(class))
}

/// What the server does not allow the role, where that is why a statement failed.
pub(crate) fn denied(error: &sqlx::Error) -> Option<&str> {
    const INSUFFICIENT_PRIVILEGE: &str = "42501";
    match error {
        sqlx::Error::Database(error) if error.code()? == INSUFFICIENT_PRIVILEGE => {
            Some(error.message())
        }
        _ => None,
    }
}

/// What to do about a database that cannot be opened, where what the server says leaves it open.
fn remedy(error: &sqlx::Error) -> &'static str {
    const REMEDIES: [(&str, &str); 7] = [
        (
            "UnknownIssuer",
            "; name the file of the authority that signed the server's certificate in sslrootcert",
        ),
        ("not valid for name", "; write the host as the server's certificate names it"),
        (
            "no encryption",
            "; does the server demand TLS? sslmode=require or verify-full asks for it",
        ),
        (
            "does not support TLS",
            "; sslmode=disable goes without, for a network that nobody else can listen to",
        ),
        (
            "permission denied for database",
            "; an administrator grants the role palette_reader, palette_user or palette_worker",
        ),
        ("empty password", "; set PGPASSWORD, or write the password into ~/.pgpass"),
        (
            "password authentication failed",
            "; is it right in DATABASE_URL, PGPASSWORD or ~/.pgpass?",
        ),
    ];
    let text = error.to_string();
    REMEDIES.iter().find(|(sign, _)| text.contains(sign)).map_or("", |(_, remedy)| remedy)
}

/// What the server says, without the place in its own sources, and what that means where it does not say so.
pub(crate) fn told(error: &sqlx::Error) -> String {
    const READ_ONLY: &str = "25006";
    let Some(said) = error.as_database_error() else { return error.to_string() };
    match said.code().is_some_and(|code| code == READ_ONLY) {
        true => format!(
            "{}: the server takes no writes for now (a standby, or its disk is full); `scheduler doctor` says more",
            said.message()
        ),
        false => said.message().to_owned(),
    }
}

/// The name of the constraint that a statement violated.
fn constraint(error: &sqlx::Error) -> Option<&str> {
    match error {
        sqlx::Error::Database(error) => error.constraint(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_passes_is_told_from_what_can_never_succeed() {
        for code in [
            "08006", "25006", "25P03", "25P04", "40001", "40P01", "53100", "53200", "53300",
            "55P03", "57014", "57P01", "57P03", "58030", "XX000",
        ] {
            assert!(passes(code), "{code}");
        }
        for code in
            ["22021", "22P05", "23503", "28P01", "3D000", "42501", "42P01", "57P04", "P0001"]
        {
            assert!(!passes(code), "{code}");
        }
    }

    #[test]
    fn a_right_that_is_missing_may_come_back_within_a_lease() {
        let lease = Lease { length: Duration::from_secs(30), retry_delay: Duration::ZERO };
        let (now, denied) = (Instant::now(), Error::Denied("permission denied".into()));
        assert!(!denied.is_outage() && denied.may_pass(now, &lease));
        let none = Lease { length: Duration::ZERO, ..lease };
        assert!(!denied.may_pass(now, &none));
        assert!(!Error::Invalid("a value".into()).may_pass(now, &lease));
    }
}
