//! Pictures of previews where every host can read them: PNG files in the run's place, named by their digest, and a row
//! each in the registry.

use std::thread;

use anyhow::{Context, Result, anyhow};
use registry::NewPicture;
use registry::pictures::{FOLDER, LONGEST_THUMBNAIL};
use storage::{Place, Store};

use crate::control::Control;
use crate::validation::Shown;

/// Steps of which a run keeps its outputs; of more the old ones thin out.
const STEPS: usize = 48;

/// Files that are written at once.
const AT_ONCE: usize = 4;

/// Stores the pictures of a step, registers them, and removes those that need not stay.
///
/// # Errors
/// When a file cannot be written or registered.
pub fn keep(step: u64, shown: &[Shown], run: &Place, control: &dyn Control) -> Result<()> {
    let store = Store::open(&run.join(FOLDER)?)?;
    let mut rows = Vec::with_capacity(shown.len());
    thread::scope(|scope| {
        let share = shown.len().div_ceil(AT_ONCE).max(1);
        let store = &store;
        let writers: Vec<_> = shown
            .chunks(share)
            .map(|some| {
                scope.spawn(move || some.iter().map(|one| write(step, one, store)).collect())
            })
            .collect();
        for writer in writers {
            let written: Result<Vec<NewPicture>> =
                writer.join().map_err(|_| anyhow!("a thread that writes pictures panicked"))?;
            rows.extend(written?);
        }
        anyhow::Ok(())
    })
    .with_context(|| format!("{} cannot be written", store.place()))?;
    control.pictures(&rows, STEPS, run)
}

/// Writes a picture under its digest, where there is none of that name yet.
fn write(step: u64, shown: &Shown, store: &Store) -> Result<NewPicture> {
    let Shown { part, input, task, key, pixels } = shown;
    let png = ::pictures::png(pixels)?;
    let row = NewPicture {
        part: *part,
        step: if *part == registry::PicturePart::Output { step.cast_signed() } else { 0 },
        input: i32::try_from(*input)?,
        sample: 0,
        task: task.clone(),
        key: key.clone(),
        digest: storage::atomic::sha256(&png),
        bytes: i32::try_from(png.len())?,
        width: i32::try_from(pixels.width())?,
        height: i32::try_from(pixels.height())?,
        thumbnail: ::pictures::thumbnail(pixels, LONGEST_THUMBNAIL)?,
    };
    store.create(&format!("{}.png", row.digest), png)?;
    Ok(row)
}
