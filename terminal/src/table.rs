//! Tables. A row is one line: on a terminal that is too narrow, the columns that may be cut
//! are cut, then whole ones are left out. Elsewhere nothing is, so that scripts see everything. Headings are
//! bold, and what is below `state` or `states` is coloured ([`crate::print`] leaves that out for scripts too).

use unicode_width::UnicodeWidthStr;

use crate::shorten::shorten;
use crate::{style, visible};

/// What stands between two columns.
const GAP: usize = 2;
/// What a column that is cut keeps at least, where its heading is not wider.
const LEAST: usize = 8;

/// A table of text with one heading a column.
pub struct Table {
    headings: Vec<String>,
    rows: Vec<Vec<String>>,
    cut: Vec<usize>,
    omit: Vec<usize>,
}

impl Table {
    /// An empty table with these headings.
    pub fn new(headings: &[&str]) -> Self {
        let headings = headings.iter().map(|&heading| heading.to_owned()).collect();
        Self { headings, rows: Vec::new(), cut: Vec::new(), omit: Vec::new() }
    }

    /// Lets the texts of these columns be cut with `…`, the first ones first: what matters least.
    #[must_use]
    pub fn cut(mut self, headings: &[&str]) -> Self {
        self.cut = self.places(headings);
        self
    }

    /// Lets these columns be left out as a whole where cutting is not enough, the first one first.
    #[must_use]
    pub fn omit(mut self, headings: &[&str]) -> Self {
        self.omit = self.places(headings);
        self
    }

    fn places(&self, headings: &[&str]) -> Vec<usize> {
        let place = |heading: &&str| self.headings.iter().position(|own| own == heading);
        headings.iter().filter_map(place).collect()
    }

    /// Adds a row; as many cells as there are headings. Line breaks and tabs become spaces, other control characters are
    /// shown. Secrets are hidden here, before a cell is cut: half an address is none.
    pub fn row<T: ToString>(&mut self, cells: impl IntoIterator<Item = T>) -> &mut Self {
        let mut row: Vec<String> =
            cells.into_iter().map(|cell| plain(&secrets::text(&cell.to_string()))).collect();
        row.resize(self.headings.len(), String::new());
        self.rows.push(row);
        self
    }

    /// True as long as no row was added.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table in lines, with this many characters a line where that is limited, and styled: to be printed
    /// by [`crate::print`] or drawn by [`crate::Screen`].
    pub fn text(&self, width: Option<usize>) -> String {
        let widths = self.widths(width.unwrap_or(usize::MAX));
        let head = line(&self.headings, &widths, |_, text| style::paint(text, style::HEADING));
        let rows = self.rows.iter().map(|cells| {
            line(cells, &widths, |column, text| match self.headings[column].as_str() {
                "state" | "states" => style::states(text),
                _ => text.to_owned(),
            })
        });
        std::iter::once(head).chain(rows).collect::<Vec<_>>().join("\n")
    }

    /// Prints the table on stdout, fitted to the terminal where stdout is one.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn print(&self) -> anyhow::Result<()> {
        crate::print(&self.text(crate::screen::width()))
    }

    /// The width of each column; none for one that is left out.
    fn widths(&self, room: usize) -> Vec<Option<usize>> {
        let mut natural: Vec<usize> = self.headings.iter().map(|text| text.width()).collect();
        for row in &self.rows {
            for (width, cell) in natural.iter_mut().zip(row) {
                *width = (*width).max(cell.width());
            }
        }
        let mut widths: Vec<Option<usize>> = natural.into_iter().map(Some).collect();
        let mut omit = self.omit.iter();
        while self.too_much(&widths, room) > self.spare(&widths)
            && let Some(&column) = omit.next()
        {
            widths[column] = None;
        }
        for &column in &self.cut {
            let excess = self.too_much(&widths, room);
            if let Some(width) = widths[column].as_mut() {
                *width -= excess.min(*width - self.least(column, *width));
            }
        }
        widths
    }

    /// By how much a row is wider than the room.
    fn too_much(&self, widths: &[Option<usize>], room: usize) -> usize {
        let columns = widths.iter().flatten().count();
        let all = widths.iter().flatten().sum::<usize>() + columns.saturating_sub(1) * GAP;
        all.saturating_sub(room)
    }

    /// By how much the columns that may be cut can be narrowed together.
    fn spare(&self, widths: &[Option<usize>]) -> usize {
        let spare = |&column: &usize| Some(widths[column]? - self.least(column, widths[column]?));
        self.cut.iter().filter_map(spare).sum()
    }

    fn least(&self, column: usize, width: usize) -> usize {
        width.min(self.headings[column].width().max(LEAST))
    }
}

/// A line of cells, each painted once it has its width: nobody sees the width of a colour.
fn line(
    cells: &[String],
    widths: &[Option<usize>],
    paint: impl Fn(usize, &str) -> String,
) -> String {
    let mut line = String::new();
    let mut gap = 0;
    for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let Some(width) = width else { continue };
        let cell = shorten(cell, *width);
        if !cell.is_empty() {
            line.extend(std::iter::repeat_n(' ', gap));
            line += &paint(column, &cell);
            gap = 0;
        }
        gap += width - cell.width() + GAP;
    }
    line.truncate(line.trim_end().len());
    line
}

/// Nothing in a cell moves the cursor: line breaks and tabs become spaces, what else a terminal acts on is shown.
fn plain(text: &str) -> String {
    visible(text).replace(['\n', '\t'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table as a file or a pipe gets it.
    fn plain_text(table: &Table, width: Option<usize>) -> String {
        anstream::adapter::strip_str(&table.text(width)).to_string()
    }

    fn jobs() -> Table {
        let mut table = Table::new(&["job", "name", "tries", "state", "remark"])
            .cut(&["remark", "name"])
            .omit(&["tries", "remark"]);
        table.row(["1a2b3c4d", "a-name-of-some-length", "1/3", "running", "step 100, loss 0.125"]);
        table.row(["5e6f7a8b", "short", "0/3", "queued", ""]);
        table
    }

    #[test]
    fn without_a_width_everything_is_there_in_columns() {
        assert_eq!(
            plain_text(&jobs(), None),
            "job       name                   tries  state    remark\n\
             1a2b3c4d  a-name-of-some-length  1/3    running  step 100, loss 0.125\n\
             5e6f7a8b  short                  0/3    queued"
        );
    }

    #[test]
    fn what_matters_least_is_cut_first_then_columns_are_left_out() {
        assert_eq!(
            plain_text(&jobs(), Some(60)),
            "job       name                   tries  state    remark\n\
             1a2b3c4d  a-name-of-some-length  1/3    running  step 100,…\n\
             5e6f7a8b  short                  0/3    queued"
        );
        assert_eq!(
            plain_text(&jobs(), Some(48)),
            "job       name          tries  state    remark\n\
             1a2b3c4d  a-name-of-s…  1/3    running  step 10…\n\
             5e6f7a8b  short         0/3    queued"
        );
        assert_eq!(
            plain_text(&jobs(), Some(30)),
            "job       name         state\n\
             1a2b3c4d  a-name-of-…  running\n\
             5e6f7a8b  short        queued"
        );
    }

    #[test]
    fn no_line_is_wider_than_asked_and_ids_and_states_stay_whole() {
        for width in 27..90 {
            let text = plain_text(&jobs(), Some(width));
            assert_eq!(text.lines().count(), 3);
            assert!(text.lines().all(|line| line.width() <= width), "{width}:\n{text}");
            assert!(text.contains("1a2b3c4d") && text.contains("running"), "{width}:\n{text}");
        }
    }

    #[test]
    fn wide_characters_count_by_their_width() {
        let mut table = Table::new(&["name", "state"]).cut(&["name"]);
        table.row(["実験実験実験実験", "queued"]);
        table.row(["été", "failed"]);
        assert_eq!(
            plain_text(&table, None),
            "name              state\n実験実験実験実験  queued\nété               failed"
        );
        let text = plain_text(&table, Some(17));
        assert_eq!(text.lines().nth(1), Some("実験実験…  queued"));
        assert!(text.lines().all(|line| line.width() <= 17), "{text}");
    }

    #[test]
    fn a_cell_is_never_more_than_one_line() {
        let mut table = Table::new(&["remark"]);
        table.row(["first\nsecond\x1b[2J\tthird"]);
        assert_eq!(plain_text(&table, None), "remark\nfirst second\\x1b[2J third");
    }

    #[test]
    fn colours_take_no_room() {
        let mut table = Table::new(&["state", "job"]);
        table.row(["failed", "1a2b"]).row(["queued", ""]).row(["", "3c4d"]);
        assert_eq!(
            table.text(None),
            "\x1b[1mstate\x1b[0m   \x1b[1mjob\x1b[0m\n\
             \x1b[31mfailed\x1b[0m  1a2b\n\
             queued\n\
            \x20       3c4d"
        );
    }
}
