//! Loading a TorchScript file on trial, in a child process: libtorch overflows its stack or is killed over some files,
//! where no error can be returned. A file that the child survives is loaded again by this process.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};
use tch::{CModule, Device};
use terminal::Usage;

use super::Config;

/// The hidden command of the child.
pub const COMMAND: &str = "try-extractor";

/// Lets a child load the extractor of a configuration; any error that is no death is left for the caller to meet.
///
/// # Errors
/// Where the child died, naming the file.
pub fn survive(config: &Path) -> Result<()> {
    let file = Config::read(config)?.file(config);
    let child = |program| {
        let mut child = Command::new(program);
        child.arg(COMMAND).arg(config).stdin(Stdio::null()).stdout(Stdio::null());
        child.stderr(Stdio::null()).status()
    };
    let status = match std::env::current_exe().and_then(child) {
        Ok(status) => status,
        // Such as a program that a bounded worker may read and not start.
        Err(error) => {
            tracing::warn!(
                "{} is loaded without a trial in a child process: {error}",
                file.display()
            );
            return Ok(());
        }
    };
    match status.signal() {
        None => Ok(()),
        Some(signal) => bail!(Usage::new(format!(
            "{}: {} is no TorchScript that libtorch can load: the process that tried died by signal {signal}; \
             it is damaged or hostile, or there is too little memory",
            config.display(),
            file.display()
        ))),
    }
}

/// What the child does: its errors are nobody's to read.
///
/// # Errors
/// Where the extractor cannot be loaded.
pub fn load(config: &Path) -> Result<()> {
    let read = Config::read(config)?;
    let bytes = read.read_file(config, &read.file(config))?;
    CModule::load_data_on_device(&mut bytes.as_slice(), Device::Cpu)?;
    Ok(())
}
