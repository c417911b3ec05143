//! The programs of the jobs: there, to be started, of one version.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use registry::JobKind;

use super::{Findings, ask};

const AREA: &str = "programs";

pub(super) async fn examine(found: &mut Findings, folder: &Path) {
    for kind in JobKind::ALL {
        let name = kind.program();
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
                version(found, name, &path, said.lines().next().unwrap_or_default().trim());
            }
            Err(error) => {
                let text = format!("{} does not start: {error}", path.display());
                let remedy =
                    "build it anew on this host (`make build`): most likely a library is missing";
                found.fail(AREA, name, text, remedy);
            }
        }
    }
}

/// `said` is what the program prints: `trainer 0.1.0`, perhaps with more behind it.
fn version(found: &mut Findings, name: &'static str, path: &Path, said: &str) {
    let ours = env!("CARGO_PKG_VERSION");
    if said.split_whitespace().nth(1) == Some(ours) {
        found.ok(AREA, name, format!("{said} in {}", path.display()));
    } else {
        let text = format!("{} says `{said}`, this program is {ours}", path.display());
        found.warn(AREA, name, text, "build or install all programs together");
    }
}
