//! A source of named files: an archive, a folder on disk or a prefix of an object store. An archive and its unpacked folder give
//! the same names, and so does an archive within either: where it is entered, `x.tar` is the folder
//! `x`. Files come in the archive's order, in a folder in that of their names; the order is a function
//! of the source alone. Memory holds the names of one folder at a time.
//!
//! Links are followed, to files and to folders; what cannot be read (a link that leads nowhere or back,
//! a socket, a folder without permission) is visited as such, so that it can be listed.

mod far;

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::listing::{Expected, Listing};
use super::member::{Body, Enter, Member, Notes, Visit};
use super::{archive, names, splits};
use crate::ingest::origin::{Origin, Packed};
use crate::{Error, Result};

/// Deepest nesting of folders that is entered.
const DEPTH: usize = 64;
/// How often one folder is entered by links.
const TIMES: u32 = 16;

/// A source that is there.
pub(super) struct Files {
    origin: Origin,
    /// Length of the archive; none for a folder.
    length: Option<u64>,
    is_zip: bool,
    /// The folder whose files alone count; `.` where splits side by side are classes.
    within: Option<String>,
    notes: Notes,
    /// The same of what was read.
    read_notes: Notes,
    /// What the last full scan of a folder met.
    met: RefCell<Option<Listing>>,
}

impl Files {
    /// Opens a source, of which only the files below the folder `within` count where one is given.
    pub(super) fn open(origin: &Origin, within: Option<&str>) -> Result<Self> {
        let is_folder = match origin.path() {
            None => origin.folder().is_some(),
            Some(path) => {
                let meta = fs::metadata(path).map_err(Error::io("open", path))?;
                if !meta.is_dir() && !meta.is_file() {
                    let message = "is neither a file nor a folder; an archive is gone through \
                                   twice, so that it cannot come through a pipe: save it first";
                    return Err(Error::source(path, message));
                }
                meta.is_dir()
            }
        };
        let packed = origin.packed();
        Ok(Self {
            origin: origin.clone(),
            length: (!is_folder).then(|| packed.length()).transpose()?,
            is_zip: !is_folder && archive::is_zip(&packed)?,
            within: within.map(|name| match name.trim_matches('/') {
                "" => ".".to_owned(),
                name => name.to_owned(),
            }),
            notes: Notes::default(),
            read_notes: Notes::default(),
            met: RefCell::new(None),
        })
    }

    /// The path, or for messages the address.
    pub(super) fn path(&self) -> &Path {
        self.origin.name()
    }

    /// Where the source is.
    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Length of the archive; none for a folder.
    pub(super) fn length(&self) -> Option<u64> {
        self.length
    }

    /// `tar`, `zip` or `folder`.
    pub(super) fn noun(&self) -> &'static str {
        match self.length {
            Some(_) if self.is_zip => "zip",
            Some(_) => "tar",
            None => "folder",
        }
    }

    /// What is remarkable about the names that were visited.
    pub(super) fn notes(&self) -> Vec<String> {
        self.notes.lines()
    }

    /// What came to light only as the source was read: archives within it are not always entered before.
    pub(super) fn later_notes(&self) -> Vec<String> {
        self.read_notes.lines_beyond(&self.notes)
    }

    /// An error where these folders, which hold images, are several splits side by side.
    pub(super) fn check_splits<'a>(&self, folders: impl Iterator<Item = &'a str>) -> Result<()> {
        match self.within.as_deref() {
            Some(".") => Ok(()),
            _ => splits::check(self.path(), folders),
        }
    }

    /// Visits all files, hidden ones too; contents that are not asked for are not read where the
    /// archive allows to seek.
    pub(super) fn scan(&self, enter: Enter, visit: &mut Visit) -> Result<()> {
        self.scan_all(enter, &mut |member| match member.body {
            Body::Folder => Ok(true),
            _ => visit(member),
        })
    }

    /// As [`Self::scan`], folders too.
    pub(super) fn scan_all(&self, enter: Enter, visit: &mut Visit) -> Result<()> {
        let mut above = None;
        let mut wanted = self.wanted(&mut above, visit);
        if self.length.is_some() {
            let whole = archive::scan(&self.origin.packed(), "", enter, &self.notes, &mut wanted)?;
            drop(wanted);
            return self.check_within(whole, above.as_deref());
        }
        let temporary = |error| Error::io("write a list of names for", self.path())(error);
        let mut walk = Walk {
            pass: archive::scan,
            enter,
            notes: &self.notes,
            met: Some(Listing::new().map_err(temporary)?),
            expected: None,
            above: Vec::new(),
            times: HashMap::new(),
        };
        let whole = walk.root(&self.origin, &mut wanted)?;
        drop(wanted);
        *self.met.borrow_mut() = walk.met.filter(|_| whole);
        self.check_within(whole, above.as_deref())
    }

    /// Visits all files and reads an archive to its very end; gives its SHA-256, and none for a
    /// folder, for a zip and where the visit was ended. Files of a folder that the scan before met and
    /// that are gone are visited as such.
    pub(super) fn read(&self, enter: Enter, visit: &mut Visit) -> Result<Option<String>> {
        let visit: &mut Visit = &mut |member| match member.body {
            Body::Folder => Ok(true),
            _ => visit(member),
        };
        let mut above = None;
        let mut wanted = self.wanted(&mut above, visit);
        let notes = &self.read_notes;
        if self.length.is_some() {
            return archive::digest(&self.origin.packed(), enter, notes, &mut wanted);
        }
        let met = self.met.borrow_mut().take();
        let expected = met.map(Listing::finish).transpose();
        let mut walk = Walk {
            pass: archive::read,
            enter,
            notes,
            met: None,
            expected: expected.map_err(Error::io("read the list of names of", self.path()))?,
            above: Vec::new(),
            times: HashMap::new(),
        };
        walk.root(&self.origin, &mut wanted)?;
        Ok(None)
    }

    /// A visit of what is below the folder that is wanted, by the path below it. `above` becomes what
    /// is above that folder.
    fn wanted<'a>(
        &'a self,
        above: &'a mut Option<String>,
        visit: &'a mut Visit<'_>,
    ) -> Box<dyn FnMut(Member) -> Result<bool> + 'a> {
        let Some(folder) = self.within.as_deref().filter(|&folder| folder != ".") else {
            return Box::new(visit);
        };
        Box::new(move |member| {
            let Some((parent, rest)) = splits::below(member.name, folder) else { return Ok(true) };
            match above {
                Some(above) if above != parent && names::is_image(rest) => {
                    let message = format!(
                        "has several folders {folder}, {above}{folder} and {parent}{folder}; name \
                         one with what is above it, --split-folder {parent}{folder}"
                    );
                    return Err(Error::source(self.path(), message));
                }
                None if names::is_image(rest) => *above = Some(parent.to_owned()),
                _ => {}
            }
            visit(Member { name: rest, body: member.body })
        })
    }

    fn check_within(&self, whole: bool, above: Option<&str>) -> Result<()> {
        match self.within.as_deref() {
            Some(folder) if folder != "." && whole && above.is_none() => {
                let message = format!("has no folder {folder} with images, see --split-folder");
                Err(Error::source(self.path(), message))
            }
            _ => Ok(()),
        }
    }
}

/// How an archive in a folder is gone through: the file, name of the folder that it stands for, …
type Pass = fn(&Packed, &str, Enter, &Notes, &mut Visit) -> Result<bool>;

/// A walk through a folder.
struct Walk<'a> {
    pass: Pass,
    enter: Enter,
    notes: &'a Notes,
    /// Takes the names that are met.
    met: Option<Listing>,
    /// The names that should be met.
    expected: Option<Expected>,
    /// Device and inode of the folders above, outermost first.
    above: Vec<(u64, u64)>,
    /// How often a folder was entered, of those that links lead to or that lie below such.
    times: HashMap<(u64, u64), u32>,
}

impl Walk<'_> {
    fn root(&mut self, origin: &Origin, visit: &mut Visit) -> Result<bool> {
        if let Some(folder) = origin.folder() {
            return Ok(self.far_folder(folder, "", "", visit)? && self.gone(None, visit)?);
        }
        let at = origin.name();
        let meta = fs::metadata(at).map_err(Error::io("open", at))?;
        self.above.push((meta.dev(), meta.ino()));
        let entries = read_folder(at).map_err(Error::io("read folder", at))?;
        Ok(self.folder(at, "", entries, false, visit)? && self.gone(None, visit)?)
    }

    /// Visits the entries of a folder. False where the visit was ended.
    fn folder(
        &mut self,
        at: &Path,
        below: &str,
        entries: Entries,
        by_link: bool,
        visit: &mut Visit,
    ) -> Result<bool> {
        let mut names = Vec::with_capacity(entries.len());
        for (raw, kind) in entries {
            // A name with backslashes that was unpacked on a system where they separate nothing.
            let is_folder = || fs::metadata(at.join(&raw)).is_ok_and(|meta| meta.is_dir());
            let name = match below {
                "" if raw.as_bytes().contains(&b'\\') && !is_folder() => {
                    self.notes.name(raw.as_bytes())
                }
                _ => self.notes.part(raw.as_bytes()),
            };
            names.push((names::join(below, &name), raw, kind));
        }
        names.sort_unstable_by(|(a, ..), (b, ..)| a.split('/').cmp(b.split('/')));
        for (name, raw, kind) in names {
            if !self.entry(&at.join(raw), &name, kind, by_link, visit)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Visits one entry of a folder.
    fn entry(
        &mut self,
        path: &Path,
        name: &str,
        kind: fs::FileType,
        by_link: bool,
        visit: &mut Visit,
    ) -> Result<bool> {
        if kind.is_file() {
            return self.file(path, name, visit);
        }
        let is_link = kind.is_symlink();
        let meta = match fs::metadata(path) {
            Ok(meta) => meta,
            Err(error) if is_link => {
                let to = fs::read_link(path).unwrap_or_default();
                let to = names::escaped(to.as_os_str().as_bytes());
                return self.skipped(name, format!("unreadable: a link to {to}: {error}"), visit);
            }
            Err(error) => return self.skipped(name, format!("unreadable: {error}"), visit),
        };
        let kind = meta.file_type();
        if kind.is_dir() {
            return self.enter_folder(path, name, &meta, by_link || is_link, visit);
        }
        let what = match () {
            () if kind.is_file() => return self.file(path, name, visit),
            () if kind.is_socket() => "a socket",
            () if kind.is_fifo() => "a pipe",
            () => "a device",
        };
        self.skipped(name, format!("passed over: {what}"), visit)
    }

    fn file(&mut self, path: &Path, name: &str, visit: &mut Visit) -> Result<bool> {
        if !self.meet(name, visit)? {
            return Ok(false);
        }
        match names::tar_stem(name).filter(|_| (self.enter)(name)) {
            Some(stem) => (self.pass)(&Packed::local(path), stem, self.enter, self.notes, visit),
            None => visit(Member { name, body: Body::Disk(path) }),
        }
    }

    fn enter_folder(
        &mut self,
        path: &Path,
        name: &str,
        meta: &fs::Metadata,
        by_link: bool,
        visit: &mut Visit,
    ) -> Result<bool> {
        let here = (meta.dev(), meta.ino());
        if self.above.contains(&here) {
            let reason = "passed over: a link that leads back to a folder above it";
            return self.skipped(name, reason.into(), visit);
        }
        if self.above.len() > DEPTH {
            return Err(Error::source(path, format!("lies deeper than {DEPTH} folders")));
        }
        if by_link {
            let times = self.times.entry(here).or_default();
            *times += 1;
            if *times > TIMES {
                let reason = format!("passed over: a folder that links lead to {TIMES} times");
                return self.skipped(name, reason, visit);
            }
        }
        let entries = match read_folder(path) {
            Ok(entries) => entries,
            Err(error) => return self.skipped(name, format!("unreadable: {error}"), visit),
        };
        if !visit(Member { name, body: Body::Folder })? {
            return Ok(false);
        }
        self.above.push(here);
        let go_on = self.folder(path, name, entries, by_link, visit);
        self.above.pop();
        go_on
    }

    /// Visits what is there and cannot be read.
    fn skipped(&mut self, name: &str, reason: String, visit: &mut Visit) -> Result<bool> {
        Ok(self.meet(name, visit)? && visit(Member { name, body: Body::Skipped(reason) })?)
    }

    /// Notes that a name was met, and visits those that should have come before it.
    fn meet(&mut self, name: &str, visit: &mut Visit) -> Result<bool> {
        if let Some(met) = &mut self.met {
            met.add(name).map_err(Error::io("write a list of names of", name))?;
        }
        self.gone(Some(name), visit)
    }

    fn gone(&mut self, met: Option<&str>, visit: &mut Visit) -> Result<bool> {
        let Some(expected) = &mut self.expected else { return Ok(true) };
        let read = |error| Error::io("read the list of names of", met.unwrap_or("the end"))(error);
        while let Some(name) = expected.gone_before(met).map_err(read)? {
            let reason = "vanished: it was there when the ingest began";
            if !visit(Member { name: &name, body: Body::Skipped(reason.into()) })? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Names in a folder with what they are, links not followed.
type Entries = Vec<(OsString, fs::FileType)>;

fn read_folder(at: &Path) -> std::io::Result<Entries> {
    let entry = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry?;
        Ok((entry.file_name(), entry.file_type()?))
    };
    fs::read_dir(at)?.map(entry).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::super::member::NONE;
    use super::*;

    /// Names of files, and of what is skipped with the reason.
    fn visited(files: &Files, read: bool) -> Vec<(String, String)> {
        let mut all = Vec::new();
        let visit: &mut Visit = &mut |member| {
            let reason = match &member.body {
                Body::Skipped(reason) => reason.clone(),
                _ => String::new(),
            };
            all.push((member.name.to_owned(), reason));
            Ok(true)
        };
        match read {
            true => files.read(NONE, visit).map(|_| ()).unwrap(),
            false => files.scan(NONE, visit).unwrap(),
        }
        all
    }

    #[test]
    fn links_are_followed_and_what_leads_nowhere_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (real, root) = (folder.path().join("real"), folder.path().join("root"));
        for at in [real.join("deep"), root.join("dog")] {
            fs::create_dir_all(at).unwrap();
        }
        fs::write(real.join("1.jpg"), "1").unwrap();
        fs::write(real.join("deep/2.jpg"), "2").unwrap();
        fs::write(root.join("dog/3.jpg"), "3").unwrap();
        symlink(&real, root.join("cat")).unwrap();
        symlink(real.join("1.jpg"), root.join("dog/4.jpg")).unwrap();
        symlink(&root, root.join("dog/round")).unwrap();
        symlink("nowhere", root.join("bee")).unwrap();
        let _socket = UnixListener::bind(root.join("socket")).unwrap();
        let files = Files::open(&Origin::local(&root), None).unwrap();
        let all = visited(&files, false);
        let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
        let expected =
            ["bee", "cat/1.jpg", "cat/deep/2.jpg", "dog/3.jpg", "dog/4.jpg", "dog/round", "socket"];
        assert_eq!(names, expected);
        let reason = |name: &str| &all.iter().find(|(other, _)| other == name).unwrap().1;
        assert!(reason("bee").starts_with("unreadable: a link to nowhere"), "{}", reason("bee"));
        assert!(reason("dog/round").contains("leads back"), "{}", reason("dog/round"));
        assert_eq!(reason("socket"), "passed over: a socket");
        assert_eq!(visited(&files, true), all);
    }

    #[test]
    fn folders_that_link_to_each_other_again_and_again_are_bounded() {
        let folder = tempfile::tempdir().unwrap();
        // Each of 40 folders leads twice to the next: 2^40 paths.
        for number in 0..40 {
            let at = folder.path().join(format!("all/{number}"));
            fs::create_dir_all(&at).unwrap();
            for way in ["a", "b"] {
                symlink(folder.path().join(format!("all/{}", number + 1)), at.join(way)).unwrap();
            }
        }
        fs::create_dir(folder.path().join("all/40")).unwrap();
        fs::write(folder.path().join("all/40/1.jpg"), "1").unwrap();
        let files = Files::open(&Origin::local(&folder.path().join("all/0")), None).unwrap();
        let all = visited(&files, false);
        assert!(all.len() < 40 * 40 && all.iter().any(|(_, reason)| reason.contains("16 times")));
    }

    #[test]
    fn files_that_vanish_after_the_scan_are_named_when_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a/1.jpg", "a/2.jpg", "a b/1.jpg", "b/1.jpg"] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        let files = Files::open(&Origin::local(folder.path()), None).unwrap();
        visited(&files, false);
        fs::remove_file(folder.path().join("a/2.jpg")).unwrap();
        fs::remove_dir_all(folder.path().join("b")).unwrap();
        fs::write(folder.path().join("a/0.jpg"), "new").unwrap();
        let all = visited(&files, true);
        let gone: Vec<_> =
            all.iter().filter(|(_, reason)| reason.starts_with("vanished")).collect();
        assert_eq!(gone.len(), 2, "{all:?}");
        assert_eq!((gone[0].0.as_str(), gone[1].0.as_str()), ("a/2.jpg", "b/1.jpg"));
        assert_eq!(all.len(), 5);
    }

    #[test]
    fn one_folder_of_several_is_taken_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["images/train/1.jpg", "labels/train/1.txt", "images/val/2.jpg"] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        let names = |within: &str| -> Vec<String> {
            let files = Files::open(&Origin::local(folder.path()), Some(within)).unwrap();
            visited(&files, false).into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(names("train"), ["1.jpg", "1.txt"]);
        assert_eq!(names("images/val/"), ["2.jpg"]);
        let files =
            |within: &str| Files::open(&Origin::local(folder.path()), Some(within)).unwrap();
        let message =
            |within: &str| files(within).scan(NONE, &mut |_| Ok(true)).unwrap_err().to_string();
        assert!(message("test").contains("no folder test with images"), "{}", message("test"));
        let other = folder.path().join("masks/train");
        fs::create_dir_all(&other).unwrap();
        fs::write(other.join("1.png"), "").unwrap();
        assert!(message("train").contains("several folders train"), "{}", message("train"));
    }
}
