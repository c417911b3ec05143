//! Programs that the server starts for a page: a few at once, bounded in time and in what they print.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::sync::Semaphore;

use crate::{Answer, Refusal};

/// Programs at once; others wait for their turn.
static AT_ONCE: Semaphore = Semaphore::const_new(4);

/// Bytes of errors that are read.
const ERRORS: u64 = 64 << 10;

/// What a program may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// From its start to its end.
    pub time: Duration,
    /// Bytes that it may print.
    pub said: u64,
}

impl Bounds {
    /// While a request waits for it: a request has a little more time.
    pub const REQUEST: Self = Self { time: Duration::from_secs(25), said: 1 << 20 };
    /// Beside the requests.
    pub const REPORT: Self = Self { time: Duration::from_secs(120), said: 32 << 20 };
}

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    /// Whether with status 0.
    pub success: bool,
    /// What it printed.
    pub said: Vec<u8>,
    /// What it printed as messages.
    pub errors: String,
}

impl Ended {
    /// The last line of its messages, without `error: `.
    pub fn why(&self) -> &str {
        let last = self.errors.lines().rfind(|line| !line.trim().is_empty());
        let last = last.unwrap_or("it did not say why");
        last.strip_prefix("error: ").unwrap_or(last)
    }
}

/// Runs a program to its end, with a text as its input or none.
///
/// # Errors
/// 503 when it cannot be started or takes longer than it may; then it is killed.
pub async fn run(
    program: &Path,
    arguments: &[String],
    input: Option<&str>,
    bounds: Bounds,
) -> Answer<Ended> {
    let failed = |error: std::io::Error| {
        Refusal::later(format!(
            "{}: {error}; `scheduler room --bin FOLDER` says where the programs are",
            program.display()
        ))
    };
    let called = program.file_name().unwrap_or_default().to_string_lossy();
    let late = |_| {
        Refusal::later(format!(
            "`{called}` gave no answer in {} seconds and was ended: do it from the command line",
            bounds.time.as_secs()
        ))
    };
    let working = async {
        let _turn = AT_ONCE.acquire().await.map_err(|_| Refusal::later("the server ends"))?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(failed)?;
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let give = async {
            if let (Some(mut stdin), Some(input)) = (stdin, input) {
                // A program that refuses its arguments does not read.
                let _ = stdin.write_all(input.as_bytes()).await;
            }
        };
        let ((), said, errors, status) =
            tokio::join!(give, read(stdout, bounds.said), read(stderr, ERRORS), child.wait());
        let errors = String::from_utf8_lossy(&errors.map_err(failed)?).into_owned();
        let success = status.map_err(failed)?.success();
        Ok(Ended { success, said: said.map_err(failed)?, errors })
    };
    tokio::time::timeout(bounds.time, working).await.map_err(late)?
}

/// The JSON that a program prints with these arguments, which ask for it.
///
/// # Errors
/// Those of [`run`], and 409 with what it says where it fails or prints something else.
pub async fn json(
    program: &Path,
    arguments: &[String],
    bounds: Bounds,
) -> Answer<serde_json::Value> {
    let ended = run(program, arguments, None, bounds).await?;
    let called = program.file_name().unwrap_or_default().to_string_lossy();
    if !ended.success {
        let why: String = ended.why().chars().take(2000).collect();
        return Err(Refusal::conflict(format!("{called} {}: {why}", arguments.join(" "))));
    }
    serde_json::from_slice(&ended.said).map_err(|error| {
        Refusal::conflict(format!("{called} {} answered no JSON: {error}", arguments.join(" ")))
    })
}

async fn read(stream: Option<impl AsyncRead + Unpin>, most: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        stream.take(most).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}
