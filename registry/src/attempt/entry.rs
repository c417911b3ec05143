//! The one way in and out of a process that makes an attempt: whatever the job is, it ends with the
//! statuses that the worker knows.

use std::fmt::Display;
use std::process::ExitCode;

use super::{Attempt, Ending};
use crate::{ATTEMPT_VARIABLE, Error, Result, STOPPED};

/// How an attempt ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The job is done.
    Finished,
    /// It was asked to stop, and what was made is kept.
    Stopped,
    /// Another attempt has the job: nothing more was written.
    Stale,
}

impl Attempt {
    /// The attempt that a worker started this process for.
    ///
    /// # Errors
    /// As [`Attempt::from_env`], and when the process was started by somebody else.
    pub fn of_worker() -> Result<Self> {
        Self::from_env()?.ok_or_else(|| {
            Error::Invalid(format!(
                "{ATTEMPT_VARIABLE} is not set: this command is for workers (`scheduler worker`)"
            ))
        })
    }

    /// Does the work of the attempt, enters how it ended, and gives the status of the process: 0 where
    /// the job is done, [`STOPPED`] where it was asked to stop. An error is the caller's to end with:
    /// wrong use with [`crate::BAD_CONFIGURATION`], so that the job is not tried again, anything else
    /// with 1.
    ///
    /// # Errors
    /// Those of `work`; when the attempt is stale.
    pub fn make<E: Display + From<Error>>(
        self,
        work: impl FnOnce(&Self) -> Result<End, E>,
    ) -> Result<ExitCode, E> {
        let end = work(&self);
        let (ending, status) = match &end {
            Ok(End::Finished) => (Ending::Succeeded, ExitCode::SUCCESS),
            Ok(End::Stopped) => (Ending::Stopped, ExitCode::from(STOPPED)),
            Ok(End::Stale) => return Err(self.inner.fence.stale().into()),
            Err(error) => (Ending::Failed(one_line(&format!("{error:#}"))), ExitCode::FAILURE),
        };
        self.finish(ending)?;
        end.map(|_| status)
    }
}

/// Most characters of an error that are stored.
const LONGEST: usize = 4000;

/// An error as it is stored: without the stack that libtorch writes behind each of its own, in one line.
fn one_line(error: &str) -> String {
    let lines = error.lines().take_while(|line| !line.starts_with("Exception raised from"));
    let lines: Vec<&str> = lines.map(str::trim).filter(|line| !line.is_empty()).collect();
    let mut line = lines.join(" ");
    if let Some((end, _)) = line.char_indices().nth(LONGEST) {
        line.replace_range(end.., "…");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[test]
    fn what_is_stored_of_an_error_is_one_line() {
        let stack = "step 3: the sizes do not match\n\nException raised from check at a.cpp:1 (most recent call \
                     first):\nframe #0: c10::Error\n";
        assert_eq!(one_line(stack), "step 3: the sizes do not match");
        assert_eq!(one_line("first\n  second"), "first second");
    }
}
