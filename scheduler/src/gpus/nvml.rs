//! What NVIDIA's driver says of the cards of this host, through its management library (NVML), which is
//! loaded when it is asked and needed for nothing else.
//!
//! A call into the driver can hang on a sick card, and nothing can end it. So each card is asked on a
//! thread of its own within a time limit. A thread that hangs is left behind, and its card is not asked
//! again before that thread has come back, so that at most one hangs a card.
//!
//! NVML is opened for each survey and closed after it: a process that keeps it open stands in the way
//! of a reset of a card and of switching its MIG mode.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nvml_wrapper::Device;
use nvml_wrapper::error::NvmlError;
use registry::Gpu;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// The driver's library, by the name that every driver installs it under.
const LIBRARY: &str = "libnvidia-ml.so.1";

/// A card as the driver shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Card {
    /// Its number in the driver's order, which is that of the PCI bus.
    pub index: u32,
    /// The card as a whole.
    pub gpu: Gpu,
    /// Its MIG devices where MIG mode is on: then only they can be used, not the card.
    pub parts: Option<Vec<Part>>,
}

/// A MIG device of a card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// It, by the name that the driver gives it.
    pub gpu: Gpu,
    /// The name that drivers before R470 gave it, which CUDA still takes:
    /// `MIG-GPU-<uuid>/<GPU instance>/<compute instance>`.
    pub old_name: Option<String>,
}

/// How busy a card or a MIG device is, where the driver says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// Per cent of the last moment (up to a second) in which a kernel ran.
    pub percent: Option<u32>,
    /// Bytes of its memory that are used.
    pub memory_used: Option<i64>,
}

/// What the driver said.
#[derive(Clone, Debug, Default)]
pub(crate) struct Survey {
    /// How busy each card and each MIG device is, by UUID.
    pub loads: Vec<(String, Load)>,
    /// The driver's version.
    pub driver: Option<String>,
    /// Those that answered, by their number.
    pub cards: Vec<Card>,
    /// The numbers of those that did not, with the reason.
    pub silent: Vec<(u32, String)>,
}

/// Why the driver said nothing.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The library cannot be loaded.
    NoLibrary(String),
    /// It is there, but no driver is loaded.
    NoDriver,
    /// It refuses.
    Refuses(String),
    /// It does not come back.
    Hangs(Duration),
}

impl Failure {
    /// True where that is what a host without GPUs looks like.
    pub fn is_no_driver(&self) -> bool {
        matches!(self, Self::NoLibrary(_) | Self::NoDriver)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLibrary(why) => write!(f, "the driver's library NVML cannot be loaded: {why}"),
            Self::NoDriver => f.write_str("NVML says that no NVIDIA driver is loaded"),
            Self::Refuses(why) => write!(f, "NVML cannot be used: {why}"),
            Self::Hangs(limit) => write!(f, "{}", no_answer(*limit)),
        }
    }
}

fn no_answer(limit: Duration) -> String {
    format!("the driver did not answer within {}", terminal::duration(limit))
}

/// What a thread is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Asked {
    /// Opening the library and counting the cards.
    Driver,
    /// One card.
    Card(u32),
}

/// The library, and what hangs in it.
#[derive(Clone, Debug)]
pub(crate) struct Nvml {
    library: OsString,
    limit: Duration,
    asking: Arc<Mutex<BTreeSet<Asked>>>,
}

/// Marks what a thread is at until it has come back.
struct Asking {
    all: Arc<Mutex<BTreeSet<Asked>>>,
    what: Asked,
}

impl Asking {
    /// None where a thread is at that already.
    fn begin(all: &Arc<Mutex<BTreeSet<Asked>>>, what: Asked) -> Option<Self> {
        let new = all.lock().unwrap_or_else(PoisonError::into_inner).insert(what);
        new.then(|| Self { all: Arc::clone(all), what })
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.what);
    }
}

/// A card with its UUID, and the load of its parts by theirs.
type Seen = (String, Card, Vec<(String, Load)>);

/// What the threads of a survey report.
enum Answer {
    Failed(Failure),
    Opened { driver: Option<String>, count: u32 },
    Card { index: u32, found: Result<Seen, String> },
}

impl Nvml {
    /// This library, or the driver's where none is named; a survey takes no longer than `limit`.
    pub fn new(library: Option<OsString>, limit: Duration) -> Self {
        Self { library: library.unwrap_or_else(|| LIBRARY.into()), limit, asking: Arc::default() }
    }

    /// Asks for every card.
    ///
    /// # Errors
    /// When the driver as a whole does not answer.
    pub async fn survey(&self) -> Result<Survey, Failure> {
        let deadline = Instant::now() + self.limit;
        let hangs = || Failure::Hangs(self.limit);
        let asking = Asking::begin(&self.asking, Asked::Driver).ok_or_else(hangs)?;
        let (sender, mut answers) = mpsc::unbounded_channel();
        let library = self.library.clone();
        thread("nvml", move || open(&library, asking, &sender)).map_err(Failure::Refuses)?;
        let mut survey = Survey::default();
        let mut found: Vec<(String, Card)> = Vec::new();
        let mut open_for: Option<BTreeSet<u32>> = None;
        // Until the threads are gone, not only until all have answered: the next survey must not find
        // one of them at work and take that for a driver that hangs.
        loop {
            match timeout_at(deadline, answers.recv()).await {
                Ok(Some(Answer::Failed(failure))) => return Err(failure),
                Ok(Some(Answer::Opened { driver, count })) => {
                    survey.driver = driver;
                    open_for = Some((0..count).collect());
                }
                Ok(Some(Answer::Card { index, found: card })) => {
                    if let Some(left) = &mut open_for {
                        left.remove(&index);
                    }
                    match card {
                        Ok((bus, card, loads)) => {
                            survey.loads.extend(loads);
                            found.push((bus, card));
                        }
                        Err(why) => survey.silent.push((index, why)),
                    }
                }
                Ok(None) | Err(_) => break,
            }
        }
        let left = open_for.ok_or_else(hangs)?;
        survey.silent.extend(left.into_iter().map(|index| (index, no_answer(self.limit))));
        survey.silent.sort();
        found.sort_by_key(|(_, card)| card.index);
        if survey.silent.is_empty() {
            // The driver's order is that of the bus, but it promises none; where all are known it is
            // made sure of.
            found.sort_by(|(one, _), (other, _)| one.cmp(other));
            for (index, (_, card)) in (0..).zip(&mut found) {
                card.index = index;
            }
        }
        survey.cards = found.into_iter().map(|(_, card)| card).collect();
        Ok(survey)
    }
}

/// Starts a thread that nobody waits for.
fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), String> {
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    started.map(drop).map_err(|error| format!("cannot start a thread: {error}"))
}

/// Opens the library and has each card asked. The last thread that ends closes it.
fn open(library: &OsStr, asking: Asking, answers: &mpsc::UnboundedSender<Answer>) {
    let opened = nvml_wrapper::Nvml::builder().lib_path(library).init();
    let counted = opened.and_then(|nvml| nvml.device_count().map(|count| (nvml, count)));
    let (nvml, count) = match counted {
        Ok((nvml, count)) => (Arc::new(nvml), count),
        Err(error) => {
            drop(asking);
            let _ = answers.send(Answer::Failed(match error {
                NvmlError::LibloadingError(error) => Failure::NoLibrary(error.to_string()),
                NvmlError::DriverNotLoaded => Failure::NoDriver,
                error => Failure::Refuses(error.to_string()),
            }));
            return;
        }
    };
    let _ = answers.send(Answer::Opened { driver: nvml.sys_driver_version().ok(), count });
    for index in 0..count {
        let answer = |found| Answer::Card { index, found };
        let Some(asking) = Asking::begin(&asking.all, Asked::Card(index)) else {
            let why = "the driver has not answered for it since it was last asked".to_owned();
            let _ = answers.send(answer(Err(why)));
            continue;
        };
        let (nvml, answers_of_it) = (Arc::clone(&nvml), answers.clone());
        let started = thread("nvml-card", move || {
            let found = card(&nvml, index).map_err(|error| error.to_string());
            drop(nvml);
            drop(asking);
            let _ = answers_of_it.send(Answer::Card { index, found });
        });
        if let Err(why) = started {
            let _ = answers.send(answer(Err(why)));
        }
    }
}

/// A card with its place on the bus, and the loads of it and its parts.
fn card(nvml: &nvml_wrapper::Nvml, index: u32) -> Result<Seen, NvmlError> {
    let device = nvml.device_by_index(index)?;
    let gpu = gpu(&device)?;
    let mut loads = vec![(gpu.uuid.clone(), load(&device))];
    let mode = match device.mig_mode() {
        Ok(mode) => mode.current,
        Err(NvmlError::NotSupported | NvmlError::FailedToLoadSymbol(_)) => 0,
        Err(error) => return Err(error),
    };
    let parts = if mode == 0 { None } else { Some(parts(nvml, &device, &gpu, &mut loads)?) };
    Ok((device.pci_info()?.bus_id, Card { index, gpu, parts }, loads))
}

fn gpu(device: &Device<'_>) -> Result<Gpu, NvmlError> {
    let memory = match device.memory_info() {
        Ok(info) => i64::try_from(info.total).unwrap_or(i64::MAX),
        // Where it is the host's; and of a whole card in MIG mode, to all but root.
        Err(NvmlError::NotSupported | NvmlError::NoPermission) => 0,
        Err(error) => return Err(error),
    };
    Ok(Gpu { uuid: device.uuid()?, memory, model: device.name()? })
}

/// What cannot be asked is not known: a MIG device has no utilization, and drivers of a host's own memory none of that.
fn load(device: &Device<'_>) -> Load {
    Load {
        percent: device.utilization_rates().ok().map(|rates| rates.gpu),
        memory_used: device.memory_info().ok().and_then(|info| i64::try_from(info.used).ok()),
    }
}

fn parts(
    nvml: &nvml_wrapper::Nvml,
    device: &Device<'_>,
    card: &Gpu,
    loads: &mut Vec<(String, Load)>,
) -> Result<Vec<Part>, NvmlError> {
    let mut parts = Vec::new();
    for number in 0..device.mig_device_count()? {
        let part = match device.mig_device_by_index(number) {
            Ok(part) => part,
            // The numbers have gaps.
            Err(NvmlError::NotFound | NvmlError::InvalidArg) => continue,
            Err(error) => return Err(error),
        };
        let old_name = instances(nvml, &part)
            .map(|(gpu, compute)| format!("MIG-{}/{gpu}/{compute}", card.uuid));
        let gpu = gpu(&part)?;
        loads.push((gpu.uuid.clone(), load(&part)));
        parts.push(Part { gpu, old_name });
    }
    Ok(parts)
}

/// The numbers of a MIG device's GPU instance and compute instance.
#[allow(unsafe_code)]
fn instances(nvml: &nvml_wrapper::Nvml, part: &Device<'_>) -> Option<(u32, u32)> {
    let library = nvml.lib();
    let gpu_of = *library.nvmlDeviceGetGpuInstanceId.as_ref().ok()?;
    let compute_of = *library.nvmlDeviceGetComputeInstanceId.as_ref().ok()?;
    let (mut gpu, mut compute) = (0, 0);
    // SAFETY: the functions have NVML's types, the handle is of this library, which is open as long as
    // `part` borrows it, and each writes one number to the place that it is given.
    let success = unsafe {
        let handle = part.handle();
        gpu_of(handle, &raw mut gpu) == 0 && compute_of(handle, &raw mut compute) == 0
    };
    success.then_some((gpu, compute))
}
