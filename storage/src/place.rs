//! An address of a folder: `data/imagenet`, `file:///data/imagenet`, `s3://bucket/prefix`,
//! `gs://bucket/prefix`. Parsed once, where text enters; whoever holds a [`Place`] need not ask again.
//!
//! Always holds: a local place is an absolute path; a remote one has a bucket and a prefix. Written as
//! text it is the path itself, or `SCHEME://BUCKET/PREFIX`, and that text is read as the same place.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use object_store::path::Path as Key;
use serde::{Deserialize, Serialize};

/// What is allowed, for the messages.
const ALLOWED: &str = "give a folder (a path or file:///PATH), or s3://BUCKET/PREFIX or \
                       gs://BUCKET/PREFIX";

/// What is allowed where something is only read.
const ALLOWED_SOURCES: &str = "give a file or folder (a path or file:///PATH), s3://BUCKET/PATH, \
                               gs://BUCKET/PATH or https://HOST/PATH";

/// Where files lie: a folder of this machine, or a prefix in an object store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Place(Where);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Where {
    Local(PathBuf),
    Remote { scheme: Scheme, bucket: String, prefix: String },
}

/// The object stores that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// Amazon's S3, and whatever speaks its protocol.
    S3,
    /// Google Cloud Storage.
    Gs,
}

impl Scheme {
    /// The name before `://`.
    pub fn name(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gs => "gs",
        }
    }
}

/// A text that is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no address: {reason}; {allowed}")]
pub struct NoPlace {
    text: String,
    reason: String,
    allowed: &'static str,
}

impl NoPlace {
    /// True: whoever wrote the text is at fault.
    pub fn is_usage(&self) -> bool {
        true
    }

    /// False, as nothing was asked.
    pub fn is_outage(&self) -> bool {
        false
    }
}

impl Place {
    /// Whether a text is an address, with a scheme, and so no plain path nor a name of another kind.
    pub fn is_address(text: &str) -> bool {
        text.contains("://")
    }

    /// The place of a folder of this machine; a relative path counts from the working directory.
    ///
    /// # Errors
    /// For an empty path, one that is no UTF-8, and where there is no working directory.
    pub fn folder(path: impl AsRef<Path>) -> Result<Self, NoPlace> {
        let path = path.as_ref();
        let wrong = |reason: &str| NoPlace::new(&path.display().to_string(), reason);
        if path.to_str().is_none() {
            return Err(wrong("it is not UTF-8"));
        }
        if path.as_os_str().is_empty() {
            return Err(wrong("it is empty"));
        }
        if path.as_os_str().as_encoded_bytes().contains(&0) {
            return Err(wrong("it holds a NUL"));
        }
        let absolute = std::path::absolute(path).map_err(|error| wrong(&error.to_string()))?;
        if absolute.to_str().is_none() {
            return Err(wrong("it starts from the current folder, whose name is not UTF-8"));
        }
        // `absolute` keeps a slash at the end; one folder has one address.
        Ok(Self(Where::Local(absolute.components().collect())))
    }

    /// The place that a stored text names, such as one in a database: never a relative path, for nobody
    /// knows which folder that counted from.
    ///
    /// # Errors
    /// When the text is no address, and for a relative path.
    pub fn stored(text: &str) -> Result<Self, NoPlace> {
        if scheme(text).is_none() && Path::new(text).is_relative() {
            return Err(NoPlace::new(text, "it is relative to a folder that is not known"));
        }
        text.parse()
    }

    /// The folder, where the place is on this machine.
    pub fn local(&self) -> Option<&Path> {
        match &self.0 {
            Where::Local(path) => Some(path),
            Where::Remote { .. } => None,
        }
    }

    /// Store, bucket and prefix, where the place is in an object store.
    pub fn remote(&self) -> Option<(Scheme, &str, &str)> {
        match &self.0 {
            Where::Local(_) => None,
            Where::Remote { scheme, bucket, prefix } => Some((*scheme, bucket, prefix)),
        }
    }

    /// Whether the place is on this machine.
    pub fn is_local(&self) -> bool {
        self.local().is_some()
    }

    /// The place of a folder in this one; `name` may have `/` between folders.
    ///
    /// # Errors
    /// When `name` is empty or absolute, or leads out of this place.
    pub fn join(&self, name: &str) -> Result<Self, NoPlace> {
        let wrong = || NoPlace::new(name, "it names nothing in a place");
        let plain = |part: Component| matches!(part, Component::Normal(_));
        if name.is_empty() || !Path::new(name).components().all(plain) {
            return Err(wrong());
        }
        match &self.0 {
            Where::Local(path) => Self::folder(path.join(name)),
            Where::Remote { scheme, bucket, prefix } => {
                Self::in_store(*scheme, bucket, &format!("{prefix}/{name}"))
                    .map_err(|reason| NoPlace::new(name, &reason))
            }
        }
    }

    /// The place of another prefix in the same bucket, or of another folder.
    pub(crate) fn beside(&self, prefix: &str) -> Result<Self, NoPlace> {
        match &self.0 {
            Where::Local(_) => Self::folder(prefix),
            Where::Remote { scheme, bucket, .. } => Self::in_store(*scheme, bucket, prefix)
                .map_err(|reason| NoPlace::new(prefix, &reason)),
        }
    }

    /// The place that a text names, which counts from this one where it is a relative path.
    ///
    /// # Errors
    /// When the text is no address, or a relative path where this place is in an object store.
    pub fn resolve(&self, text: &str) -> Result<Self, NoPlace> {
        match &self.0 {
            Where::Local(path) if !text.is_empty() && scheme(text).is_none() => {
                Self::folder(path.join(text))
            }
            _ => Self::stored(text),
        }
    }

    /// Whether both lie in the same store: on this machine, or in one bucket.
    pub fn is_in_store_of(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Where::Local(_), Where::Local(_)) => true,
            (
                Where::Remote { scheme, bucket, .. },
                Where::Remote { scheme: others, bucket: there, .. },
            ) => (scheme, bucket) == (others, there),
            _ => false,
        }
    }

    /// Whether this is that place or lies below it, as the addresses say.
    pub fn is_below(&self, other: &Self) -> bool {
        let up = |part: Component| part == Component::ParentDir;
        match (&self.0, &other.0) {
            (Where::Local(path), Where::Local(root)) => {
                path.starts_with(root) && !path.components().any(up)
            }
            (Where::Remote { prefix, .. }, Where::Remote { prefix: root, .. }) => {
                self.is_in_store_of(other) && Path::new(prefix).starts_with(root)
            }
            _ => false,
        }
    }

    /// The last part of the address: the folder's own name; empty for the root.
    pub fn name(&self) -> &str {
        match &self.0 {
            Where::Local(path) => path.file_name().and_then(|name| name.to_str()).unwrap_or(""),
            Where::Remote { prefix, .. } => prefix.rsplit('/').next().unwrap_or(""),
        }
    }

    fn in_store(scheme: Scheme, bucket: &str, prefix: &str) -> Result<Self, String> {
        let prefix = prefix.trim_matches('/');
        if bucket.is_empty() {
            return Err("the bucket is missing".to_owned());
        }
        if !bucket.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)) {
            let bucket = secrets::database(bucket);
            return Err(format!("`{bucket}` is no name of a bucket"));
        }
        if prefix.is_empty() {
            return Err("the prefix is missing".to_owned());
        }
        Key::parse(prefix).map_err(|error| error.to_string())?;
        let (bucket, prefix) = (bucket.to_owned(), prefix.to_owned());
        Ok(Self(Where::Remote { scheme, bucket, prefix }))
    }
}

impl NoPlace {
    fn new(text: &str, reason: &str) -> Self {
        Self { text: secrets::address(text), reason: reason.to_owned(), allowed: ALLOWED }
    }

    /// The same, said of a text that may also name what is only read.
    pub(crate) fn of_source(self) -> Self {
        Self { allowed: ALLOWED_SOURCES, ..self }
    }

    /// A text that names nothing that could be read.
    pub(crate) fn no_source(text: &str, reason: &str) -> Self {
        Self::new(text, reason).of_source()
    }
}

/// The path that an argument names which must be on this machine, as it was typed; of a `file://` address its
/// path. For files that no store takes, such as a picture to look at.
///
/// # Errors
/// For an address in an object store, and for a text that is no address.
pub fn local_path(text: &str) -> Result<PathBuf, String> {
    let place: Place = text.parse().map_err(|error: NoPlace| error.to_string())?;
    match (place.local(), scheme(text)) {
        (Some(_), None) => Ok(PathBuf::from(text)),
        (Some(path), Some(_)) => Ok(path.to_owned()),
        (None, _) => Err(format!(
            "`{}` is not on this machine; give a path, or file:///PATH",
            secrets::address(text)
        )),
    }
}

/// What stands before the first `:` where the text is an address with a scheme. A colon in the name of
/// a folder makes no scheme, unless it is the name of a store and one slash is missing.
pub(crate) fn scheme(text: &str) -> Option<(&str, &str)> {
    let (name, rest) = text.split_once(':')?;
    let known =
        ["s3", "gs", "file", "http", "https"].iter().any(|known| name.eq_ignore_ascii_case(known));
    let named =
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    (named && (rest.starts_with("//") || known && rest.starts_with('/'))).then_some((name, rest))
}

impl FromStr for Place {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Self, NoPlace> {
        let wrong = |reason: &str| NoPlace::new(text, reason);
        let Some((name, rest)) = scheme(text) else { return Self::folder(text) };
        let name = name.to_ascii_lowercase();
        let store = match name.as_str() {
            "file" => {
                // `file:/PATH`, `file:///PATH` or `file://localhost/PATH` (RFC 8089).
                let path = match rest.strip_prefix("//") {
                    None => rest,
                    Some(rest) => rest.strip_prefix("localhost").unwrap_or(rest),
                };
                if !path.starts_with('/') {
                    return Err(wrong("file:// takes an absolute path of this machine"));
                }
                let path = decoded(path).ok_or_else(|| wrong("its %-escapes are damaged"))?;
                return Self::folder(path).map_err(|error| wrong(&error.reason));
            }
            "s3" => Scheme::S3,
            "gs" => Scheme::Gs,
            _ => return Err(wrong(&format!("`{name}://` is not known"))),
        };
        let address = rest.strip_prefix("//").ok_or_else(|| wrong("one `/` is missing"))?;
        let (bucket, prefix) = address.split_once('/').unwrap_or((address, ""));
        Self::in_store(store, bucket, prefix).map_err(|reason| wrong(&reason))
    }
}

/// The path of a `file:` address, in which `%` and two hexadecimal digits stand for a byte.
pub(crate) fn decoded(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Where::Local(path) => write!(f, "{}", path.display()),
            Where::Remote { scheme, bucket, prefix } => {
                write!(f, "{}://{bucket}/{prefix}", scheme.name())
            }
        }
    }
}

impl TryFrom<String> for Place {
    type Error = NoPlace;

    fn try_from(text: String) -> Result<Self, NoPlace> {
        text.parse()
    }
}

impl From<Place> for String {
    fn from(place: Place) -> Self {
        place.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Place {
        text.parse().unwrap()
    }

    #[test]
    fn one_folder_has_one_address() {
        let here = std::env::current_dir().unwrap();
        let same = ["/a b/c", "/a b/c/", "/a b//c", "/a b/./c", "file:///a b/c", "file:/a%20b/c"];
        for text in same.into_iter().chain(["FILE://localhost/a b/c/"]) {
            assert_eq!(place(text).local(), Some(Path::new("/a b/c")), "{text}");
            assert_eq!(place(text).to_string(), "/a b/c");
        }
        assert_eq!(place("data/x").local(), Some(here.join("data/x").as_path()));
        assert_eq!(place("a:b/c").local(), Some(here.join("a:b/c").as_path()));
        assert_eq!(place("s3x:/b").local(), Some(here.join("s3x:/b").as_path()));
        assert_eq!(place("S3://b/p/q/").to_string(), "s3://b/p/q");
        assert_eq!(place("gs://b/p").remote(), Some((Scheme::Gs, "b", "p")));
        assert!(!place("gs://b/p").is_local());
    }

    #[test]
    fn what_is_no_address_is_refused_and_told_what_is_allowed() {
        let cases = [
            ("", "empty"),
            ("s3://bucket", "prefix is missing"),
            ("gs:///x", "bucket is missing"),
            ("s3://b/a//c", "empty"),
            ("s3://b/../c", ".."),
            ("s3://b c/d", "no name of a bucket"),
            ("s3:/b/c", "one `/` is missing"),
            ("ftp://a/b", "`ftp://` is not known"),
            ("file://host/a", "absolute path"),
            ("file://a", "absolute path"),
            ("file:///a%2", "damaged"),
            ("file:///a%00", "NUL"),
            ("https://host/a", "`https://` is not known"),
        ];
        for (text, reason) in cases {
            let message = text.parse::<Place>().unwrap_err().to_string();
            assert!(message.contains(reason) && message.ends_with(ALLOWED), "{text}: {message}");
        }
    }

    #[test]
    fn passwords_and_signatures_are_not_repeated() {
        for text in
            ["https://me:hunter2@host/a/b?X-Amz-Signature=hunter2", "HTTP://host/?hunter2#x"]
        {
            let message = text.parse::<Place>().unwrap_err().to_string();
            assert!(!message.contains("hunter2") && message.contains("://host/"), "{message}");
        }
        let message = "s3://me:hunter2@bucket/a".parse::<Place>().unwrap_err().to_string();
        assert!(!message.contains("hunter2") && message.contains("s3://bucket/a"), "{message}");
    }

    #[test]
    fn a_local_path_is_as_typed_and_never_a_folder_called_s3() {
        for (text, path) in [("a/b", "a/b"), ("/a", "/a"), ("file:///a%20b", "/a b")] {
            assert_eq!(local_path(text), Ok(PathBuf::from(path)));
        }
        for text in ["s3://b/p", "gs://b/p", "ftp://a/b", "file://host/a", ""] {
            assert!(local_path(text).unwrap_err().contains(&format!("`{text}`")), "{text}");
        }
    }

    #[test]
    fn places_in_a_place_stay_in_it() {
        assert_eq!(place("/a").join("b/c").unwrap(), place("/a/b/c"));
        assert_eq!(place("s3://b/p").join("q").unwrap(), place("s3://b/p/q"));
        assert_eq!(place("s3://b/p/q").name(), "q");
        for out in ["", "..", "../x", "/etc", "a/../../b", "."] {
            for parent in ["/a", "s3://b/p"] {
                assert!(place(parent).join(out).is_err(), "{parent} {out}");
            }
        }
        assert_eq!(place("/a/b").resolve("../c").unwrap().to_string(), "/a/b/../c");
        assert_eq!(place("/a").resolve("s3://b/c").unwrap(), place("s3://b/c"));
        assert_eq!(place("/a").resolve("/c").unwrap(), place("/c"));
    }

    #[test]
    fn written_and_read_again_it_is_the_same() {
        for text in ["/a b/c", "/100%25", "s3://b/p/q", "gs://b/p"] {
            let json = serde_json::to_string(&place(text)).unwrap();
            assert_eq!(serde_json::from_str::<Place>(&json).unwrap(), place(text));
        }
        assert!(serde_json::from_str::<Place>("\"ftp://a/b\"").is_err());
        assert_eq!(Place::stored("file:///a%20b").unwrap(), place("/a b"));
        assert_eq!(Place::stored("s3://b/p").unwrap(), place("s3://b/p"));
        assert!(Place::stored("a/b").unwrap_err().to_string().contains("not known"));
    }
}
