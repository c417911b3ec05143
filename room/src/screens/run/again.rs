//! A run once more with changes, and more steps for one: `trainer submit` and `trainer extend` do it, and what they refuse
//! is said by the form, with all that was typed.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::{actions, log};
use crate::child::{self, Bounds};
use crate::{Answer, Refusal, Room, Who};

/// Bytes of a configuration, at most.
const LONGEST: usize = 128 << 10;
/// Changes, at most.
const MOST: usize = 200;

/// A run to be submitted.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Again {
    /// The configuration, TOML; that of the run where none is given.
    #[serde(default)]
    pub config: Option<String>,
    /// Changes of it, each `KEY=VALUE`.
    #[serde(default)]
    pub set: Vec<String>,
    /// Go on from this checkpoint of the run, as a fork: `latest`, `best`, or a step; from scratch where none is given.
    #[serde(default)]
    pub from: Option<String>,
    /// Higher goes first.
    #[serde(default)]
    pub priority: Option<i32>,
    /// GPUs: a number, or `LEAST..MOST`.
    #[serde(default)]
    pub gpus: Option<String>,
    /// Submitting the same again with the same key gives the same run.
    #[serde(default)]
    pub key: Option<String>,
}

/// More steps.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct More {
    /// Steps in all, or `+N` for N more.
    pub steps: String,
}

/// What was submitted.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Submitted {
    /// The short id of the run.
    pub run: String,
    /// Its name.
    pub name: String,
    /// It had been submitted already, by the same key.
    pub existed: bool,
}

/// What was extended.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Extended {
    /// The short id of the run.
    pub run: String,
    /// Steps that it was to make.
    pub steps_before: i64,
    /// Steps that it is to make.
    pub steps: i64,
    /// Its state.
    pub state: String,
}

/// The form as a browser sends it.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Form {
    /// The configuration.
    #[serde(default)]
    pub config: String,
    /// The changes, one a line.
    #[serde(default)]
    pub set: String,
    /// The checkpoint.
    #[serde(default)]
    pub from: String,
    /// The priority.
    #[serde(default)]
    pub priority: String,
    /// The GPUs.
    #[serde(default)]
    pub gpus: String,
    /// What tells this form from others.
    #[serde(default)]
    pub nonce: String,
}

impl Form {
    /// What it asks for. Sent twice as it is, it is one run; changed, it is another.
    ///
    /// # Errors
    /// When the priority is no number.
    pub fn again(&self) -> Answer<Again> {
        let text = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        let priority =
            match text(&self.priority) {
                None => None,
                Some(number) => Some(number.parse().map_err(|_| {
                    Refusal::bad("the priority is a whole number; higher goes first")
                })?),
            };
        let all = [&self.nonce, &self.config, &self.set, &self.from, &self.priority, &self.gpus];
        let digest = all.iter().fold(Sha256::new(), |digest, part| {
            digest.chain_update(part.len().to_le_bytes()).chain_update(part)
        });
        let digest: String =
            digest.finalize()[..12].iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Again {
            config: text(&self.config),
            set: self.set.lines().filter_map(text).collect(),
            from: text(&self.from),
            priority,
            gpus: text(&self.gpus),
            key: text(&self.nonce).map(|_| format!("room-{digest}")),
        })
    }
}

/// A form that nobody has sent yet, with a number of its own.
pub fn fresh(config: &Value) -> Form {
    let nonce: [u8; 12] = rand::random();
    Form {
        config: super::config::text(config).unwrap_or_default(),
        nonce: nonce.iter().map(|byte| format!("{byte:02x}")).collect(),
        ..Form::default()
    }
}

/// Submits it.
///
/// # Errors
/// What `trainer submit` refuses.
pub async fn submit(
    room: &Room,
    run: &registry::Run,
    again: Again,
    who: &Who,
) -> Answer<Submitted> {
    let config = match again.config {
        Some(text) if text.len() > LONGEST => {
            return Err(Refusal::bad("the configuration is longer than 128 KiB"));
        }
        Some(text) => text,
        None => super::config::text(&run.config).map_err(Refusal::conflict)?,
    };
    if again.set.len() > MOST {
        return Err(Refusal::bad(format!("more than {MOST} changes: put them into the TOML")));
    }
    let file = Written::new(&config).map_err(|error| Refusal::later(error.to_string()))?;
    let path = file.0.display().to_string();
    let mut arguments = vec!["submit".to_owned(), path.clone(), "--json".into()];
    arguments.push(format!("--owner={}", who.name));
    arguments.extend(again.set.iter().map(|set| format!("--set={set}")));
    arguments.extend(again.priority.map(|priority| format!("--priority={priority}")));
    arguments.extend(again.gpus.map(|gpus| format!("--gpus={gpus}")));
    arguments.extend(again.key.map(|key| format!("--key={key}")));
    if let Some(from) = again.from {
        let known = matches!(from.as_str(), "latest" | "best")
            || (from.len() < 20 && from.bytes().all(|byte| byte.is_ascii_digit()));
        if !known {
            return Err(Refusal::bad("a checkpoint is latest, best or a step"));
        }
        arguments.push(format!("--from={}@{from}", run.short));
    }
    let said = trainer(room, &arguments).await.map_err(|refusal| Refusal {
        why: refusal.why.replace(&path, "the configuration"),
        ..refusal
    })?;
    let made = serde_json::from_str(&said)
        .map_err(|_| Refusal::later("`trainer submit` gave no answer that could be read"))?;
    actions::forget(room);
    Ok(made)
}

/// What `trainer` prints with these arguments.
async fn trainer(room: &Room, arguments: &[String]) -> Answer<String> {
    let program = room.programs.join("trainer");
    let arguments: Vec<String> = arguments.iter().cloned().chain(["--quiet".to_owned()]).collect();
    let ended = child::run(&program, &arguments, None, Bounds::REQUEST).await?;
    match ended.success {
        true => Ok(String::from_utf8_lossy(&ended.said).into_owned()),
        false => Err(Refusal::bad(log::clean(ended.why()))),
    }
}

/// Lets a run make another number of steps.
///
/// # Errors
/// What `trainer extend` refuses.
pub async fn extend(room: &Room, run: &registry::Run, more: &More) -> Answer<Extended> {
    let steps = format!("--steps={}", more.steps.trim());
    // By its whole id: a name may belong to several.
    let arguments = ["extend".to_owned(), run.id.to_string(), steps, "--json".into()];
    let said = trainer(room, &arguments).await?;
    let made: Option<Vec<Extended>> = serde_json::from_str(&said).ok();
    let made = made.and_then(|made| made.into_iter().next());
    actions::forget(room);
    made.ok_or_else(|| Refusal::later("`trainer extend` gave no answer that could be read"))
}

/// A file for a moment, for this user alone.
struct Written(PathBuf);

impl Written {
    fn new(text: &str) -> std::io::Result<Self> {
        let name: [u8; 12] = rand::random();
        let name: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
        let written = Self(std::env::temp_dir().join(format!("palette-room-{name}.toml")));
        let mut file =
            std::fs::File::options().write(true).create_new(true).mode(0o600).open(&written.0)?;
        file.write_all(text.as_bytes())?;
        Ok(written)
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn a_form_that_is_sent_twice_has_one_key_and_a_changed_one_another() {
        let form = Form {
            set: "train.steps = 5\n\n  seed=2 \n".into(),
            nonce: "abc".into(),
            priority: " -3 ".into(),
            ..Form::default()
        };
        let again = form.again().unwrap();
        assert_eq!(again.set, ["train.steps = 5", "seed=2"]);
        assert_eq!(again.priority, Some(-3));
        assert_eq!(again.key, form.again().unwrap().key);
        let changed = Form { set: "seed=3".into(), ..form.clone() };
        assert_ne!(again.key, changed.again().unwrap().key);
        assert!(Form { priority: "high".into(), ..form }.again().is_err());
    }
}
