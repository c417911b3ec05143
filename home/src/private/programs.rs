//! Finds the server's programs: `initdb`, `postgres`, `pg_ctl` of one version.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Error, Result};

const PROGRAMS: [&str; 3] = ["initdb", "postgres", "pg_ctl"];

/// The oldest version that has what the tables need.
const OLDEST: u32 = 12;

/// A folder with the programs of one version.
#[derive(Clone, Debug)]
pub struct Programs {
    folder: PathBuf,
    /// Major version.
    pub version: u32,
}

impl Programs {
    /// The programs of this major version, or without one the newest: from `PALETTE_POSTGRES_BIN`
    /// alone where that is set, else `pg_config --bindir`, the PATH, the usual places.
    ///
    /// # Errors
    /// When no programs are found, or only those of other versions.
    pub fn find(version: Option<u32>) -> Result<Self> {
        let set = std::env::var_os("PALETTE_POSTGRES_BIN").filter(|folder| !folder.is_empty());
        let folders = match &set {
            Some(folder) => vec![PathBuf::from(folder)],
            None => candidates(),
        };
        let mut found: Vec<Self> = folders.into_iter().filter_map(Self::at).collect();
        found.sort_by_key(|programs| std::cmp::Reverse(programs.version));
        if found.is_empty() {
            let place = match &set {
                Some(folder) => {
                    format!("not in {} (PALETTE_POSTGRES_BIN)", Path::new(folder).display())
                }
                None => "not found".to_owned(),
            };
            return Err(Error::Postgres(format!(
                "the server's programs (initdb, postgres, pg_ctl) are {place}: install them \
                 (Debian and Ubuntu: `sudo apt-get install postgresql`), or set DATABASE_URL to a \
                 server that runs"
            )));
        }
        match version {
            None if found[0].version < OLDEST => Err(Error::Postgres(format!(
                "version {} is installed in {}, and {OLDEST} or newer is needed: install that, or set \
                 DATABASE_URL to a server that runs",
                found[0].version,
                found[0].folder.display()
            ))),
            None => Ok(found.swap_remove(0)),
            Some(version) => {
                let newest = found[0].version;
                found.into_iter().find(|programs| programs.version == version).ok_or_else(|| {
                    Error::Postgres(format!(
                        "the cluster was made by version {version}, but version {newest} is \
                         installed: install postgresql-{version} beside it, or move its data with \
                         pg_upgrade"
                    ))
                })
            }
        }
    }

    fn at(folder: PathBuf) -> Option<Self> {
        if !PROGRAMS.iter().all(|program| folder.join(program).is_file()) {
            return None;
        }
        let output = Command::new(folder.join("postgres")).arg("--version").output().ok()?;
        let version = major(&String::from_utf8_lossy(&output.stdout))?;
        Some(Self { folder, version })
    }

    /// How `initdb` is told to make a cluster of ours.
    pub(super) fn settings_of_initdb(&self) -> Vec<&'static str> {
        let mut settings = vec![
            "--auth-local=trust",
            "--auth-host=reject",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        ];
        // Before, it has no such option, and prints instructions, which nobody sees.
        if self.version >= 14 {
            settings.push("--no-instructions");
        }
        settings
    }

    /// The path of one of the programs.
    pub fn path(&self, program: &str) -> PathBuf {
        self.folder.join(program)
    }
}

/// `postgres (PostgreSQL) 15.8 (Debian …)` is 15, `17beta1` 17.
fn major(text: &str) -> Option<u32> {
    let rest = text.split_once("(PostgreSQL) ")?.1;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

fn candidates() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output()
        && output.status.success()
    {
        folders.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    if let Some(path) = std::env::var_os("PATH") {
        folders.extend(std::env::split_paths(&path));
    }
    // Debian and Ubuntu, Red Hat, Homebrew and hand-made ones.
    for (parent, bin) in
        [("/usr/lib/postgresql", "bin"), ("/usr", "bin"), ("/opt/homebrew/opt", "bin")]
    {
        let Ok(entries) = std::fs::read_dir(parent) else { continue };
        for entry in entries.flatten() {
            if parent == "/usr/lib/postgresql"
                || entry.file_name().to_string_lossy().starts_with("pgsql-")
                || entry.file_name().to_string_lossy().starts_with("postgresql@")
            {
                folders.push(entry.path().join(bin));
            }
        }
    }
    folders.push(PathBuf::from("/usr/local/pgsql/bin"));
    folders.sort();
    folders.dedup();
    folders
}

#[cfg(test)]
mod tests {
    #[test]
    fn versions_are_read_from_what_the_server_prints() {
        let major = super::major;
        assert_eq!(major("postgres (PostgreSQL) 15.8 (Debian 15.8-0+deb12u1)\n"), Some(15));
        assert_eq!(major("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(major("psql 3"), None);
    }
}
