//! What `evaluator` answers as JSON: started as a child program, bounded in time and length.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::Command;

use crate::{Answer, Refusal};

/// The longest answer that is read.
const LONGEST: u64 = 32 << 20;
/// How long the program may take.
const TIME: Duration = Duration::from_secs(120);

/// The JSON that `evaluator` prints with these arguments, which ask for it.
///
/// # Errors
/// Where there is no such program; what it says where it fails; when it takes too long or says too much.
pub async fn evaluator(program: PathBuf, arguments: Vec<String>) -> Answer<serde_json::Value> {
    let failed = |error: std::io::Error| {
        Refusal::later(format!(
            "{}: {error}; name the folder of the programs with --bin",
            program.display()
        ))
    };
    let mut command = Command::new(&program);
    command.args(&arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn().map_err(failed)?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let read = |from: Option<_>, most: u64| async move {
        let mut bytes = Vec::new();
        match from {
            Some(from) => tokio::io::AsyncReadExt::take(from, most).read_to_end(&mut bytes).await?,
            None => 0,
        };
        std::io::Result::Ok(bytes)
    };
    let err = async {
        let mut bytes = Vec::new();
        if let Some(err) = err {
            err.take(16 << 10).read_to_end(&mut bytes).await?;
        }
        std::io::Result::Ok(bytes)
    };
    let done = async { tokio::try_join!(read(out, LONGEST), err, child.wait()) };
    let done = tokio::time::timeout(TIME, done).await;
    let late = || Refusal::later(format!("evaluator took longer than {} s", TIME.as_secs()));
    let (out, err, status) = done.map_err(|_| late())?.map_err(failed)?;
    if !status.success() {
        let said = String::from_utf8_lossy(&err);
        let said = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
        let said: String = said.trim_start_matches("error: ").chars().take(2000).collect();
        return Err(Refusal::conflict(format!("evaluator {}: {said}", arguments.join(" "))));
    }
    serde_json::from_slice(&out).map_err(|error| {
        Refusal::conflict(format!("evaluator {} answered no JSON: {error}", arguments.join(" ")))
    })
}
