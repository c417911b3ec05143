//! What tells open pages that something changed: one connection of this server listens to the database, and every
//! page to this server (`GET /api/v1/events`). Pages then ask for the parts that they show, and get shared answers.
//!
//! | event | |
//! |---|---|
//! | `jobs` | a job was queued, began, ended, or was asked something |
//! | `tries` | a picture is tried, or went on |
//! | `tick` | some seconds have passed: metrics, progress and signs of life are worth a look |
//! | `lost` | the database does not answer |
//! | `back` | it answers again |

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream;
use registry::Database;
use tokio::sync::{broadcast, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::shared::Shared;

/// Between two `tick`s.
const TICK: Duration = Duration::from_secs(5);
/// Notifications within this time are one event.
const TOGETHER: Duration = Duration::from_millis(300);
/// What a page waits before it opens its stream again: streams end every few minutes (`web`), and begin again unseen.
const REOPEN: Duration = Duration::from_millis(300);
/// After a connection that failed.
const AGAIN: Duration = Duration::from_secs(2);

/// The channels of the database, which are the events' names too.
const CHANNELS: [&str; 2] = ["jobs", "tries"];

/// The source of all events.
pub struct Live {
    events: broadcast::Sender<&'static str>,
    ended: watch::Sender<bool>,
    shared: Arc<Shared>,
}

impl Live {
    /// Listens from now on, while there are pages.
    pub fn start(database: Database, shared: Arc<Shared>) -> Self {
        let (events, _) = broadcast::channel(64);
        let (ended, _) = watch::channel(false);
        let told = Arc::clone(&shared);
        tokio::spawn(listen(database, told, events.clone(), ended.subscribe()));
        tokio::spawn(tick(events.clone(), ended.subscribe()));
        Self { events, ended, shared }
    }

    /// Tells all pages something that the database did not.
    pub fn tell(&self, event: &'static str) {
        self.shared.change();
        let _ = self.events.send(event);
    }

    /// Ends all streams, so that their pages look for another server.
    pub fn end(&self) {
        let _ = self.ended.send(true);
    }

    /// The stream of a page.
    pub fn stream(&self) -> impl IntoResponse + use<> {
        let (sender, receiver) = tokio::sync::mpsc::channel(8);
        let mut events = self.events.subscribe();
        let mut ended = self.ended.subscribe();
        tokio::spawn(async move {
            loop {
                let event = tokio::select! {
                    event = events.recv() => event,
                    _ = ended.wait_for(|ended| *ended) => return,
                    () = sender.closed() => return,
                };
                let name = match event {
                    Ok(name) => name,
                    // A page that was too slow for some of them looks at everything.
                    Err(broadcast::error::RecvError::Lagged(_)) => "jobs",
                    Err(broadcast::error::RecvError::Closed) => return,
                };
                if sender.send(name).await.is_err() {
                    return;
                }
            }
        });
        let first = Some(Event::default().retry(REOPEN).comment("events follow"));
        Sse::new(Events { first, receiver })
            .keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
    }
}

struct Events {
    first: Option<Event>,
    receiver: tokio::sync::mpsc::Receiver<&'static str>,
}

impl Stream for Events {
    type Item = Result<Event, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        let heard = self.receiver.poll_recv(context);
        // Browsers drop an event that has no data.
        heard.map(|name| name.map(|name| Ok(Event::default().event(name).data("-"))))
    }
}

async fn tick(events: broadcast::Sender<&'static str>, mut ended: watch::Receiver<bool>) {
    let mut every = interval(TICK);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = every.tick() => drop(events.send("tick")),
            _ = ended.wait_for(|ended| *ended) => return,
        }
    }
}

async fn listen(
    database: Database,
    shared: Arc<Shared>,
    events: broadcast::Sender<&'static str>,
    mut ended: watch::Receiver<bool>,
) {
    let listening = async {
        let mut lost = false;
        loop {
            let Ok(mut listener) = database.listen(&CHANNELS).await else {
                if !lost {
                    let _ = events.send("lost");
                }
                lost = true;
                sleep(AGAIN).await;
                continue;
            };
            shared.change();
            if lost {
                let _ = events.send("back");
            }
            lost = false;
            // `None`: the connection broke, and what was told meanwhile is not known.
            while let Ok(Some(heard)) = listener.try_recv().await {
                let mut channels = vec![heard];
                sleep(TOGETHER).await;
                while let Some(next) = listener.next_buffered() {
                    channels.push(next);
                }
                // Before pages are told, so that none gets an answer from before.
                shared.change();
                for name in CHANNELS {
                    if channels.iter().any(|heard| heard.channel() == name) {
                        let _ = events.send(name);
                    }
                }
            }
            shared.change();
            let _ = events.send("jobs");
        }
    };
    tokio::select! {
        () = listening => {}
        _ = ended.wait_for(|ended| *ended) => {}
    }
}
