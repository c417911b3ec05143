//! Which layout a source has, by the names of its first files alone.

use std::collections::BTreeSet;
use std::path::Path;

use super::files::Files;
use super::member;
use super::others::Others;
use super::{LayoutKind, imagenet_train, imagenet_val, names, parquet, places365, webdataset};
use crate::ingest::origin::Origin;
use crate::{Error, Result};

/// Names that are looked at, and how many are passed over until some tell something.
const LOOK_AT: usize = 64;
const PASS_OVER: usize = 1 << 20;

pub(super) fn recognize(origin: &Origin, split_folder: Option<&str>) -> Result<LayoutKind> {
    let source = origin.name();
    let files = Files::open(origin, split_folder)?;
    if files.length().is_some() && parquet::is_name(origin.file_name()) {
        return Ok(LayoutKind::Parquet);
    }
    // Archives stand for what is in them where their own names say nothing.
    let (mut seen, mut unread) = look(&files, member::NONE)?;
    let entered = !seen.iter().any(|name| is_telling(name))
        && seen.iter().any(|name| names::tar_stem(name).is_some());
    if entered {
        (seen, unread) =
            look(&files, |name| names::tar_stem(name).is_some() && !names::is_hidden(name))?;
    }
    let mut kinds = kinds(&seen)?;
    if entered && kinds.is_empty() && seen.iter().any(|name| names::is_image(name)) {
        // Shards of images alone.
        check_shards(source, &seen)?;
        kinds.push(LayoutKind::WebDataset);
    }
    let allowed = || LayoutKind::ALL.map(LayoutKind::name).join(", ");
    match kinds.as_slice() {
        [kind] => Ok(*kind),
        [] if seen.iter().any(|name| names::is_image(name)) => Ok(LayoutKind::Folder),
        [] => {
            let message = format!(
                "holds no images that are recognized{unread}; name its --layout, one of {}",
                allowed()
            );
            Err(Error::source(source, message))
        }
        several => {
            let several: Vec<_> = several.iter().map(|kind| kind.name()).collect();
            let message = format!(
                "could be {}; name its --layout, one of {}",
                several.join(" or "),
                allowed()
            );
            Err(Error::source(source, message))
        }
    }
}

/// True for names that tell something without the archive of that name being entered.
fn is_telling(name: &str) -> bool {
    names::is_image(name)
        || imagenet_train::class_archive(name).is_some()
        || places365::is_letter_archive(name)
}

/// An error where archives of images alone may be classes and not shards: shards are numbered.
fn check_shards(source: &Path, seen: &[String]) -> Result<()> {
    let archives: BTreeSet<&str> =
        seen.iter().filter(|name| names::is_image(name)).map(|name| names::parent(name)).collect();
    let is_numbered = |name: &&str| name.bytes().any(|byte| byte.is_ascii_digit());
    let called: Vec<&str> = archives.into_iter().take(2).collect();
    if called.len() < 2 || called.iter().any(is_numbered) {
        return Ok(());
    }
    let message = format!(
        "holds archives of images, {}.tar and so on, which may be classes: unpack each into a folder of \
         its name; where they are shards of images without labels, give --layout webdataset",
        called.join(".tar, ")
    );
    Err(Error::source(source, message))
}

/// The first names that are not hidden, and what cannot be read before these.
fn look(files: &Files, enter: member::Enter) -> Result<(Vec<String>, Others)> {
    let mut seen = Vec::new();
    let mut unread = Others::default();
    let (mut count, mut after) = (0, 0);
    files.scan(enter, &mut |member| {
        if names::is_hidden(member.name) {
            return Ok(true);
        }
        if member.is_skipped() {
            unread.add(&member);
            return Ok(true);
        }
        count += 1;
        let tells = is_telling(member.name) || parquet::is_name(member.name);
        // Many notes may come before the first image.
        if tells || seen.len() < LOOK_AT {
            seen.push(member.name.to_owned());
        }
        after += usize::from(tells || after > 0);
        Ok(seen.len() < LOOK_AT || after < LOOK_AT && count < PASS_OVER)
    })?;
    Ok((seen, unread))
}

/// The layouts besides `folder` that names of files are of.
fn kinds(seen: &[String]) -> Result<Vec<LayoutKind>> {
    let official = places365::official()?;
    let any = |is: &dyn Fn(&str) -> bool| seen.iter().any(|name| is(name));
    // Folders of any kind may hold a file that looks like another layout's; all that tell something must agree.
    let all_telling = |is: &dyn Fn(&str) -> bool| {
        any(is) && seen.iter().all(|name| is(name) || !is_telling(name))
    };
    let is_val = |name: &str| imagenet_val::number(name).is_some();
    let is_train = |name: &str| imagenet_train::is_name(name) && !is_val(name);
    let tests = [
        (LayoutKind::ImagenetVal, all_telling(&is_val)),
        (LayoutKind::ImagenetTrain, all_telling(&is_train)),
        (LayoutKind::Places365, all_telling(&|name| places365::is_name(name, &official))),
        (LayoutKind::WebDataset, webdataset::are_names(seen.iter().map(String::as_str))),
        (LayoutKind::Parquet, any(&parquet::is_name)),
        (LayoutKind::Folder, any(&parquet::is_name) && any(&names::is_image)),
    ];
    Ok(tests.into_iter().filter_map(|(kind, is)| is.then_some(kind)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds_of(names: &[&str]) -> Vec<&'static str> {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        kinds(&names).unwrap().into_iter().map(LayoutKind::name).collect()
    }

    #[test]
    fn names_tell_layouts() {
        assert_eq!(kinds_of(&["n01440764.tar", "n01443537.tar"]), ["imagenet-train"]);
        assert_eq!(kinds_of(&["x/n01440764/n01440764_18.JPEG", "README"]), ["imagenet-train"]);
        assert_eq!(kinds_of(&["n01440764/ILSVRC2012_val_00000293.JPEG"]), ["imagenet-val"]);
        assert_eq!(kinds_of(&["ILSVRC2012_val_00000001.JPEG"]), ["imagenet-val"]);
        assert_eq!(kinds_of(&["data_256/a/airfield/00000001.jpg"]), ["places365"]);
        assert_eq!(kinds_of(&["test_256/Places365_test_00000001.jpg"]), ["places365"]);
        assert_eq!(kinds_of(&["a.tar", "b.tar"]), ["places365"]);
        assert_eq!(kinds_of(&["0.cls", "0.jpg"]), ["webdataset"]);
        assert_eq!(kinds_of(&["README.md", "data/train-00000-of-00001.parquet"]), ["parquet"]);
        assert_eq!(kinds_of(&["airfield/1.jpg", "ILSVRC2012_val_00000001.JPEG"]), [""; 0]);
        assert_eq!(kinds_of(&["a.parquet", "1.jpg"]), ["parquet", "folder"]);
        let mixed = ["data_256/a/airfield/00000001.jpg", "n01440764.tar"];
        assert_eq!(kinds_of(&mixed), [""; 0], "neither holds for all");
    }
}
