//! `scheduler doctor`: looks at everything that the programs stand on and says what is wrong and what
//! to do about it. Looks only: it migrates nothing and leaves nothing behind.
//!
//! One file a concern; each adds its findings in a fixed order. What needs a table is left out where
//! the tables are not this program's.

mod database;
mod gpus;
mod privileges;
mod programs;
mod queue;
mod session;
mod storage;
mod workers;

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use home::Home;
use registry::{Error, Lease, Result};
use serde::Serialize;

/// How grave a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Works, but somebody should look at it.
    Warning,
    /// Something does not work.
    Failed,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
        })
    }
}

/// What one check found.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What it is about: `database`, `queue`, `workers`, `storage`, `gpus`, `programs`.
    pub area: &'static str,
    /// The check within it, a name that stays.
    pub check: &'static str,
    /// How grave it is.
    pub verdict: Verdict,
    /// What was found, in one line.
    pub text: String,
    /// What to do about it; none where all is well.
    pub remedy: Option<String>,
}

/// Makes every check, with the programs of the jobs in this folder; `revision` is the one that this program was
/// built from.
///
/// # Errors
/// When the environment is malformed; whatever else is wrong is a finding.
pub fn examine(programs: &Path, revision: Option<&str>) -> Result<Vec<Finding>> {
    let home = Home::from_env()?;
    let lease = Lease::from_env()?;
    let mut found = Findings::default();
    registry::runtime()?.block_on(async {
        let mut server = database::examine(&mut found).await;
        if let Some(server) = &mut server {
            let checks = async {
                queue::examine(&mut found, server, lease.length).await?;
                workers::examine(&mut found, server, lease.length).await?;
                storage::examine_runs(&mut found, server).await
            };
            if let Err(error) = checks.await {
                found.fail("database", "queries", error.to_string(), "see the server's log");
            }
        }
        storage::examine(&mut found, &home);
        gpus::examine(&mut found, gpus::System::this()?).await;
        programs::examine(&mut found, programs, revision).await;
        workers::bounds(&mut found);
        Ok::<_, Error>(())
    })?;
    Ok(found.0)
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn ok(&mut self, area: &'static str, check: &'static str, text: impl Into<String>) {
        self.0.push(Finding { area, check, verdict: Verdict::Ok, text: text.into(), remedy: None });
    }

    fn warn(
        &mut self,
        area: &'static str,
        check: &'static str,
        text: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let (text, remedy) = (text.into(), Some(remedy.into()));
        self.0.push(Finding { area, check, verdict: Verdict::Warning, text, remedy });
    }

    fn fail(
        &mut self,
        area: &'static str,
        check: &'static str,
        text: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let (text, remedy) = (text.into(), Some(remedy.into()));
        self.0.push(Finding { area, check, verdict: Verdict::Failed, text, remedy });
    }
}

/// Runs a program that should end at once; what went wrong in one line.
async fn ask(program: &Path, arguments: &[&str]) -> Result<Output, String> {
    const PATIENCE: Duration = Duration::from_secs(20);
    let output = tokio::process::Command::new(program)
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = match tokio::time::timeout(PATIENCE, output).await {
        Ok(output) => output.map_err(|error| error.to_string())?,
        Err(_) => return Err(format!("no answer in {} seconds", PATIENCE.as_secs())),
    };
    if output.status.success() {
        return Ok(output);
    }
    let said =
        [&output.stderr, &output.stdout].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let last = said.iter().find_map(|text| text.lines().rfind(|line| !line.trim().is_empty()));
    Err(match last {
        Some(line) => line.trim().to_owned(),
        None => output.status.to_string(),
    })
}

/// `1 job`, `2 jobs`.
fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// The first few of a list, with how many more there are.
fn few(items: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown = items.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match items.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// A span as tables show it.
fn span(seconds: f64) -> String {
    terminal::duration(Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default())
}
