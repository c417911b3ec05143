//! Where the bytes of a far file come from: what is asked, what is answered, and how it can fail.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use super::objects::Object;
use super::web::Web;
use crate::Error;

/// What is known of a file, by which one notices that it is another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// Bytes of the whole file.
    pub(super) length: u64,
    /// The ETag, as it was given.
    pub(super) tag: Option<String>,
    /// When it was changed, as it was given.
    pub(super) modified: Option<String>,
    /// Whether parts of it can be asked for.
    pub(super) ranges: bool,
}

impl Facts {
    /// The ETag, where the same one means the same bytes.
    pub(super) fn strong_tag(&self) -> Option<&str> {
        self.tag.as_deref().filter(|tag| !tag.starts_with("W/"))
    }

    /// True where a change would be noticed.
    pub(super) fn tell_changes(&self) -> bool {
        self.strong_tag().is_some() || self.modified.is_some()
    }

    /// What a later answer differs in; nothing where it is of the same file.
    pub(super) fn difference(&self, now: &Self) -> Option<String> {
        let of = |text: &Option<String>| text.clone().unwrap_or_else(|| "not given".to_owned());
        if self.length != now.length {
            return Some(format!("it had {} bytes, has {}", self.length, now.length));
        }
        if self.tag != now.tag {
            return Some(format!("its ETag was {}, is {}", of(&self.tag), of(&now.tag)));
        }
        (self.strong_tag().is_none() && self.modified != now.modified)
            .then(|| format!("it was changed: {}, now {}", of(&self.modified), of(&now.modified)))
    }
}

/// Why a request gave nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// It may be otherwise the next time.
    Passing {
        /// What the server or the network said.
        said: String,
        /// How long the server asks to wait.
        wait: Option<Duration>,
        /// Whether there was a connection at all.
        reached: bool,
    },
    /// The file is another one than it was; says how one knows.
    Changed(String),
    /// Trying again helps nobody.
    Final(Error),
}

impl Failure {
    /// Something that passes, said over a connection.
    pub(super) fn passing(said: impl Into<String>) -> Self {
        Self::Passing { said: said.into(), wait: None, reached: true }
    }
}

/// An answer whose head is there and whose body comes.
pub(super) struct Answer {
    pub(super) facts: Facts,
    /// What the body is of the file.
    pub(super) range: Range<u64>,
    pub(super) body: Body,
}

/// Bytes as they come.
pub(super) enum Body {
    Web(Box<reqwest::Response>),
    Object(BoxStream<'static, object_store::Result<Bytes>>),
}

impl Body {
    /// The next bytes; none at the end.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        match self {
            Self::Web(response) => {
                response.chunk().await.map_err(|error| Failure::passing(super::web::said(error)))
            }
            Self::Object(stream) => {
                let next = stream.next().await.transpose();
                next.map_err(|error| Failure::passing(crate::calls::first_line(&error)))
            }
        }
    }
}

/// Who is asked for a file.
pub(super) enum Origin {
    Web(Web),
    Object(Object),
}

impl Origin {
    /// Asks for a part of the file, of the one that `known` is of. An answer may begin before it, where
    /// parts cannot be asked for.
    pub(super) async fn get(
        &self,
        range: Range<u64>,
        known: Option<&Facts>,
    ) -> Result<Answer, Failure> {
        let answer = match self {
            Self::Web(web) => web.get(range.clone(), known).await?,
            Self::Object(object) => object.get(range.clone(), known).await?,
        };
        if let Some(difference) = known.and_then(|known| known.difference(&answer.facts)) {
            return Err(Failure::Changed(difference));
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_the_same_by_length_and_tag_or_time() {
        let facts = |length, tag: Option<&str>, modified: Option<&str>| Facts {
            length,
            tag: tag.map(str::to_owned),
            modified: modified.map(str::to_owned),
            ranges: true,
        };
        let strong = facts(5, Some("\"a\""), Some("monday"));
        assert_eq!(strong.difference(&facts(5, Some("\"a\""), Some("tuesday"))), None);
        assert!(strong.difference(&facts(5, Some("\"b\""), Some("monday"))).is_some());
        assert!(strong.difference(&facts(5, None, Some("monday"))).is_some());
        assert!(strong.difference(&facts(6, Some("\"a\""), Some("monday"))).is_some());
        let weak = facts(5, Some("W/\"a\""), Some("monday"));
        assert!(weak.difference(&facts(5, Some("W/\"a\""), Some("tuesday"))).is_some());
        assert!(!facts(5, Some("W/\"a\""), None).tell_changes() && weak.tell_changes());
    }
}
