//! Alerts: what people want to be told of (rules), what was found, and what was sent where. Owns `alert_rules`,
//! `alert_events` and `alert_deliveries`. Any number of servers may look and send: a finding is one row whoever finds it
//! first, and a delivery is one server's for as long as it has said that it needs.
//!
//! The registry finds and remembers; who sends is the control room. Where targets are, and their secrets, it never knows.

mod deliveries;
mod find;
mod rules;

use std::fmt;
use std::str::FromStr;

pub use deliveries::{AlertDelivery, AlertEvent, Delivery};
pub use find::Told;
pub use rules::{AlertRule, NewAlertRule};

/// What a rule looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlertKind {
    /// A job failed for good.
    Failed,
    /// A worker has not been seen for two leases and has not said that it ended.
    Lost,
    /// A run trains and has reported no step for this number of log intervals.
    Stuck,
    /// Less than this share is left of the disk of a worker's home.
    Disk,
    /// The loss of a run is no better than that of predicting nothing.
    Nothing,
    /// So many runs of a sweep failed, and none succeeded.
    Sweep,
    /// No worker that is alive can do a job that has been queued for this number of minutes.
    Nobody,
}

impl AlertKind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Failed,
        Self::Lost,
        Self::Stuck,
        Self::Disk,
        Self::Nothing,
        Self::Sweep,
        Self::Nobody,
    ];

    /// Its name, as the database writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Lost => "lost",
            Self::Stuck => "stuck",
            Self::Disk => "disk",
            Self::Nothing => "nothing",
            Self::Sweep => "sweep",
            Self::Nobody => "nobody",
        }
    }

    /// The number that a rule of this kind has where none is given; none where the kind counts nothing.
    pub fn amount(self) -> Option<f64> {
        match self {
            Self::Failed | Self::Lost | Self::Nothing => None,
            Self::Stuck => Some(10.0),
            Self::Disk => Some(0.1),
            Self::Sweep => Some(3.0),
            Self::Nobody => Some(5.0),
        }
    }

    /// The least and the most that its number may be.
    pub fn bounds(self) -> Option<(f64, f64)> {
        match self {
            Self::Failed | Self::Lost | Self::Nothing => None,
            Self::Stuck => Some((2.0, 10_000.0)),
            Self::Disk => Some((0.001, 0.99)),
            Self::Sweep => Some((1.0, 1_000.0)),
            Self::Nobody => Some((1.0, 10_080.0)),
        }
    }
}

impl fmt::Display for AlertKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for AlertKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("no kind of alert `{text}`; there are {names}")
        })
    }
}
