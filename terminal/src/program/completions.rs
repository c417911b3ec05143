//! Completions of shells.

use clap::Command;
use clap_complete::Shell;

/// The script that teaches a shell a program's commands and options.
pub(super) fn script(command: &Command, shell: Shell) -> String {
    let mut script = Vec::new();
    let name = command.get_name().to_owned();
    clap_complete::generate(shell, &mut visible(command), name, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// The command without hidden ones, which clap_complete would offer.
fn visible(command: &Command) -> Command {
    // Names must be static; there are few, and the program ends.
    let name: &str = command.get_name().to_owned().leak();
    let copy = Command::new(name)
        .about(command.get_about().cloned().unwrap_or_default())
        .groups(command.get_groups().cloned())
        .args(command.get_arguments().cloned())
        .subcommands(command.get_subcommands().filter(|own| !own.is_hide_set()).map(visible));
    if command.get_version().is_some() { copy.version("") } else { copy }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::super::{Build, command, tests::Demo};
    use super::*;

    #[test]
    fn every_shell_learns_the_commands_and_their_options_but_no_hidden_ones() {
        let command = command::<Demo>(Build::default());
        for shell in Shell::value_variants() {
            let script = script(&command, *shell);
            for word in ["demo", "work", "fast", "completions", "version"] {
                assert!(script.contains(word), "{shell} lacks {word}:\n{script}");
            }
            assert!(!script.contains("secret"), "{shell}:\n{script}");
        }
    }
}
