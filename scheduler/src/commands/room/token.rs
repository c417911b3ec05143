//! `room token`: who may enter the control room from elsewhere.

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use registry::{Blocking, NewRoomToken, RoomRole};
use terminal::{Table, Usage};
use time::OffsetDateTime;

use super::super::{ago, span};

#[derive(clap::Subcommand)]
pub enum Command {
    /// Make a token and print it; it is not shown again
    Create(CreateArguments),
    /// List the tokens, those that hold first
    #[command(after_help = "\
Examples:
  scheduler room token list
  scheduler room token list --json")]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Take a token back; whoever entered with it is out
    #[command(after_help = "\
Examples:
  scheduler room token revoke ann
  scheduler room token revoke 1a2b3c4d")]
    Revoke {
        /// The name, for all its tokens, or the beginning of the id of one
        token: String,
    },
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  scheduler room token create ann --role user
  scheduler room token create wall --role reader --expires 30d
  scheduler room token create ci --role user --out ci.token")]
pub struct CreateArguments {
    /// The owner of what is submitted with it
    name: String,
    /// What it may: reader (look), user (submit, cancel, change) or admin (make tokens too)
    #[arg(long, value_name = "ROLE")]
    role: RoomRole,
    /// It is refused after this time, such as 12h or 30d [default: it holds until it is revoked]
    #[arg(long, value_name = "TIME", value_parser = days)]
    expires: Option<Duration>,
    /// Write it to this new file, which only its user may read, instead of printing it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Create(arguments) => create(&arguments),
        Command::List { json } => list(json),
        Command::Revoke { token } => revoke(&token),
    }
}

fn create(arguments: &CreateArguments) -> anyhow::Result<()> {
    let token = room::Token::random();
    // A file that cannot be made is said before a token is.
    let file = arguments.out.as_deref().map(Kept::make).transpose()?;
    let db = Blocking::open()?;
    let end =
        arguments.expires.map(|span| OffsetDateTime::now_utc().checked_add(span.try_into().ok()?));
    if end == Some(None) {
        return Err(Usage::new("--expires is too long").into());
    }
    db.wait(db.create_room_token(&NewRoomToken {
        name: arguments.name.clone(),
        role: arguments.role,
        digest: token.digest(),
        made_by: registry::current_user(),
        expires_at: end.flatten(),
    }))?;
    match file {
        Some(file) => file.write(token.text()),
        None => terminal::print(token.text()),
    }
}

fn list(json: bool) -> anyhow::Result<()> {
    let db = Blocking::open()?;
    let tokens = db.wait(db.room_tokens())?;
    if json {
        return terminal::print_json(&tokens);
    }
    let mut table = Table::new(&["id", "name", "role", "made by", "made", "ends", "used", "state"]);
    let now = OffsetDateTime::now_utc();
    for token in &tokens {
        let state = match (token.revoked_at, token.expires_at) {
            (Some(_), _) => "revoked",
            (None, Some(end)) if end <= now => "expired",
            _ => "holds",
        };
        table.row([
            registry::short(&token.id),
            token.name.clone(),
            token.role.to_string(),
            token.made_by.clone(),
            ago(token.created_at),
            token.expires_at.map(terminal::moment).unwrap_or_default(),
            token.used_on.clone().unwrap_or_default(),
            state.to_owned(),
        ]);
    }
    if table.is_empty() {
        return terminal::print("there are no tokens (`scheduler room token create` makes one)");
    }
    table.print()
}

fn revoke(token: &str) -> anyhow::Result<()> {
    let db = Blocking::open()?;
    match db.wait(db.revoke_room_tokens(token))? {
        0 => terminal::print(&format!("{token} was revoked before")),
        1 => terminal::print(&format!("{token} is revoked")),
        several => terminal::print(&format!("{several} tokens of {token} are revoked")),
    }
}

/// A time with its unit, also in days.
fn days(text: &str) -> Result<Duration, String> {
    match text.strip_suffix('d').map(str::parse::<u32>) {
        Some(Ok(days)) if days > 0 => Ok(Duration::from_secs(86400 * u64::from(days))),
        _ => span(text),
    }
}

/// A new file for a secret; removed where nothing was written.
struct Kept {
    file: File,
    path: PathBuf,
    written: bool,
}

impl Kept {
    fn make(path: &Path) -> anyhow::Result<Self> {
        let failed = || format!("{}: the file for the token", path.display());
        let made = File::options().write(true).create_new(true).mode(0o600).open(path);
        let file = made.with_context(failed)?;
        // Whatever the umask takes away.
        file.set_permissions(Permissions::from_mode(0o600)).with_context(failed)?;
        Ok(Self { file, path: path.to_owned(), written: false })
    }

    fn write(mut self, text: &str) -> anyhow::Result<()> {
        writeln!(self.file, "{text}")
            .and_then(|()| self.file.sync_all())
            .with_context(|| format!("{}: the token", self.path.display()))?;
        self.written = true;
        terminal::print(&format!("the token is in {}", self.path.display()))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if !self.written {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
