//! The signals that ask a process to end in order: SIGTERM, SIGUSR1 (as Slurm's `--signal=USR1` sends it), SIGINT of
//! somebody at the keyboard, SIGHUP of a terminal that is gone.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// How a process was asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndRequest {
    /// By Ctrl-C: who does it twice does not want to wait.
    Interrupt,
    /// By SIGTERM, SIGUSR1 or SIGHUP, which batch systems and terminals may send more than once.
    Terminate,
}

/// Hears these signals, which no longer end the process by themselves.
pub struct Signals {
    terminate: Signal,
    /// What batch systems are often told to send some time before the end.
    user: Signal,
    hangup: Option<Signal>,
    interrupt: Option<Signal>,
}

impl Signals {
    /// All of them; SIGHUP stays ignored where it is (`nohup`). Must be called within a runtime.
    ///
    /// # Errors
    /// When the system does not allow it.
    pub fn hear() -> std::io::Result<Self> {
        let interrupt = Some(signal(SignalKind::interrupt())?);
        Ok(Self { interrupt, ..Self::hear_others()? })
    }

    /// All but SIGINT.
    pub(crate) fn hear_others() -> std::io::Result<Self> {
        let hangup = match ignores_hangup() {
            true => None,
            false => Some(signal(SignalKind::hangup())?),
        };
        let (terminate, user) = (SignalKind::terminate(), SignalKind::user_defined1());
        Ok(Self { terminate: signal(terminate)?, user: signal(user)?, hangup, interrupt: None })
    }

    /// Comes with the next one.
    pub async fn next(&mut self) -> EndRequest {
        tokio::select! {
            _ = self.terminate.recv() => EndRequest::Terminate,
            _ = self.user.recv() => EndRequest::Terminate,
            () = next(&mut self.hangup) => EndRequest::Terminate,
            () = next(&mut self.interrupt) => EndRequest::Interrupt,
        }
    }

    /// Comes with the first one that asks for an end; the second SIGINT after it, or with it, ends the process at once.
    ///
    /// `at_once` is called before that end.
    pub async fn first(mut self, at_once: fn()) {
        let mut interrupts = u32::from(self.next().await == EndRequest::Interrupt);
        tokio::spawn(async move {
            loop {
                interrupts += u32::from(self.next().await == EndRequest::Interrupt);
                if interrupts > 1 {
                    at_once();
                    std::process::exit(130);
                }
            }
        });
    }
}

async fn next(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Whether this process was started so that it survives its terminal.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask & 1 == 1))
}
