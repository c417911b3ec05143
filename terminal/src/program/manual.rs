//! Manual pages.

use std::path::Path;

use anyhow::{Context, Result};
use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

/// Writes the pages of a program and of each of its commands that is not hidden into a folder, and says how
/// many they are.
pub(super) fn write(command: &Command, folder: &Path) -> Result<usize> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("{} cannot be made", folder.display()))?;
    // `help` needs no page for each command that it helps with.
    let mut command = command.clone().disable_help_subcommand(true);
    command.build();
    let source = format!("{} {}", command.get_name(), command.get_version().unwrap_or_default());
    pages(&command, &source, folder)
}

/// `source` is the program with its version.
fn pages(command: &Command, source: &str, folder: &Path) -> Result<usize> {
    let man = Man::new(command.clone()).source(source);
    let path = folder.join(man.get_filename());
    let page = page(&man, command)?;
    replace(&path, &page).with_context(|| format!("{} cannot be written", path.display()))?;
    let visible = command.get_subcommands().filter(|own| !own.is_hide_set());
    visible.map(|own| pages(own, source, folder)).sum::<Result<usize>>().map(|below| below + 1)
}

/// Writes a page whole or not at all, and through a link to what it leads to; what is no regular file is written
/// to as it is.
fn replace(path: &Path, page: &[u8]) -> std::io::Result<()> {
    if std::fs::metadata(path).map_or(path.is_symlink(), |found| !found.is_file()) {
        return std::fs::write(path, page);
    }
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let beside = path.with_extension(format!("1.{}.part", std::process::id()));
    let written = std::fs::write(&beside, page).and_then(|()| std::fs::rename(&beside, &path));
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written
}

/// As clap_mangen's own page, with the examples under a heading of theirs and as they are typed.
fn page(man: &Man, command: &Command) -> Result<Vec<u8>> {
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.get_subcommands().any(|own| !own.is_hide_set()) {
        man.render_subcommands_section(&mut page)?;
    }
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    if let Some(examples) = help.strip_prefix("Examples:\n") {
        let mut roff = Roff::new();
        roff.control("SH", ["EXAMPLES"]).control("nf", []);
        for line in examples.lines() {
            roff.text([roman(line.trim_start())]);
        }
        roff.control("fi", []);
        roff.to_writer(&mut page)?;
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::super::{Build, command, tests::Demo};
    use super::*;

    #[test]
    fn every_command_but_hidden_ones_has_a_page_with_its_examples() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("man1");
        let build = Build { revision: Some("bbe9eaa"), libtorch: None };
        let count = write(&command::<Demo>(build), &folder).unwrap();
        let mut names: Vec<String> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let page = std::fs::read_to_string(folder.join("demo-work.1")).unwrap();
        let root = std::fs::read_to_string(folder.join("demo.1")).unwrap();
        assert_eq!(names, ["demo-completions.1", "demo-man.1", "demo-work.1", "demo.1"]);
        assert_eq!(count, names.len());
        assert!(
            page.contains(".SH EXAMPLES\n.nf\ndemo work\ndemo work \\-\\-fast\n.fi\n"),
            "{page}"
        );
        assert!(page.contains("Do it faster") && page.contains("(bbe9eaa)"), "{page}");
        assert!(root.contains("(bbe9eaa)") && !root.contains("secret"), "{root}");
    }
    #[test]
    fn pages_are_replaced_whole_and_links_and_fifos_stay() {
        use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};

        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| home.path().join(name);
        std::fs::create_dir(path("man1")).unwrap();
        std::fs::write(path("far"), "old").unwrap();
        symlink(path("far"), path("man1/demo.1")).unwrap();
        std::fs::write(path("man1/demo-man.1"), "old").unwrap();
        nix::unistd::mkfifo(&path("man1/demo-work.1"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        symlink("/dev/null", path("man1/demo-completions.1")).unwrap();
        let before = std::fs::metadata(path("man1/demo-man.1")).unwrap().ino();
        let fifo = path("man1/demo-work.1");
        let reader = std::thread::spawn(move || std::fs::read_to_string(fifo).unwrap());
        write(&command::<Demo>(Build::default()), &path("man1")).unwrap();
        assert!(reader.join().unwrap().contains(".SH EXAMPLES"));
        assert!(std::fs::read_to_string(path("far")).unwrap().contains(".TH demo"));
        assert!(path("man1/demo.1").is_symlink());
        assert!(std::fs::metadata(path("man1/demo-work.1")).unwrap().file_type().is_fifo());
        assert!(path("man1/demo-completions.1").is_symlink());
        assert!(std::fs::metadata("/dev/null").unwrap().file_type().is_char_device());
        let after = std::fs::metadata(path("man1/demo-man.1")).unwrap().ino();
        assert_ne!(before, after, "not replaced whole");
        assert_eq!(std::fs::read_dir(path("man1")).unwrap().count(), 4, "something is left");
    }
}
