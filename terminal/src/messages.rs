//! Messages on stderr: what the crates say through `tracing`, as text for people or as JSON for programs.
//!
//! In text an error opens with `error: `, a warning with `warning: `, a message with the field `note` with
//! `note: `, coloured on a terminal; any other message is the plain line, without time, level or fields. In
//! JSON a line is an object with `timestamp`, `level`, `target`, `message` and the fields of the event.
//!
//! Which messages are printed is said by `--quiet` or `--verbose`, else by `RUST_LOG`, else it is `info` and
//! above from the crates of this workspace and errors from those of others.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::sync::OnceLock;

use anstyle::Style;
use clap::{Args, ValueEnum};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;

use crate::{Usage, bounded, panics, progress, stderr, style, visible};

/// The variable by which a program's children learn the form of their messages.
pub const FORMAT_VARIABLE: &str = "PALETTE_LOG_FORMAT";

/// The crates of this workspace: their messages are for whoever runs a program.
const OURS: [&str; 24] = [
    "caught",
    "contracts",
    "diffusion",
    "evaluator",
    "fuzz",
    "home",
    "jpeg_ext",
    "outputs",
    "pictures",
    "pipeline",
    "random",
    "registry",
    "revision",
    "room",
    "sampler",
    "scheduler",
    "secrets",
    "statistics",
    "storage",
    "terminal",
    "testkit",
    "torch_ext",
    "trainer",
    "web",
];

/// The form in which this process prints its messages, once it is set up.
static FORMAT: OnceLock<Format> = OnceLock::new();

/// What a program prints on stderr; flattened into the arguments of each.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Messages")]
pub struct Messages {
    /// Print errors only, and no progress
    #[arg(
        id = "messages-quiet",
        long = "quiet",
        global = true,
        conflicts_with = "messages-verbose"
    )]
    quiet: bool,
    /// Print debug messages too
    #[arg(id = "messages-verbose", long = "verbose", global = true)]
    verbose: bool,
    /// Print messages as text or as one JSON object a line
    // Ids are shared with those of the commands.
    #[arg(
        id = "messages-format",
        long = "log-format",
        global = true,
        value_name = "FORMAT",
        env = FORMAT_VARIABLE,
        hide_env_values = true,
        default_value = "text"
    )]
    format: Format,
}

/// The form of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Lines for people.
    Text,
    /// A JSON object a line.
    Json,
}

impl Format {
    /// Its name, as `--log-format` and [`FORMAT_VARIABLE`] take it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

impl Messages {
    /// The form of the messages.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Prints the messages of this process from now on.
    ///
    /// # Errors
    /// Wrong use where `RUST_LOG` is malformed.
    pub(crate) fn set_up(self) -> Result<(), Usage> {
        let log = std::env::var_os("RUST_LOG").filter(|log| !log.is_empty());
        let log = log.map(|log| log.to_string_lossy().into_owned());
        let filter = filter(self.quiet, self.verbose, log.as_deref())?;
        let _ = FORMAT.set(self.format);
        panics::set_up(self.format);
        let layer = tracing_subscriber::fmt::layer().with_writer(Stderr);
        let registry = tracing_subscriber::registry().with(filter);
        // Only a second call in one process, as in a test, finds a subscriber there.
        let _ = match self.format {
            Format::Text => {
                tracing::subscriber::set_global_default(registry.with(layer.event_format(Text)))
            }
            Format::Json => {
                let layer = layer.json().flatten_event(true).with_span_list(false);
                tracing::subscriber::set_global_default(registry.with(layer))
            }
        };
        Ok(())
    }
}

/// What is printed. Flags are stronger than `RUST_LOG`, which takes `level` and `target=level`, with commas.
fn filter(quiet: bool, verbose: bool, log: Option<&str>) -> Result<Targets, Usage> {
    let targets = |others, ours| {
        Targets::new().with_default(others).with_targets(OURS.map(|name| (name, ours)))
    };
    Ok(match (quiet, verbose, log) {
        (true, ..) => Targets::new().with_default(LevelFilter::ERROR),
        (_, true, _) => targets(LevelFilter::WARN, LevelFilter::DEBUG),
        (_, _, None) => targets(LevelFilter::ERROR, LevelFilter::INFO),
        (_, _, Some(log)) => {
            let named: Targets = log.parse().map_err(|_| {
                Usage::new(format!(
                    "RUST_LOG is `{log}`: expected levels (error, warn, info, debug, trace, off) and \
                     TARGET=LEVEL, with commas, such as info,scheduler=debug"
                ))
            })?;
            let default = named.default_level().unwrap_or(LevelFilter::ERROR);
            named.with_default(default)
        }
    })
}

/// True where this process draws progress bars: people's messages on a terminal, and not `--quiet`.
pub(crate) fn draws() -> bool {
    FORMAT.get().is_none_or(|format| *format == Format::Text)
        && tracing::enabled!(Level::INFO)
        && std::io::stderr().is_terminal()
}

/// The line that stands where so many were left out.
pub(crate) fn left_out(lines: u64) -> String {
    let said = format!("{lines} lines are left out here: nobody read them in time");
    match FORMAT.get() {
        Some(Format::Json) => {
            let now = time::OffsetDateTime::now_utc();
            let timestamp = now.format(&time::format_description::well_known::Rfc3339);
            let line = serde_json::json!({
                "timestamp": timestamp.unwrap_or_default(),
                "level": "WARN",
                "target": "terminal",
                "message": said,
                "left_out": lines,
            });
            format!("{line}\n")
        }
        _ => format!("{}{said}\n", style::paint("warning: ", style_of("warning: "))),
    }
}

/// Stderr beside progress bars, a message at a time, without secrets, whoever says them, and cut. A reader that went away must not end the work: it
/// never fails.
#[derive(Clone, Copy)]
struct Stderr;

impl MakeWriter<'_> for Stderr {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        Self
    }
}

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let said = String::from_utf8_lossy(bytes);
        let said = secrets::text(&said);
        progress::beside_bars(|| stderr::write(bounded::line(&said).as_bytes()));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What an event holds.
#[derive(Default)]
struct Said {
    message: String,
    note: bool,
    /// The other fields, as ` name=value`.
    fields: String,
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        match field.name() {
            "note" => self.note = value,
            _ => self.record_debug(field, &value),
        }
    }
}

/// What a line opens with.
fn opening(level: &str, note: bool) -> &'static str {
    match level {
        "ERROR" => "error: ",
        "WARN" => "warning: ",
        "INFO" if note => "note: ",
        "INFO" => "",
        _ => "debug: ",
    }
}

/// How an opening is drawn on a terminal.
fn style_of(opening: &str) -> Style {
    match opening {
        "error: " => style::BAD.bold(),
        "warning: " => style::DOUBTFUL.bold(),
        "note: " => style::NEUTRAL,
        _ => Style::new(),
    }
}

/// Messages for people.
struct Text;

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let mut said = Said::default();
        event.record(&mut said);
        let level = *event.metadata().level();
        let opening = opening(level.as_str(), said.note);
        writer.write_str(&style::paint(opening, style_of(opening)))?;
        if level > Level::INFO {
            write!(writer, "{}: ", event.metadata().target())?;
        }
        writer.write_str(&visible(&said.message))?;
        if level > Level::INFO {
            writer.write_str(&visible(&said.fields))?;
        }
        writeln!(writer)
    }
}

/// The message of a line that a program printed as JSON, as the line would be in text; any other line as it
/// is.
pub fn plain(line: &str) -> Cow<'_, str> {
    let Some(object) = object(line) else { return line.into() };
    let text = |key| object.get(key).and_then(Value::as_str);
    let (Some(level), Some(message)) = (text("level"), text("message")) else { return line.into() };
    let note = object.get("note").and_then(Value::as_bool).unwrap_or(false);
    format!("{}{message}", opening(level, note)).into()
}

/// Passes on a line that a child printed as JSON, with more fields; false where it is no JSON object, or
/// where this process prints text or is quiet.
pub fn pass_on(line: &str, fields: &[(&str, &str)]) -> bool {
    if FORMAT.get() != Some(&Format::Json) || !tracing::enabled!(Level::INFO) {
        return false;
    }
    let Some(mut object) = object(line) else { return false };
    for (name, value) in fields {
        object.insert((*name).to_owned(), (*value).into());
    }
    let _ = Stderr.write_all(format!("{}\n", Value::Object(object)).as_bytes());
    true
}

/// A line of JSON as an object; none for any other.
pub(crate) fn object(line: &str) -> Option<Map<String, Value>> {
    if line.starts_with('{') { serde_json::from_str(line).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Kept {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    fn text_of(filter: Targets, say: impl FnOnce()) -> String {
        let kept = Kept::default();
        let layer = tracing_subscriber::fmt::layer().with_writer(kept.clone()).event_format(Text);
        let subscriber = tracing_subscriber::registry().with(filter).with(layer);
        tracing::subscriber::with_default(subscriber, say);
        let styled = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        anstream::adapter::strip_str(&styled).to_string()
    }

    fn say_everything() {
        tracing::error!("no disk");
        tracing::warn!(job = "1a2b", "slow");
        tracing::info!(step = 5, "step 5/10");
        tracing::info!(note = true, "two are left out");
        tracing::debug!(bytes = 7, "fetched");
        tracing::trace!("nobody asks");
        tracing::warn!(target: "sqlx::query", "slow statement");
        tracing::error!(target: "sqlx::query", "lost");
    }

    #[test]
    fn people_see_plain_lines_and_programs_none_of_other_crates_chatter() {
        assert_eq!(
            text_of(filter(false, false, None).unwrap(), say_everything),
            "error: no disk\nwarning: slow\nstep 5/10\nnote: two are left out\nerror: lost\n"
        );
    }

    #[test]
    fn only_openings_are_coloured() {
        let painted = |level, note| {
            let opening = opening(level, note);
            style::paint(opening, style_of(opening))
        };
        assert_eq!(painted("ERROR", false), "\x1b[1m\x1b[31merror: \x1b[0m");
        assert_eq!(painted("WARN", false), "\x1b[1m\x1b[33mwarning: \x1b[0m");
        assert_eq!(painted("INFO", false), "");
    }

    #[test]
    fn flags_are_stronger_than_the_environment() {
        let errors = "error: no disk\nerror: lost\n";
        assert_eq!(text_of(filter(true, false, Some("trace")).unwrap(), say_everything), errors);
        let verbose = text_of(filter(false, true, Some("off")).unwrap(), say_everything);
        assert!(
            verbose.contains("debug: terminal::messages::tests: fetched bytes=7\n"),
            "{verbose}"
        );
        assert!(verbose.contains("warning: slow statement\n"), "{verbose}");
        assert!(!verbose.contains("nobody asks"), "{verbose}");
    }

    #[test]
    fn the_environment_names_levels_and_targets() {
        let of = |log| text_of(filter(false, false, Some(log)).unwrap(), say_everything);
        assert_eq!(of("terminal=warn"), "error: no disk\nwarning: slow\nerror: lost\n");
        assert_eq!(of("off"), "");
        assert!(of("trace").contains("debug: terminal::messages::tests: nobody asks\n"));
        let error = filter(false, false, Some("terminal=loud")).unwrap_err().to_string();
        assert!(error.contains("terminal=loud") && error.contains("TARGET=LEVEL"), "{error}");
    }

    #[test]
    fn a_line_of_json_reads_as_in_text() {
        for (line, text) in [
            (r#"{"level":"ERROR","message":"no disk","job":"1a"}"#, "error: no disk"),
            (r#"{"level":"INFO","message":"left out","note":true}"#, "note: left out"),
            (r#"{"level":"INFO","message":"step 5/10"}"#, "step 5/10"),
            (r#"{"loss":0.5}"#, r#"{"loss":0.5}"#),
            ("{not json", "{not json"),
            ("error: no disk", "error: no disk"),
        ] {
            assert_eq!(plain(line), text);
        }
    }

    #[test]
    fn the_crates_of_the_workspace_are_all_known() {
        let manifest = include_str!("../../Cargo.toml");
        let members = manifest.split("members = [").nth(1).unwrap().split(']').next().unwrap();
        let members = members.split('"').skip(1).step_by(2).map(|name| name.replace('-', "_"));
        let unknown: Vec<_> = members
            .filter(|name| !OURS.contains(&name.as_str()) && name != "workspace_checks")
            .collect();
        assert!(unknown.is_empty(), "add {unknown:?} to OURS");
    }
}
