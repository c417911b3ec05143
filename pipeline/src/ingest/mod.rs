//! Ingest: sources in, a dataset out. A reading thread streams items through a bounded channel to
//! workers, which decode each image once and digest it; the caller's thread writes in order.
//!
//! Always holds: the shards are the same bytes for any number of workers, and whether or not the
//! ingest was killed and started again; memory is bounded by `IN_FLIGHT` and does not grow with the
//! sources but by two digests an image; keys are unique; nothing has its final name before it is whole, and the manifest
//! comes last.

mod destination;
mod gate;
mod holdout;
mod identity;
mod journal;
mod layout;
mod options;
mod origin;
mod plan;
mod shards;
mod stream;
mod work;
mod writer;

use storage::{Source, Store};

pub use holdout::{Holdout, Side};
pub use layout::LayoutKind;
pub use options::check_name;
pub use options::{Duplicates, IngestOptions, OnDamage};

use crate::Result;
use crate::dataset::Manifest;
use destination::{Destination, Found};
use plan::IngestPlan;
use writer::Writer;

/// What is told while an ingest runs.
#[derive(Debug)]
pub enum Event<'a> {
    /// A file that is far away was found; it is looked through before it is read, which takes a while.
    Found {
        /// The file.
        source: &'a Source,
        /// Its length.
        bytes: u64,
    },
    /// What a source was taken for.
    Taken {
        /// The archive or folder.
        source: &'a Source,
        /// Its layout.
        layout: LayoutKind,
        /// In a few words what was found.
        found: String,
    },
    /// An archive that was ingested is read and compared, because its time is another one.
    Compared {
        /// The archive.
        source: &'a Source,
    },
    /// What else a user should know of a source.
    Note {
        /// The archive or folder.
        source: &'a Source,
        /// In a line.
        note: String,
    },
    /// An ingest that was stopped goes on.
    Resumed {
        /// Shards that are there already.
        shards: usize,
        /// Images in them.
        images: u64,
    },
    /// The very dataset is there already; nothing is done.
    Finished,
    /// Something went forward.
    Progress {
        /// Image bytes that are written or refused.
        bytes: u64,
        /// Bytes of all sources.
        total: u64,
        /// Images stored.
        images: u64,
    },
}

/// Ingests; the manifest of the finished dataset is what it returns. An ingest that was killed goes on
/// where it was; one that is finished already is left as it is.
///
/// # Errors
/// For options that make no sense, a place that is taken, a source that cannot be read, a damaged
/// archive, a full disk. Images that are damaged are rejects, not errors.
pub fn ingest(options: &IngestOptions, tell: &dyn Fn(Event)) -> Result<Manifest> {
    options.validate()?;
    let store = Store::open(&options.out)?;
    let (plan, layouts) = IngestPlan::new(options, tell)?;
    let (destination, found) = Destination::claim(store, &plan, options.overwrite, tell)?;
    let manifest = match found {
        Found::Dataset(manifest) => {
            tell(Event::Finished);
            return Ok(manifest);
        }
        Found::Shards(manifest) => manifest,
        Found::Marks(marks) => {
            let mut writer = Writer::new(&plan, &destination, marks, tell);
            let ended = stream::run(options, &plan, layouts, &mut writer)?;
            for (source, ended) in options.sources.iter().zip(&ended) {
                let notes = ended.iter().flat_map(|ended| &ended.notes);
                notes.for_each(|note| tell(Event::Note { source, note: note.clone() }));
            }
            writer.finish(ended)?
        }
    };
    destination.publish(&manifest)?;
    Ok(manifest)
}
