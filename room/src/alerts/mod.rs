//! Alerts as this server sends them: it looks for what rules ask for, and brings what was found to the targets of its
//! file. Rules and what they found are in the database ([`registry`]), so that any number of servers share them; targets
//! and their secrets are in memory here alone.

mod mail;
mod message;
mod targets;
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use registry::{Database, Delivery, Lease, Told};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

pub use targets::{Targets, Unfit};

use crate::format;
use message::Message;
use targets::{Target, Way};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(5);
/// Between two looks at the losses of runs, which read their metrics.
const LOSSES: Duration = Duration::from_secs(120);
/// Between two looks for what is old.
const SETTLE: Duration = Duration::from_secs(600);
/// What a target has to take a message.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a message is this server's once it has taken it to send it.
const HELD: Duration = Duration::from_secs(60);
/// Messages at once.
const AT_ONCE: i64 = 8;
/// The longest wait between two tries.
const LONGEST: f64 = 1800.0;

/// Looks and sends until the task is aborted. `told` is called when pages have something new to show.
pub async fn run(
    database: Database,
    targets: Targets,
    lease: Lease,
    told: impl Fn() + Send + Sync + 'static,
) {
    let told: Arc<dyn Fn() + Send + Sync> = Arc::new(told);
    let targets = Arc::new(targets);
    let new = Arc::new(Notify::new());
    // Ends with this task. A target that does not answer holds up no other, nor the looks.
    let mut tasks = JoinSet::new();
    match webhook::client() {
        Ok(client) => {
            for name in targets.names() {
                let sender = Sender {
                    database: database.clone(),
                    targets: Arc::clone(&targets),
                    client: client.clone(),
                    told: Arc::clone(&told),
                };
                tasks.spawn(sender.run(name, Arc::clone(&new)));
            }
        }
        Err(why) => tracing::error!("alerts are not sent: {why}"),
    }
    tasks.spawn(look(database, targets, lease, new, told));
    while tasks.join_next().await.is_some() {}
}

/// Looks for what rules ask for, for ever.
async fn look(
    database: Database,
    targets: Arc<Targets>,
    lease: Lease,
    new: Arc<Notify>,
    told: Arc<dyn Fn() + Send + Sync>,
) {
    let mut every = interval(LOOK);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut turn: u64 = 0;
    let mut complained = false;
    loop {
        every.tick().await;
        let due = |every: Duration| turn.is_multiple_of(every.as_secs() / LOOK.as_secs());
        let how = Told { lease, losses: due(LOSSES), size: format::bytes, span: format::span };
        let looked = async {
            let found = database.look_for_alerts(how).await?;
            if due(SETTLE) {
                database.settle_alerts(targets.give_up().as_secs_f64()).await?;
            }
            Ok::<_, registry::Error>(found)
        };
        match looked.await {
            Ok(found) => {
                complained = false;
                if found > 0 {
                    new.notify_waiters();
                    told();
                }
            }
            Err(error) => {
                if !complained {
                    tracing::warn!("alerts are not looked for: {error}; trying again");
                }
                complained = true;
            }
        }
        turn += 1;
    }
}

/// What brings messages to one target.
struct Sender {
    database: Database,
    targets: Arc<Targets>,
    client: reqwest::Client,
    told: Arc<dyn Fn() + Send + Sync>,
}

impl Sender {
    async fn run(self, name: String, new: Arc<Notify>) {
        let Some(target) = self.targets.find(&name) else { return };
        loop {
            match self.send(target).await {
                Ok(0) => {}
                Ok(_) => {
                    (self.told)();
                    continue;
                }
                Err(error) => tracing::debug!("alerts to {name} wait: {error}"),
            }
            tokio::select! {
                () = sleep(LOOK) => {}
                () = new.notified() => {}
            }
        }
    }

    /// Sends what is due; gives how many messages were tried.
    async fn send(&self, target: &Target) -> registry::Result<usize> {
        let (database, targets) = (&self.database, &self.targets);
        let name = std::slice::from_ref(&target.name);
        let due = database.take_deliveries(name, HELD.as_secs_f64(), AT_ONCE).await?;
        let sending = due.iter().map(async |delivery| match self.deliver(delivery, target).await {
            Ok(()) => database.delivered(delivery).await,
            Err(why) => {
                tracing::warn!("alert to {} was not sent: {why}", target.name);
                let wait = wait(delivery.tries, targets.first_retry());
                let give_up = targets.give_up().as_secs_f64();
                database.undelivered(delivery, &why, wait, give_up).await
            }
        });
        for settled in futures_util::future::join_all(sending).await {
            settled?;
        }
        Ok(due.len())
    }

    async fn deliver(&self, delivery: &Delivery, target: &Target) -> Result<(), String> {
        let message = Message::of(delivery, self.targets.address());
        let sending = async {
            match &target.way {
                Way::Web { form, url } => webhook::send(&self.client, *form, url, &message).await,
                Way::Mail(mail) => mail.send(&message).await,
            }
        };
        tokio::time::timeout(PATIENCE, sending)
            .await
            .unwrap_or_else(|_| Err(format!("no answer in {} seconds", PATIENCE.as_secs())))
    }
}

/// Seconds until the next try: the first wait, then twice as long each time.
fn wait(tries: i32, first: Duration) -> f64 {
    let doublings = u32::try_from(tries.saturating_sub(1)).unwrap_or(0).min(20);
    (first.as_secs_f64() * f64::from(1_u32 << doublings)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_half_an_hour() {
        let first = Duration::from_secs(10);
        let waits: Vec<f64> = [1, 2, 3, 8, 9, 1000, 0, -5].map(|tries| wait(tries, first)).into();
        assert_eq!(waits, [10.0, 20.0, 40.0, 1280.0, 1800.0, 1800.0, 10.0, 10.0]);
    }
}
