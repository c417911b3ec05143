//! A real Slurm of a test's own: a `slurmctld`, and a `slurmd` for each of its hosts, of the packages that
//! `scripts/slurm.sh` unpacks. They run as this user and listen on this machine only.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{House, Process, run_ok, separate, text, until};

/// The commands that users call.
const COMMANDS: [&str; 6] = ["sbatch", "srun", "squeue", "scontrol", "sinfo", "scancel"];

/// A Slurm with hosts of two cores each, `n1`, `n2`, …, all of them this machine, where this user may do so with names
/// of their own. Jobs of the partition `high` take the place of those of the others:
///
/// | partition | a preempted job |
/// |---|---|
/// | `low` | is asked to end, and requeued 30 seconds later |
/// | `abrupt` | is requeued at once |
/// | `cut` | is cancelled at once |
///
/// Its daemons, and whatever its jobs have started, end with the value.
pub struct Slurm {
    folder: PathBuf,
    daemons: Vec<Process>,
}

impl Slurm {
    /// Starts a Slurm of one host. From here on the commands of the house reach it, and its pilots find the database of
    /// the house. None where Slurm is not unpacked, which is said.
    pub fn start(house: &mut House) -> Option<Self> {
        Self::with_hosts(house, 1)
    }

    /// Starts one with this many hosts.
    pub fn with_hosts(house: &mut House, hosts: usize) -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let script = root.join("scripts/slurm.sh");
        let unpacked = run_ok(Command::new("sh").arg(script).arg("--where"));
        let unpacked = unpacked.trim();
        if unpacked.is_empty() {
            println!("skipped: no Slurm; see scripts/slurm.sh");
            return None;
        }
        house.ok("scheduler", &["up"]);
        let database = house.url();
        let folder = house.path("slurm");
        for name in ["bin", "state"] {
            fs::create_dir_all(folder.join(name)).unwrap();
        }
        let libraries = folders_of_libraries(Path::new(unpacked));
        for name in COMMANDS {
            let program = format!("{unpacked}/usr/bin/{name}");
            let line =
                format!("#!/bin/sh\nLD_LIBRARY_PATH='{libraries}' exec '{program}' \"$@\"\n");
            let file = folder.join("bin").join(name);
            let mut options = fs::OpenOptions::new();
            let mut file = options.write(true).create_new(true).mode(0o755).open(file).unwrap();
            file.write_all(line.as_bytes()).unwrap();
        }
        let configuration = folder.join("slurm.conf");
        fs::write(&configuration, configured(&folder, unpacked, hosts)).unwrap();
        let path = format!(
            "{}:{}",
            folder.join("bin").display(),
            std::env::var("PATH").unwrap_or_default()
        );
        house.set([
            ("PATH", path.as_str()),
            ("SLURM_CONF", configuration.to_str().unwrap()),
            ("DATABASE_URL", database.as_str()),
        ]);
        let daemon = |log: &str, name: &str, arguments: &[&str]| {
            let mut command = house.inside(Command::new(server(unpacked, name)));
            command.args(arguments).env("LD_LIBRARY_PATH", &libraries);
            Process::start(&mut command, folder.join(log))
        };
        let mut daemons = vec![daemon("slurmctld", "slurmctld", &["-D", "-i"])];
        let steps = server(unpacked, "slurmstepd");
        let slurmd = server(unpacked, "slurmd");
        let named = hosts > 1 && separate(&["--uts"]).is_some();
        for number in 1..=hosts {
            let host = format!("n{number}");
            let arguments = ["-D", "-N", &host, "-d", &steps];
            if !named {
                daemons.push(daemon(&host, "slurmd", &arguments));
                continue;
            }
            let line = format!("hostname {host} && exec \"$0\" \"$@\"");
            let mut command = house.inside(Command::new("unshare"));
            command.args(["--uts", "sh", "-c", &line, &slurmd]).args(arguments);
            command.env("LD_LIBRARY_PATH", &libraries);
            daemons.push(Process::start(&mut command, folder.join(&host)));
        }
        let mut slurm = Self { folder, daemons };
        until("the hosts of Slurm are idle", || {
            for daemon in &mut slurm.daemons {
                assert!(!daemon.ended(), "a daemon of Slurm ended: {}", daemon.said());
            }
            let sinfo = house
                .inside(Command::new("sinfo"))
                .args(["-h", "-p", "low", "-o", "%T %D"])
                .output();
            sinfo.is_ok_and(|output| text(&output.stdout).trim() == format!("idle {hosts}"))
        });
        Some(slurm)
    }

    /// Runs a command of Slurm that must succeed; gives what it printed.
    pub fn ok(&self, house: &House, name: &str, arguments: &[&str]) -> String {
        run_ok(house.inside(Command::new(name)).args(arguments)).trim().to_owned()
    }

    /// A field of a job, as `scontrol show job` names it: `JobState`, `Restarts`, `ExitCode`.
    pub fn field(&self, house: &House, job: &str, name: &str) -> String {
        let shown = self.ok(house, "scontrol", &["show", "job", "-o", job]);
        assert_eq!(shown.lines().count(), 1, "job {job} is several: {shown}");
        let mut words = shown.split_whitespace();
        let value = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_else(|| panic!("no {name} in {shown}")).to_owned()
    }

    /// Waits until a job is in this state.
    pub fn wait(&self, house: &House, job: &str, state: &str) {
        let mut last = String::new();
        let over = |state: &str| ["COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"].contains(&state);
        until(&format!("job {job} of Slurm is {state}"), || {
            last = self.field(house, job, "JobState");
            assert!(last == state || !over(&last), "job {job} of Slurm is {last}, not {state}");
            last == state
        });
    }

    /// Submits a job to the partition `high` that takes a whole host for a moment.
    pub fn preempt(&self, house: &House) -> String {
        let out = self.folder.join("high.out");
        let options = ["--parsable", "-p", "high", "-c", "2", "--wrap", "true", "-o"];
        let mut options = options.to_vec();
        options.push(out.to_str().unwrap());
        self.ok(house, "sbatch", &options)
    }
}

impl Drop for Slurm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for daemon in &self.daemons {
                println!("{}", daemon.said());
            }
        }
        self.daemons.clear();
        // Its daemons and jobs have the file of its configuration in their environment; what is killed may have
        // started another meanwhile.
        let mark = format!("SLURM_CONF={}/slurm.conf", self.folder.display());
        for _ in 0..100 {
            let marked = marked(&mark);
            if marked.is_empty() {
                return;
            }
            for pid in marked {
                let _ = kill(pid, Signal::SIGKILL);
            }
        }
    }
}

/// A program of the daemons; Debian has called them after their package.
fn server(unpacked: &str, name: &str) -> String {
    let named = format!("{unpacked}/usr/sbin/{name}");
    let debian = format!("{named}-wlm");
    if Path::new(&debian).is_file() { debian } else { named }
}

/// Processes that live and have this in their environment.
fn marked(mark: &str) -> Vec<Pid> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let has_mark = |number: &i32| {
        let environment = fs::read(format!("/proc/{number}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
            && crate::alive(&number.to_string())
    };
    numbers.filter(has_mark).map(Pid::from_raw).collect()
}

/// The folders below this one that hold libraries, with colons.
fn folders_of_libraries(unpacked: &Path) -> String {
    let mut found = Vec::new();
    let mut folders = vec![unpacked.join("usr/lib"), unpacked.join("lib")];
    while let Some(at) = folders.pop() {
        for entry in fs::read_dir(&at).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if entry.file_name().as_bytes().windows(3).any(|part| part == b".so")
                && !found.contains(&at)
            {
                found.push(at.clone());
            }
        }
    }
    found.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(":")
}

fn configured(folder: &Path, unpacked: &str, hosts: usize) -> String {
    let command =
        |name: &str, argument: &str| run_ok(Command::new(name).arg(argument)).trim().to_owned();
    let host = command("uname", "-n");
    let host = host.split('.').next().unwrap_or_default();
    let user = command("id", "-un");
    let plugins = folders_of_libraries(Path::new(unpacked));
    let plugins =
        plugins.split(':').find(|folder| Path::new(folder).join("auth_none.so").is_file());
    let plugins = plugins.unwrap();
    // All are taken at once, so that they differ.
    let taken: Vec<_> =
        (0..=hosts).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
    let ports: Vec<u16> = taken.iter().map(|port| port.local_addr().unwrap().port()).collect();
    let ctld = ports[0];
    let nodes = (1..=hosts).map(|number| {
        format!(
            "NodeName=n{number} NodeHostname={host} NodeAddr=127.0.0.1 Port={} CPUs=2 RealMemory=1000\n",
            ports[number]
        )
    });
    let nodes: String = nodes.collect();
    let at = folder.display();
    format!(
        "ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
# Seconds that a requeued job waits at least.
AuthInfo=cred_expire=5
CredType=cred/none
PluginDir={plugins}
SlurmctldPort={ctld}
StateSaveLocation={at}/state
SlurmdSpoolDir={at}/spool-%n
SlurmctldPidFile={at}/slurmctld.pid
SlurmdPidFile={at}/%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=10
ReturnToService=2
{nodes}PartitionName=low Nodes=ALL Default=YES MaxTime=1-00:00:00 State=UP PriorityTier=1 GraceTime=30
PartitionName=abrupt Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=0
PartitionName=cut Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=0 PreemptMode=CANCEL
PartitionName=high Nodes=ALL MaxTime=1:00:00 State=UP PriorityTier=10 PreemptMode=OFF
"
    )
}
