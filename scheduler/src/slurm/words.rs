//! What may stand in the script of a pilot. A script is a program: a value that could end its line, or its word, would
//! be one too.

/// The longest value that is taken.
const LONGEST: usize = 1000;

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric()
        || matches!(c, '_' | '.' | ',' | ':' | '+' | '@' | '%' | '=' | '/' | '-')
}

/// Names of Slurm: a partition (or several, with commas), an account, a QOS, the name of a job.
///
/// # Errors
/// Says the rule.
pub fn word(text: &str) -> Result<String, String> {
    let fits = (1..=200).contains(&text.len()) && text.chars().all(is_plain);
    match fits && !text.starts_with('-') {
        true => Ok(text.to_owned()),
        false => Err("a name of Slurm: 1 to 200 letters, digits and _ . , : + @ % = / -, not beginning with -".into()),
    }
}

/// A pattern of file names, such as `/logs/%A_%a.out`: spaces and other letters too, but nothing that ends its quotes.
///
/// # Errors
/// Says the rule.
pub fn pattern(text: &str) -> Result<String, String> {
    let strange = |c: char| c.is_control() || matches!(c, '"' | '\\');
    match (1..=LONGEST).contains(&text.len()) && !text.contains(strange) {
        true => Ok(text.to_owned()),
        false => Err(
            "a file name of 1 to 1000 bytes, without quotes, backslashes and control characters"
                .into(),
        ),
    }
}

/// A file that each node has under the same name.
///
/// # Errors
/// Where it is not absolute, or has control characters.
pub fn path(text: &str) -> Result<String, String> {
    let fits = text.len() <= LONGEST && !text.contains(char::is_control);
    match fits && text.starts_with('/') {
        true => Ok(text.to_owned()),
        false => {
            Err("an absolute path without control characters: it is opened on the nodes".into())
        }
    }
}

/// An amount of memory as Slurm writes it: `64G`, `8000M`, `0` for all of a node.
///
/// # Errors
/// Says the rule.
pub fn memory(text: &str) -> Result<String, String> {
    let digits = text.trim_end_matches(['K', 'M', 'G', 'T']);
    let number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    match number && digits.len() <= 12 && text.len() - digits.len() <= 1 {
        true => Ok(text.to_owned()),
        false => Err("an amount such as 64G or 8000M; 0 for all memory of a node".into()),
    }
}

/// How many GPUs of a node, and of which type where it matters: `2`, `a100:2`.
///
/// # Errors
/// Says the rule.
pub fn count_of_gpus(text: &str) -> Result<String, String> {
    let (kind, count) = match text.rsplit_once(':') {
        Some((kind, count)) => (Some(kind), count),
        None => (None, text),
    };
    let named = kind.is_none_or(|kind| word(kind).is_ok() && !kind.contains([',', ':']));
    let digits = count.bytes().all(|byte| byte.is_ascii_digit());
    match named && digits && matches!(count.parse(), Ok(1..=1024)) {
        true => Ok(text.to_owned()),
        false => Err("a number of GPUs from 1, or TYPE:NUMBER, such as 2 or a100:2".into()),
    }
}

/// An option of `sbatch` that goes into a line of its own: `--constraint=a100|h100`.
///
/// # Errors
/// Says the rule.
pub fn option(text: &str) -> Result<String, String> {
    let fits = text.len() <= LONGEST && !text.contains(char::is_control);
    let long = text
        .strip_prefix("--")
        .is_some_and(|name| name.starts_with(|c: char| c.is_ascii_alphabetic()));
    match fits && long {
        true => Ok(text.to_owned()),
        false => Err("one long option of sbatch on one line, such as --constraint=h100".into()),
    }
}

/// A text as one word of a shell.
pub(super) fn quoted(text: &str) -> String {
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_become_a_line_or_a_word_of_its_own_is_refused() {
        for text in ["gpu", "gpu,gpu-long", "a_b.c+d", "lab/vision"] {
            assert_eq!(word(text).as_deref(), Ok(text));
        }
        for text in ["", "-p", "a b", "a\n#SBATCH --uid=0", "a;rm", "$(id)", "`id`", "a'b", "ä"] {
            assert!(word(text).is_err(), "{text}");
        }
        assert!(pattern("/logs of the lab/%A_%a.out").is_ok());
        for text in ["", "a\nb", "a\"b", "a\\b", "a\u{7f}"] {
            assert!(pattern(text).is_err(), "{text}");
        }
        for text in ["", "relative", "/a\nb"] {
            assert!(path(text).is_err(), "{text}");
        }
        assert!(option("--constraint=a100|h100").is_ok());
        for text in ["", "-p", "--", "--a\n--b", "constraint=x", "---x"] {
            assert!(option(text).is_err(), "{text}");
        }
    }

    #[test]
    fn amounts_are_as_slurm_writes_them() {
        for text in ["0", "64G", "8000M", "8000"] {
            assert_eq!(memory(text).as_deref(), Ok(text));
        }
        for text in ["", "G", "64GB", "64 G", "-1", "1.5G"] {
            assert!(memory(text).is_err(), "{text}");
        }
        for text in ["1", "8", "a100:2"] {
            assert_eq!(count_of_gpus(text).as_deref(), Ok(text));
        }
        for text in ["", "0", "a100", "a100:0", ":2", "a,b:1", "+1", "2000"] {
            assert!(count_of_gpus(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_quoted_word_is_the_same_in_a_shell() {
        for text in
            ["", "plain/path", "two words", "it's", "$HOME `id` \"x\" \\", "a*?[b]", "ä;&|<>"]
        {
            let line = format!("printf %s {}", quoted(text));
            let output = std::process::Command::new("sh").args(["-c", &line]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), text, "{line}");
        }
    }
}
