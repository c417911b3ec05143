//! What the layouts share in which an image's key and class follow from its name alone.

use super::classes::{Classes, unknown};
use super::files::Files;
use super::member::Enter;
use super::{Ended, Item, Layout, Sink, SourceMetadata, names};
use crate::Result;

/// Tells what a name stands for; none for what is no image of the layout.
pub(super) type Know = Box<dyn Fn(&str) -> Result<Option<Known>> + Send>;

/// An image as its name tells it.
pub(super) struct Known {
    /// Unique in the source.
    pub(super) key: String,
    /// Name of the class.
    pub(super) class: Option<String>,
}

/// A source that is read by names.
pub(super) struct Named {
    pub(super) files: Files,
    pub(super) enter: Enter,
    pub(super) know: Know,
    pub(super) classes: Classes,
    pub(super) metadata: SourceMetadata,
    /// What else a user should know.
    pub(super) notes: Vec<String>,
    pub(super) max_bytes: u64,
}

impl Layout for Named {
    fn classes(&self) -> &[String] {
        self.classes.names()
    }

    fn metadata(&self) -> &SourceMetadata {
        &self.metadata
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = self.notes.clone();
        notes.extend(self.files.notes());
        notes
    }

    fn read(self: Box<Self>, from: u64, sink: &mut Sink) -> Result<Ended> {
        let mut number = 0;
        let sha256 = self.files.read(self.enter, &mut |member| {
            let known = match member.is_skipped() {
                true => None,
                false => (self.know)(member.name)?,
            };
            if known.is_none() && names::is_hidden(member.name) {
                return Ok(true);
            }
            number += 1;
            if number <= from {
                return Ok(true);
            }
            let Some(Known { key, class }) = known else {
                return Ok(sink(Item::passed_over(member)?));
            };
            let label = |name: String| {
                self.classes.label(&name).ok_or_else(|| unknown(self.files.path(), &name))
            };
            Ok(sink(Item {
                key,
                path: names::file_name(member.name).to_owned(),
                class: class.map(label).transpose()?,
                content: member.content(self.max_bytes)?,
            }))
        })?;
        Ok(Ended { bytes: self.metadata.bytes, sha256, notes: self.files.later_notes() })
    }
}
