//! Text in cells of CSV. A spreadsheet takes a cell that begins with `=`, `+`, `-` or `@` (or a tab or a line end
//! before it) for a formula, and a key or a name from elsewhere may begin so: such a text gets a `'` before it, as
//! spreadsheets write it themselves. Numbers are written as they are.

/// What a guarded text begins with behind the guard; the guard itself too, so that reading takes back what writing
/// did.
const GUARDED: [char; 7] = ['=', '+', '-', '@', '\t', '\r', '\''];

/// A text as its cell has it.
pub fn guarded(text: &str) -> String {
    if text.starts_with(GUARDED) { format!("'{text}") } else { text.to_owned() }
}

/// The text of a cell that [`guarded`] wrote.
pub fn plain(cell: &str) -> &str {
    cell.strip_prefix('\'').filter(|text| text.starts_with(GUARDED)).unwrap_or(cell)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_is_a_formula_and_each_is_read_as_it_was() {
        for (text, cell) in [
            ("=1+1", "'=1+1"),
            ("-photo", "'-photo"),
            ("@a", "'@a"),
            ("+a", "'+a"),
            ("\t=a", "'\t=a"),
            ("\r=a", "'\r=a"),
            ("'=a", "''=a"),
            ("a=1", "a=1"),
            ("", ""),
        ] {
            assert_eq!(guarded(text), cell);
            assert_eq!(plain(cell), text);
        }
        assert_eq!(plain("'quoted"), "'quoted");
    }
}
