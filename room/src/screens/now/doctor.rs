//! What `scheduler doctor` finds, from the host of this server: asked every few minutes by itself, whoever looks.

use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::io::AsyncReadExt;
use utoipa::ToSchema;

use crate::Room;

/// Between two examinations.
const EVERY: Duration = Duration::from_secs(300);
/// What one has.
const PATIENCE: Duration = Duration::from_secs(90);
/// What it may print.
const MOST: u64 = 1 << 20;

/// The newest findings.
#[derive(Default)]
pub struct Doctor(Mutex<Known>);

#[derive(Default)]
struct Known {
    asked: Option<Instant>,
    report: Report,
}

/// What the doctor found last.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct Report {
    /// When; none where it has not answered yet.
    #[serde(with = "time::serde::rfc3339::option")]
    pub at: Option<OffsetDateTime>,
    /// What is not as it should be.
    pub findings: Vec<Finding>,
    /// Why there is no answer.
    pub error: Option<String>,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    /// What it is about.
    pub area: String,
    /// `warning` or `failed`.
    pub verdict: String,
    /// What was found.
    pub text: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

impl Doctor {
    /// What is known. Where that is old, or nothing is, the doctor is asked meanwhile, once.
    pub fn report(room: &Arc<Room>) -> Report {
        let mut known = room.doctor.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.asked.is_none_or(|asked| asked.elapsed() > EVERY) {
            known.asked = Some(Instant::now());
            let room = Arc::clone(room);
            tokio::spawn(async move {
                let report = examine(&room).await;
                room.doctor.0.lock().unwrap_or_else(PoisonError::into_inner).report = report;
                room.shared.forget("now/");
                room.live.tell("tick");
            });
        }
        known.report.clone()
    }
}

async fn examine(room: &Room) -> Report {
    let at = Some(OffsetDateTime::now_utc());
    match ask(room).await {
        Ok(findings) => Report { at, findings, error: None },
        Err(why) => Report { at, findings: Vec::new(), error: Some(why) },
    }
}

/// Without what is well.
async fn ask(room: &Room) -> Result<Vec<Finding>, String> {
    let program = room.programs.join("scheduler");
    let mut child = tokio::process::Command::new(&program)
        .args(["doctor", "--json"])
        .env("PALETTE_BIN", &room.programs)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("{} cannot be started: {error}", program.display()))?;
    let output = child.stdout.take();
    let reading = async {
        let mut text = Vec::new();
        if let Some(output) = output {
            output.take(MOST).read_to_end(&mut text).await.map_err(|error| error.to_string())?;
        }
        // It fails where a check does, and says which all the same.
        child.wait().await.map_err(|error| error.to_string())?;
        Ok::<_, String>(text)
    };
    let text = match tokio::time::timeout(PATIENCE, reading).await {
        Ok(text) => text?,
        Err(_) => return Err(format!("no answer in {} seconds", PATIENCE.as_secs())),
    };
    let findings: Vec<Finding> = serde_json::from_slice(&text)
        .map_err(|_| "it gave no answer; run `scheduler doctor` to see why".to_owned())?;
    Ok(findings.into_iter().filter(|finding| finding.verdict != "ok").collect())
}
