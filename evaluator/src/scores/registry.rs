//! The registry: one line a score, and what is made of the lines. They are printed, and written into
//! details and tables, in this order.

use serde::{Deserialize, Serialize};

use super::{About, Basis, Better, Measure};

macro_rules! scores {
    ($($Name:ident = $measure:expr;)*) => {
        /// A score by its name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub enum Score { $($Name,)* }

        impl Score {
            /// All scores.
            pub const ALL: [Self; [$(stringify!($Name)),*].len()] = [$(Self::$Name),*];

            /// How it is computed.
            pub fn measure(self) -> &'static dyn Measure {
                match self {
                    $(Self::$Name => {
                        const MEASURE: &dyn Measure = &$measure;
                        MEASURE
                    })*
                }
            }
        }
    };
}

scores! {
    Error = super::error::Error;
    InputError = super::input_error::InputError;
    GeneratedPsnr = super::generated_psnr::GeneratedPsnr;
    Diversity = super::diversity::Diversity;
    Psnr = super::psnr::Psnr;
    Ssim = super::ssim::Ssim;
    MsSsim = super::ms_ssim::MsSsim;
    Fid = super::frechet::Frechet;
    Pd = super::perceptual::Perceptual;
    PdSquared = super::perceptual_squared::PerceptualSquared;
    Lpips = super::lpips::Lpips;
    Ca = super::accuracy::Accuracy;
    Likeness = super::likeness::Likeness;
    Is = super::inception::Inception;
    Kid = super::kernel::Kernel;
    Fool3 = super::fool_rate::FoolRate::shown_for_3_seconds();
    Fool5 = super::fool_rate::FoolRate::shown_for_5_seconds();
}

impl Score {
    /// Its names and where it comes from.
    pub fn about(self) -> About {
        self.measure().about()
    }

    /// Its name in files.
    pub fn name(self) -> &'static str {
        self.about().name
    }

    /// Its heading in tables, with an arrow to the better side.
    pub fn heading(self) -> String {
        let about = self.about();
        about.column.map_or(about.name.to_owned(), |column| {
            let arrow = match column.better {
                Better::Higher => '↑',
                Better::Lower => '↓',
            };
            format!("{} {arrow}", column.text)
        })
    }

    /// Scores that an extractor's configuration can claim.
    pub fn claims() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|score| score.claim() == Some(*score))
    }

    /// The score by which an extractor's configuration claims it.
    pub fn claim(self) -> Option<Self> {
        match self.about().basis {
            Basis::Extractor { claim, .. } => Some(claim),
            _ => None,
        }
    }

    /// The display time of a fool rate.
    pub fn seconds(self) -> Option<f64> {
        match self.about().basis {
            Basis::Study { seconds } => Some(seconds),
            _ => None,
        }
    }
}

/// By the name of a column of tables; what extractors claim are some of them.
impl TryFrom<String> for Score {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let columns = || Self::ALL.into_iter().filter(|score| score.about().column.is_some());
        columns().find(|score| score.name() == name).ok_or_else(|| {
            let names: Vec<&str> = columns().map(Self::name).collect();
            let meant = contracts::nearest(&name.to_lowercase(), names.iter().copied());
            let meant = meant.map_or(String::new(), |meant| format!("; did you mean `{meant}`?"));
            format!("unknown score `{name}`, expected one of {}{meant}", names.join(", "))
        })
    }
}

impl From<Score> for String {
    fn from(score: Score) -> Self {
        score.name().to_owned()
    }
}

impl std::fmt::Display for Score {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_and_keys_are_unique() {
        let about = || Score::ALL.into_iter().map(Score::about);
        let names: BTreeSet<&str> = about().map(|one| one.name).collect();
        let keys: BTreeSet<&str> = about().map(|one| one.key).collect();
        assert_eq!((names.len(), keys.len()), (Score::ALL.len(), Score::ALL.len()));
        let details: Vec<&str> = about().flat_map(|one| one.details).copied().collect();
        assert_eq!(details.iter().collect::<BTreeSet<_>>().len(), details.len());
    }

    /// What files of others hold: tables, extractors' configurations, kept scores, labels.
    #[test]
    fn names_that_are_written_down_stay() {
        let names: Vec<&str> = Score::claims().map(Score::name).collect();
        assert_eq!(names, ["fid", "pd", "lpips", "ca", "is", "kid"]);
        // Labels of the registry are made of these.
        assert_eq!(format!("{:?}", [Score::Fid, Score::Kid, Score::Is]), "[Fid, Kid, Is]");
        let columns: Vec<Score> =
            Score::ALL.into_iter().filter(|one| one.about().column.is_some()).collect();
        for score in &columns {
            let text = serde_json::to_string(score).unwrap();
            assert_eq!(serde_json::from_str::<Score>(&text).unwrap(), *score);
        }
        let headings: Vec<String> = columns.into_iter().map(Score::heading).collect();
        assert_eq!(
            headings,
            [
                "PSNR ↑",
                "SSIM ↑",
                "MS-SSIM ↑",
                "FID ↓",
                "PD ↓",
                "PD² ↓",
                "LPIPS-like ↓",
                "CA % ↑",
                "likeness of outputs ↓",
                "IS ↑",
                "KID·10³ ↓",
                "fool rate % (3 s) ↑",
                "fool rate % (5 s) ↑",
            ]
        );
        let error = serde_json::from_str::<Score>("\"error\"").unwrap_err().to_string();
        assert!(error.contains("unknown score `error`, expected one of psnr"), "{error}");
        for (name, meant) in
            [("fdi", "fid"), ("PSNR", "psnr"), ("msssim", "ms-ssim"), ("likenes", "likeness")]
        {
            let error = Score::try_from(name.to_owned()).unwrap_err();
            assert!(error.ends_with(&format!("; did you mean `{meant}`?")), "{error}");
        }
    }
}
