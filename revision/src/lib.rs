//! The revision that a program is compiled from, as a macro.
//!
//! Not a build script: cargo compiles a library of a package again whenever the package's build script says
//! something new, and all that depends on it. A macro is expanded in the program alone: after a commit the
//! programs are compiled again, and no library.

use std::path::{Path, PathBuf};
use std::process::Command;

use proc_macro::TokenStream;

/// An `Option<&'static str>`: the commit that the program is compiled from, as 40 hexadecimal digits, with
/// `-dirty` behind them where files under version control differed from it. None where the sources are no
/// checkout, as those of a release's archive.
#[proc_macro]
pub fn revision(_: TokenStream) -> TokenStream {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let workspace = package.as_deref().and_then(Path::parent);
    let code =
        workspace.and_then(checkout).unwrap_or_else(|| "::core::option::Option::None".to_owned());
    // What is no Rust code is an error of the compiler, which names this macro.
    code.parse().unwrap_or_default()
}

/// The value for the checkout in this folder. A checkout further up is another project's.
fn checkout(folder: &Path) -> Option<String> {
    if !folder.join(".git").exists() {
        return None;
    }
    // No lock: whoever builds may commit meanwhile.
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .arg("--no-optional-locks")
            .arg("-C")
            .arg(folder)
            .args(arguments)
            .output();
        let output = output.ok().filter(|output| output.status.success())?;
        Some(String::from_utf8(output.stdout).ok()?.trim_end().to_owned())
    };
    let commit = git(&["rev-parse", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    let dirty = if changed.is_empty() { "" } else { "-dirty" };
    // Files that change with the commit, so that cargo sees it. They are read by the compiler and left out
    // of the program.
    let tracked: String = ["HEAD", "logs/HEAD"]
        .iter()
        .filter_map(|name| Some(folder.join(git(&["rev-parse", "--git-path", name])?)))
        .filter(|path| path.is_file())
        .map(|path| {
            format!("const _: &[u8] = ::core::include_bytes!({:?});", path.to_string_lossy())
        })
        .collect();
    Some(format!("{{ {tracked} ::core::option::Option::Some(\"{commit}{dirty}\") }}"))
}
