//! The GPUs of this host, as `nvidia-smi` lists them.

use std::process::{Command, Stdio};

/// A GPU that can be handed to a child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// What `CUDA_VISIBLE_DEVICES` calls it.
    pub name: String,
    /// Its memory in bytes.
    pub memory: i64,
    /// What it is: `NVIDIA H100 80GB HBM3`.
    pub model: String,
}

/// The GPUs of this host that `CUDA_VISIBLE_DEVICES` leaves visible; none where there is no
/// `nvidia-smi`.
pub fn find_gpus() -> Vec<Gpu> {
    let output = Command::new("nvidia-smi")
        .args(["--query-gpu=index,uuid,memory.total,name", "--format=csv,noheader,nounits"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    match output {
        Ok(output) if output.status.success() => {
            let visible = std::env::var("CUDA_VISIBLE_DEVICES").ok();
            parse(&String::from_utf8_lossy(&output.stdout), visible.as_deref())
        }
        _ => Vec::new(),
    }
}

fn parse(text: &str, visible: Option<&str>) -> Vec<Gpu> {
    let visible: Option<Vec<&str>> = visible.map(|names| names.split(',').map(str::trim).collect());
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split(',').map(str::trim);
            let (index, uuid) = (fields.next()?, fields.next()?);
            let memory = fields.next()?.parse::<i64>().ok()?.checked_mul(1024 * 1024)?;
            let model = fields.next().unwrap_or_default().to_owned();
            let name = match &visible {
                None => index,
                Some(names) => names.iter().find(|name| **name == index || uuid == **name)?,
            };
            Some(Gpu { name: name.to_owned(), memory, model })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_visible_is_handed_out() {
        let text = "0, GPU-aa, 143771, NVIDIA H200\n1, GPU-bb, 143771, NVIDIA H200\nnonsense\n";
        let names = |visible| {
            let gpus = parse(text, visible);
            gpus.into_iter().map(|gpu| gpu.name).collect::<Vec<_>>()
        };
        assert_eq!(names(None), ["0", "1"]);
        assert_eq!(names(Some("1")), ["1"]);
        assert_eq!(names(Some("GPU-aa")), ["GPU-aa"]);
        assert_eq!(names(Some("")), [] as [&str; 0]);
        let first = &parse(text, None)[0];
        assert_eq!((first.memory, first.model.as_str()), (143_771 << 20, "NVIDIA H200"));
    }
}
