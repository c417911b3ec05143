//! Turns messages of libtorch into one line for the user: the cause, without C++ asserts, stacks and file names.

/// A message of libtorch in one line, without stack, asserts, names of C++ files and control characters.
pub fn one_line(message: &str) -> String {
    let message = message.split("Exception raised from").next().unwrap_or_default();
    let line = what_failed(message.trim());
    let line = without_assert(line.strip_prefix(PREFIX).unwrap_or(line).trim_start());
    let words: Vec<&str> = line.split_whitespace().filter(|word| !names_source(word)).collect();
    let shown: String = words.join(" ").chars().flat_map(shown).collect();
    match shown.is_empty() {
        true => NOTHING.to_owned(),
        false => shown,
    }
}

/// What the crate `tch` says before every message.
const PREFIX: &str = "Internal torch error:";
/// Replaces messages that hold nothing but C++ details.
const NOTHING: &str = "an internal check failed";

/// The relevant line: the first one; for errors within TorchScript, which begin with a trace, the last error.
fn what_failed(message: &str) -> &str {
    let lines = || message.lines().map(str::trim).filter(|line| !line.is_empty());
    let scripted = message.contains("in the TorchScript interpreter");
    let error = scripted.then(|| lines().rfind(|line| line.contains("Error: "))).flatten();
    error.or_else(|| lines().next()).unwrap_or_default()
}

/// The message of a failed assert, without its condition.
fn without_assert(line: &str) -> &str {
    // `[enforce fail at alloc_cpu.cpp:128] err == 0. DefaultCPUAllocator: …`
    let line = match line.split_once("[enforce fail at ") {
        Some((_, rest)) => rest
            .split_once("] ")
            .map_or("", |(_, rest)| rest.split_once(". ").map_or(rest, |(_, rest)| rest)),
        None => line,
    };
    // `isTensor() INTERNAL ASSERT FAILED at "ivalue.h":123, please report a bug to PyTorch. …`
    let line = match line.split_once("INTERNAL ASSERT FAILED at ") {
        Some((_, rest)) => rest.split_once("report a bug to PyTorch.").map_or("", |(_, rest)| rest),
        None => line,
    };
    // `Expected x == y to be true, but got false.  (Could this error message be improved? …)`
    match line.split_once("to be true, but got false.") {
        Some(_) => "",
        None => line.split("(Could this error message be improved?").next().unwrap_or_default(),
    }
}

/// True for `../aten/src/ATen/native/Copy.cpp:123`, with whatever stands around it.
fn names_source(word: &str) -> bool {
    let ends = [".cpp", ".cc", ".cu", ".cuh", ".hpp", ".h"];
    let name = word.split(':').next().unwrap_or_default();
    let name = name.trim_matches(|c: char| !c.is_alphanumeric());
    word.contains(':') && ends.iter().any(|end| name.ends_with(end))
}

/// A character; control characters are escaped.
fn shown(character: char) -> Vec<char> {
    match character.is_control() {
        true => character.escape_default().collect(),
        false => vec![character],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_keep_the_cause_and_lose_the_c_plus_plus() {
        for (message, said) in [
            (
                "Internal torch error: The size of tensor a (3) must match the size of tensor b (4)\n\
                 Exception raised from infer_size_impl at /pytorch/aten/src/ATen/ExpandUtils.cpp:31 \
                 (most recent call first):\nframe #0: c10::Error::Error(...)",
                "The size of tensor a (3) must match the size of tensor b (4)",
            ),
            (
                "[enforce fail at alloc_cpu.cpp:128] err == 0. DefaultCPUAllocator: can't allocate \
                 memory: you tried to allocate 1099511627776 bytes.",
                "DefaultCPUAllocator: can't allocate memory: you tried to allocate 1099511627776 bytes.",
            ),
            (
                "isTensor() INTERNAL ASSERT FAILED at \"/pytorch/aten/src/ATen/core/ivalue_inl.h\":137, \
                 please report a bug to PyTorch. Expected Tensor but got Tuple",
                "Expected Tensor but got Tuple",
            ),
            (
                "reader_ INTERNAL ASSERT FAILED at \"a.cpp\":1, please report a bug to PyTorch. ",
                "an internal check failed",
            ),
            (
                "Expected offset == 0 to be true, but got false.  (Could this error message be \
                 improved?  If so, please report an enhancement request to PyTorch.)",
                "an internal check failed",
            ),
            (
                "The following operation failed in the TorchScript interpreter.\nTraceback of \
                 TorchScript, serialized code (most recent call last):\n  File \"code/x.py\", line 3\n\
                 RuntimeError: shape '[2]' is invalid\n",
                "RuntimeError: shape '[2]' is invalid",
            ),
            ("wrong\u{1b}[31m name", "wrong\\u{1b}[31m name"),
            ("../aten/src/ATen/Copy.cpp:12: no kernel", "no kernel"),
            ("", "an internal check failed"),
        ] {
            assert_eq!(one_line(message), said);
        }
    }
}
