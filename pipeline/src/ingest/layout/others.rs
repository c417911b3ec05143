//! Files of a source that give no image, for messages: those that are passed over by their names, and those
//! that cannot be read.

use std::fmt;

use super::member::Member;
use super::names;

/// How many, and the first of each.
#[derive(Default)]
pub(super) struct Others {
    passed_over: u64,
    first_passed_over: String,
    unread: u64,
    /// The first with its reason.
    first_unread: String,
}

impl Others {
    pub(super) fn add(&mut self, member: &Member) {
        let name = member.name;
        let reason = member.unreadable().filter(|_| !names::is_hidden(name));
        match reason {
            Some(reason) if self.unread == 0 => self.first_unread = format!("{name} ({reason})"),
            None if self.passed_over == 0 => name.clone_into(&mut self.first_passed_over),
            _ => {}
        }
        self.unread += u64::from(reason.is_some());
        self.passed_over += u64::from(reason.is_none());
    }
}

impl fmt::Display for Others {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.passed_over, &self.first_passed_over) {
            (0, _) => {}
            (1, first) => write!(f, "; 1 other file is passed over, {first}")?,
            (count, first) => {
                write!(f, "; {count} other files are passed over, the first {first}")?
            }
        }
        match (self.unread, &self.first_unread) {
            (0, _) => Ok(()),
            (1, first) => write!(f, "; 1 file cannot be read, {first}"),
            (count, first) => write!(f, "; {count} files cannot be read, the first {first}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::member::Body;
    use super::*;

    #[test]
    fn other_files_are_counted_and_the_first_is_named() {
        let mut others = Others::default();
        assert_eq!(others.to_string(), "");
        others.add(&Member { name: "notes.txt", body: Body::Folder });
        assert_eq!(others.to_string(), "; 1 other file is passed over, notes.txt");
        others.add(&Member { name: "more.txt", body: Body::Folder });
        others.add(&Member { name: "a/1.jpg", body: Body::Skipped("encrypted".into()) });
        assert_eq!(
            others.to_string(),
            "; 2 other files are passed over, the first notes.txt; 1 file cannot be read, a/1.jpg \
             (encrypted)"
        );
    }
}
