//! The walk through a prefix of an object store, which is seen as a folder: with the names and in the
//! order of a local one. There are no links and no empty folders.

use storage::{FarFile, FarFolder};

use super::super::member::{Body, Member, Visit};
use super::super::names;
use super::{DEPTH, Walk};
use crate::ingest::origin::Packed;
use crate::{Error, Result};

impl Walk<'_> {
    /// Visits what is in a folder. False where the visit was ended.
    pub(super) fn far_folder(
        &mut self,
        root: &FarFolder,
        below: &str,
        raw_below: &str,
        visit: &mut Visit,
    ) -> Result<bool> {
        if raw_below.split('/').count() > DEPTH {
            let message = format!("{below} lies deeper than {DEPTH} folders");
            return Err(Error::source(root.name(), message));
        }
        let (files, folders) = root.entries(raw_below)?;
        let files = files.into_iter().map(|(raw, file)| (raw, Some(file)));
        let mut entries: Vec<(String, String, Option<FarFile>)> = Vec::new();
        for (raw, file) in files.chain(folders.into_iter().map(|raw| (raw, None))) {
            let name = match below {
                "" => self.notes.name(raw.as_bytes()),
                _ => self.notes.part(raw.as_bytes()),
            };
            entries.push((names::join(below, &name), names::join(raw_below, &raw), file));
        }
        // An object and a prefix may have one name; then the object comes first.
        entries.sort_unstable_by(|(a, _, file), (b, _, other)| {
            a.split('/').cmp(b.split('/')).then(file.is_none().cmp(&other.is_none()))
        });
        for (name, raw, file) in entries {
            let go_on = match file {
                Some(file) => self.far_file(file, &name, visit)?,
                None => {
                    visit(Member { name: &name, body: Body::Folder })?
                        && self.far_folder(root, &name, &raw, visit)?
                }
            };
            if !go_on {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn far_file(&mut self, file: FarFile, name: &str, visit: &mut Visit) -> Result<bool> {
        if !self.meet(name, visit)? {
            return Ok(false);
        }
        match names::tar_stem(name).filter(|_| (self.enter)(name)) {
            Some(stem) => (self.pass)(&Packed::far(file), stem, self.enter, self.notes, visit),
            None => visit(Member { name, body: Body::Far(&file) }),
        }
    }
}
