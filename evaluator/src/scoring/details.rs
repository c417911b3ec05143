//! Every output's own values as a CSV file, which reports and anyone's own analysis read.

use std::path::Path;

use anyhow::Result;

use crate::cells::guarded;
use crate::scores::{Output, Score};

/// Makes sure that [`write_details`] can write there, before all is scored.
///
/// # Errors
/// Where it cannot.
pub fn check_details(path: &Path) -> Result<()> {
    make_folder(path)?;
    Ok(storage::named::probe(path)?)
}

fn make_folder(file: &Path) -> Result<(), storage::Error> {
    let Some(folder) = file.parent() else { return Ok(()) };
    std::fs::create_dir_all(folder).map_err(|source| storage::Error::Io {
        doing: "create folder",
        path: folder.to_owned(),
        source,
    })
}

/// Writes the own values of all outputs: a column a name of [`crate::scores::About::details`].
///
/// # Errors
/// Where the file cannot be written.
pub fn write_details(path: &Path, outputs: &[Output]) -> Result<()> {
    let columns = Score::ALL.into_iter().flat_map(|score| score.about().details);
    let headings: Vec<&str> = ["key", "sample", "task"].iter().chain(columns).copied().collect();
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(&headings)?;
    for output in outputs {
        let mut cells =
            vec![guarded(&output.key), output.sample.to_string(), guarded(&output.task)];
        for score in Score::ALL {
            cells.extend(score.measure().cells(output, output.own(score)));
        }
        writer.write_record(&cells)?;
    }
    make_folder(path)?;
    Ok(storage::named::write(path, &writer.into_inner()?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scores::Own;

    #[test]
    fn columns_are_what_they_always_were() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/details.csv");
        let mut output = Output { key: "a,\"b\"".into(), task: "jpeg".into(), ..Output::default() };
        output.label = Some(3);
        output.set(Score::Error, Some(Own { sum: 20.0, values: 8.0 }));
        output.set(Score::Ca, Some(Own::of(4.0)));
        output.set(Score::Likeness, Some(Own::of(0.25)));
        write_details(&path, &[output]).unwrap();
        assert_eq!(
            std::fs::read_to_string(path).unwrap(),
            "key,sample,task,error,psnr,ssim,ms_ssim,perceptual,lpips,label,found,likeness_to_first\n\
             \"a,\"\"b\"\"\",0,jpeg,2.500000,,,,,,3,4,0.250000\n"
        );
    }
}
