//! How fast this server and this program are together: claims, latency, metrics, lists. Everything is
//! measured in a database of its own on the same server ([`registry::Scratch`]), which is dropped at the end; what is compared
//! with Postgres alone runs in turns with it.

mod crowd;
mod history;
mod latency;
mod points;
mod queue;

use std::time::Duration;

use serde::Serialize;

pub use crowd::{Crowd, crowd};
pub use history::{History, history};
pub use latency::{Latency, latency};
pub use points::{Points, points};
pub use queue::{Claims, claims};

/// The middle of some values, and the smallest and largest.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Spread {
    /// The smallest.
    pub least: f64,
    /// The median.
    pub median: f64,
    /// The largest.
    pub most: f64,
}

impl Spread {
    fn of(values: Vec<f64>) -> Self {
        let at = |share| statistics::nearest(&values, share).unwrap_or(f64::NAN);
        Self { least: at(0.0), median: at(0.5), most: at(1.0) }
    }
}

/// Milliseconds at some quantiles.
#[derive(Clone, Copy, Debug, Serialize)]
#[allow(missing_docs, reason = "quantiles, in milliseconds")]
pub struct Milliseconds {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub most: f64,
}

impl Milliseconds {
    fn of(spans: Vec<Duration>) -> Self {
        let spans: Vec<f64> = spans.iter().map(|span| span.as_secs_f64() * 1e3).collect();
        let at = |share| statistics::nearest(&spans, share).unwrap_or(f64::NAN);
        Self { p50: at(0.5), p90: at(0.9), p99: at(0.99), most: at(1.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let all = Milliseconds::of((1..=100).map(Duration::from_millis).collect());
        assert_eq!((all.p50, all.p90, all.p99, all.most), (51.0, 90.0, 99.0, 100.0));
        let three = Spread::of(vec![3.0, 1.0, 2.0]);
        assert_eq!((three.least, three.median, three.most), (1.0, 2.0, 3.0));
    }
}
