//! The registry of reverse processes: one line each, and what is made of the lines.
use super::{Levels, Process, Solver};
use crate::{Error, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tch::Tensor;

macro_rules! methods {
    ($($file:ident: $Method:ident, $about:literal;)*) => {
        /// The reverse process, by its name in configurations and on the command line.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Method {
            $(#[doc = $about] $Method,)*
        }

        impl Method {
            /// Every method.
            pub const ALL: [Method; Method::NAMES.len()] = [$(Method::$Method),*];

            const NAMES: &[&str] = &[$(super::$file::SOLVER.name),*];

            /// What it is, in a line.
            pub fn about(self) -> &'static str {
                match self { $(Method::$Method => $about,)* }
            }

            fn solver(self) -> &'static Solver {
                match self { $(Method::$Method => &super::$file::SOLVER,)* }
            }
        }
    };
}

methods! {
    ancestral: Ancestral, "Algorithm 2 of the paper";
    posterior: Posterior, "posterior mean and variance (Ho et al. 2020)";
    ddim: Ddim, "DDIM (Song et al. 2021)";
    dpmpp_2m: Dpmpp2m, "DPM-Solver++(2M) (Lu et al. 2022)";
    dpmpp_2m_sde: Dpmpp2mSde, "SDE-DPM-Solver++(2M) (Lu et al. 2022)";
    heun: Heun, "Heun's method (Karras et al. 2022), two passes of the network in a step";
}

/// Algorithm 2 of the paper.
impl Default for Method {
    fn default() -> Method {
        Method::Ancestral
    }
}

impl Method {
    /// Its name in configurations and on the command line.
    pub fn name(self) -> &'static str {
        self.solver().name
    }

    /// Goes down the levels from `start` `[B,3,H,W]`, pure noise but for known pixels; gives the images.
    ///
    /// # Errors
    /// Those of the network and the noise; [`Error::Stopped`] when the callback asks to stop.
    pub fn run(self, start: &Tensor, levels: &Levels, process: &mut Process) -> Result<Tensor> {
        (self.solver().run)(start, levels, process)
    }

    /// Steps where no number is given. None for those that take every step of the sampling schedule; the
    /// others walk over the *training* schedule, whose noise levels the network has seen.
    pub fn few_steps(self) -> Option<u32> {
        self.solver().few_steps
    }

    /// Whether [`Process::eta`] means something to it.
    pub fn takes_eta(self) -> bool {
        self.solver().takes_eta
    }
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Method {
    type Err = Error;

    fn from_str(text: &str) -> Result<Method> {
        let named = Method::ALL.into_iter().find(|method| method.name() == text);
        named.ok_or_else(|| Error::config("sampling.method", text, Method::NAMES.join(", ")))
    }
}

impl Serialize for Method {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Method {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Method, D::Error> {
        let text = String::deserialize(deserializer)?;
        let unknown = |_| serde::de::Error::unknown_variant(&text, Method::NAMES);
        text.parse().map_err(unknown)
    }
}

#[cfg(feature = "clap")]
impl clap::ValueEnum for Method {
    fn value_variants<'a>() -> &'a [Method] {
        &Method::ALL
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        let steps = self.few_steps().map(|steps| format!("; {steps} steps"));
        let steps = steps.unwrap_or_else(|| "; every step of the sampling schedule".to_owned());
        Some(clap::builder::PossibleValue::new(self.name()).help(self.about().to_owned() + &steps))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_read_back() {
        for method in Method::ALL {
            assert_eq!(method.name().parse::<Method>().unwrap(), method);
            let json = serde_json::to_string(&method).unwrap();
            assert_eq!(json, format!("{:?}", method.name()));
            assert_eq!(serde_json::from_str::<Method>(&json).unwrap(), method);
        }
        let error = "eular".parse::<Method>().unwrap_err().to_string();
        assert!(error.contains("eular") && error.contains("dpmpp-2m-sde"), "{error}");
        let error = serde_json::from_str::<Method>("\"eular\"").unwrap_err().to_string();
        assert!(error.contains("`eular`") && error.contains("`heun`"), "{error}");
    }
}
