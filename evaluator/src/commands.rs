//! One command a file; what they print numbers with.

pub mod run;
pub mod study;
pub mod table;

/// A number with so many digits, or a dash where there is none.
fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or("–".to_owned(), |value| format!("{value:.digits$}"))
}
