//! The GPUs that this worker hands out: which of those that the host shows it holds, which its jobs
//! have, and which it must not hand out for the moment.
//!
//! A GPU is handed out to one job at a time, and only when the driver answered for it at the last look.
//! One on which a job failed is looked at before it is handed out again: it may have failed with it.

use std::collections::BTreeSet;
use std::time::Instant;

use registry::{Gpu, Taken};

use crate::gpus::{Hold, View};

/// A GPU that this worker holds. It keeps it until it ends, also while the driver does not answer for it:
/// otherwise another worker could take it the moment that it is back, and jobs here would never see it again.
#[derive(Debug)]
struct Offer {
    gpu: Gpu,
    _hold: Hold,
    /// The driver answered for it.
    there: bool,
    /// A job has it.
    used: bool,
    /// An attempt of another worker has it, which does not see our hold (another container).
    taken: Option<Taken>,
    /// A job failed on it then, and the driver was not asked since.
    in_doubt: Option<Instant>,
}

/// All that this worker holds.
#[derive(Debug, Default)]
pub(super) struct Offers {
    offers: Vec<Offer>,
    /// What was said of others, so that it is not said at every look.
    said: BTreeSet<String>,
    looked: bool,
}

impl Offers {
    /// Takes in what a look at the host showed, and which GPUs attempts of other workers have where that is
    /// known, and gives what is worth a line.
    pub fn take_in(&mut self, view: View, taken: Option<Vec<Taken>>) -> Vec<String> {
        let mut lines = Vec::new();
        for offer in &mut self.offers {
            let there = view.gpus.iter().any(|gpu| gpu.uuid == offer.gpu.uuid);
            match (offer.there, there) {
                (true, false) => {
                    lines.push(format!("{} is missing and not handed out any more", offer.gpu));
                }
                (false, true) => lines.push(format!("{} is back", offer.gpu)),
                _ => {}
            }
            offer.there = there;
            offer.in_doubt = offer.in_doubt.filter(|since| *since > view.asked_at);
        }
        let mut said = BTreeSet::new();
        let mut say = |text: String, lines: &mut Vec<String>| {
            if !self.said.contains(&text) {
                lines.push(text.clone());
            }
            said.insert(text);
        };
        for remark in view.remarks {
            say(remark, &mut lines);
        }
        for gpu in view.gpus {
            if self.offers.iter().any(|offer| offer.gpu.uuid == gpu.uuid) {
                continue;
            }
            match Hold::take(&gpu.uuid) {
                Ok(Some(hold)) => {
                    if self.looked {
                        lines.push(format!("{gpu} is handed out from now on"));
                    }
                    let (there, used, in_doubt) = (true, false, None);
                    let taken = None;
                    self.offers.push(Offer { gpu, _hold: hold, there, used, taken, in_doubt });
                }
                Ok(None) => say(
                    format!("{gpu} is not handed out: another worker on this host has it"),
                    &mut lines,
                ),
                Err(error) => say(format!("{gpu} is not handed out: {error}"), &mut lines),
            }
        }
        self.said = said;
        self.looked = true;
        if let Some(taken) = taken {
            for offer in &mut self.offers {
                let now = taken.iter().find(|taken| taken.uuid == offer.gpu.uuid).cloned();
                match (&offer.taken, &now) {
                    (None, Some(by)) => lines.push(format!("{} is not free: {by}", offer.gpu)),
                    (Some(_), None) => lines.push(format!("{} is free again", offer.gpu)),
                    _ => {}
                }
                offer.taken = now;
            }
        }
        lines
    }

    /// Hands out this one no more until a look finds that it is free.
    pub fn withhold(&mut self, taken: Taken) {
        if let Some(offer) = self.offers.iter_mut().find(|offer| offer.gpu.uuid == taken.uuid) {
            offer.taken = Some(taken);
        }
    }

    /// Whether attempts of other workers have any.
    pub fn any_taken(&self) -> bool {
        self.offers.iter().any(|offer| offer.taken.is_some())
    }

    /// Those that jobs may ask for, whether they are free or not.
    pub fn all(&self) -> Vec<Gpu> {
        self.offers.iter().filter(|offer| offer.there).map(|offer| offer.gpu.clone()).collect()
    }

    /// Whether there was ever one to hand out.
    pub fn had_any(&self) -> bool {
        !self.offers.is_empty()
    }

    /// Those of a job's GPUs that the driver answers for.
    pub fn there<'a>(&self, gpus: &'a [Gpu]) -> impl Iterator<Item = &'a Gpu> {
        gpus.iter()
            .filter(|gpu| self.offers.iter().any(|offer| offer.there && offer.gpu.uuid == gpu.uuid))
    }

    /// The memory of each that is free.
    pub fn free(&self) -> Vec<i64> {
        let free = self.offers.iter().filter(|offer| offer.is_free());
        free.map(|offer| offer.gpu.memory).collect()
    }

    /// Whether the host must be looked at before anything is handed out.
    pub fn in_doubt(&self) -> bool {
        self.offers.iter().any(|offer| offer.in_doubt.is_some())
    }

    /// Hands out as many free ones of at least so much memory as there are, up to `most`: the smallest,
    /// so that the bigger ones are left for who needs them.
    pub fn hand_out(&mut self, most: i32, memory: i64) -> Vec<Gpu> {
        let mut fit: Vec<&mut Offer> = self
            .offers
            .iter_mut()
            .filter(|offer| offer.is_free() && offer.gpu.memory >= memory)
            .collect();
        fit.sort_by_key(|offer| offer.gpu.memory);
        fit.truncate(usize::try_from(most).unwrap_or(0));
        fit.into_iter()
            .map(|offer| {
                offer.used = true;
                offer.gpu.clone()
            })
            .collect()
    }

    /// Takes back what a job had, which may have failed of it.
    pub fn take_back(&mut self, gpus: &[Gpu], failed: bool) {
        for offer in &mut self.offers {
            if gpus.iter().any(|gpu| gpu.uuid == offer.gpu.uuid) {
                offer.used = false;
                offer.in_doubt = failed.then(Instant::now);
            }
        }
    }
}

impl Offer {
    fn is_free(&self) -> bool {
        self.there && !self.used && self.taken.is_none() && self.in_doubt.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(name: &str, gigabytes: i64) -> Gpu {
        // What one process of this host holds, no other gets, whatever tests it runs.
        let uuid = format!("GPU-test-{name}-{}", std::process::id());
        Gpu { uuid, memory: gigabytes << 30, model: "T".to_owned() }
    }

    fn view(gpus: &[Gpu], remarks: &[&str]) -> View {
        let remarks = remarks.iter().map(|&remark| remark.to_owned()).collect();
        View {
            gpus: gpus.to_vec(),
            loads: Vec::new(),
            remarks,
            driver: None,
            failure: None,
            asked_at: Instant::now(),
        }
    }

    #[test]
    fn the_smallest_that_fit_are_handed_out_once() {
        let (big, small) = (gpu("once-big", 80), gpu("once-small", 24));
        let mut offers = Offers::default();
        assert!(offers.take_in(view(&[big.clone(), small.clone()], &[]), None).is_empty());
        assert_eq!(offers.free(), [80 << 30, 24 << 30]);
        assert!(offers.hand_out(0, 0).is_empty());
        assert_eq!(offers.hand_out(1, 0), std::slice::from_ref(&small));
        assert!(offers.hand_out(1, 81 << 30).is_empty());
        assert_eq!(offers.hand_out(4, 0), std::slice::from_ref(&big));
        assert!(offers.hand_out(1, 0).is_empty());
        offers.take_back(std::slice::from_ref(&small), false);
        assert!(offers.hand_out(1, 25 << 30).is_empty());
        assert_eq!(offers.hand_out(1, 24 << 30), [small]);
    }

    #[test]
    fn what_is_missing_is_not_handed_out_and_what_failed_is_looked_at_first() {
        let (one, two) = (gpu("doubt-1", 8), gpu("doubt-2", 8));
        let both = [one.clone(), two.clone()];
        let mut offers = Offers::default();
        offers.take_in(view(&both, &[]), None);
        assert_eq!(offers.hand_out(2, 0).len(), 2);
        let lines = offers.take_in(view(&both[..1], &["GPU number 1: lost"]), None);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].contains("GPU-test-doubt-2") && lines[0].contains("missing"), "{lines:?}");
        assert!(offers.take_in(view(&both[..1], &["GPU number 1: lost"]), None).is_empty());
        offers.take_back(&both, true);
        assert!(offers.in_doubt() && offers.free().is_empty());
        offers.take_in(view(&both[..1], &[]), None);
        assert!(!offers.in_doubt());
        assert_eq!(offers.hand_out(2, 0), [one]);
        let lines = offers.take_in(view(&both, &[]), None);
        assert!(lines[0].contains("doubt-2") && lines[0].ends_with("is back"), "{lines:?}");
        assert_eq!(offers.hand_out(2, 0), [two]);
    }

    #[test]
    fn a_gpu_that_misses_a_look_stays_with_its_worker() {
        let (one, two) = (gpu("stays-1", 8), gpu("stays-2", 16));
        let both = [one.clone(), two.clone()];
        let (mut first, mut second) = (Offers::default(), Offers::default());
        assert!(!first.had_any());
        first.take_in(view(&both, &[]), None);
        first.take_in(view(&both[..1], &[]), None);
        assert_eq!(first.all(), both[..1]);
        assert_eq!(first.there(&both).collect::<Vec<_>>(), [&one], "what is gone frees nothing");
        second.take_in(view(&both, &[]), None);
        assert!(second.all().is_empty() && !second.had_any());
        let lines = first.take_in(view(&[], &[]), None);
        assert!(first.all().is_empty() && first.had_any(), "{lines:?}");
        let lines = first.take_in(view(&both, &[]), None);
        assert!(lines.iter().all(|line| line.ends_with("is back")), "{lines:?}");
        assert_eq!(first.hand_out(2, 0), both);
    }

    #[test]
    fn two_workers_never_hand_out_the_same() {
        let all = [gpu("same-1", 8), gpu("same-2", 8)];
        let (mut first, mut second) = (Offers::default(), Offers::default());
        first.take_in(view(&all[..1], &[]), None);
        let lines = second.take_in(view(&all, &[]), None);
        assert!(lines[0].contains("another worker on this host has it"), "{lines:?}");
        assert_eq!(second.hand_out(2, 0), all[1..]);
        drop(first);
        let lines = second.take_in(view(&all, &[]), None);
        assert!(lines[0].contains("from now on"), "{lines:?}");
        assert_eq!(second.hand_out(2, 0), all[..1]);
    }
}
