//! Makes, starts and stops the private cluster.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};

use super::environment::without_settings;
use super::programs::Programs;
use super::{Folders, NAME, ServerUser, not_writable, plain};
use crate::{Error, Home, Result};

/// The name of the socket in its folder.
const SOCKET: &str = ".s.PGSQL.5432";

/// Who may connect how: written at each start, so that clusters of former versions, which trusted everybody on this
/// host over TCP too, are as new ones.
const ACCESS: &str = "palette_hba.conf";
const ACCESS_RULES: &str = "\
# Written at each start. The socket lies in a folder that only one user enters. TCP is off (listen_addresses); where
# it is turned on, a role needs a password. For other rules: alter system set hba_file.
local all         all     trust
local replication all     trust
host  all         all all scram-sha-256
host  replication all all scram-sha-256
";

/// The private cluster of a home.
#[derive(Clone, Debug)]
pub struct Server {
    folders: Folders,
}

impl Server {
    /// The cluster of this home, whether it was made already or not.
    pub fn new(home: &Home) -> Self {
        Self { folders: Folders::new(home) }
    }

    /// The URL that it is or would be reached by.
    pub fn url(&self) -> String {
        let host: String = self
            .folders
            .socket()
            .as_os_str()
            .as_encoded_bytes()
            .iter()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                    char::from(*byte).to_string()
                }
                _ => format!("%{byte:02X}"),
            })
            .collect();
        format!("postgresql:///{NAME}?host={host}&user={NAME}")
    }

    /// The folder of its socket.
    pub fn socket(&self) -> PathBuf {
        self.folders.socket()
    }

    /// True when somebody listens on its socket.
    pub fn is_running(&self) -> bool {
        UnixStream::connect(self.folders.socket().join(SOCKET)).is_ok()
    }

    /// Makes the cluster if it is not there, starts it if it does not run, and gives its URL.
    /// Commands that come at once wait for each other.
    ///
    /// # Errors
    /// When the programs are missing or of another version, the folder cannot be written or
    /// reached, or the server does not start; each in one line with what to do.
    pub fn ensure_running(&self) -> Result<String> {
        if self.is_running() {
            return Ok(self.url());
        }
        self.folders.demand_plain()?;
        let user = ServerUser::current()?;
        self.make_root(&user)?;
        let _lock = self.lock()?;
        if self.is_running() {
            return Ok(self.url());
        }
        self.start_locked(&user)?;
        Ok(self.url())
    }

    /// Starts the server again where it was killed, as its pid file tells, which one that was stopped takes away;
    /// true when it did.
    ///
    /// # Errors
    /// As [`Server::ensure_running`].
    pub fn restart_killed(&self) -> Result<bool> {
        let killed = || !self.is_running() && self.lock_files()[0].exists();
        if !killed() {
            return Ok(false);
        }
        self.folders.demand_plain()?;
        let user = ServerUser::current()?;
        let _lock = self.lock()?;
        if !killed() {
            return Ok(false);
        }
        self.start_locked(&user)?;
        Ok(true)
    }

    /// Makes the cluster if it is not there and starts it, under the lock.
    fn start_locked(&self, user: &ServerUser) -> Result<()> {
        let data = self.folders.data();
        let file = data.join("PG_VERSION");
        let version = match plain::end(&file, 0).trim().parse::<u32>() {
            Ok(version) => Some(version),
            Err(_) if file.symlink_metadata().is_ok() => {
                return Err(Error::Postgres(format!(
                    "{} holds no version, so the cluster is damaged: restore the folder from a \
                     back-up, or move it away to begin anew",
                    file.display()
                )));
            }
            Err(_) if data.symlink_metadata().is_ok() => {
                return Err(Error::Postgres(format!(
                    "{} is no cluster (it has no PG_VERSION): restore it from a back-up, or move it \
                     away to begin anew",
                    data.display()
                )));
            }
            Err(_) => None,
        };
        let programs = Programs::find(version)?;
        match version {
            None => self.initialise(&programs, user)?,
            Some(_) => self.demand_socket()?,
        }
        self.start(&programs, user)
    }

    /// Refuses a server that runs and whose socket is gone, for nobody can connect to it, and it makes no new one.
    /// One that begins or ends has a moment to do so.
    fn demand_socket(&self) -> Result<()> {
        const PATIENCE: Duration = Duration::from_secs(5);
        let socket = self.folders.socket().join(SOCKET);
        let deadline = Instant::now() + PATIENCE;
        while self.lives() && !socket.exists() {
            if Instant::now() > deadline {
                return Err(Error::Postgres(format!(
                    "it runs (process {}), but its socket {} was removed: `scheduler down` ends it, and the next \
                     command starts it anew; what is running waits for it",
                    self.process().unwrap_or_default(),
                    socket.display()
                )));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Stops the server; false when it did not run.
    ///
    /// # Errors
    /// When it does not stop within a minute.
    pub fn stop(&self) -> Result<bool> {
        let data = self.folders.data();
        if !data.join("postmaster.pid").exists() {
            return Ok(false);
        }
        let user = ServerUser::current()?;
        let _lock = self.lock()?;
        if !self.lives() {
            return Ok(false);
        }
        let version = plain::end(&data.join("PG_VERSION"), 0).trim().parse().ok();
        let programs = Programs::find(version)?;
        let mut command = as_user(&programs, "pg_ctl", &user);
        command.args(["stop", "--silent", "--mode=fast", "--timeout=60", "-D"]).arg(&data);
        let output = run(&mut command)?;
        if !output.status.success() {
            return Err(Error::Postgres(format!("does not stop: {}", cause(&output.stderr))));
        }
        Ok(true)
    }

    /// The folder that everything lies in.
    fn make_root(&self, user: &ServerUser) -> Result<()> {
        let home = self.folders.home.path();
        self.folders.home.make(home).map_err(|error| not_writable(home, &error))?;
        user.can_reach(&self.folders.root)?;
        user.own_folder(&self.folders.root)
    }

    fn lock(&self) -> Result<Flock<File>> {
        let path = self.folders.lock();
        let file = plain::made(&path).map_err(|error| not_writable(&path, &error))?;
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| {
            Error::Postgres(format!("cannot lock {}: {error}", path.display()))
        })
    }

    /// Makes the cluster and its database beside and renames them into place.
    fn initialise(&self, programs: &Programs, user: &ServerUser) -> Result<()> {
        let made = self.folders.root.join("data.part");
        if made.exists() {
            std::fs::remove_dir_all(&made).map_err(Error::io(&made))?;
        }
        let step = |program: &str, arguments: &[&str], input: &str| {
            let mut command = as_user(programs, program, user);
            command.args(arguments).env("PGDATA", &made);
            let output = run_with(&mut command, input)?;
            if output.status.success() {
                return Ok(());
            }
            Err(Error::Postgres(format!(
                "cannot make the cluster in {}: {}{}",
                made.display(),
                cause(&output.stderr),
                room(&output.stderr)
            )))
        };
        let name = format!("--username={NAME}");
        step("initdb", &[&programs.settings_of_initdb()[..], &[&name]].concat(), "")?;
        let alone = ["--single", "-F", "-c", "exit_on_error=on", "postgres"];
        step("postgres", &alone, &format!("create database {NAME}\n"))?;
        step("initdb", &["--sync-only"], "")?;
        let include = "\n# What the private server always runs with; written at each start.\ninclude 'palette.conf'\n";
        const APPEND: &str = "cat >> \"$1\" && { sync \"$1\" 2> /dev/null || sync; }";
        write(user, APPEND, &made.join("postgresql.conf"), include)?;
        let data = self.folders.data();
        std::fs::rename(&made, &data).map_err(Error::io(&data))
    }

    fn start(&self, programs: &Programs, user: &ServerUser) -> Result<()> {
        let (data, socket) = (self.folders.data(), self.folders.socket());
        user.own_folder(&socket)?;
        let quoted = |path: &Path| path.display().to_string().replace('\'', "''");
        let (socket, access) = (quoted(&socket), quoted(&data.join(ACCESS)));
        let settings = format!(
            "listen_addresses = ''\nport = 5432\nunix_socket_directories = '{socket}'\n\
             unix_socket_permissions = 0700\nmax_connections = 300\nfsync = on\n\
             full_page_writes = on\nsynchronous_commit = on\nlog_line_prefix = '%m [%p] '\nhba_file = '{access}'\n"
        );
        const REPLACE: &str = "umask 077; cat > \"$1.part\" && mv -f \"$1.part\" \"$1\"";
        write(user, REPLACE, &data.join("palette.conf"), &settings)?;
        write(user, REPLACE, &data.join(ACCESS), ACCESS_RULES)?;

        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            self.forget_stale_locks();
            let log = self.folders.log();
            let before = std::fs::symlink_metadata(&log).map_or(0, |log| log.len());
            let mut command = as_user(programs, "pg_ctl", user);
            command
                .args(["start", "--silent", "--wait", "--timeout=120", "-D"])
                .arg(&data)
                .arg("-l")
                .arg(&log);
            let output = run(&mut command)?;
            if output.status.success() {
                return Ok(());
            }
            let new = plain::end(&log, before);
            // The children of a server that was killed need a moment to notice.
            let leftover = new.contains("shared memory block")
                || (new.contains("lock file") && new.contains("already exists"));
            if !leftover || Instant::now() > deadline {
                let said = if new.is_empty() { &output.stderr } else { new.as_bytes() };
                return Err(Error::Postgres(format!(
                    "does not start: {}{} (its log is {})",
                    cause(said),
                    room(said),
                    log.display()
                )));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The server's lock files: each names its process.
    fn lock_files(&self) -> [PathBuf; 2] {
        let socket = self.folders.socket().join(".s.PGSQL.5432.lock");
        [self.folders.data().join("postmaster.pid"), socket]
    }

    /// The process that the pid file names, whatever runs under that number now.
    fn process(&self) -> Option<u32> {
        process_of(&self.lock_files()[0])
    }

    /// True when a process works in the data folder, as the server and all its children do.
    fn works_here(&self, process: &Path) -> bool {
        match (std::fs::metadata(process.join("cwd")), std::fs::metadata(self.folders.data())) {
            (Ok(cwd), Ok(data)) => (cwd.dev(), cwd.ino()) == (data.dev(), data.ino()),
            _ => false,
        }
    }

    /// True when the server that the pid file names runs.
    fn lives(&self) -> bool {
        let Some(pid) = self.process() else { return false };
        // Elsewhere than on Linux the server itself must judge.
        !Path::new("/proc/self").exists()
            || self.works_here(&Path::new("/proc").join(pid.to_string()))
    }

    /// After a kill the server's number may be another process's, which makes the server believe
    /// that it still runs; so does a pid file that was copied with the home of a running server. The
    /// lock files go then, but only when no process of this server is left at all.
    fn forget_stale_locks(&self) {
        let proc = Path::new("/proc");
        let misleads = |file: &PathBuf| {
            process_of(file).is_some_and(|pid| {
                let process = proc.join(pid.to_string());
                process.exists() && !self.works_here(&process)
            })
        };
        let files = self.lock_files();
        if !files.iter().any(misleads) {
            return;
        }
        let Ok(mut processes) = std::fs::read_dir(proc) else { return };
        if processes.any(|entry| entry.is_ok_and(|entry| self.works_here(&entry.path()))) {
            return;
        }
        for file in files {
            let _ = std::fs::remove_file(file);
        }
    }
}

/// Writes into a file of the server, as the server's user: whatever lies there, it is no more than they could do.
fn write(user: &ServerUser, how: &str, path: &Path, text: &str) -> Result<()> {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", how, "sh"]).arg(path);
    let output = run_with(run_as(&mut command, user), text)?;
    match output.status.success() {
        true => Ok(()),
        false => Err(Error::Postgres(format!(
            "cannot write {}: {}{}",
            path.display(),
            cause(&output.stderr),
            room(&output.stderr)
        ))),
    }
}

/// One of the programs, run as the server's user from a folder that everybody can enter.
fn as_user(programs: &Programs, program: &str, user: &ServerUser) -> Command {
    let mut command = Command::new(programs.path(program));
    run_as(&mut command, user);
    command
}

fn run_as<'a>(command: &'a mut Command, user: &ServerUser) -> &'a mut Command {
    without_settings(command).current_dir("/").env("LC_ALL", "C");
    if user.other {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command
}

fn run(command: &mut Command) -> Result<Output> {
    run_with(command, "")
}

/// Runs a program to its end on this input, which is short enough for a pipe.
fn run_with(command: &mut Command, input: &str) -> Result<Output> {
    let program = command.get_program().display().to_string();
    let mut output = || {
        let (read, mut write) = std::io::pipe()?;
        write.write_all(input.as_bytes())?;
        drop(write);
        command.stdin(read).output()
    };
    output().map_err(|error| Error::Postgres(format!("cannot run {program}: {error}")))
}

/// The process that a lock file of the server names.
fn process_of(lock_file: &Path) -> Option<u32> {
    plain::end(lock_file, 0).lines().next()?.trim().parse().ok()
}

/// The line that says why, out of all that a program of the server printed: the last one about a
/// failure, or else the last one.
fn cause(said: &[u8]) -> String {
    const SIGNS: [&str; 4] = ["FATAL", "PANIC", "ERROR", "error:"];
    let text = String::from_utf8_lossy(said);
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let failure = |line: &&str| SIGNS.iter().any(|sign| line.contains(sign));
    let line = lines.clone().rfind(failure).or_else(|| lines.next_back());
    line.unwrap_or("it gave no reason").to_owned()
}

/// What to do where the disk is full.
fn room(said: &[u8]) -> &'static str {
    if String::from_utf8_lossy(said).contains("No space left on device") {
        "; make room there, or set PALETTE_HOME to another folder"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_cause_is_the_line_about_the_failure_and_not_what_follows() {
        let said = b"creating\nFATAL:  could not write: No space left on device\nremoving it\n\n";
        assert_eq!(super::cause(said), "FATAL:  could not write: No space left on device");
        assert!(super::room(said).contains("make room"));
        assert_eq!(super::cause(b"one\ntwo\n"), "two");
        assert_eq!(super::cause(b""), "it gave no reason");
    }
}
