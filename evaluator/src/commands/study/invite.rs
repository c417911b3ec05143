//! `evaluator study invite`: links for raters, each with a secret that is shown this once.

use clap::Args;
use registry::NewRater;
use serde::Serialize;
use terminal::Usage;

use super::{seconds, times};
use crate::study::draw;

#[derive(Args)]
#[command(after_help = "\
Examples:
  evaluator study invite colorization --raters 200 --url-base https://study.lab.example")]
pub struct Invite {
    /// The study.
    study: String,
    /// How many links to make: spread evenly over sets and times.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    raters: u16,
    /// Only for this set.
    #[arg(long, value_parser = clap::value_parser!(i16).range(1..=2))]
    set: Option<i16>,
    /// Only for this time.
    #[arg(long, value_parser = seconds)]
    seconds: Option<f64>,
    /// Beginning of the links: where raters reach the page.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8090", value_parser = base)]
    url_base: String,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

fn base(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.contains(['?', '#', ' ']) => {
            Ok(text.trim_end_matches('/').to_owned())
        }
        _ => Err("http://HOST[:PORT][/PATH] or https://…".into()),
    }
}

#[derive(Serialize)]
struct Link {
    set: i16,
    seconds: f64,
    /// The rater's place among those of their set and time.
    number: i32,
    link: String,
}

impl Invite {
    pub fn run(self) -> anyhow::Result<()> {
        let db = registry::Blocking::open()?;
        let study = db.wait(db.study(&self.study))?;
        let times = match self.seconds {
            Some(seconds) if !study.seconds.contains(&seconds) => {
                let message = format!(
                    "study {} shows its pairs for {}, not for {seconds} s",
                    study.name,
                    times(&study.seconds)
                );
                return Err(Usage::new(message).into());
            }
            Some(seconds) => vec![seconds],
            None => study.seconds.clone(),
        };
        let sets = self.set.map_or(vec![1, 2], |set| vec![set]);
        let images = draw::images_of(&db.wait(db.study_images(study.id))?);
        let invited = db.wait(db.study_raters(study.id))?;
        let secret = db.wait(db.study_draw(&study))?;
        let (mut raters, mut links) = (Vec::new(), Vec::new());
        for seat in draw::seats(&sets, &times, &invited, self.raters.into()) {
            let token = format!("{:032x}", rand::random::<u128>());
            let images = images.get(&seat.set).map_or(&[][..], Vec::as_slice);
            let draw::Seat { set, seconds, number } = seat;
            let link = format!("{}/r/{token}", self.url_base);
            links.push(Link { set, seconds, number, link });
            let trials = draw::trials(&secret, seat, images, study.systems.len());
            raters.push(NewRater { set, seconds, number, token, trials });
        }
        db.wait(db.invite_raters(study.id, &raters))?;
        if self.json {
            return terminal::print_json(&links);
        }
        let mut table = terminal::Table::new(&["set", "seconds", "rater", "link"]);
        for link in &links {
            table.row([
                link.set.to_string(),
                link.seconds.to_string(),
                (link.number + 1).to_string(),
                link.link.clone(),
            ]);
        }
        table.print()?;
        tracing::info!("one link a rater; they are not shown again");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_an_address_of_the_web() {
        assert_eq!(base("https://lab.example/study/").unwrap(), "https://lab.example/study");
        for wrong in ["", "lab.example", "ftp://x", "https://", "http://x/?a=1"] {
            assert!(base(wrong).is_err(), "{wrong}");
        }
    }
}
