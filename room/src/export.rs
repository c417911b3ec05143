//! Metrics of runs as files that other programs open: `scheduler export`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use registry::{Database, Run};

use crate::formats::Format;
use crate::formats::tables::{self, Error};

/// What metrics are exported as.
#[derive(Clone, Debug)]
pub enum Export {
    /// An event file of TensorBoard for each run, each in a folder of its own in this one.
    TensorBoard(PathBuf),
    /// One table of all points, as CSV.
    Csv(PathBuf),
    /// One table of all points, as Parquet.
    Parquet(PathBuf),
}

/// Writes all points of these runs; gives the files. A file is there whole or not at all.
///
/// # Errors
/// Those of the database and of the files.
pub async fn export(
    database: &Database,
    runs: &[Run],
    to: &Export,
) -> anyhow::Result<Vec<PathBuf>> {
    match to {
        Export::TensorBoard(folder) => {
            let mut files = Vec::new();
            for run in runs {
                files.push(events(database, run, folder).await?);
            }
            Ok(files)
        }
        Export::Csv(file) => table(database, runs, file, Format::Csv).await,
        Export::Parquet(file) => table(database, runs, file, Format::Parquet).await,
    }
}

async fn events(database: &Database, run: &Run, folder: &Path) -> anyhow::Result<PathBuf> {
    // A name may hold what no folder may be called by.
    let safe = |character: char| match character {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' | '.' => character,
        _ => '_',
    };
    let name: String = run.name.chars().take(100).map(safe).collect();
    let folder = folder.join(format!("{name}-{}", run.short));
    std::fs::create_dir_all(&folder).map_err(|error| named(&folder, &error))?;
    let file = folder.join(format!(
        "events.out.tfevents.{}.{}",
        run.created_at.unix_timestamp().max(0),
        run.short
    ));
    let (part, mut out) = begin(&file)?;
    tables::events(database, run, &mut out).await?;
    end(out, &part, &file)?;
    Ok(file)
}

async fn table(
    database: &Database,
    runs: &[Run],
    file: &Path,
    format: Format,
) -> anyhow::Result<Vec<PathBuf>> {
    let (part, mut out) = begin(file)?;
    let (sender, mut parts) = tokio::sync::mpsc::channel::<Vec<u8>>(2);
    let written = async {
        while let Some(bytes) = parts.recv().await {
            out.write_all(&bytes)?;
        }
        Ok::<_, Error>(())
    };
    tokio::try_join!(tables::points(database, runs, &[], format, sender), written)?;
    end(out, &part, file)?;
    Ok(vec![file.to_owned()])
}

fn begin(file: &Path) -> anyhow::Result<(PathBuf, BufWriter<File>)> {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = file.with_file_name(name);
    let out = File::create(&part).map_err(|error| named(&part, &error))?;
    Ok((part, BufWriter::new(out)))
}

fn end(out: BufWriter<File>, part: &Path, file: &Path) -> anyhow::Result<()> {
    let out = out.into_inner().map_err(|error| named(part, error.error()))?;
    out.sync_all().map_err(|error| named(part, &error))?;
    std::fs::rename(part, file).map_err(|error| named(file, &error))
}

fn named(path: &Path, error: &std::io::Error) -> anyhow::Error {
    anyhow::anyhow!("{}: {error}", path.display())
}
