//! What the threads of a loader share: which piece of which batch comes next, and what is done.

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::ahead::Ahead;
use super::batch::{Batch, Piece};
use super::sample::Sampler;
use crate::{Error, Result};
use storage::Ranges;

/// Bytes of a batch that one thread makes in one go: an image of 256×256, several of smaller ones.
const PIECE_BYTES: usize = 1 << 18;

/// The work of one stream. At most `prefetch` batches are in the making or waiting.
pub(super) struct Queue {
    pub(super) sampler: Sampler,
    /// What reads ahead, where a dataset is far away.
    pub(super) ahead: Option<Ahead>,
    /// Places of this rank in a global batch.
    slice: Range<u64>,
    batch_size: u64,
    /// Images in a piece, but for the last of a batch.
    each: usize,
    prefetch: u64,
    state: Mutex<State>,
    room: Condvar,
    ready: Condvar,
}

#[derive(Default)]
struct State {
    /// The batch whose pieces are given out, with those that are left, last first.
    open: u64,
    left: Vec<(usize, Piece)>,
    /// The batch that the consumer takes next.
    next: u64,
    stop: bool,
    /// Batches in the making and those that are whole.
    batches: BTreeMap<u64, Vec<Option<Made>>>,
    /// Batches that the consumer has done with, for their memory.
    used: Vec<Batch>,
}

/// A piece that a thread is through with.
struct Made {
    piece: Result<Piece>,
    bad: Vec<Error>,
}

/// A batch for the consumer, with the bad images that were passed over in it.
pub(super) struct Delivery {
    pub(super) batch: Result<Batch>,
    pub(super) bad: Vec<Error>,
}

impl Queue {
    pub(super) fn new(
        sampler: Sampler,
        slice: Range<u64>,
        batch_size: u64,
        first_batch: u64,
        prefetch: u64,
    ) -> Self {
        let count = (slice.end - slice.start) as usize;
        let each = (PIECE_BYTES / (7 * sampler.size().pixels())).clamp(1, count);
        let state = State { open: first_batch, next: first_batch, ..State::default() };
        let (room, ready) = Default::default();
        let state = Mutex::new(state);
        let ahead = Ahead::new(&sampler, slice.clone(), batch_size, first_batch);
        Self { sampler, ahead, slice, batch_size, each, prefetch, state, room, ready }
    }

    /// What a thread does: takes the next piece while there is room, fills it, hands it in.
    pub(super) fn work(&self) {
        while let Some((batch, number, piece)) = self.take() {
            let mut bad = Vec::new();
            let mut left = self.positions(batch, number);
            let filled = AssertUnwindSafe(|| self.fill(piece, &mut left, &mut bad));
            let piece = catch_unwind(filled)
                .unwrap_or_else(|_| Err(Error::Image(format!("batch {batch}: loader panicked"))));
            // What comes after a bad image is not made, but was read ahead.
            left.for_each(|position| drop(self.read(position)));
            self.hand_in(batch, number, Made { piece, bad });
        }
    }

    /// Waits for a batch; the next one after it comes next.
    pub(super) fn deliver(&self, index: u64) -> Delivery {
        let mut state = self.lock();
        let whole = |made: &Vec<Option<Made>>| made.iter().all(Option::is_some);
        while !state.batches.get(&index).is_some_and(whole) {
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let made = state.batches.remove(&index).unwrap_or_default();
        state.next = index + 1;
        drop(state);
        self.room.notify_all();
        let mut bad = Vec::new();
        let pieces: Result<Vec<Piece>> = made
            .into_iter()
            .flatten()
            .map(|mut made| {
                bad.append(&mut made.bad);
                made.piece
            })
            .collect();
        let join = |pieces| Piece::join(index, self.sampler.size(), pieces);
        Delivery { batch: pieces.map(join), bad }
    }

    /// Takes the memory of a batch back for a later one.
    pub(super) fn reuse(&self, batch: Batch) {
        let mut state = self.lock();
        if (state.used.len() as u64) < self.prefetch {
            state.used.push(batch);
        }
    }

    /// Ends the threads after the piece that each is at.
    pub(super) fn stop(&self) {
        self.lock().stop = true;
        if let Some(ahead) = &self.ahead {
            ahead.stop();
        }
        self.room.notify_all();
    }

    /// Batches that are in the making or wait for the consumer.
    pub(super) fn ahead(&self) -> usize {
        self.lock().batches.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next piece to fill: of the open batch, or of a new one while there is room.
    fn take(&self) -> Option<(u64, usize, Piece)> {
        let mut state = self.lock();
        loop {
            if state.stop {
                return None;
            }
            if let Some((number, piece)) = state.left.pop() {
                let batch = state.open;
                if state.left.is_empty() {
                    state.open += 1;
                }
                return Some((batch, number, piece));
            }
            if state.open < state.next + self.prefetch {
                let count = (self.slice.end - self.slice.start) as usize;
                let used = state.used.pop();
                let pieces = Piece::cut(count, self.each, self.sampler.size().pixels(), used);
                let batch = state.open;
                state.batches.insert(batch, pieces.iter().map(|_| None).collect());
                state.left = pieces.into_iter().enumerate().rev().collect();
            } else {
                state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Fills a piece with the samples of these positions, up to the first that is an error.
    fn fill(
        &self,
        mut piece: Piece,
        positions: &mut Range<u64>,
        bad: &mut Vec<Error>,
    ) -> Result<Piece> {
        for position in positions {
            let ahead = self.read(position);
            piece.push(position, self.sampler.sample(position, ahead, bad)?);
        }
        Ok(piece)
    }

    /// The positions of a piece of a batch.
    fn positions(&self, batch: u64, number: usize) -> Range<u64> {
        let from = self.slice.start + (number * self.each) as u64;
        let to = (from + self.each as u64).min(self.slice.end);
        batch * self.batch_size + from..batch * self.batch_size + to
    }

    /// What was read ahead for a position.
    fn read(&self, position: u64) -> Option<Ranges> {
        self.ahead.as_ref()?.take(&self.sampler, position)
    }

    fn hand_in(&self, batch: u64, number: usize, made: Made) {
        let mut state = self.lock();
        let Some(pieces) = state.batches.get_mut(&batch) else { return };
        pieces[number] = Some(made);
        if pieces.iter().all(Option::is_some) {
            drop(state);
            self.ready.notify_all();
        }
    }
}
