//! Who is at fault for an error: whoever asked, something that may answer the next time, or neither is known.

use std::error::Error;

/// Wrong use of a command: a bad argument or a bad configuration. A chain of errors that holds one
/// ends the program with status 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(String);

impl Usage {
    /// Wrong use, with a message that names what is wrong and what is allowed.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    /// Wrong use, as an error of a library tells it.
    pub fn of(error: impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}

/// A result whose error is wrong use where `hint` has something to say beside it.
///
/// # Errors
/// That of `result`.
pub fn hinted<T>(
    result: anyhow::Result<T>,
    hint: impl FnOnce(&(dyn Error + 'static)) -> Option<&'static str>,
) -> anyhow::Result<T> {
    result.map_err(|error| match hint(&*error) {
        Some(hint) => Usage(format!("{}; {hint}", crate::one_line(&error))).into(),
        None => error,
    })
}

/// What an error of a library says of its cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A bad argument or configuration: trying again helps nobody.
    Usage,
    /// A store or server that did not answer: the next time it may.
    Outage,
}

/// Tells what an error, one of a chain, says of its cause; none where it says nothing, or is unknown.
pub type Judge = fn(&(dyn Error + 'static)) -> Option<Fault>;

/// A [`Judge`] of these types of errors, which tell it by `is_usage` and `is_outage`.
#[macro_export]
macro_rules! judge {
    ($($library:ty),+ $(,)?) => {
        |error| {
            $(if let Some(error) = error.downcast_ref::<$library>() {
                return match (error.is_outage(), error.is_usage()) {
                    (true, _) => Some($crate::Fault::Outage),
                    (false, true) => Some($crate::Fault::Usage),
                    (false, false) => None,
                };
            })+
            None
        }
    };
}

/// Whether an error is wrong use. It is not where anything did not answer, whatever was made of that on
/// the way.
pub fn is_usage(error: &anyhow::Error, judge: Judge) -> bool {
    let says = |fault| error.chain().any(|cause| judge(cause) == Some(fault));
    // As context of an error, or somewhere among its causes.
    let usage = || error.is::<Usage>() || error.chain().any(|cause| cause.is::<Usage>());
    !says(Fault::Outage) && (usage() || says(Fault::Usage))
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Library(&'static str);

    impl Library {
        fn is_usage(&self) -> bool {
            self.0 == "no such bucket"
        }

        fn is_outage(&self) -> bool {
            self.0 == "timed out"
        }
    }

    #[test]
    fn wrong_use_is_what_the_library_or_the_program_says_unless_nothing_answered() {
        let judge: Judge = judge![Library];
        let library = |text| anyhow::Error::from(Library(text));
        let cases = [
            (anyhow!("no space left"), false),
            (library("no space left"), false),
            (library("no such bucket"), true),
            (library("no such bucket").context("--out cannot be used"), true),
            (library("no space left").context(Usage::new("--out cannot be used")), true),
            (Usage::new("--count is 0").into(), true),
            (anyhow::Error::from(Usage::new("--count is 0")).context("sampling"), true),
            (library("timed out"), false),
            (library("timed out").context(Usage::new("--out cannot be used")), false),
        ];
        for (error, wanted) in cases {
            assert_eq!(is_usage(&error, judge), wanted, "{error:#}");
        }
    }
}
