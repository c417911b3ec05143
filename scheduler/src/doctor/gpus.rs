//! The GPUs: what a worker here would hand out, and why it would not hand out the rest; where driver,
//! device nodes, NVML and `CUDA_VISIBLE_DEVICES` do not fit together.

use std::path::PathBuf;

use registry::{Gpu, Result};

use super::Findings;
use crate::gpus::{Failure, Hold, Host};

const AREA: &str = "gpus";

/// Where a system shows its GPUs.
pub(super) struct System {
    host: Host,
    /// Holds the device nodes.
    devices: PathBuf,
    /// There when the driver is loaded.
    driver: PathBuf,
}

impl System {
    /// This host.
    ///
    /// # Errors
    /// When the environment is malformed.
    pub fn this() -> Result<Self> {
        Ok(Self {
            host: Host::from_env()?,
            devices: "/dev".into(),
            driver: "/proc/driver/nvidia/version".into(),
        })
    }

    /// Device nodes of GPUs: `nvidia0`, `nvidia1`, …
    fn nodes(&self) -> usize {
        let Ok(entries) = std::fs::read_dir(&self.devices) else { return 0 };
        let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        names
            .filter(|name| name.strip_prefix("nvidia").is_some_and(|it| it.parse::<u32>().is_ok()))
            .count()
    }
}

pub(super) async fn examine(found: &mut Findings, mut system: System) {
    let view = system.host.look().await;
    match (system.driver.exists(), system.nodes()) {
        (false, 0) if view.failure.as_ref().is_some_and(Failure::is_no_driver) => {
            found.ok(AREA, "driver", "no NVIDIA driver here: jobs run on the CPU");
            return;
        }
        (true, 0) => {
            let remedy = "`nvidia-modprobe -c 0 -u` makes them; a container needs its GPUs handed in \
                          (`--gpus all`)";
            found.fail(AREA, "driver", "the NVIDIA driver is loaded, but /dev has no GPU", remedy);
        }
        (false, nodes @ 1..) => {
            let text = format!(
                "/dev has {}, but the NVIDIA driver is not loaded",
                super::count(nodes, "GPU")
            );
            found.fail(
                AREA,
                "driver",
                text,
                "`modprobe nvidia`; after an update of the kernel reinstall it",
            );
        }
        _ => {}
    }
    if let Some(failure) = view.failure {
        let remedy = match failure {
            Failure::NoLibrary(_) => {
                "install the driver's libraries (libnvidia-compute), or give the container the \
                 capability `utility`; PALETTE_NVML names a library elsewhere"
            }
            Failure::Hangs(_) => {
                "look into the kernel's log for Xid errors; reset the GPU or reboot"
            }
            Failure::NoDriver | Failure::Refuses(_) => "after an update of the driver reboot",
        };
        found.fail(AREA, "nvml", format!("no GPU can be handed out: {failure}"), remedy);
        return;
    }
    for remark in view.remarks {
        let remedy = if remark.starts_with("CUDA_VISIBLE_DEVICES") {
            "let it name those to hand out (`nvidia-smi -L` lists their UUIDs), or unset it"
        } else {
            "a worker hands out the others; the kernel's log says more"
        };
        found.warn(AREA, "withheld", remark, remedy);
    }
    let (held, free): (Vec<&Gpu>, Vec<&Gpu>) =
        view.gpus.iter().partition(|gpu| Hold::is_taken(&gpu.uuid));
    let visible =
        if system.host.visible().is_set() { " that CUDA_VISIBLE_DEVICES names" } else { "" };
    let driver = view.driver.map(|driver| format!(", driver {driver}")).unwrap_or_default();
    if view.gpus.is_empty() {
        let remedy = "jobs run on the CPU here; look at `nvidia-smi` itself";
        found.warn(AREA, "nvml", format!("there is no GPU to hand out{driver}"), remedy);
    }
    if !free.is_empty() {
        let count = super::count(free.len(), "GPU");
        let text = format!("a worker would hand out {count}{visible}{driver}: {}", list(&free));
        found.ok(AREA, "offers", text);
    }
    if !held.is_empty() {
        let count = super::count(held.len(), "GPU");
        let text = format!("a worker on this host hands out {count}: {}", list(&held));
        found.ok(AREA, "held", text);
    }
}

/// All of them, because a UUID is what one looks for here.
fn list(gpus: &[&Gpu]) -> String {
    let each = gpus.iter().map(|gpu| {
        let memory = terminal::bytes(u64::try_from(gpu.memory).unwrap_or(0));
        format!("{} ({}, {memory})", gpu.uuid, gpu.model)
    });
    each.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::doctor::Verdict;
    use crate::gpus::standin::Driver;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// A system with these device nodes, with or without a driver, whose NVML is this library.
    fn findings(
        nodes: &[&str],
        driver: bool,
        library: &Path,
        visible: Option<&str>,
    ) -> Vec<(Verdict, String)> {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir(path("dev")).unwrap();
        for node in nodes {
            std::fs::write(path("dev").join(node), "").unwrap();
        }
        if driver {
            std::fs::write(path("driver"), "").unwrap();
        }
        let host = Host::of(library, PATIENCE, visible);
        let system = System { host, devices: path("dev"), driver: path("driver") };
        let mut found = Findings::default();
        registry::runtime().unwrap().block_on(examine(&mut found, system));
        found.0.into_iter().map(|it| (it.verdict, it.text)).collect()
    }

    /// A UUID that no other process has.
    fn uuid(name: &str) -> String {
        format!("GPU-doctor-{}-{name}", std::process::id())
    }

    fn two(name: &str) -> String {
        let uuid = uuid(name);
        format!(
            "ok {uuid}-aa 00000000:01:00.0 85899345920 NVIDIA H100 80GB HBM3
ok {uuid}-bb 00000000:02:00.0 85899345920 NVIDIA H100 80GB HBM3
"
        )
    }

    const NODES: [&str; 4] = ["nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"];

    #[test]
    fn driver_nodes_and_library_must_fit_together() {
        let first = |found: Vec<(Verdict, String)>| found[0].clone();
        let driver = Driver::new(&two("fit"));
        let (there, nowhere) = (&driver.library(), Path::new("/nowhere/libnvidia-ml.so.1"));
        let (verdict, text) = first(findings(&[], false, nowhere, None));
        assert_eq!((verdict, text.contains("on the CPU")), (Verdict::Ok, true), "{text}");
        let (verdict, text) = first(findings(&["nvidiactl"], true, there, None));
        assert_eq!((verdict, text.contains("/dev has no GPU")), (Verdict::Failed, true), "{text}");
        let (verdict, text) = first(findings(&NODES, false, there, None));
        assert_eq!((verdict, text.contains("not loaded")), (Verdict::Failed, true), "{text}");
        let (verdict, text) = first(findings(&NODES, true, nowhere, None));
        assert_eq!((verdict, text.contains("cannot be loaded")), (Verdict::Failed, true), "{text}");
        let (verdict, text) = first(findings(&NODES, true, there, None));
        let uuid = uuid("fit");
        let expected = format!(
            "a worker would hand out 2 GPUs, driver 580.95.05: {uuid}-aa (NVIDIA H100 80GB HBM3, 86 GB), \
             {uuid}-bb (NVIDIA H100 80GB HBM3, 86 GB)"
        );
        assert_eq!((verdict, text), (Verdict::Ok, expected));
        driver.show("init 18\n");
        let (verdict, text) = first(findings(&NODES, true, there, None));
        assert_eq!((verdict, text.contains("version mismatch")), (Verdict::Failed, true), "{text}");
        driver.show("");
        let (verdict, text) = first(findings(&NODES, true, there, None));
        assert_eq!(
            (verdict, text.contains("no GPU to hand out")),
            (Verdict::Warning, true),
            "{text}"
        );
    }

    #[test]
    fn what_is_handed_out_and_what_is_withheld_is_said() {
        let driver = Driver::new(&two("visible"));
        let all = |visible| findings(&NODES, true, &driver.library(), visible);
        let uuid = uuid("visible");
        let visible = format!("{uuid}-b,{uuid}-x");
        let found = all(Some(&visible));
        assert_eq!(found[0].0, Verdict::Warning);
        assert!(found[0].1.contains(&format!("CUDA stops before `{uuid}-x`")), "{found:?}");
        assert_eq!(found[1].0, Verdict::Ok);
        assert!(found[1].1.contains("1 GPU that CUDA_VISIBLE_DEVICES names"), "{found:?}");
        assert!(found[1].1.contains(&format!("{uuid}-bb")), "{found:?}");
        let found = all(Some("-1"));
        assert!(found.iter().all(|(verdict, _)| *verdict == Verdict::Warning), "{found:?}");

        let hold = Hold::take(&format!("{uuid}-aa")).unwrap().unwrap();
        let found = all(None);
        assert!(found[0].1.contains("a worker would hand out 1 GPU, driver"), "{found:?}");
        let says = format!("a worker on this host hands out 1 GPU: {uuid}-aa");
        assert!(found[1].1.contains(&says), "{found:?}");
        drop(hold);
        driver.show(&two("visible").replacen("ok", "lost", 1));
        let found = all(None);
        assert_eq!(found[0].0, Verdict::Warning);
        assert!(found[0].1.contains("GPU number 0: device fell off the bus"), "{found:?}");
        assert!(found[1].1.contains("would hand out 1 GPU, driver"), "{found:?}");
    }
}
