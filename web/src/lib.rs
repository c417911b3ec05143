//! Serving HTTP to whoever connects, bounded in connections and in time: a client that is slow, or many of them,
//! takes neither the page from others nor the descriptors from the rest of the program.
//!
//! `axum::serve` has no such limits. Here a request's head and a connection without a request have a time, a
//! request with its body another, and a connection a third; of more connections than there may be, the one that keeps
//! the server waiting longest is closed for the new one, so that a flood of silent ones pushes out itself.

mod connection;
mod peer;
mod turn;

use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

pub use peer::Peer;
use turn::Turn;

/// What clients get.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// Requests of a connection, after which its client opens another: many can be sent at one go.
    pub requests: usize,
    /// From the opening of a connection, or from an answer, to the end of the next request's head.
    pub head: Duration,
    /// From there until the answer begins, the request's body included.
    pub request: Duration,
    /// From the opening of a connection until no further request is taken from it; what is under way then has
    /// the time of a request to end.
    pub connection: Duration,
}

impl Limits {
    /// So many connections, with times that fit pages and scrapes.
    pub const fn of(connections: usize) -> Self {
        Self {
            connections,
            requests: 100,
            head: Duration::from_secs(10),
            request: Duration::from_secs(30),
            connection: Duration::from_secs(120),
        }
    }
}

/// After a failed accept, which is a want of descriptors most of the time.
const PAUSE: Duration = Duration::from_millis(50);

/// A connection that is open.
struct Open {
    task: AbortHandle,
    turn: Turn,
}

/// Answers until `end` comes, then takes no more and waits for what is under way. Dropped, it closes everything.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    end: impl Future<Output = ()>,
) {
    let (ending, ended) = watch::channel(false);
    let mut tasks = JoinSet::new();
    let mut open: Vec<Open> = Vec::new();
    let mut end = std::pin::pin!(end);
    loop {
        let accepted = tokio::select! {
            () = &mut end => break,
            accepted = listener.accept() => accepted,
        };
        while tasks.try_join_next().is_some() {}
        open.retain(|one| !one.task.is_finished());
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!("a connection cannot be taken: {error}");
                close_one(&mut open);
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        if open.len() >= limits.connections {
            // Of many that come at one go, those that have asked already are answered first.
            tokio::task::yield_now().await;
        }
        // Where all wait for their first answer, the new one is closed.
        if open.len() >= limits.connections && !close_one(&mut open) {
            continue;
        }
        // What was closed has its descriptor until its task is gone.
        while tasks.len() >= limits.connections && tasks.join_next().await.is_some() {}
        let turn = Turn::new();
        let one = connection::serve(stream, router.clone(), limits, turn.clone(), ended.clone());
        open.push(Open { task: tasks.spawn(one), turn });
    }
    drop(listener);
    let _ = ending.send(true);
    while tasks.join_next().await.is_some() {}
}

/// Closes the connection whose client has kept the server waiting longest; where all wait for the server, the one with
/// the most answers so far. Tells whether there was one.
fn close_one(open: &mut Vec<Open>) -> bool {
    let all = || open.iter().enumerate();
    let waiting = all().filter_map(|(at, one)| Some((one.turn.waiting()?, at))).min();
    let longest = waiting.map(|(_, at)| at).or_else(|| {
        let answered = all().map(|(at, one)| (one.turn.answered(), at)).max()?;
        (answered.0 > 0).then_some(answered.1)
    });
    let Some(at) = longest else { return false };
    open.swap_remove(at).task.abort();
    true
}
