//! Colours: what is bold, green or red. Texts carry them as escape sequences, and [`anstream`] takes them out
//! again where they are printed to a file or a pipe, or where `NO_COLOR` is set.

use anstyle::{AnsiColor, Style};
use clap::builder::Styles;

/// Headings of tables and of help.
pub(crate) const HEADING: Style = Style::new().bold();
/// What is typed as it stands.
const LITERAL: Style = AnsiColor::Cyan.on_default();
/// What went wrong.
pub(crate) const BAD: Style = AnsiColor::Red.on_default();
/// What should be looked at.
pub(crate) const DOUBTFUL: Style = AnsiColor::Yellow.on_default();
/// What goes on, or is only said.
pub(crate) const NEUTRAL: Style = AnsiColor::Cyan.on_default();
const GOOD: Style = AnsiColor::Green.on_default();
const OVER: Style = Style::new().dimmed();

/// Help, and errors of the command line.
pub(crate) const HELP: Styles = Styles::styled()
    .header(HEADING)
    .usage(HEADING)
    .literal(LITERAL)
    .error(BAD.bold())
    .invalid(DOUBTFUL)
    .valid(GOOD);

/// A text in a style.
pub(crate) fn paint(text: &str, style: Style) -> String {
    format!("{style}{text}{style:#}")
}

/// The painted text at the beginning of this one, where it is as [`paint`] makes headings and [`states`] names:
/// nothing that comes from outside gets a colour by bringing one.
pub(crate) fn own(text: &str) -> Option<&str> {
    let inner = text.strip_prefix("\x1b[")?;
    let start = text.len() - inner.len() + inner.find('m')? + 1;
    let length = text[start..].find('\x1b')?;
    let word = &text[start..start + length];
    let is_own = |style: Style| text.starts_with(&paint(word, style));
    let plain = !word.contains(char::is_control);
    (plain && (is_own(HEADING) || state(word).is_some_and(is_own)))
        .then(|| &text[..start + length + format!("{HEADING:#}").len()])
}

/// A text in which names of states are coloured: of jobs, runs, workers and checks.
pub fn states(text: &str) -> String {
    let mut painted = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic()) {
        let (before, from) = rest.split_at(start);
        let end = from.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(from.len());
        let (word, behind) = from.split_at(end);
        painted += before;
        painted += &state(word).map_or_else(|| word.to_owned(), |style| paint(word, style));
        rest = behind;
    }
    painted + rest
}

fn state(word: &str) -> Option<Style> {
    Some(match word {
        "succeeded" | "scored" | "alive" | "ok" => GOOD,
        "running" => NEUTRAL,
        "paused" | "warning" | "ailing" => DOUBTFUL,
        "failed" | "lost" => BAD,
        "cancelled" | "ended" => OVER,
        _ => return None,
    })
}

/// Sees to `CLICOLOR_FORCE=0`, which means as little as none, and not what any other value does.
pub(crate) fn heed_environment() {
    use std::io::IsTerminal;
    let zero = std::env::var_os("CLICOLOR_FORCE").is_some_and(|force| force == "0");
    if zero && !(std::io::stdout().is_terminal() && std::io::stderr().is_terminal()) {
        anstream::ColorChoice::Never.write_global();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_coloured_wherever_they_stand_and_nothing_else_is() {
        assert_eq!(states("failed"), "\x1b[31mfailed\x1b[0m");
        assert_eq!(
            states("2 succeeded, 1 running"),
            "2 \x1b[32msucceeded\x1b[0m, 1 \x1b[36mrunning\x1b[0m"
        );
        for plain in ["queued", "unfailed", "", "– 3 é"] {
            assert_eq!(states(plain), plain);
        }
    }
}
