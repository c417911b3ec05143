//! The examples that help ends with.

use std::path::Path;

use clap::Command;

/// The longest line that help does not wrap.
const WIDTH: usize = 98;

/// Checks that the help of a program and of each of its commands ends with examples, and that these are true:
/// they parse, they call this command, and configurations that they name are there.
///
/// # Panics
/// Where that is not so, with all that is wrong.
pub fn check(program: &Command) {
    let mut wrong = Vec::new();
    look(program, program, &mut vec![program.get_name()], &mut wrong);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Adds what is wrong with a command, which is called by this path, and with those below it.
fn look<'a>(
    program: &Command,
    command: &'a Command,
    path: &mut Vec<&'a str>,
    wrong: &mut Vec<String>,
) {
    let name = path.join(" ");
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let examples: Vec<&str> = help.lines().skip(1).collect();
    if !help.starts_with("Examples:\n") || examples.is_empty() {
        wrong.push(format!("{name}: its help does not end with `Examples:`"));
    }
    for example in examples {
        if let Some(fault) = fault(program, path, example) {
            wrong.push(format!("{name}: `{}` {fault}", example.trim_start()));
        }
    }
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        path.push(below.get_name());
        look(program, below, path, wrong);
        path.pop();
    }
}

fn fault(program: &Command, path: &[&str], example: &str) -> Option<String> {
    let words: Vec<&str> = example.split_whitespace().collect();
    let missing =
        words.iter().find(|word| word.starts_with("configs/") && !root().join(word).is_file());
    if !example.starts_with("  ") || example.chars().count() > WIDTH {
        return Some(format!("is not indented, or wider than {WIDTH}"));
    }
    if !words.starts_with(path) {
        return Some("is about another command".to_owned());
    }
    if let Some(missing) = missing {
        return Some(format!("names {missing}, which is not there"));
    }
    program.clone().try_get_matches_from(words).err().map(|error| error.to_string())
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program with a command whose help ends so.
    fn program(help: &'static str) -> Command {
        let work = Command::new("work").after_help(help).arg(clap::arg!(--fast));
        let hidden = Command::new("attempt").hide(true);
        let own = Command::new("demo").after_help("Examples:\n  demo work");
        own.subcommands([work, hidden])
    }

    #[test]
    fn what_is_missing_or_wrong_is_found() {
        let wrong = |help| {
            let (program, mut wrong) = (program(help), Vec::new());
            look(&program, &program, &mut vec!["demo"], &mut wrong);
            wrong.join("\n")
        };
        assert_eq!(wrong("Examples:\n  demo work\n  demo work --fast"), "");
        for (help, says) in [
            ("", "demo work: its help does not end"),
            ("Examples:", "does not end"),
            ("Examples:\n  demo work --slow", "unexpected argument '--slow'"),
            ("Examples:\n  demo", "another command"),
            ("Examples:\ndemo work", "not indented"),
            ("Examples:\n  demo work configs/none.toml", "configs/none.toml, which is not there"),
        ] {
            assert!(wrong(help).contains(says), "{help}: {}", wrong(help));
        }
    }
}
