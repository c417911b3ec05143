//! A net under code of others that may panic on files from outside: the panic becomes an error of the caller,
//! who knows the file's name. The message that programs print for a panic asks [`is_under`] first, and stays
//! silent.
//!
//! A net is no check: memory that is asked for on a file's word ends the process at once. Sizes are checked
//! before, the net is for what checks cannot know.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// True on a thread that is within [`panics`].
pub fn is_under() -> bool {
    DEPTH.get() > 0
}

/// Runs `work`; a panic within is the error, as the text that it came with.
///
/// What `work` changes may be left half done by a panic: the caller drops it.
///
/// # Errors
/// Where `work` panicked on this thread.
pub fn panics<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    DEPTH.set(DEPTH.get() + 1);
    let result = catch_unwind(AssertUnwindSafe(work));
    DEPTH.set(DEPTH.get() - 1);
    result.map_err(|payload| text(payload.as_ref()))
}

fn text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without words").lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_first_line() {
        assert!(!is_under());
        let within = || {
            assert!(is_under());
            // A net within a net does not take the outer one away.
            assert_eq!(panics(|| panic!("inner")), Err::<(), _>("inner".to_owned()));
            assert!(is_under());
            panic!("outer {}\nand more", 7)
        };
        assert_eq!(panics(within), Err::<(), _>("outer 7".to_owned()));
        assert!(!is_under());
        assert_eq!(
            panics(|| std::panic::panic_any(7)),
            Err::<(), _>("a panic without words".to_owned())
        );
        assert_eq!(panics(|| 7), Ok(7));
    }
}
