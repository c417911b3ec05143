//! `evaluator study create`: chooses the images and keeps their pictures.

use std::collections::BTreeSet;
use std::str::FromStr;

use anyhow::bail;
use clap::Args;
use contracts::evaluation::PictureSet;
use outputs::Variant;
use registry::{NewStudy, Study};
use serde::Serialize;
use terminal::Usage;

use super::{seconds, times};
use crate::study::gather::{Gathered, Sources, System};
use crate::study::source::PictureSource;

#[derive(Args)]
#[command(after_help = "\
Examples:
  evaluator study create colorization --system Palette=outputs/palette --seconds 3")]
pub struct Create {
    /// Name of the study.
    #[arg(value_parser = storage::names::name)]
    name: String,
    /// A system and where its outputs are: an output dataset of a sampling job (the first sample of
    /// each record), a dataset, or a folder of pictures named as the records are; may be repeated.
    #[arg(long = "system", value_name = "NAME=OUTPUTS", required = true)]
    systems: Vec<Named>,
    /// Where the photographs are: a dataset or a folder of pictures of the outputs' size [default:
    /// those beside the outputs].
    #[arg(long, value_name = "URI")]
    reference: Option<String>,
    /// Which outputs, where an output dataset has those of several tasks: jpeg, or jpeg:5 where it has several
    /// of one.
    #[arg(long)]
    task: Option<Variant>,
    /// Images; half of them are set 1, the other half set 2.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(2..=1000))]
    images: u16,
    /// Seconds that pairs are shown; each rater has one of these times.
    #[arg(long, default_value = "3,5", value_delimiter = ',', value_parser = seconds)]
    seconds: Vec<f64>,
    /// Seed by which images are drawn. Sides and orders are drawn by a secret of the study.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    seed: i64,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

/// A system as it is typed.
#[derive(Clone, Debug)]
struct Named {
    name: String,
    uri: String,
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, uri)) if !name.trim().is_empty() && !uri.is_empty() => {
                let name = storage::names::title(name.trim())?;
                Ok(Self { name, uri: uri.to_owned() })
            }
            _ => Err("NAME=OUTPUTS, such as Palette=outputs/colorization".into()),
        }
    }
}

#[derive(Serialize)]
struct Made<'a> {
    #[serde(flatten)]
    study: &'a Study,
    /// Records that some system has no output of.
    left_out: usize,
}

impl Create {
    pub fn run(mut self) -> anyhow::Result<()> {
        if self.images % 2 == 1 {
            let message = format!("--images {} cannot be halved: name an even number", self.images);
            return Err(Usage::new(message).into());
        }
        self.seconds.sort_by(f64::total_cmp);
        self.seconds.dedup();
        let mut names = BTreeSet::new();
        if let Some(twice) = self.systems.iter().find(|named| !names.insert(&named.name)) {
            return Err(Usage::new(format!("two systems are called {}", twice.name)).into());
        }
        let db = registry::Blocking::open()?;
        // Said again by the database; here before any picture is read.
        if db.wait(db.studies())?.iter().any(|study| study.name == self.name) {
            bail!("there is a study `{}` already: choose another name", self.name);
        }
        db.wait(db.demand(registry::Deed::MakeStudies))?;
        let systems = self.systems.iter().map(|named| {
            Ok(System {
                name: named.name.clone(),
                source: PictureSource::open(&named.uri, self.task)?,
            })
        });
        let sources = Sources {
            systems: systems.collect::<anyhow::Result<_>>()?,
            reference: match &self.reference {
                Some(uri) => Some(PictureSource::open(uri, self.task)?),
                None => None,
            },
        };
        let reference_uri = address(sources.reference_uri()?)?;
        let Gathered { images, left_out } =
            sources.gather(self.images.into(), self.seed.unsigned_abs())?;
        let systems =
            self.systems.iter().map(|named| Ok((named.name.clone(), address(&named.uri)?)));
        let study = db.wait(db.create_study(&NewStudy {
            name: self.name,
            owner: registry::current_user(),
            seed: self.seed,
            seconds: self.seconds,
            reference_uri,
            systems: systems.collect::<anyhow::Result<_>>()?,
            images,
        }))?;
        if self.json {
            return terminal::print_json(&Made { study: &study, left_out });
        }
        if left_out > 0 {
            tracing::info!("{left_out} records have no output of some system and were left out");
        }
        terminal::print(&format!(
            "study {}: {} images in two sets, {}, shown for {}; next: evaluator study invite {}",
            study.name,
            study.images,
            study.systems.join(", "),
            times(&study.seconds),
            study.name
        ))
    }
}

/// An address as it is stored: absolute.
fn address(text: &str) -> anyhow::Result<String> {
    Ok(text.parse::<PictureSet>().map_err(Usage::of)?.to_string())
}
