//! The GPUs of this host: what the driver shows (`nvml`), what `CUDA_VISIBLE_DEVICES` leaves of it
//! (`visible`), and which of them another worker has (`hold`). Used by the worker, which hands them
//! out, and by the doctor, which says what a worker would hand out.
//!
//! A GPU is always named by its UUID. A number means another card after a reboot, in another order
//! (`CUDA_DEVICE_ORDER`) or beside another `CUDA_VISIBLE_DEVICES`; a UUID never does.

mod hold;
mod nvml;
mod visible;

use std::path::PathBuf;
use std::time::{Duration, Instant};

pub(crate) use hold::Hold;
pub(crate) use nvml::{Failure, Load, Nvml};
pub(crate) use visible::Visible;

use registry::{Gpu, Result};

/// How a host is asked for its GPUs.
#[derive(Clone, Debug)]
pub struct Host {
    nvml: Nvml,
    visible: Visible,
    every: Duration,
    /// There when a driver is loaded and its devices are made.
    control: PathBuf,
}

/// What there was when it was asked.
#[derive(Debug)]
pub(crate) struct View {
    /// Those that may be handed out, in the driver's order.
    pub gpus: Vec<Gpu>,
    /// How busy the host's GPUs are, by UUID.
    pub loads: Vec<(String, Load)>,
    /// What is wrong, a line each.
    pub remarks: Vec<String>,
    /// The driver's version, where it answered.
    pub driver: Option<String>,
    /// Why it did not answer at all.
    pub failure: Option<Failure>,
    /// When it was asked.
    pub asked_at: Instant,
}

impl Host {
    /// This host, with `CUDA_VISIBLE_DEVICES` and `CUDA_DEVICE_ORDER` of this process. Asked every
    /// `PALETTE_GPU_SECONDS` (30), and given as long to answer; through the library that
    /// `PALETTE_NVML` names, by default the driver's.
    ///
    /// # Errors
    /// When `PALETTE_GPU_SECONDS` is not a number of seconds.
    pub fn from_env() -> Result<Self> {
        let every = registry::seconds("PALETTE_GPU_SECONDS", 30.0, 0.1)?;
        Ok(Self {
            nvml: Nvml::new(std::env::var_os("PALETTE_NVML"), every),
            visible: Visible::from_env(),
            every,
            control: "/dev/nvidiactl".into(),
        })
    }

    /// How often to ask.
    pub(crate) fn every(&self) -> Duration {
        self.every
    }

    /// What `CUDA_VISIBLE_DEVICES` says, where it is set.
    pub(crate) fn visible(&self) -> &Visible {
        &self.visible
    }

    /// Asks the driver; comes back within its time limit, whatever the driver does.
    pub(crate) async fn look(&mut self) -> View {
        let asked_at = Instant::now();
        match self.nvml.survey().await {
            Ok(survey) => {
                let mut remarks: Vec<String> = survey
                    .silent
                    .iter()
                    .map(|(index, why)| format!("GPU number {index}: {why}"))
                    .collect();
                let empty = survey
                    .cards
                    .iter()
                    .filter(|card| card.parts.as_ref().is_some_and(std::vec::Vec::is_empty));
                remarks.extend(
                    empty.map(|card| {
                        format!("{}: MIG mode is on, but it has no MIG device", card.gpu)
                    }),
                );
                let (gpus, remark) = self.visible.choose(&survey);
                remarks.extend(remark);
                View {
                    gpus,
                    loads: survey.loads,
                    remarks,
                    driver: survey.driver,
                    failure: None,
                    asked_at,
                }
            }
            Err(failure) => {
                let remarks = if failure.is_no_driver() && !self.control.exists() {
                    Vec::new()
                } else {
                    vec![format!("no GPU can be handed out: {failure}")]
                };
                View {
                    gpus: Vec::new(),
                    loads: Vec::new(),
                    remarks,
                    driver: None,
                    failure: Some(failure),
                    asked_at,
                }
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn of(library: &std::path::Path, every: Duration, visible: Option<&str>) -> Self {
        Self {
            nvml: Nvml::new(Some(library.into()), every),
            visible: Visible::new(visible, None),
            every,
            control: "/dev/null".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use testkit::gpus::Driver;

    /// No survey of a driver that answers comes near it.
    const PATIENCE: Duration = Duration::from_secs(60);

    const THREE: &str = "ok GPU-c 00000000:C1:00.0 85899345920 NVIDIA H100 80GB HBM3
ok GPU-a 00000000:07:00.0 85899345920 NVIDIA H100 80GB HBM3
ok GPU-b 00000000:48:00.0 25769803776 NVIDIA GeForce RTX 4090
";

    fn look(host: &mut Host) -> View {
        registry::runtime().unwrap().block_on(host.look())
    }

    fn uuids(view: &View) -> Vec<&str> {
        view.gpus.iter().map(|gpu| gpu.uuid.as_str()).collect()
    }

    #[test]
    fn cards_are_listed_in_the_order_of_the_bus() {
        let driver = Driver::new(THREE);
        let view = look(&mut Host::of(&driver.library(), PATIENCE, None));
        assert_eq!(uuids(&view), ["GPU-a", "GPU-b", "GPU-c"]);
        assert!(view.remarks.is_empty(), "{:?}", view.remarks);
        assert_eq!(view.driver.as_deref(), Some("580.95.05"));
        let second = &view.gpus[1];
        assert_eq!((second.memory, second.model.as_str()), (24 << 30, "NVIDIA GeForce RTX 4090"));
        let view = look(&mut Host::of(&driver.library(), PATIENCE, Some("2,1,0")));
        assert_eq!(uuids(&view), ["GPU-c", "GPU-b", "GPU-a"]);
    }

    #[test]
    fn how_busy_a_card_is_comes_with_it() {
        let mut lines: Vec<String> = THREE.lines().map(str::to_owned).collect();
        lines[0] += "\nload 37 1073741824";
        let driver = Driver::new(&(lines.join("\n") + "\n"));
        let view = look(&mut Host::of(&driver.library(), PATIENCE, None));
        let load = |uuid: &str| view.loads.iter().find(|(of, _)| of == uuid).unwrap().1;
        assert_eq!(load("GPU-c"), Load { percent: Some(37), memory_used: Some(1 << 30) });
        assert_eq!(load("GPU-a"), Load { percent: None, memory_used: Some(0) });
        assert_eq!(view.gpus.len(), 3);
    }

    #[test]
    fn mig_devices_take_the_place_of_their_card_and_have_their_own_memory() {
        let driver = Driver::new(
            "mig GPU-a 00000000:07:00.0 85899345920 NVIDIA H100 80GB HBM3
part MIG-1 1 0 42949672960 NVIDIA H100 80GB HBM3 MIG 3g.40gb
part MIG-2 2 0 42949672960 NVIDIA H100 80GB HBM3 MIG 3g.40gb
mig GPU-b 00000000:08:00.0 85899345920 NVIDIA H100 80GB HBM3
ok GPU-c 00000000:09:00.0 85899345920 NVIDIA H100 80GB HBM3
",
        );
        let view = look(&mut Host::of(&driver.library(), PATIENCE, None));
        assert_eq!(uuids(&view), ["MIG-1", "MIG-2", "GPU-c"]);
        assert_eq!(view.gpus[0].memory, 40 << 30);
        assert_eq!(view.gpus[0].model, "NVIDIA H100 80GB HBM3 MIG 3g.40gb");
        assert_eq!(view.remarks.len(), 1, "{:?}", view.remarks);
        assert!(view.remarks[0].contains("GPU-b") && view.remarks[0].contains("no MIG device"));
        let view = look(&mut Host::of(&driver.library(), PATIENCE, Some("MIG-GPU-a/2/0")));
        assert_eq!(uuids(&view), ["MIG-2"]);
    }

    #[test]
    fn a_card_that_is_lost_or_hangs_costs_no_other() {
        let driver = Driver::new(&THREE.replace("ok GPU-a", "lost GPU-a"));
        let view = look(&mut Host::of(&driver.library(), PATIENCE, None));
        assert_eq!(uuids(&view), ["GPU-c", "GPU-b"]);
        assert_eq!(view.remarks.len(), 1, "{:?}", view.remarks);
        assert!(
            view.remarks[0].contains("number 1: device fell off the bus"),
            "{:?}",
            view.remarks
        );

        driver.show(&THREE.replace("ok GPU-b", "hang GPU-b"));
        let mut host = Host::of(&driver.library(), Duration::from_secs(1), None);
        let view = look(&mut host);
        assert_eq!(uuids(&view), ["GPU-c", "GPU-a"]);
        assert!(view.remarks[0].contains("number 2: the driver did not answer"));
        // It is not asked again while that call hangs, so that this look does not wait for it.
        let view = look(&mut host);
        assert_eq!(uuids(&view), ["GPU-c", "GPU-a"]);
        assert!(view.remarks[0].contains("since it was last asked"), "{:?}", view.remarks);
        driver.show(THREE);
        loop {
            let view = look(&mut host);
            if view.remarks.is_empty() {
                assert_eq!(uuids(&view), ["GPU-a", "GPU-b", "GPU-c"]);
                break;
            }
        }
    }

    #[test]
    fn a_driver_that_says_nothing_is_said_to() {
        let failure = |cards: &str, limit| {
            let driver = Driver::new(cards);
            let view = look(&mut Host::of(&driver.library(), limit, None));
            assert!(view.gpus.is_empty());
            // The stand-in must not go before the call has come back.
            driver.show("init 9\n");
            (view.failure.unwrap(), view.remarks.join("\n"))
        };
        let (failed, remark) = failure("init hang\n", Duration::from_millis(100));
        assert!(matches!(failed, Failure::Hangs(_)), "{failed}");
        assert!(remark.contains("did not answer"), "{remark}");
        let (failed, remark) = failure("init 18\n", PATIENCE);
        assert!(matches!(failed, Failure::Refuses(_)), "{failed}");
        assert!(remark.contains("driver/library version mismatch"), "{remark}");
        let (failed, remark) = failure("init 9\n", PATIENCE);
        assert!(matches!(failed, Failure::NoDriver), "{failed}");
        assert!(remark.contains("no NVIDIA driver is loaded"), "{remark}");
        let view = look(&mut Host::of(Path::new("/nowhere/libnvidia-ml.so.1"), PATIENCE, None));
        assert!(matches!(view.failure, Some(Failure::NoLibrary(_))));
    }
}
