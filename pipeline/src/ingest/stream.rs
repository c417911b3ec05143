//! The threads of an ingest: one reads, several decode, the caller's writes.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::gate::Gate;
use super::layout::{Ended, Layout};
use super::options::IngestOptions;
use super::plan::IngestPlan;
use super::work::{self, Done, Job};
use super::writer::Writer;
use crate::{Error, Result};

/// Bytes of images that are read but not yet written.
const IN_FLIGHT: u64 = 256 << 20;

/// Reads what the writer has not taken yet, to the end or to its limit; tells what is known of each
/// source then.
pub(super) fn run(
    options: &IngestOptions,
    plan: &IngestPlan,
    layouts: Vec<Box<dyn Layout>>,
    writer: &mut Writer,
) -> Result<Vec<Option<Ended>>> {
    if writer.is_full() {
        return Ok(writer.ended().to_vec());
    }
    let workers = crate::loader::threads(options.workers);
    let gate = &Gate::new(IN_FLIGHT);
    let (jobs, todo) = crossbeam_channel::bounded::<Job>(4 * workers);
    let (done, results) = crossbeam_channel::bounded::<(u64, Done)>(4 * workers);
    let copy = options.copy();
    let taken = writer.taken().to_vec();
    // Known of a source before the first item of the next one is handed on.
    let ended = &Mutex::new(writer.ended().to_vec());
    let known = || ended.lock().unwrap_or_else(PoisonError::into_inner);
    thread::scope(|scope| {
        for _ in 0..workers {
            let (todo, done) = (todo.clone(), done.clone());
            scope.spawn(move || {
                for job in todo {
                    let number = job.number;
                    if done.send((number, work::work(job, &copy))).is_err() {
                        break;
                    }
                }
            });
        }
        drop((todo, done));
        let reader = scope.spawn(move || {
            let mut number = 0;
            for (source, layout) in layouts.into_iter().enumerate() {
                if known()[source].is_some() {
                    continue;
                }
                let read = layout.read(taken[source], &mut |item| {
                    let job = Job::new(number, source, plan, item);
                    number += 1;
                    gate.enter(job.weight()) && jobs.send(job).is_ok()
                });
                let read = plan.sources[source].origin.told(read)?;
                known()[source] = Some(read);
                if gate.is_closed() {
                    break;
                }
            }
            Ok(())
        });

        // Items come back in any order and are written in theirs.
        let mut out_of_order = BTreeMap::new();
        let mut next = 0;
        let mut write = || -> Result<()> {
            for (number, done) in results.iter() {
                out_of_order.insert(number, done);
                while let Some(done) = out_of_order.remove(&next) {
                    next += 1;
                    gate.leave(done.weight);
                    let source = done.source;
                    if !writer.take(done, || known()[..source].to_vec())? {
                        return Ok(());
                    }
                }
            }
            Ok(())
        };
        let written = write();
        gate.close();
        drop(results);
        let read: Result<()> = reader.join().unwrap_or_else(|_| {
            Err(Error::source("reader", "the reading thread panicked; please report the archive"))
        });
        written?;
        read
    })?;
    Ok(known().clone())
}
