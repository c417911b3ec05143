//! The net below what others wrote: decoders that meet damaged files with a panic. It ends nothing and prints
//! nothing; the caller says which file it was.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// Whether this thread is in the net.
    static IN_NET: Cell<bool> = const { Cell::new(false) };
}

/// What `run` gives, or none where it panicked.
pub(crate) fn caught<T>(run: impl FnOnce() -> T) -> Option<T> {
    keep_silent();
    let outer = IN_NET.replace(true);
    let result = catch_unwind(AssertUnwindSafe(run));
    IN_NET.set(outer);
    result.ok()
}

/// From now on panics in the net are not printed. All others are, by whom they were printed before: a panic
/// elsewhere is a fault of ours, and should be seen.
fn keep_silent() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = take_hook();
        set_hook(Box::new(move |panic| {
            if !IN_NET.try_with(Cell::get).unwrap_or(false) {
                print(panic);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_in_the_net_is_nothing_and_the_next_one_outside_is_one() {
        assert_eq!(caught(|| 3), Some(3));
        let inner = caught(|| {
            assert_eq!(caught(|| -> u8 { panic!("inner") }), None);
            assert!(IN_NET.get(), "still in the outer net");
            7
        });
        assert_eq!(inner, Some(7));
        assert!(!IN_NET.get());
    }
}
