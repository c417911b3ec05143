//! Pairs through decoding threads, back in their order, in batches. Not more are on their way than the
//! threads and the next batches need.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::thread;

use anyhow::Result;

use crate::pictures::{Pair, Pairs};

/// Prepares every pair on `threads` threads and hands them on in order, `batch` at a time (the
/// last ones fewer), until `take` breaks or something fails.
///
/// # Errors
/// The first one, in the order of the pairs.
pub fn stream<T: Send>(
    pairs: &Pairs,
    threads: usize,
    batch: usize,
    prepare: &(dyn Fn(Pair) -> Result<T> + Sync),
    take: &mut dyn FnMut(Vec<T>) -> Result<ControlFlow<()>>,
) -> Result<()> {
    let window = 2 * batch + 2 * threads;
    thread::scope(|scope| {
        let (give_ticket, tickets) = crossbeam_channel::bounded(window);
        for _ in 0..window {
            let _ = give_ticket.send(());
        }
        let (send, to_prepare) = crossbeam_channel::bounded(threads);
        scope.spawn(move || {
            let mut number = 0u64;
            pairs.each(&mut |pair| {
                let sent = tickets.recv().is_ok() && send.send((number, pair)).is_ok();
                number += 1;
                if sent { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
        });
        let (prepared, arrived) = crossbeam_channel::bounded(window);
        for _ in 0..threads.max(1) {
            let (to_prepare, prepared) = (to_prepare.clone(), prepared.clone());
            scope.spawn(move || {
                for (number, pair) in to_prepare {
                    if prepared.send((number, pair.and_then(prepare))).is_err() {
                        return;
                    }
                }
            });
        }
        drop((to_prepare, prepared));

        let mut next = 0;
        let mut early = BTreeMap::new();
        let mut waiting = Vec::with_capacity(batch);
        for (number, item) in arrived {
            early.insert(number, item);
            while let Some(item) = early.remove(&next) {
                next += 1;
                waiting.push(item?);
                let _ = give_ticket.try_send(());
                if waiting.len() == batch
                    && take(std::mem::replace(&mut waiting, Vec::with_capacity(batch)))?.is_break()
                {
                    return Ok(());
                }
            }
        }
        if !waiting.is_empty() {
            let _ = take(waiting)?;
        }
        Ok(())
    })
}
