//! The GPUs: what the driver shows, and where driver, device nodes, `nvidia-smi` and
//! `CUDA_VISIBLE_DEVICES` do not fit together.

use std::path::{Path, PathBuf};

use super::{Findings, ask};

const AREA: &str = "gpus";

/// Where a system shows its GPUs.
pub(super) struct System {
    smi: PathBuf,
    /// Holds the device nodes.
    devices: PathBuf,
    /// There when the driver is loaded.
    driver: PathBuf,
    visible: Option<String>,
}

impl System {
    /// This host.
    pub fn this() -> Self {
        Self {
            smi: "nvidia-smi".into(),
            devices: "/dev".into(),
            driver: "/proc/driver/nvidia/version".into(),
            visible: std::env::var("CUDA_VISIBLE_DEVICES").ok(),
        }
    }

    /// Device nodes of GPUs: `nvidia0`, `nvidia1`, …
    fn nodes(&self) -> usize {
        let Ok(entries) = std::fs::read_dir(&self.devices) else { return 0 };
        let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        names
            .filter(|name| name.strip_prefix("nvidia").is_some_and(|it| it.parse::<u32>().is_ok()))
            .count()
    }

    fn has_smi(&self) -> bool {
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let there = |folder: &Path| folder.join(&self.smi).is_file();
        self.smi.is_absolute() && self.smi.is_file()
            || std::env::split_paths(&paths).any(|it| there(&it))
    }
}

/// A line of `nvidia-smi`.
struct Gpu {
    index: String,
    uuid: String,
    text: String,
    driver: String,
}

pub(super) async fn examine(found: &mut Findings, system: &System) {
    let (driver, nodes) = (system.driver.exists(), system.nodes());
    match (driver, nodes) {
        (false, 0) if !system.has_smi() => {
            found.ok(AREA, "driver", "no NVIDIA driver here: jobs run on the CPU");
            return;
        }
        (true, 0) => {
            let remedy = "`nvidia-modprobe -c 0 -u` makes them; a container needs its GPUs handed in \
                          (`--gpus all`)";
            found.fail(AREA, "driver", "the NVIDIA driver is loaded, but /dev has no GPU", remedy);
        }
        (false, 1..) => {
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
    if !system.has_smi() {
        let remedy = "install the driver's tools (nvidia-utils): workers find their GPUs with it";
        found.fail(AREA, "nvidia-smi", "there is an NVIDIA driver, but no nvidia-smi", remedy);
        return;
    }
    let query = "--query-gpu=index,uuid,memory.total,driver_version,name";
    let gpus = match ask(&system.smi, &[query, "--format=csv,noheader,nounits"]).await {
        Ok(output) => parse(&String::from_utf8_lossy(&output.stdout)),
        Err(error) => {
            let remedy =
                "workers here find no GPU until it answers; after an update of the driver reboot";
            found.fail(AREA, "nvidia-smi", format!("nvidia-smi fails: {error}"), remedy);
            return;
        }
    };
    match gpus.first() {
        None => {
            let remedy = "workers here hand out none; look at `nvidia-smi` itself";
            found.warn(AREA, "nvidia-smi", "nvidia-smi lists no GPU", remedy);
        }
        Some(first) => {
            let list: Vec<String> = gpus.iter().map(|gpu| gpu.text.clone()).collect();
            let text = format!(
                "{}, driver {}: {}",
                super::count(gpus.len(), "GPU"),
                first.driver,
                list.join(", ")
            );
            found.ok(AREA, "nvidia-smi", text);
            visible(found, &gpus, system.visible.as_deref());
        }
    }
}

/// CUDA takes the names up to the first that it does not know.
fn visible(found: &mut Findings, gpus: &[Gpu], visible: Option<&str>) {
    const CHECK: &str = "CUDA_VISIBLE_DEVICES";
    let Some(text) = visible else { return };
    let names: Vec<&str> = text.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    let known = |name: &str| {
        gpus.iter().any(|gpu| {
            gpu.index == name || (name.starts_with("GPU-") && gpu.uuid.starts_with(name))
        })
    };
    if names.is_empty() || names[0] == "-1" {
        let text = format!("{CHECK} is `{text}`, which hides every GPU");
        found.warn(AREA, CHECK, text, format!("unset {CHECK}, or let it name those to use"));
        return;
    }
    let unknown: Vec<String> =
        names.iter().filter(|name| !known(name)).map(|name| format!("`{name}`")).collect();
    if unknown.is_empty() {
        let text = format!("{CHECK} shows {} of {}", names.len(), super::count(gpus.len(), "GPU"));
        found.ok(AREA, CHECK, text);
    } else {
        let text = format!("{CHECK} is `{text}`, but there is no GPU {}", super::few(&unknown));
        found.fail(AREA, CHECK, text, "name GPUs by number or UUID as `nvidia-smi -L` lists them");
    }
}

fn parse(text: &str) -> Vec<Gpu> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.splitn(5, ',').map(|field| field.trim().to_owned());
            let (index, uuid) = (fields.next()?, fields.next()?);
            let megabytes: u64 = fields.next()?.parse().ok()?;
            let (driver, name) = (fields.next()?, fields.next()?);
            let memory = terminal::bytes(megabytes.saturating_mul(1 << 20));
            Some(Gpu { index, uuid, text: format!("{name} ({memory})"), driver })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    /// A system with these device nodes, with or without a driver, whose `nvidia-smi` is this script.
    fn findings(
        nodes: &[&str],
        driver: bool,
        smi: Option<&str>,
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
        if let Some(script) = smi {
            use std::os::unix::fs::PermissionsExt;
            std::fs::write(path("smi"), format!("#!/bin/sh\n{script}\n")).unwrap();
            let mode = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(path("smi"), mode).unwrap();
        }
        let visible = visible.map(str::to_owned);
        let system =
            System { smi: path("smi"), devices: path("dev"), driver: path("driver"), visible };
        let mut found = Findings::default();
        crate::database::runtime().unwrap().block_on(examine(&mut found, &system));
        found.0.into_iter().map(|it| (it.verdict, it.text)).collect()
    }

    const TWO: &str = "echo '0, GPU-aa-1, 81559, 580.1, NVIDIA H100 80GB HBM3
1, GPU-bb-2, 81559, 580.1, NVIDIA H100 80GB HBM3'";
    const NODES: [&str; 4] = ["nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"];

    #[test]
    fn driver_nodes_and_tool_must_fit_together() {
        let first = |found: Vec<(Verdict, String)>| found[0].clone();
        let (verdict, text) = first(findings(&[], false, None, None));
        assert_eq!((verdict, text.contains("on the CPU")), (Verdict::Ok, true), "{text}");
        let (verdict, text) = first(findings(&["nvidiactl"], true, Some(TWO), None));
        assert_eq!((verdict, text.contains("/dev has no GPU")), (Verdict::Failed, true), "{text}");
        let (verdict, text) = first(findings(&NODES, false, Some(TWO), None));
        assert_eq!((verdict, text.contains("not loaded")), (Verdict::Failed, true), "{text}");
        let (verdict, text) = first(findings(&NODES, true, None, None));
        assert_eq!((verdict, text.contains("no nvidia-smi")), (Verdict::Failed, true), "{text}");
        let broken = "echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18";
        let (verdict, text) = first(findings(&NODES, true, Some(broken), None));
        assert_eq!((verdict, text.contains("version mismatch")), (Verdict::Failed, true), "{text}");
        let (verdict, text) = first(findings(&NODES, true, Some("true"), None));
        assert_eq!((verdict, text.contains("lists no GPU")), (Verdict::Warning, true), "{text}");
        let (verdict, text) = first(findings(&NODES, true, Some(TWO), None));
        let expected =
            "2 GPUs, driver 580.1: NVIDIA H100 80GB HBM3 (86 GB), NVIDIA H100 80GB HBM3 (86 GB)";
        assert_eq!((verdict, text.as_str()), (Verdict::Ok, expected));
    }

    #[test]
    fn what_hides_gpus_or_names_none_is_said() {
        let last = |visible| findings(&NODES, true, Some(TWO), Some(visible)).pop().unwrap();
        assert_eq!(last("1").1, "CUDA_VISIBLE_DEVICES shows 1 of 2 GPUs");
        assert_eq!(last("GPU-bb, 0").1, "CUDA_VISIBLE_DEVICES shows 2 of 2 GPUs");
        assert_eq!(last("").0, Verdict::Warning);
        assert_eq!(last("-1").0, Verdict::Warning);
        let (verdict, text) = last("0,7");
        assert_eq!(verdict, Verdict::Failed);
        assert!(text.contains("no GPU `7`"), "{text}");
    }
}
