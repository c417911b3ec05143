//! The places that a process may read and write where somebody else says what it works on: a worker of a shared
//! server names them to the programs that it starts. Files of this machine are held by the kernel (Landlock), so that
//! no path, link or library gets past it; what lies far away is looked at here.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The variable that holds them, as JSON.
pub const VARIABLE: &str = "PALETTE_ROOTS";

/// What a confined process may reach, beside its program and what its system needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roots {
    /// Folders of this machine to read, and files.
    pub read: Vec<PathBuf>,
    /// Folders of this machine to read and write.
    pub write: Vec<PathBuf>,
    /// Beginnings of far addresses to read: `s3://bucket/prefix`, `https://host/path`.
    pub read_far: Vec<String>,
    /// Beginnings of far addresses to read and write.
    pub write_far: Vec<String>,
}

static ROOTS: OnceLock<Roots> = OnceLock::new();

/// Confines this process for good to what [`VARIABLE`] names; without it nothing is confined. To be called before
/// there are threads.
///
/// # Errors
/// When the variable is damaged, or the kernel cannot confine a process.
pub fn confine() -> Result<()> {
    let Some(text) = std::env::var_os(VARIABLE).filter(|text| !text.is_empty()) else {
        return Ok(());
    };
    let text = text.to_string_lossy();
    let roots: Roots = serde_json::from_str(&text)
        .map_err(|error| refused(VARIABLE, &format!("is damaged: {error}")))?;
    crate::landlock::confine(&roots.read, &roots.write).map_err(|why| refused("files", &why))?;
    let _ = ROOTS.set(roots);
    Ok(())
}

/// Whether the kernel can confine a process; why not otherwise.
///
/// # Errors
/// Then.
pub fn available() -> Result<(), String> {
    crate::landlock::available()
}

/// What to say beside the words of an error, where this process is confined and a file was denied to it: the kernel
/// does not say why.
pub fn hint(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    ROOTS.get()?;
    denied(error).then_some(
        "it lies outside of the roots of this worker (--data-root, --output-root), or is closed to the worker's user",
    )
}

/// Whether a file was denied, somewhere among the causes.
fn denied(error: &(dyn std::error::Error + 'static)) -> bool {
    let system = error.downcast_ref::<std::io::Error>();
    system.is_some_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
        || error.source().is_some_and(denied)
}

/// Refuses a far address that this process must not read.
pub(crate) fn demand_read(address: &str) -> Result<()> {
    if may_read(address) { Ok(()) } else { Err(refused(address, OUTSIDE)) }
}

/// Whether this process may read a far address.
pub(crate) fn may_read(address: &str) -> bool {
    ROOTS.get().is_none_or(|roots| roots.reads(address))
}

/// Refuses a far address that this process must not write.
pub(crate) fn demand_write(address: &str) -> Result<()> {
    match ROOTS.get() {
        Some(roots) if !below_any(&roots.write_far, address) => {
            Err(refused(address, "lies outside of the output roots of this worker (--output-root)"))
        }
        _ => Ok(()),
    }
}

const OUTSIDE: &str = "lies outside of the roots of this worker (--data-root, --output-root)";

impl Roots {
    fn reads(&self, address: &str) -> bool {
        below_any(&self.read_far, address) || below_any(&self.write_far, address)
    }

    /// Whether a folder of this machine lies in one of these, links followed.
    pub fn holds(&self, folder: &Path) -> bool {
        let real = |path: &Path| path.canonicalize().ok();
        let Some(folder) = real(folder) else { return false };
        let all = self.read.iter().chain(&self.write);
        all.filter_map(|root| real(root)).any(|root| folder.starts_with(root))
    }
}

/// Whether an address is one of these or lies below one.
fn below_any(roots: &[String], address: &str) -> bool {
    // Also as a server may read it.
    let read =
        address.to_ascii_lowercase().replace("%2e", ".").replace("%2f", "/").replace("%5c", "/");
    let up = read.split(['/', '\\']).any(|part| part == "..");
    !up && roots.iter().any(|root| {
        let rest = address.strip_prefix(root.trim_end_matches('/'));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

fn refused(place: &str, message: &str) -> Error {
    Error::Refused { place: place.to_owned(), message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_lies_below_whole_parts_of_a_root() {
        let roots = ["s3://lab/data".to_owned(), "https://data.example/".to_owned()];
        for (address, inside) in [
            ("s3://lab/data", true),
            ("s3://lab/data/val", true),
            ("s3://lab/data2", false),
            ("s3://lab", false),
            ("s3://lab/data/../secret", false),
            ("gs://lab/data", false),
            ("https://data.example/a.tar", true),
            ("https://data.example.evil/a.tar", false),
            ("https://data.example@evil/a.tar", false),
            ("https://data.example/a/..%2F..%2fsecret", false),
            ("https://data.example/a/%2e%2E/secret", false),
            ("https://data.example/a/..\\secret", false),
            ("https://data.example/a..b/c.tar", true),
        ] {
            assert_eq!(below_any(&roots, address), inside, "{address}");
        }
        assert!(!below_any(&[], "s3://lab/data"));
    }

    #[test]
    fn what_was_denied_is_found_among_the_causes() {
        let error = |kind: std::io::ErrorKind| Error::Io {
            doing: "open",
            path: "/x".into(),
            source: kind.into(),
        };
        assert!(denied(&error(std::io::ErrorKind::PermissionDenied)));
        assert!(!denied(&error(std::io::ErrorKind::NotFound)));
        assert_eq!(hint(&error(std::io::ErrorKind::PermissionDenied)), None, "nobody is confined");
    }

    #[test]
    fn a_folder_lies_where_its_links_lead() {
        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| home.path().join(name);
        std::fs::create_dir_all(path("data/val")).unwrap();
        std::fs::create_dir_all(path("data2")).unwrap();
        std::os::unix::fs::symlink(path("data2"), path("data/out")).unwrap();
        let roots = Roots { read: vec![path("data")], ..Roots::default() };
        let held = ["data", "data/val", "data/out", "data2", "nowhere"]
            .map(|name| roots.holds(&path(name)));
        assert_eq!(held, [true, true, false, false, false]);
    }
}
