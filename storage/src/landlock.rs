//! The kernel's own bounds of what a process may reach, from Linux 5.13 on.

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use landlock::{
        ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr,
        path_beneath_rules,
    };

    /// What is bounded: all that 6.2 knows of files, as much of it as the kernel has.
    const KNOWN: ABI = ABI::V3;

    /// What programs and libraries of a system need to read.
    const SYSTEM: [&str; 9] =
        ["/bin", "/etc", "/lib", "/lib32", "/lib64", "/proc", "/sbin", "/sys", "/usr"];
    /// Devices: computing, and what costs nobody anything. No disks, and no memory that processes share: GPUs of one
    /// job exchange nothing through it.
    const DEVICES: [&str; 8] = [
        "/dev/null",
        "/dev/zero",
        "/dev/full",
        "/dev/random",
        "/dev/urandom",
        "/dev/tty",
        "/dev/dri",
        "/dev/kfd",
    ];
    /// Files with what a process logs in by, where these variables name some.
    const NAMED: [&str; 6] = [
        "PGPASSFILE",
        "PGSSLROOTCERT",
        "SSL_CERT_FILE",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    ];

    pub fn available() -> Result<(), String> {
        Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessFs::from_all(ABI::V1))
            .and_then(Ruleset::create)
            .map(drop)
            .map_err(|_| {
                "this kernel cannot confine a process (Landlock, Linux 5.13 or newer)".to_owned()
            })
    }

    pub fn confine(read: &[PathBuf], write: &[PathBuf]) -> Result<(), String> {
        available()?;
        let variables = NAMED.iter().filter_map(std::env::var_os).map(PathBuf::from);
        let passwords = std::env::var_os("HOME").map(|home| Path::new(&home).join(".pgpass"));
        let devices =
            std::fs::read_dir("/dev").into_iter().flatten().flatten().map(|entry| entry.path());
        let gpus = devices.filter(|path| path.to_string_lossy().starts_with("/dev/nvidia"));
        let read: BTreeSet<PathBuf> = SYSTEM
            .iter()
            .map(PathBuf::from)
            .chain(libraries())
            .chain(variables)
            .chain(passwords)
            .chain(read.iter().cloned())
            .collect();
        let write: BTreeSet<PathBuf> =
            DEVICES.iter().map(PathBuf::from).chain(gpus).chain(write.iter().cloned()).collect();
        let bounded = || {
            Ruleset::default()
                .handle_access(AccessFs::from_all(KNOWN))?
                .create()?
                .add_rules(path_beneath_rules(read, AccessFs::from_read(KNOWN)))?
                .add_rules(path_beneath_rules(write, AccessFs::from_all(KNOWN)))?
                .restrict_self()
        };
        bounded().map(drop).map_err(|error| format!("cannot be confined: {error}"))
    }

    /// The folders of what is loaded, in which libraries look for others.
    fn libraries() -> impl Iterator<Item = PathBuf> {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let mut folders = BTreeSet::new();
        for line in maps.lines() {
            let path = line.find('/').map(|at| Path::new(&line[at..]));
            folders.extend(path.and_then(Path::parent).map(Path::to_owned));
        }
        // Not all that somebody has, where a program lies there.
        folders.remove(Path::new("/"));
        folders.remove(Path::new(&std::env::var_os("HOME").unwrap_or_default()));
        folders.into_iter()
    }
}

#[cfg(target_os = "linux")]
pub(crate) use linux::{available, confine};

#[cfg(not(target_os = "linux"))]
pub(crate) fn available() -> Result<(), String> {
    Err("only Linux can confine a process (Landlock)".to_owned())
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn confine(_: &[std::path::PathBuf], _: &[std::path::PathBuf]) -> Result<(), String> {
    available()
}
