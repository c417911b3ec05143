//! One command a file; what they print numbers with, and what those share that work on tables.

pub mod attempt;
pub mod classifier;
mod evaluate;
pub mod report;
pub mod run;
pub mod study;
pub mod submit;
pub mod table;

use std::path::{Path, PathBuf};

use anyhow::Result;
use registry::Blocking;

use crate::protocol::{Extractors, Filled, Profile, Table};

/// A number with so many digits, or a dash where there is none.
fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or("–".to_owned(), |value| format!("{value:.digits$}"))
}

/// Tables with the profile that they are filled by.
struct Protocol {
    tables: Vec<Table>,
    profile: Profile,
    extractors: Extractors,
}

impl Protocol {
    fn read(tables: &[PathBuf], profile: &Path) -> Result<Self> {
        let profile = Profile::read(profile)?;
        let extractors = profile.extractors()?;
        let tables = tables.iter().map(|table| Table::read(table)).collect::<Result<_>>()?;
        Ok(Self { tables, profile, extractors })
    }

    fn fill(&self, db: &Blocking) -> Result<Vec<Filled>> {
        let fill = |table| Filled::new(table, &self.profile, &self.extractors, db);
        self.tables.iter().map(fill).collect()
    }
}
