//! Plain tables, fitted to the terminal where there is one.

use comfy_table::{ContentArrangement, presets};

/// A table of text with one heading a column.
pub struct Table(comfy_table::Table);

impl Table {
    /// An empty table with these headings.
    pub fn new(headings: &[&str]) -> Self {
        let mut table = comfy_table::Table::new();
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_header(headings);
        Self(table)
    }

    /// Adds a row; as many cells as there are headings.
    pub fn row<T: ToString>(&mut self, cells: impl IntoIterator<Item = T>) -> &mut Self {
        self.0.add_row(cells.into_iter().map(|cell| cell.to_string()).collect::<Vec<_>>());
        self
    }

    /// True as long as no row was added.
    pub fn is_empty(&self) -> bool {
        self.0.row_count() == 0
    }

    /// Prints the table on stdout.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn print(&self) -> anyhow::Result<()> {
        crate::print(&self.0.trim_fmt())
    }
}
