//! What an experiment says that cannot be what was meant: defaults of a million steps in a short run. Nothing
//! is changed. A default that followed `train.steps` would make a run that is extended another one than a run
//! of as many steps from the start.

use std::fmt;

use serde::Serialize;

use super::Experiment;
use super::train::TrainConfig;

/// Largest share that initial weights may have in an average at the end of the run.
const STALE: f64 = 0.05;

/// Below this a share counts as zero.
const NEGLIGIBLE: f64 = 1e-9;

/// A value that does not fit the run, and one that does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Advice {
    /// The key.
    pub key: &'static str,
    /// What comes of it, with its value.
    pub problem: String,
    /// What `--set` takes, such as `train.ema=0.98`.
    pub remedy: String,
    /// Another way, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub or: Option<String>,
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { problem, remedy, or, .. } = self;
        write!(f, "{problem}: --set {remedy}")?;
        or.as_ref().map_or(Ok(()), |or| write!(f, ", or --set {or}"))
    }
}

impl Experiment {
    /// What of the experiment does not fit its length; empty where all does.
    pub fn advice(&self) -> Vec<Advice> {
        [warmup(&self.train), averages(&self.train)].into_iter().flatten().collect()
    }
}

/// A warm-up that takes more than half of the run.
fn warmup(train: &TrainConfig) -> Option<Advice> {
    let TrainConfig { steps, warmup_steps, learning_rate, .. } = *train;
    if warmup_steps <= steps / 2 {
        return None;
    }
    let problem = if warmup_steps > steps {
        let reached = 100.0 * train.rate(steps) / learning_rate;
        format!(
            "a warm-up of {warmup_steps} steps in a run of {steps}: the learning rate gets to {} % of \
             {learning_rate}",
            rounded(reached)
        )
    } else {
        format!("the warm-up takes {warmup_steps} of the {steps} steps")
    };
    let remedy = format!("train.warmup_steps={}", steps / 10);
    Some(Advice { key: "train.warmup_steps", problem, remedy, or: None })
}

/// Averages that are mostly of weights before the run learned anything.
fn averages(train: &TrainConfig) -> Option<Advice> {
    let steps = train.steps;
    let shares = train.ema.0.iter().map(|&rate| (rate, train.initial_share(rate, steps)));
    let (rate, share) = shares.max_by(|a, b| a.1.total_cmp(&b.1))?;
    if share <= STALE {
        return None;
    }
    let fits = fitting(steps);
    let mut rates: Vec<f64> = train.ema.0.iter().map(|rate| rate.min(fits)).collect();
    rates.dedup();
    let remedy = match &rates[..] {
        [one] => format!("train.ema={one}"),
        several => format!("train.ema={several:?}"),
    };
    let problem = format!(
        "EMA {rate} over {steps} {} is {} % initial weights",
        if steps == 1 { "step" } else { "steps" },
        rounded(100.0 * share)
    );
    // With few steps the warm-up's own rates are as stale.
    let warm = TrainConfig { ema_warmup: true, ..train.clone() };
    let helps = warm.ema.0.iter().all(|&rate| warm.initial_share(rate, steps) <= STALE);
    let or = helps.then(|| "train.ema_warmup=true".to_owned());
    Some(Advice { key: "train.ema", problem, remedy, or })
}

/// A rate whose average is of about the last fifth of the run, in few digits: 0.98 for 300 steps.
fn fitting(steps: u64) -> f64 {
    let forgets = 5.0 / steps as f64;
    if forgets >= 1.0 {
        return 0.0;
    }
    // One digit of what it forgets a step, rounded up.
    let digits = (-forgets.log10()).ceil();
    let unit = 10f64.powf(digits);
    let rate = 1.0 - (forgets * unit - 1e-9).ceil() / unit;
    // As it is written, not with the last bits of a difference.
    format!("{rate:.*}", digits as usize).parse().unwrap_or(rate)
}

/// `97`, or `0.3` where whole numbers say nothing.
fn rounded(percent: f64) -> String {
    if percent >= 1.0 { format!("{percent:.0}") } else { format!("{percent:.1}") }
}

impl TrainConfig {
    /// The weight of the initial weights in an average with decay `rate`, 0 to 1, after `steps` updates: the
    /// product of the decays, ema ← decay·ema + (1 − decay)·weights.
    pub fn initial_share(&self, rate: f64, steps: u64) -> f64 {
        let mut share = 1.0;
        for step in 1..=steps {
            let decay = self.decay(rate, step);
            if decay == rate {
                // From here on every step has the same.
                return share * rate.powf((steps - step + 1) as f64);
            }
            share *= decay;
            if share < NEGLIGIBLE {
                return 0.0;
            }
        }
        share
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;

    fn experiment(train: Value) -> Experiment {
        Experiment::from_json(&json!({
            "name": "e",
            "data": { "datasets": [{ "uri": "d" }], "tasks": { "colorization": 1.0 } },
            "train": train,
        }))
        .unwrap()
    }

    fn lines(train: Value) -> Vec<String> {
        experiment(train).advice().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn defaults_of_a_million_steps_are_flagged_in_a_run_of_three_hundred() {
        assert_eq!(
            lines(json!({ "steps": 300 })),
            [
                "a warm-up of 10000 steps in a run of 300: the learning rate gets to 3 % of 0.0001: \
                 --set train.warmup_steps=30",
                "EMA 0.9999 over 300 steps is 97 % initial weights: --set train.ema=0.98, or --set \
                 train.ema_warmup=true",
            ]
        );
        assert_eq!(lines(json!({})), [""; 0], "the paper's own");
        assert_eq!(
            lines(json!({ "steps": 1000, "warmup_steps": 600, "ema": 0.995 })),
            ["the warm-up takes 600 of the 1000 steps: --set train.warmup_steps=100"]
        );
    }

    /// Whatever the length, the remedies are ones.
    #[test]
    fn who_follows_the_advice_is_given_none() {
        for steps in [1, 2, 3, 5, 6, 7, 12, 50, 99, 300, 1000, 1234, 40_000, u64::MAX] {
            let train =
                json!({ "steps": steps, "ema": [0.5, 0.99, 0.999_999], "warmup_steps": steps });
            let advice = experiment(train.clone()).advice();
            let mut followed = train;
            for Advice { remedy, .. } in &advice {
                let (key, value) = remedy.split_once('=').unwrap();
                let key = key.strip_prefix("train.").unwrap();
                followed[key] = serde_json::from_str(value).unwrap();
            }
            assert_eq!(lines(followed.clone()), [""; 0], "{steps}: {followed}");
            for or in advice.iter().filter_map(|advice| advice.or.as_ref()) {
                let mut other = followed.clone();
                assert_eq!(or, "train.ema_warmup=true");
                other["ema"] = json!([0.5, 0.99, 0.999_999]);
                other["ema_warmup"] = true.into();
                assert_eq!(lines(other), [""; 0], "{steps}");
            }
        }
    }

    #[test]
    fn only_averages_that_are_stale_are_changed() {
        let advice = experiment(json!({ "steps": 1000, "warmup_steps": 0, "ema": [0.9, 0.9999] }));
        let [advice] = &advice.advice()[..] else { panic!("one") };
        assert_eq!(advice.remedy, "train.ema=[0.9, 0.995]");
        assert!(advice.problem.starts_with("EMA 0.9999 over 1000 steps is 90 %"), "{advice}");
    }

    /// As the trainer does it: ema ← decay·ema + (1 − decay)·weights, from the initial weights on.
    #[test]
    fn the_share_of_initial_weights_is_what_an_average_has_of_them() {
        for ema_warmup in [false, true] {
            let train = TrainConfig { ema_warmup, ..TrainConfig::default() };
            for (rate, steps) in [(0.0, 3), (0.5, 1), (0.9, 20), (0.999, 12)] {
                // Initial weights are 1, all later ones 0.
                let mut average = 1.0;
                for step in 1..=steps {
                    let decay = train.decay(rate, step);
                    average *= decay;
                }
                let share = train.initial_share(rate, steps);
                assert!((share - average).abs() < 1e-9, "{ema_warmup} {rate} {steps}: {share}");
            }
        }
    }

    #[test]
    fn the_configurations_that_come_along_need_none() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
        let mut files = vec![root.join("demo.toml")];
        for folder in ["small", "paper"] {
            let entries = std::fs::read_dir(root.join(folder)).unwrap();
            files.extend(entries.map(|entry| entry.unwrap().path()));
        }
        assert!(files.len() > 10, "{files:?}");
        for file in files {
            let experiment = Experiment::load(&file, &[]).unwrap();
            assert_eq!(experiment.advice(), [], "{}", file.display());
            let small = !file.starts_with(root.join("paper"));
            let looked =
                experiment.train.validation.is_some() && experiment.train.preview.is_some();
            assert!(!small || looked, "{}: neither validation nor previews", file.display());
        }
    }
}
