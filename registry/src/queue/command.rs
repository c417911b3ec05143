//! Jobs that are a command line of their program: `pipeline ingest …`, `evaluator run …`. Other jobs
//! are started as `PROGRAM attempt` and find what to do by their attempt.

use std::path::PathBuf;

use nix::unistd::{AccessFlags, access};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, Job, Result};

/// The version of the payload that is written, and the latest that is read; one without is of before
/// there were versions, and the same.
const VERSION: u64 = 1;

/// The payload of such a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandLine {
    /// What follows the program's name.
    pub arguments: Vec<String>,
    /// The folder that relative paths in it start from: where it was submitted.
    pub folder: PathBuf,
}

impl CommandLine {
    /// The payload.
    ///
    /// # Errors
    /// When the folder's name is no UTF-8, which JSON has no other way to hold.
    pub fn payload(&self) -> Result<Value> {
        let Some(folder) = self.folder.to_str() else {
            let message = format!(
                "the folder {:?} has a name that is no UTF-8, which the queue cannot keep: rename it, or submit \
                 from another",
                self.folder
            );
            return Err(Error::Invalid(message));
        };
        Ok(serde_json::json!({
            "version": VERSION, "arguments": self.arguments, "folder": folder,
        }))
    }

    /// That of a job, where it is one.
    ///
    /// # Errors
    /// When the payload is malformed or of a later version, or of another command than jobs of its kind are.
    pub fn of(job: &Job) -> Result<Option<Self>> {
        if job.payload.get("arguments").is_none() {
            return Ok(None);
        }
        let wrong = |message: String| Error::Invalid(format!("the job's payload: {message}"));
        let mut payload = job.payload.clone();
        if let Some(version) = payload.as_object_mut().and_then(|payload| payload.remove("version"))
        {
            match version.as_u64() {
                None => return Err(wrong(format!("its version is {version}"))),
                Some(version) if version > VERSION => {
                    return Err(Error::Invalid(format!(
                        "the job's payload has version {version}, this scheduler reads versions up to \
                         {VERSION}: update scheduler"
                    )));
                }
                Some(_) => {}
            }
        }
        let line = Self::deserialize(&payload).map_err(|error| wrong(error.to_string()))?;
        if line.folder.is_relative() {
            return Err(wrong("its folder is not absolute".to_owned()));
        }
        // Whoever submits past the programs would run any command of theirs.
        if line.arguments.first().map(String::as_str) != job.kind.command() {
            let (program, command) =
                (job.kind.program(), line.arguments.first().map_or("", String::as_str));
            let message = match job.kind.command() {
                Some(known) => {
                    format!("`{program} {command}` is no job: only `{program} {known}` is")
                }
                None => format!("a {} job is no command line", job.kind),
            };
            return Err(Error::Invalid(message));
        }
        Ok(Some(line))
    }

    /// What keeps this host from doing it: its folder, which may lie on a disk that other hosts have.
    pub fn lacks(&self) -> Option<String> {
        let folder = self.folder.display();
        if !self.folder.is_dir() {
            return Some(format!(
                "{folder} is not there on this host: the job was submitted from that folder, and its paths start there"
            ));
        }
        let closed = access(&self.folder, AccessFlags::X_OK).err()?;
        Some(format!("{folder} cannot be entered on this host: {}", closed.desc()))
    }
}
