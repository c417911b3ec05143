//! Whether this worker's host lets it work: its home can be written, descriptors and threads are free, the programs are
//! there. What fails for want of these is no job's fault: it uses up no try, and the worker claims nothing until it is
//! well again.

use std::fs::File;
use std::io::{Read, Write, pipe};
use std::path::{Path, PathBuf};
use std::time::Duration;

use home::Home;
use nix::unistd::{AccessFlags, access};
use registry::JobKind;
use tokio::time::Instant;

use super::programs::Suspects;

/// What a probe looks at.
#[derive(Clone, Debug)]
pub(super) struct Host {
    home: Home,
    programs: Vec<PathBuf>,
    suspects: Suspects,
}

impl Host {
    pub fn new(home: &Home, programs: &Path, kinds: &[JobKind]) -> Self {
        let programs = kinds.iter().map(|kind| programs.join(kind.program())).collect();
        Self { home: home.clone(), programs, suspects: Suspects::default() }
    }

    /// This program may not start here: probes try it from now on, until it does.
    pub fn suspect(&self, program: &Path) {
        self.suspects.add(program);
    }

    /// What ails this host, in one line; none where a job can be started here.
    pub async fn ails(&self, patience: Duration) -> Option<String> {
        let (answer, probed) = tokio::sync::oneshot::channel();
        let host = self.clone();
        // No task of the runtime: a disk that does not answer would hold up its end.
        let thread = std::thread::Builder::new()
            .name("probe".into())
            .spawn(move || drop(answer.send(host.probe(patience))));
        if let Err(error) = thread {
            return Some(format!("no thread can be started: {error}"));
        }
        match tokio::time::timeout(patience, probed).await {
            Ok(Ok(ails)) => ails,
            Ok(Err(_)) => Some("it could not be looked at".to_owned()),
            Err(_) => Some(format!(
                "{} did not answer within {}",
                self.home.path().display(),
                terminal::duration(patience)
            )),
        }
    }

    fn probe(&self, patience: Duration) -> Option<String> {
        let missing = self.programs.iter().find_map(|program| {
            access(program, AccessFlags::X_OK)
                .err()
                .map(|error| format!("{} cannot be executed: {}", program.display(), error.desc()))
        });
        missing
            .or_else(descriptors)
            .or_else(|| self.folders())
            .or_else(|| self.suspects.failing(patience * 3 / 4))
    }

    /// The home, and what of it may be a file system of its own.
    fn folders(&self) -> Option<String> {
        let (home, jobs, runs) = (self.home.path().to_owned(), self.home.jobs(), self.home.runs());
        let runs = runs.exists().then_some(runs);
        [home, jobs].into_iter().chain(runs).find_map(|folder| {
            let error = self.home.make(&folder).and_then(|()| writable(&folder)).err()?;
            // Without the path of the probe, which is another each time.
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            let cause = cause.unwrap_or_else(|| error.to_string());
            Some(format!("{} cannot be written: {cause}", folder.display()))
        })
    }
}

/// Makes in it a folder with a file of some size, as an attempt does, and removes both.
fn writable(folder: &Path) -> std::io::Result<()> {
    const SIZE: usize = 64 << 10;
    let own = tempfile::Builder::new().prefix(".probe-").tempdir_in(folder)?;
    let mut file = File::create(own.path().join("log"))?;
    file.write_all(&[b'.'; SIZE])?;
    file.sync_all()
}

/// Whether there are descriptors for what a start needs, and some more.
fn descriptors() -> Option<String> {
    let opened: std::io::Result<Vec<_>> = (0..8).map(|_| pipe()).collect();
    let error = match opened {
        Ok(mut pipes) => {
            // One is used, so that they are there in truth.
            let used = pipes.first_mut().map(|(reader, writer)| {
                writer.write_all(b".")?;
                reader.read_exact(&mut [0])
            });
            used?.err()?
        }
        Err(error) => error,
    };
    Some(format!("no more files can be opened: {error}"))
}

/// How this worker is: well, or ailing until a probe finds it well.
#[derive(Debug, Default)]
pub(super) struct Health {
    ails: Option<(String, Instant)>,
    /// How often in a row it fell ill or was found so, since it last started a job.
    times: u32,
    /// Whether the database does not know yet.
    pub untold: bool,
}

impl Health {
    /// What ails it.
    pub fn ails(&self) -> Option<&str> {
        self.ails.as_ref().map(|(reason, _)| reason.as_str())
    }

    /// When to look again.
    pub fn look_at(&self) -> Option<Instant> {
        self.ails.as_ref().map(|(_, at)| *at)
    }

    pub fn is_due(&self) -> bool {
        self.look_at().is_some_and(|at| at <= Instant::now())
    }

    /// It ails of this, found now; true where that is news. The next look is a second away, each further one twice
    /// as long, a minute at most, and never at the moment of others that fell ill with it.
    pub fn ail(&mut self, reason: String) -> bool {
        const LONGEST: f64 = 60.0;
        // Of several attempts that ended of it, the first is enough.
        if self.ails.is_some() && !self.is_due() {
            return false;
        }
        let wait = f64::from(1_u32 << self.times.min(6)).min(LONGEST) * (0.75 + 0.5 * fraction());
        self.times += 1;
        let news = self.ails() != Some(reason.as_str());
        self.ails = Some((reason, Instant::now() + Duration::from_secs_f64(wait)));
        self.untold |= news;
        news
    }

    /// A probe found nothing; true where that is news.
    pub fn recover(&mut self) -> bool {
        let news = self.ails.take().is_some();
        self.untold |= news;
        news
    }

    /// A job was started: what comes next begins anew.
    pub fn works(&mut self) {
        self.times = 0;
    }
}

/// A number from 0 to 1, another one for each worker and moment.
pub(super) fn fraction() -> f64 {
    f64::from(uuid::Uuid::new_v4().as_fields().0) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_come_at_growing_waits_until_a_job_was_started() {
        let mut health = Health::default();
        assert!(!health.is_due() && health.ails().is_none());
        let mut last = 0.0;
        for wait in [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0] {
            let news = health.ail("the disk is full".into());
            assert_eq!(news, last == 0.0);
            assert!(!health.ail("the disk is full".into()), "one occasion");
            let next = (health.look_at().unwrap() - Instant::now()).as_secs_f64();
            assert!((0.7 * wait..=1.26 * wait).contains(&next), "{next} is not about {wait}");
            health.ails.as_mut().unwrap().1 = Instant::now();
            assert!(health.is_due());
            last = next;
        }
        assert!(health.untold);
        health.untold = false;
        assert!(health.recover() && !health.recover() && health.untold);
        health.works();
        health.ail("again".into());
        assert!(health.look_at().unwrap() - Instant::now() < Duration::from_secs(2));
    }

    #[test]
    fn a_host_says_what_it_lacks() {
        let folder = tempfile::tempdir().unwrap();
        let (home, bin) = (Home::at(&folder.path().join("home")), folder.path().join("bin"));
        std::fs::create_dir(&bin).unwrap();
        let host = Host::new(&home.unwrap(), &bin, &[JobKind::Train]);
        let program = bin.join(JobKind::Train.program());
        let said = |words: &str| {
            let ails = host.probe(Duration::from_secs(60)).unwrap();
            assert!(ails.contains(words), "{ails}");
        };
        said("cannot be executed: No such file");
        std::fs::write(&program, "").unwrap();
        said("cannot be executed: Permission denied");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, mode).unwrap();
        assert_eq!(host.probe(Duration::from_secs(60)), None);
        let jobs = host.home.jobs();
        assert_eq!(std::fs::read_dir(&jobs).unwrap().count(), 0, "nothing is left");
        std::fs::remove_dir(&jobs).unwrap();
        std::fs::write(&jobs, "").unwrap();
        said("jobs cannot be written");
    }
}
