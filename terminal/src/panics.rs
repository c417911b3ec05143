//! What a panic says: an error of the program itself, by the one writer to stderr. The standard library's own words
//! would wait for a reader that stopped to read, with its lock held, and show secrets and what terminals act on.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;

use crate::visible::visible_line;
use crate::{Format, bounded, progress, stderr, style, visible};

/// Panics are said so from now on.
pub(crate) fn set_up(format: Format) {
    std::panic::set_hook(Box::new(move |panic| {
        // Who holds the net says what it means, with the file's name.
        if caught::is_under() {
            return;
        }
        match format {
            Format::Json => tracing::error!("{panic}"),
            Format::Text => stderr::write(said(panic, &Backtrace::capture()).as_bytes()),
        }
        // A second panic would end the process at once.
        stderr::drain();
    }));
}

fn said(panic: &PanicHookInfo<'_>, trace: &Backtrace) -> String {
    // The message stands in a line of its own.
    let what = panic.to_string().replacen(":\n", ": ", 1);
    let opening = style::paint("error: ", style::BAD.bold());
    // Not beside the bars as other messages: the panic may be theirs, with their lock held.
    let clear = if progress::any_drawn() { "\r\x1b[2K" } else { "" };
    let rest = match trace.status() {
        BacktraceStatus::Captured => format!("\n{}\n", visible(&trace.to_string())),
        _ => " (RUST_BACKTRACE=1 shows where it came from)\n".to_owned(),
    };
    let what = bounded::cut(&visible_line(&what)).into_owned();
    format!("{clear}{opening}{}{rest}", secrets::text(&format!("a fault of this program: {what}")))
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, PipeWriter, Read, Write};
    use std::os::fd::AsFd;
    use std::process::{Command, Stdio};

    use nix::fcntl::{FcntlArg, OFlag, fcntl};

    use super::*;

    const CHILD: &str = "PALETTE_TEST_PANICS";

    /// Panics on a thread, goes on, and panics once more, as a program that has its messages set up.
    fn panics() {
        let _drained = stderr::Drained;
        set_up(Format::Text);
        let thread = std::thread::spawn(|| panic!("first\u{1b}[2J\npostgres://me:s3cret@host/x"));
        assert!(thread.join().is_err());
        assert!(caught::panics(|| panic!("silent")).is_err());
        println!("it went on");
        panic!("second");
    }

    /// Runs this test again as a process that panics; gives what it printed on stdout.
    fn run(stderr: Stdio) -> String {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let name = "panics::tests::a_panic_is_an_error_and_waits_for_no_reader";
        command.args(["--exact", name, "--nocapture"]).env(CHILD, "1").env_remove("RUST_BACKTRACE");
        let child = command.stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(101), "a test that has failed, and no more");
        String::from_utf8(output.stdout).unwrap()
    }

    /// A pipe that takes nothing more.
    fn full() -> (PipeReader, PipeWriter) {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let set = |flags| fcntl(writer.as_fd(), FcntlArg::F_SETFL(flags)).unwrap();
        set(OFlag::O_NONBLOCK);
        while (&writer).write(&[b'.'; 4096]).is_ok() {}
        while (&writer).write(b".").is_ok() {}
        set(OFlag::empty());
        writer.flush().unwrap();
        (reader, writer)
    }

    #[test]
    fn a_panic_is_an_error_and_waits_for_no_reader() {
        if std::env::var_os(CHILD).is_some() {
            return panics();
        }
        let (mut reader, writer) = std::io::pipe().unwrap();
        assert!(run(writer.into()).contains("it went on"));
        let mut said = String::new();
        reader.read_to_string(&mut said).unwrap();
        let lines: Vec<&str> = said.lines().filter(|line| line.contains("panicked")).collect();
        let [first, second] = lines[..] else { panic!("{said:?}") };
        assert!(first.starts_with("error: a fault of this program: panicked at "), "{said:?}");
        assert!(first.contains("panics.rs:") && first.contains(": first\\x1b[2J\\n"), "{said:?}");
        assert!(second.contains(": second (RUST_BACKTRACE=1"), "{said:?}");
        assert!(!said.contains("silent"), "{said:?}");
        assert!(!said.contains("s3cret") && !said.contains('\u{1b}'), "{said:?}");

        let (_reader, writer) = full();
        assert!(run(writer.into()).contains("it went on"));
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        assert!(run(writer.into()).contains("it went on"));
        let full_disk = std::fs::File::options().write(true).open("/dev/full").unwrap();
        assert!(run(full_disk.into()).contains("it went on"));
    }
}
