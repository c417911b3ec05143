//! What the jobs of a worker may reach where others than its own user submit them: the roots that it was given, the
//! folders of runs, its own attempt. Whoever submits names every path and address that a job reads and writes, so
//! without bounds they read and write as the worker's user.

use std::path::{Path, PathBuf};
use std::process::Command;

use home::Home;
use nix::unistd::{AccessFlags, access};
use registry::{Error, Result};
use storage::roots::{self, Roots};
use storage::{Place, Source};

/// The bounds of a worker's jobs.
#[derive(Clone, Debug)]
pub struct Bounds(Roots);

impl Bounds {
    /// Bounds by these places to read, and these to read and write.
    ///
    /// # Errors
    /// When one of this machine is no folder, which is wrong use, and when the kernel cannot hold bounds.
    pub fn new(data: &[Source], output: &[Place]) -> Result<Self> {
        let local = data.iter().filter_map(Source::local);
        let read = local.map(|path| folder("--data-root", path)).collect::<Result<Vec<_>>>()?;
        let local = output.iter().filter_map(Place::local);
        let write = local.map(|path| folder("--output-root", path)).collect::<Result<Vec<_>>>()?;
        roots::available().map_err(|why| {
            Error::Failed(format!(
                "{why}, so that --data-root and --output-root would bind nobody: run the worker in a container that \
                 sees these folders only and add --trust-submitters, or on another kernel"
            ))
        })?;
        let far = data.iter().filter(|data| data.local().is_none());
        let read_far = far.map(ToString::to_string).collect();
        let far = output.iter().filter(|output| output.local().is_none());
        Ok(Self(Roots { read, write, read_far, write_far: far.map(ToString::to_string).collect() }))
    }

    /// What is likely to be a mistake in these, a line each.
    pub fn doubts(&self) -> Vec<String> {
        let home = std::env::var_os("HOME").and_then(|home| Path::new(&home).canonicalize().ok());
        let mut doubts = Vec::new();
        if nix::unistd::geteuid().is_root() {
            doubts.push(
                "this worker runs as root, and so do its jobs within the roots: start it as a user of its own"
                    .to_owned(),
            );
        }
        let read = self.0.read.iter().map(|folder| ("--data-root", folder));
        let write = self.0.write.iter().map(|folder| ("--output-root", folder));
        for (option, folder) in read.chain(write) {
            let root = format!("{option} {}", folder.display());
            if home.as_ref().is_some_and(|home| home.starts_with(folder)) {
                doubts.push(format!(
                    "{root} holds the home of this user, HOME: jobs of all who may submit reach the files in it; name \
                     narrower folders"
                ));
            } else if folder.parent().is_none() {
                doubts.push(format!(
                    "{root} holds all files of this machine: jobs of all who may submit reach them; name narrower \
                     folders"
                ));
            }
        }
        for folder in &self.0.write {
            if access(folder, AccessFlags::W_OK | AccessFlags::X_OK).is_err() {
                doubts.push(format!(
                    "--output-root {} cannot be written by this user: jobs that write there fail",
                    folder.display()
                ));
            }
        }
        doubts
    }

    /// Whether a job may work in this folder.
    pub(super) fn hold(&self, folder: &Path) -> bool {
        self.0.holds(folder)
    }

    /// Binds the program of an attempt, whose folder is this one: of the environment it gets what it needs.
    pub(super) fn bind(&self, command: &mut Command, home: &Home, folder: &Path) -> Result<()> {
        let mut roots = self.0.clone();
        let cache = home.checkpoint_cache();
        for folder in [home.runs(), cache, home.statistics()] {
            home.make(&folder).map_err(Error::io(&folder))?;
            roots.write.push(folder);
        }
        roots.write.push(folder.to_owned());
        let text =
            serde_json::to_string(&roots).map_err(|error| Error::Failed(error.to_string()))?;
        command.env_clear();
        command.envs(std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_needed)));
        command.env(roots::VARIABLE, text).env("TMPDIR", folder);
        Ok(())
    }
}

/// A folder as it is, links followed: later ones cannot lead elsewhere.
fn folder(option: &str, path: &Path) -> Result<PathBuf> {
    let wrong = |why: String| Error::Invalid(format!("{option} {}: {why}", path.display()));
    let real = path.canonicalize().map_err(|error| wrong(error.to_string()))?;
    match real.is_dir() {
        true => Ok(real),
        false => Err(wrong("a root is a folder".into())),
    }
}

/// Variables that our programs and their libraries act on.
fn is_needed(name: &str) -> bool {
    const NAMES: [&str; 14] = [
        "HOME",
        "LANG",
        "LD_LIBRARY_PATH",
        "LIBTORCH",
        "LOGNAME",
        "NO_COLOR",
        "PATH",
        "RUST_BACKTRACE",
        "RUST_LOG",
        "SHELL",
        "TERM",
        "TZ",
        "USER",
        "SSL_CERT_FILE",
    ];
    const FAMILIES: [&str; 17] = [
        "AWS_", "CUBLAS", "CUDA_", "CUDNN_", "GOOGLE_", "GLOO_", "KMP_", "LC_", "MKL_", "NCCL_",
        "NVIDIA_", "OMP_", "PALETTE_", "PG", "PYTORCH_", "SLURM_", "TORCH_",
    ];
    let proxy = name.to_ascii_lowercase();
    NAMES.contains(&name)
        || FAMILIES.iter().any(|family| name.starts_with(family))
        || ["http_proxy", "https_proxy", "no_proxy", "all_proxy"].contains(&proxy.as_str())
}
