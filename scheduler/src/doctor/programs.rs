//! The programs of the jobs: there, to be started, of one version.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use registry::JobKind;

use super::{Findings, ask};

const AREA: &str = "programs";

pub(super) async fn examine(found: &mut Findings, folder: &Path, revision: Option<&str>) {
    for kind in JobKind::ALL {
        let name = kind.program();
        // `sampler` does two kinds of jobs.
        if kind == JobKind::Try {
            continue;
        }
        let path = folder.join(name);
        let mode = match std::fs::metadata(&path) {
            Ok(file) if file.is_file() => file.permissions().mode(),
            _ => {
                let text =
                    format!("{} is not there: workers here do no {kind} jobs", path.display());
                let remedy = "build it (`make build`), or name its folder in PALETTE_BIN";
                found.warn(AREA, name, text, remedy);
                continue;
            }
        };
        if mode & 0o111 == 0 {
            let text = format!("{} cannot be executed", path.display());
            found.fail(AREA, name, text, format!("`chmod +x {}`", path.display()));
            continue;
        }
        match ask(&path, &["--version"]).await {
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stdout);
                let said = said.lines().next().unwrap_or_default().trim();
                version(found, name, &path, said, revision);
            }
            Err(error) => {
                let text = format!("{} does not start: {error}", path.display());
                let remedy = remedy(&error, folder);
                found.fail(AREA, name, text, remedy);
            }
        }
    }
}

/// What helps a program that does not start. Where it lacks libtorch, that lies in a folder that this user may not
/// enter (root's cache), or is not on this host: the programs look beside themselves, too.
fn remedy(error: &str, folder: &Path) -> String {
    let lacks = ["libtorch", "libc10", "libcu"].iter().any(|library| error.contains(library));
    match lacks {
        true => format!(
            "libtorch is missing, or lies where this user may not read it: copy the folder that .libtorch of the \
             sources leads to, with what is beside it, and link {} to it (docs/administration.md, \"A shared \
             server from nothing\")",
            folder.join("libtorch").display()
        ),
        false => {
            "build it anew on this host (`make build`): most likely a library is missing".into()
        }
    }
}

/// `said` is what the program prints: `trainer 0.1.0 (bbe9eaa, libtorch 2.11.0)`, or the beginning of it.
fn version(
    found: &mut Findings,
    name: &'static str,
    path: &Path,
    said: &str,
    revision: Option<&str>,
) {
    const TOGETHER: &str = "build or install all programs together";
    let ours = env!("CARGO_PKG_VERSION");
    let theirs = said.split_once('(').and_then(|(_, built)| built.split([',', ')']).next());
    let theirs = theirs.filter(|theirs| !theirs.starts_with("libtorch"));
    let revision = revision.map(terminal::short_revision);
    if said.split_whitespace().nth(1) != Some(ours) {
        let text = format!("{} says `{said}`, this program is {ours}", path.display());
        found.warn(AREA, name, text, TOGETHER);
    } else if let (Some(theirs), Some(ours)) = (theirs, &revision)
        && theirs != ours
    {
        let text = format!("{} says `{said}`, this program is of revision {ours}", path.display());
        found.warn(AREA, name, text, TOGETHER);
    } else {
        found.ok(AREA, name, format!("{said} in {}", path.display()));
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn who_lacks_libtorch_is_told_where_it_is_looked_for() {
        let lacks = "trainer: error while loading shared libraries: libtorch_cpu.so: cannot open shared \
                     object file: No such file or directory";
        let bin = Path::new("/opt/palette/bin");
        assert!(remedy(lacks, bin).contains("link /opt/palette/bin/libtorch to it"));
        assert!(remedy("exit status: 127", bin).contains("make build"));
    }

    #[test]
    fn programs_of_another_version_or_commit_are_warned_of() {
        let ours = env!("CARGO_PKG_VERSION");
        let verdict = |said: &str, revision| {
            let mut found = Findings::default();
            version(&mut found, "trainer", Path::new("bin/trainer"), said, revision);
            found.0[0].verdict
        };
        let commit = Some("bbe9eaa15d7d5d77f7c9bb8e0d4bb1a1f9b0c1de");
        for said in ["", " (bbe9eaa, libtorch 2.11.0)", " (bbe9eaa)", " (libtorch 2.11.0)"] {
            assert_eq!(verdict(&format!("trainer {ours}{said}"), commit), Verdict::Ok, "{said}");
        }
        assert_eq!(verdict(&format!("trainer {ours} (1234567)"), None), Verdict::Ok);
        assert_eq!(verdict(&format!("trainer {ours} (1234567)"), commit), Verdict::Warning);
        assert_eq!(verdict(&format!("trainer {ours} (bbe9eaa-dirty)"), commit), Verdict::Warning);
        assert_eq!(verdict("trainer 9.9.9 (bbe9eaa)", commit), Verdict::Warning);
    }
}
