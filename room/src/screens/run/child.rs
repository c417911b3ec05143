//! Programs that are started to do what needs the networks' configuration: `trainer submit`, `trainer extend`.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

use crate::{Answer, Refusal, Room};

/// What a program has; a request has a little more.
const PATIENCE: Duration = Duration::from_secs(25);
/// What it may print.
const MOST: u64 = 1 << 20;

/// Runs a program to its end; gives what it printed.
///
/// # Errors
/// What it said went wrong, in one line without its `error: `.
pub async fn run(room: &Room, program: &str, arguments: &[String]) -> Answer<String> {
    let path = room.programs.join(program);
    let mut child = Command::new(&path)
        .args(arguments)
        .arg("--quiet")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| {
            Refusal::later(format!(
                "{} cannot be started: {error}; `scheduler room --bin FOLDER` says where it is",
                path.display()
            ))
        })?;
    let ended = tokio::time::timeout(PATIENCE, end(&mut child)).await;
    let Ok(ended) = ended else {
        return Err(Refusal::later(format!(
            "`{program}` gave no answer in {} seconds and was ended: do it from the command line",
            PATIENCE.as_secs()
        )));
    };
    let (success, said, errors) = ended.map_err(|error| Refusal::later(error.to_string()))?;
    if success {
        return Ok(said);
    }
    let last = errors.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it did not say why");
    let last = super::log::clean(last);
    Err(Refusal::bad(last.strip_prefix("error: ").unwrap_or(&last).to_owned()))
}

async fn end(child: &mut Child) -> std::io::Result<(bool, String, String)> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (said, errors) = tokio::join!(read(stdout), read(stderr));
    Ok((child.wait().await?.success(), said?, errors?))
}

async fn read(stream: Option<impl tokio::io::AsyncRead + Unpin>) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        stream.take(MOST).read_to_end(&mut bytes).await?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
