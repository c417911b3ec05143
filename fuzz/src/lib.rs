//! Every reader of files from outside, fed with damaged ones. A [`Target`] takes any bytes, writes them where
//! its reader finds them, and reads: whatever the bytes, the outcome is a value or an error. A panic, a hang or
//! memory beyond the limits is a finding.
//!
//! | who | does |
//! |---|---|
//! | `tests/seeded.rs` | the same few hundred damaged copies of each seed, in `make test` |
//! | `src/main.rs` | libFuzzer, which looks for bytes that reach code not reached before (`make fuzz`) |
//! | `findings/` | what was found once; the test reads each again |
//!
//! A checksum would end nearly every damaged file at once. Those of PNG, tar and zip are made right before
//! reading ([`mend`]); a digest that a manifest has of a file is that of the damaged one.

mod guard;
pub mod mend;
mod targets;

use std::path::Path;
use std::sync::Once;

pub use guard::Guard;

/// A reader of one kind of files.
pub struct Target {
    /// Its name: of dictionary, corpus and findings too.
    pub name: &'static str,
    /// What is read, for people.
    pub about: &'static str,
    /// Most bytes that it may ask for at once.
    pub memory: usize,
    /// Reads bytes by way of files in an empty folder, and leaves what it wrote there.
    pub run: fn(&[u8], &Path),
    /// Sound inputs of every kind that the reader tells apart.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// More than any reader has a reason to ask for, of what is no picture.
const SOME: usize = 256 << 20;
/// What a picture within the limits of ingest may take: 100 megapixels of 16 bytes.
const PICTURES: usize = 1_600_000_000;

impl Target {
    /// All of them.
    pub fn all() -> &'static [Self] {
        targets::ALL
    }

    /// The one of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        Self::all().iter().find(|target| target.name == name)
    }

    /// Reads these bytes, in a folder of their own within `scratch`.
    ///
    /// # Errors
    /// Where the folder cannot be made.
    pub fn feed(&self, bytes: &[u8], scratch: &Path) -> std::io::Result<()> {
        let folder = tempfile::tempdir_in(scratch)?;
        (self.run)(bytes, folder.path());
        Ok(())
    }
}

/// Where files cost least: in memory, where the system has a place for that.
pub fn scratch() -> std::io::Result<tempfile::TempDir> {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }
}

/// As the programs do, says nothing of a panic that is caught and becomes an error; of another one `then` is
/// told after its message.
pub fn quiet(then: fn()) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !caught::is_under() {
                before(panic);
                then();
            }
        }));
    });
}
