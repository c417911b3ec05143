//! A gate that bounds the bytes between the reader and the writer.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Lets bytes in up to a limit; a single larger item passes when nothing else is inside, so that the
/// writer, which frees in order, can always go on.
pub(super) struct Gate {
    limit: u64,
    state: Mutex<(u64, bool)>,
    freed: Condvar,
}

impl Gate {
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, state: Mutex::new((0, false)), freed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, (u64, bool)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is room; false once the gate is closed.
    pub(super) fn enter(&self, bytes: u64) -> bool {
        let mut state = self.lock();
        while !state.1 && state.0 > 0 && state.0 + bytes > self.limit {
            state = self.freed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.0 += bytes;
        !state.1
    }

    /// Frees what an item had taken.
    pub(super) fn leave(&self, bytes: u64) {
        let mut state = self.lock();
        state.0 = state.0.saturating_sub(bytes);
        self.freed.notify_all();
    }

    /// Lets nothing in any more; who waits goes away.
    pub(super) fn close(&self) {
        self.lock().1 = true;
        self.freed.notify_all();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().1
    }
}
