//! Files and prefixes of object stores that are read.

use std::ops::Range;
use std::sync::Arc;

use object_store::path::Path as Key;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore};

use super::origin::{Answer, Body, Facts, Failure, Origin};
use super::reader::FarFile;
use super::{Fault, Reach};
use crate::calls::first_line;
use crate::store::Remote;
use crate::{Error, Result};

/// An object; who reads it tries again, not the client.
pub(super) struct Object {
    client: Arc<dyn ObjectStore>,
    key: Key,
    name: String,
}

/// The file that an object is.
pub(super) fn file(
    client: Arc<dyn ObjectStore>,
    meta: ObjectMeta,
    name: String,
    reach: Reach,
    fault: Fault,
) -> FarFile {
    let facts = facts(&meta);
    let object = Object { client, key: meta.location, name: name.clone() };
    FarFile::new(Arc::new(Origin::Object(object)), facts, name, reach, fault)
}

fn facts(meta: &ObjectMeta) -> Facts {
    Facts {
        length: meta.size,
        tag: meta.e_tag.clone(),
        // Listings have parts of a second, other answers do not.
        modified: Some(meta.last_modified.timestamp().to_string()),
        ranges: true,
    }
}

impl Object {
    pub(super) async fn get(
        &self,
        range: Range<u64>,
        known: Option<&Facts>,
    ) -> Result<Answer, Failure> {
        let options = GetOptions {
            range: Some(GetRange::Bounded(range.clone())),
            if_match: known.and_then(|known| known.strong_tag()).map(str::to_owned),
            ..GetOptions::default()
        };
        let got = self.client.get_opts(&self.key, options).await;
        let got = got.map_err(|error| self.failure(&error))?;
        let (facts, range) = (facts(&got.meta), got.range.clone());
        Ok(Answer { facts, range, body: Body::Object(got.into_stream()) })
    }

    fn failure(&self, error: &object_store::Error) -> Failure {
        use object_store::Error::{NotFound, PermissionDenied, Precondition, Unauthenticated};
        let said = first_line(error);
        let refused =
            |message| Failure::Final(Error::Refused { place: self.name.clone(), message });
        match error {
            Precondition { .. } => Failure::Changed("its store says so (If-Match)".to_owned()),
            NotFound { .. } => refused("there is no such object any more".to_owned()),
            PermissionDenied { .. } | Unauthenticated { .. } => {
                refused(format!("may not be read: {said}"))
            }
            _ => Failure::passing(said),
        }
    }
}

/// A prefix with objects below it, as a folder.
#[derive(Clone)]
pub struct FarFolder {
    remote: Remote,
    client: Arc<dyn ObjectStore>,
    name: String,
    reach: Reach,
    fault: Fault,
}

/// What is directly in a folder: files and folders, each with its name.
pub type Entries = (Vec<(String, FarFile)>, Vec<String>);

impl FarFolder {
    pub(super) fn open(remote: Remote, name: String, reach: Reach, fault: Fault) -> Result<Self> {
        let client = remote.streaming()?;
        let folder = Self { remote, client, name, reach, fault };
        let (files, folders) = folder.entries("")?;
        match files.is_empty() && folders.is_empty() {
            true => Err(Error::Refused {
                place: folder.name,
                message: "there is no such object, nor any below it".to_owned(),
            }),
            false => Ok(folder),
        }
    }

    /// The address.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What went wrong with the reading of its files.
    pub fn fault(&self) -> &Fault {
        &self.fault
    }

    /// What is directly in a folder below, given by its path; empty names the prefix itself. The names are
    /// all in memory, in no order.
    ///
    /// # Errors
    /// Where the store cannot be read, or has keys that are no paths.
    pub fn entries(&self, below: &str) -> Result<Entries> {
        let prefix = self.remote.prefix();
        let unusable = |error: object_store::path::Error| Error::Refused {
            place: self.name.clone(),
            message: format!("{below} is no path: {error}"),
        };
        let at = match below {
            "" => prefix.clone(),
            below => Key::parse(format!("{prefix}/{below}")).map_err(unusable)?,
        };
        let listed = self.remote.below(&at)?;
        let mut files = Vec::with_capacity(listed.objects.len());
        for meta in listed.objects {
            // An object with the name of the folder itself, as some programs make one for it.
            let Some(name) = last(&at, &meta.location) else { continue };
            let full = match below {
                "" => format!("{}/{name}", self.name),
                below => format!("{}/{below}/{name}", self.name),
            };
            let client = Arc::clone(&self.client);
            files.push((name, file(client, meta, full, self.reach, self.fault.clone())));
        }
        let folders = listed.common_prefixes.iter().filter_map(|folder| last(&at, folder));
        Ok((files, folders.collect()))
    }
}

/// The last part of a key directly below another one.
fn last(above: &Key, key: &Key) -> Option<String> {
    let rest = key.as_ref().strip_prefix(above.as_ref())?.strip_prefix('/')?;
    (!rest.is_empty()).then(|| rest.to_owned())
}
