//! `--watch`: a command's text, drawn again and again.

use std::time::Duration;

use registry::{Blocking, Database};
use terminal::Screen;
use tokio::signal::unix::{SignalKind, signal};

#[derive(clap::Args)]
pub struct Watch {
    /// Draw it again every SECONDS, until ctrl-c [default: 2]
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        default_missing_value = "2",
        value_parser = seconds,
        conflicts_with = "json"
    )]
    watch: Option<Duration>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(value) if (0.1..=3600.0).contains(&value) => Ok(Duration::from_secs_f64(value)),
        _ => Err("seconds from 0.1 to 3600 come behind --watch, or nothing".into()),
    }
}

impl Watch {
    pub fn is_on(&self) -> bool {
        self.watch.is_some()
    }

    /// Prints the text once, or draws it until a signal comes. An outage of the database is waited
    /// out, with the last text and a note on the screen.
    pub fn print(
        &self,
        text: impl AsyncFn(&Database) -> anyhow::Result<String>,
    ) -> anyhow::Result<()> {
        let Some(every) = self.watch else {
            let db = Blocking::open()?;
            return terminal::print(&db.wait(text(&db))?);
        };
        Screen::check()?;
        let db = Blocking::open()?;
        db.wait(watch(every, async || text(&db).await))
    }
}

async fn watch(
    every: Duration,
    text: impl AsyncFn() -> anyhow::Result<String>,
) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut resize = signal(SignalKind::window_change())?;
    let screen = Screen::open()?;
    let drawing = async {
        let mut last = String::new();
        loop {
            match text().await {
                Ok(text) => {
                    screen.draw(&text)?;
                    last = text;
                }
                Err(error) if is_outage(&error) => {
                    screen.draw(&format!("{error:#}; trying again\n\n{last}"))?;
                }
                Err(error) => return Err(error),
            }
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                _ = resize.recv() => {}
            }
        }
    };
    tokio::select! {
        ended = drawing => ended,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
        _ = hangup.recv() => Ok(()),
    }
}

fn is_outage(error: &anyhow::Error) -> bool {
    error.downcast_ref::<registry::Error>().is_some_and(registry::Error::is_outage)
}
