//! Cells of CSV files (RFC 4180).

use std::borrow::Cow;

/// A cell, in quotation marks where it needs them.
pub fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

/// The cells of a line that [`quoted`] made; a cell holds no line break.
pub fn cells(line: &str) -> Vec<Cow<'_, str>> {
    let mut cells = Vec::new();
    let mut rest = line;
    loop {
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut end = 0;
            let bytes = quoted.as_bytes();
            while end < bytes.len() && (bytes[end] != b'"' || bytes.get(end + 1) == Some(&b'"')) {
                end += if bytes[end] == b'"' { 2 } else { 1 };
            }
            let end = end.min(quoted.len());
            cells.push(Cow::Owned(quoted[..end].replace("\"\"", "\"")));
            rest = quoted.get(end + 1..).unwrap_or_default();
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            cells.push(Cow::Borrowed(&rest[..end]));
            rest = &rest[end..];
        }
        match rest.strip_prefix(',') {
            Some(next) => rest = next,
            None => return cells,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_comes_back() {
        let texts = ["plain", "a,b", "say \"x\"", "", "\"", "ü,\"é\""];
        let line: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
        assert_eq!(cells(&line.join(",")), texts);
        assert_eq!(cells("\"open,x"), ["open,x"]);
    }
}
