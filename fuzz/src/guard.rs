//! An allocator that ends the process where too much is asked for at once: memory is asked for before a file
//! proves that it has so much, and whether the system would have given it shows on no small machine.
#![allow(unsafe_code, reason = "an allocator is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The system's allocator up to a number of bytes at once.
pub struct Guard {
    largest: AtomicUsize,
}

impl Guard {
    /// Without a limit yet.
    #[expect(clippy::new_without_default, reason = "a static wants a constant")]
    pub const fn new() -> Self {
        Self { largest: AtomicUsize::new(usize::MAX) }
    }

    /// From here on this is the most that may be asked for at once.
    pub fn limit(&self, bytes: usize) {
        self.largest.store(bytes, Ordering::Relaxed);
    }

    fn check(&self, bytes: usize) {
        if bytes > self.largest.load(Ordering::Relaxed) {
            // Nothing here may allocate. The stack that a debugger or libFuzzer prints says who asked.
            std::process::abort();
        }
    }
}

// SAFETY: every call is handed on unchanged to the system's allocator, which keeps the contract; `check` only
// reads, and ends the process or does nothing.
unsafe impl GlobalAlloc for Guard {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.check(layout.size());
        // SAFETY: the caller's layout, as it came.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.check(layout.size());
        // SAFETY: the caller's layout, as it came.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.check(size);
        // SAFETY: the caller's pointer, layout and size, as they came; the pointer is one of `System`.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's pointer and layout, as they came; the pointer is one of `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}
