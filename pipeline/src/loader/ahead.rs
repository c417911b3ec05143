//! Reading ahead of decoding from object stores, by threads of its own that wait for answers: as many
//! requests in flight as there are of them, whatever the number of threads that decode.
//!
//! The positions of the stream are planned in order. Images are asked for one by one, near ones together;
//! with `shuffle = "window"` whole row groups are, a window before they are decoded. What could not be read
//! ahead is read by who decodes it, so that errors are the same as without.
//!
//! Always holds: at most [`IMAGES`] images and about [`BYTES`] bytes are read ahead and not yet taken, of
//! each dataset at most `groups` row groups. Every position that was planned is taken once.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use storage::Ranges;

use super::sample::Sampler;
use crate::dataset::Request;
use crate::order::Shuffle;

/// Requests in flight: 64 answers of 100 kB after 30 ms are 1.7 Gb/s.
pub(super) const REQUESTS: usize = 64;
/// Images that are read ahead one by one, and their bytes.
const IMAGES: usize = 512;
const BYTES: u64 = 256 << 20;
/// Positions that are planned together: near images among them come by one request.
const UNIT: usize = 64;
/// Positions ahead of the decoders where whole groups are read: reached by small datasets alone.
const POSITIONS: u64 = 1 << 18;

/// What is read ahead of one stream.
pub(super) struct Ahead {
    /// Places of this rank in a global batch.
    slice: Range<u64>,
    batch_size: u64,
    kinds: Vec<Kind>,
    /// Row groups of a dataset that are held.
    groups: usize,
    state: Mutex<State>,
    /// There are jobs, or there is room to plan some.
    work: Condvar,
    /// Something was planned or has come.
    ready: Condvar,
    waited: AtomicU64,
}

/// How a dataset is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// On this machine: by who decodes.
    Near,
    Images,
    Groups,
}

#[derive(Default)]
struct State {
    /// The position that is planned next, as batch and place in it.
    next: (u64, u64),
    jobs: VecDeque<Job>,
    images: HashMap<u64, Image>,
    bytes: u64,
    groups: HashMap<GroupKey, Group>,
    /// Planned positions of datasets read by groups that were not taken yet.
    grouped: u64,
    clock: u64,
    stop: bool,
}

/// Dataset, shard and row group.
type GroupKey = (usize, usize, usize);

/// An image that was planned, with the bytes that it counts for.
struct Image {
    bytes: u64,
    read: Read,
}

#[derive(Clone)]
enum Read {
    Coming,
    Here(Ranges),
    Failed,
}

struct Group {
    read: Read,
    /// Planned positions in it that were not taken yet, and when that was last one more or less.
    wanted: u64,
    used: u64,
}

enum Job {
    /// Images of a shard, as positions and rows: finds out which requests get them.
    Plan { dataset: usize, shard: usize, positions: Vec<u64>, rows: Vec<u64> },
    /// One request; the positions of its images.
    Ask { request: Request, positions: Vec<u64> },
    /// The group of this row.
    Group { key: GroupKey, row: u64 },
}

impl Ahead {
    /// What reads ahead of a stream from its first batch on; none where all datasets are on this machine.
    pub(super) fn new(
        sampler: &Sampler,
        slice: Range<u64>,
        batch_size: u64,
        first_batch: u64,
    ) -> Option<Self> {
        let window = sampler.shuffle() == Shuffle::Window;
        let kind = |dataset: &crate::Dataset| match dataset.is_far() {
            false => Kind::Near,
            true if window && dataset.has_groups() => Kind::Groups,
            true => Kind::Images,
        };
        let kinds: Vec<_> = sampler.datasets().iter().map(kind).collect();
        if kinds.iter().all(|&kind| kind == Kind::Near) {
            return None;
        }
        let state = State { next: (first_batch, slice.start), ..State::default() };
        let (state, groups) = (Mutex::new(state), 2 * sampler.window());
        let (work, ready, waited) = Default::default();
        Some(Self { slice, batch_size, kinds, groups, state, work, ready, waited })
    }

    /// What a thread does: reads what is planned, and plans where there is room.
    pub(super) fn work(&self, sampler: &Sampler) {
        let mut state = self.lock();
        while !state.stop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                self.run(sampler, job);
                state = self.lock();
            } else if self.plan(&mut state, sampler) {
                self.ready.notify_all();
                for _ in 1..state.jobs.len() {
                    self.work.notify_one();
                }
            } else {
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// The image at a position, once it has been read; none where it is to be read by the caller. To be
    /// called once for every position of the rank.
    pub(super) fn take(&self, sampler: &Sampler, position: u64) -> Option<Ranges> {
        let sample = sampler.sample_ref(position);
        let kind = *self.kinds.get(sample.dataset)?;
        if kind == Kind::Near {
            return None;
        }
        let started = Instant::now();
        let mut state = self.lock();
        let read = loop {
            let (batch, place) = state.next;
            if state.stop {
                return None;
            }
            if position < batch * self.batch_size + place {
                let read = match kind {
                    Kind::Groups => {
                        let (shard, group, _) =
                            sampler.datasets().get(sample.dataset)?.address(sample.index)?;
                        state.take_group((sample.dataset, shard, group))
                    }
                    _ => state.take_image(position),
                };
                if !matches!(read, Read::Coming) {
                    break read;
                }
            }
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        drop(state);
        self.work.notify_one();
        self.waited.fetch_add(started.elapsed().as_nanos() as u64, Ordering::Relaxed);
        match read {
            Read::Here(ranges) => Some(ranges),
            _ => None,
        }
    }

    /// Time that threads have waited in [`Self::take`], over all of them.
    pub(super) fn waited(&self) -> Duration {
        Duration::from_nanos(self.waited.load(Ordering::Relaxed))
    }

    /// Ends the threads after the request that each is at.
    pub(super) fn stop(&self) {
        self.lock().stop = true;
        self.work.notify_all();
        self.ready.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Plans the next positions while there is room; false where there is none.
    fn plan(&self, state: &mut State, sampler: &Sampler) -> bool {
        if state.images.len() > IMAGES - UNIT {
            return false;
        }
        let mut shards: BTreeMap<(usize, usize), (Vec<u64>, Vec<u64>)> = BTreeMap::new();
        let mut planned = false;
        for _ in 0..UNIT {
            let (batch, place) = state.next;
            let position = batch * self.batch_size + place;
            let sample = sampler.sample_ref(position);
            let dataset = sampler.datasets().get(sample.dataset);
            let address = dataset.and_then(|dataset| dataset.address(sample.index));
            match (self.kinds.get(sample.dataset), dataset, address) {
                (Some(Kind::Images), Some(dataset), Some((shard, _, row))) => {
                    let bytes = dataset.mean_bytes();
                    if !state.images.is_empty() && state.bytes + bytes > BYTES {
                        break;
                    }
                    state.bytes += bytes;
                    state.images.insert(position, Image { bytes, read: Read::Coming });
                    let (positions, rows) = shards.entry((sample.dataset, shard)).or_default();
                    positions.push(position);
                    rows.push(row);
                }
                // Planned by the condition itself, where there is room.
                (Some(Kind::Groups), _, Some((shard, group, row)))
                    if !state.want_group((sample.dataset, shard, group), row, self.groups) =>
                {
                    break;
                }
                _ => {}
            }
            planned = true;
            state.next = match place + 1 < self.slice.end {
                true => (batch, place + 1),
                false => (batch + 1, self.slice.start),
            };
        }
        state.jobs.extend(shards.into_iter().map(|((dataset, shard), (positions, rows))| {
            Job::Plan { dataset, shard, positions, rows }
        }));
        planned
    }

    fn run(&self, sampler: &Sampler, job: Job) {
        match job {
            Job::Plan { dataset, shard, positions, rows } => {
                let requests =
                    unwound(|| sampler.datasets().get(dataset)?.requests(shard, &rows).ok());
                let Some(requests) = requests else { return self.answer(&positions, None) };
                let mut asked = requests.into_iter().map(|request| {
                    let positions = request.rows().filter_map(|at| positions.get(at).copied());
                    (positions.collect::<Vec<_>>(), request)
                });
                let Some((positions, request)) = asked.next() else { return };
                let mut state = self.lock();
                state.weigh(&request, &positions);
                for (positions, request) in asked.rev() {
                    state.weigh(&request, &positions);
                    state.jobs.push_front(Job::Ask { request, positions });
                    self.work.notify_one();
                }
                drop(state);
                self.answer(&positions, unwound(|| request.answer().ok()));
            }
            Job::Ask { request, positions } => {
                self.answer(&positions, unwound(|| request.answer().ok()));
            }
            Job::Group { key, row } => {
                let read = unwound(|| sampler.datasets().get(key.0)?.read_group(key.1, row).ok());
                if let Some(group) = self.lock().groups.get_mut(&key) {
                    group.read = read.map_or(Read::Failed, Read::Here);
                }
                self.ready.notify_all();
            }
        }
    }

    /// Hands in what was read for these positions, or that it could not be.
    fn answer(&self, positions: &[u64], read: Option<Vec<Ranges>>) {
        let mut read = read.unwrap_or_default().into_iter();
        let mut state = self.lock();
        for position in positions {
            let read = read.next();
            if let Some(image) = state.images.get_mut(position) {
                image.read = read.map_or(Read::Failed, Read::Here);
            }
        }
        drop(state);
        self.ready.notify_all();
    }
}

impl State {
    /// Counts an image by the bytes of the request that it comes by.
    fn weigh(&mut self, request: &Request, positions: &[u64]) {
        let each = request.bytes() / (positions.len() as u64).max(1);
        for position in positions {
            if let Some(image) = self.images.get_mut(position) {
                self.bytes = (self.bytes + each).saturating_sub(image.bytes);
                image.bytes = each;
            }
        }
    }

    fn take_image(&mut self, position: u64) -> Read {
        match self.images.get(&position) {
            Some(Image { read: Read::Coming, .. }) => return Read::Coming,
            None => return Read::Failed,
            Some(_) => {}
        }
        let Some(image) = self.images.remove(&position) else { return Read::Failed };
        self.bytes = self.bytes.saturating_sub(image.bytes);
        image.read
    }

    fn take_group(&mut self, key: GroupKey) -> Read {
        self.clock += 1;
        let Some(group) = self.groups.get_mut(&key) else { return Read::Failed };
        if !matches!(group.read, Read::Coming) {
            group.wanted = group.wanted.saturating_sub(1);
            group.used = self.clock;
            self.grouped = self.grouped.saturating_sub(1);
        }
        group.read.clone()
    }

    /// Plans a position of a group, and the group where it is not held; false where there is no room.
    fn want_group(&mut self, key: GroupKey, row: u64, most: usize) -> bool {
        if self.grouped >= POSITIONS {
            return false;
        }
        if !self.groups.contains_key(&key) {
            let of = |other: &GroupKey| other.0 == key.0;
            if self.groups.keys().filter(|other| of(other)).count() >= most {
                let free =
                    self.groups.iter().filter(|(other, group)| of(other) && group.wanted == 0);
                let Some(oldest) = free.min_by_key(|(_, group)| group.used).map(|(&key, _)| key)
                else {
                    return false;
                };
                self.groups.remove(&oldest);
            }
            self.groups.insert(key, Group { read: Read::Coming, wanted: 0, used: 0 });
            self.jobs.push_back(Job::Group { key, row });
        }
        self.clock += 1;
        if let Some(group) = self.groups.get_mut(&key) {
            group.wanted += 1;
            group.used = self.clock;
        }
        self.grouped += 1;
        true
    }
}

/// The value, or none where making it panicked: then who decodes the image meets the same panic.
fn unwound<T>(make: impl FnOnce() -> Option<T>) -> Option<T> {
    catch_unwind(AssertUnwindSafe(make)).ok().flatten()
}
