//! Addresses of what must lie on this machine: a local path (or `file://`). A [`crate::Store`] may also
//! lie elsewhere.

use std::path::PathBuf;

use crate::{Error, Result};

/// The local path of an address.
///
/// # Errors
/// For `s3://`, `gs://` and every other scheme but `file://`.
pub fn local(uri: &str) -> Result<PathBuf> {
    if let Some(path) = uri.strip_prefix("file://") {
        return Ok(PathBuf::from(path));
    }
    match uri.split_once("://") {
        None if uri.is_empty() => Err(refused(uri, "an empty address; give a local folder")),
        None => Ok(PathBuf::from(uri)),
        Some(("s3" | "gs", _)) => {
            Err(refused(uri, "must lie on this machine; give a local folder"))
        }
        Some(_) => Err(refused(uri, "unknown kind of address; give a local folder")),
    }
}

fn refused(uri: &str, message: &str) -> Error {
    Error::Refused { place: uri.to_owned(), message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_schemes_are_refused_in_a_clear_line() {
        let error = local("s3://bucket/imagenet").unwrap_err().to_string();
        assert_eq!(error, "s3://bucket/imagenet: must lie on this machine; give a local folder");
        assert_eq!(local("file:///a b").unwrap(), PathBuf::from("/a b"));
        assert_eq!(local("data/x").unwrap(), PathBuf::from("data/x"));
    }
}
