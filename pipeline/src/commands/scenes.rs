//! `pipeline scenes`: landscapes for those who have no photographs at hand.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use terminal::{Progress, Usage};

use super::count;

/// Draw procedural landscapes.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  pipeline scenes --out scenes --count 2000 --size 64")]
pub struct Args {
    /// Folder for the PNG files
    #[arg(long, value_name = "DIR", value_parser = storage::local_path)]
    out: PathBuf,
    /// Number of pictures
    #[arg(long, default_value_t = 1000)]
    count: u64,
    /// Side of the pictures in pixels
    #[arg(long, default_value_t = 64)]
    size: u32,
    /// Seed of the first picture; picture i has seed + i
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    if !(8..=2048).contains(&args.size) {
        return Err(Usage::new(format!("--size is {}, allowed: 8 to 2048", args.size)).into());
    }
    std::fs::create_dir_all(&args.out)
        .with_context(|| format!("create folder {}", args.out.display()))?;
    let bar = Progress::new("scenes", Some(args.count), "pictures");
    let next = AtomicU64::new(0);
    let draw = || -> anyhow::Result<()> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= args.count {
                return Ok(());
            }
            let seed = args.seed.wrapping_add(number);
            let picture = pipeline::scenes::scene(seed, args.size);
            let bytes = pictures::png(&picture)?;
            let path = args.out.join(format!("scene-{seed:08}.png"));
            storage::named::write(&path, &bytes)?;
            bar.inc(1);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(draw)).collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().unwrap_or_else(|_| anyhow::bail!("a drawing thread panicked"))
        })
    })?;
    bar.finish();
    terminal::print(&format!("{} in {}", count(args.count, "picture"), args.out.display()))
}
