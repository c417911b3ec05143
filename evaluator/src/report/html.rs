//! HTML that needs nothing else: styles and pictures are within.

use std::fmt::Write;

use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;

const STYLE: &str = include_str!("page.css");

/// Pictures of more pixels are embedded as JPEG.
const LOSSLESS: u32 = 1_000_000;

/// A page in the making.
pub struct Page {
    title: String,
    facts: String,
    links: String,
    /// Links below the last section's own are open.
    below: bool,
    parts: usize,
    body: String,
}

impl Page {
    /// An empty page.
    pub fn new(title: &str) -> Self {
        let empty = String::new;
        Self {
            title: escape(title),
            facts: empty(),
            links: empty(),
            below: false,
            parts: 0,
            body: empty(),
        }
    }

    /// A line at the top: what the report is of.
    pub fn fact(&mut self, name: &str, value: &str) {
        let (name, value) = (escape(name), escape(value));
        let _ = write!(self.facts, "<dt>{name}</dt><dd>{value}</dd>");
    }

    /// A table's part of the page, with its line in the table of contents.
    pub fn section(&mut self, name: &str, link: &str, title: &str) {
        self.close();
        let (name, link, title) = (escape(name), escape(link), escape(title));
        let _ = write!(self.links, "<li><a href=\"#{name}\" title=\"{title}\">{link}</a><ul>");
        self.below = true;
        let _ = writeln!(self.body, "<h2 id=\"{name}\">{title}</h2>");
    }

    /// Ends the links of a section.
    fn close(&mut self) {
        if std::mem::take(&mut self.below) {
            self.links.push_str("</ul></li>");
        }
    }

    /// A smaller heading, with its line in the table of contents; nothing where it is empty.
    pub fn heading(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        self.parts += 1;
        let (text, part) = (escape(text), self.parts);
        let _ = write!(self.links, "<li><a href=\"#part-{part}\">{text}</a></li>");
        let _ = writeln!(self.body, "<h3 id=\"part-{part}\">{text}</h3>");
    }

    /// A table that scrolls by itself, its first column fixed.
    pub fn table(&mut self, headings: &[String], rows: &[Row]) {
        let cells = |cells: &[String], tag: &str| {
            let mut text = String::new();
            for cell in cells {
                let _ = write!(text, "<{tag}>{}</{tag}>", escape(cell));
            }
            text
        };
        let _ = writeln!(
            self.body,
            "<div class=\"scroll\" tabindex=\"0\"><table><thead><tr>{}</tr></thead><tbody>",
            cells(headings, "th")
        );
        for row in rows {
            match row {
                Row::Block(name) => {
                    let (name, more) = (escape(name), headings.len().saturating_sub(1).max(1));
                    let _ = writeln!(
                        self.body,
                        "<tr class=\"block\"><th scope=\"rowgroup\">{name}</th><th colspan=\"{more}\"></th></tr>"
                    );
                }
                Row::Cells { cells: own, here } => {
                    let class = if *here { " class=\"here\"" } else { "" };
                    let _ = writeln!(self.body, "<tr{class}>{}</tr>", cells(own, "td"));
                }
            }
        }
        self.body.push_str("</tbody></table></div>\n");
    }

    /// A list of runs: name, the command that shows it, revision, and links to where it lies.
    pub fn runs(&mut self, runs: &[Run]) {
        self.body.push_str(
            "<div class=\"scroll\" tabindex=\"0\"><table class=\"left\"><thead><tr><th>run</th>\
             <th>shown by</th><th>code</th><th>checkpoints</th><th>outputs</th></tr></thead><tbody>\n",
        );
        for run in runs {
            let Run { anchor, name, command, revision, place, outputs } = run;
            let outputs: Vec<String> = outputs.iter().map(|outputs| place_link(outputs)).collect();
            let _ = writeln!(
                self.body,
                "<tr id=\"{}\"><td>{}</td><td><code>{}</code></td><td>{}</td><td>{}</td><td>{}</td></tr>",
                escape(anchor),
                escape(name),
                escape(command),
                escape(revision),
                place_link(place),
                outputs.join("<br>"),
            );
        }
        self.body.push_str("</tbody></table></div>\n");
    }

    /// Links to runs of the list below.
    pub fn run_links(&mut self, runs: &[(&str, &str)]) {
        if runs.is_empty() {
            return;
        }
        let links = runs
            .iter()
            .map(|(anchor, name)| format!("<a href=\"#{}\">{}</a>", escape(anchor), escape(name)));
        let links = links.collect::<Vec<_>>().join(", ");
        let _ = writeln!(self.body, "<p>Runs: {links}</p>");
    }

    /// What could not be shown, and why.
    pub fn failed(&mut self, text: &str) {
        let _ = writeln!(self.body, "<p class=\"failed\">{}</p>", escape(text));
    }

    /// Lines that open on demand.
    pub fn notes(&mut self, notes: &[String]) {
        self.body.push_str("<details><summary>What the numbers depend on</summary><ul>\n");
        for note in notes {
            let _ = writeln!(self.body, "<li>{}</li>", escape(note));
        }
        self.body.push_str("</ul></details>\n");
    }

    /// A drawing.
    pub fn svg(&mut self, svg: &str, caption: &str) {
        let caption = escape(caption);
        let _ = writeln!(self.body, "<figure>{svg}<figcaption>{caption}</figcaption></figure>");
    }

    /// A picture.
    ///
    /// # Errors
    /// For a picture that cannot be encoded.
    pub fn picture(&mut self, picture: &RgbImage, caption: &str) -> Result<()> {
        let (kind, bytes) = if picture.width() * picture.height() <= LOSSLESS {
            ("png", pictures::png(picture)?)
        } else {
            let mut bytes = Vec::new();
            picture.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, 90))?;
            ("jpeg", bytes)
        };
        let (data, caption) = (STANDARD.encode(bytes), escape(caption));
        let _ = writeln!(
            self.body,
            "<figure><div class=\"scroll\" tabindex=\"0\"><img alt=\"{caption}\" width=\"{}\" height=\"{}\" \
             src=\"data:image/{kind};base64,{data}\"></div><figcaption>{caption}</figcaption></figure>",
            picture.width(),
            picture.height()
        );
        Ok(())
    }

    /// The whole file.
    pub fn finish(mut self) -> String {
        self.close();
        let Self { title, facts, links, body, .. } = self;
        format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>{title}</title>\
             <style>\n{STYLE}</style></head><body>\n<header><h1>{title}</h1><dl>{facts}</dl></header>\n\
             <nav aria-label=\"Contents\"><ul>{links}</ul></nav>\n<main>\n{body}</main></body></html>\n"
        )
    }
}

/// A row of a table.
pub enum Row {
    /// The heading of the rows below it.
    Block(String),
    /// Its cells.
    Cells {
        /// From the left.
        cells: Vec<String>,
        /// It was found here.
        here: bool,
    },
}

/// A run of the list of runs.
pub struct Run {
    /// By which the tables link to it.
    pub anchor: String,
    /// Name and step.
    pub name: String,
    /// What shows it on a terminal.
    pub command: String,
    /// The revision of the code.
    pub revision: String,
    /// Where its checkpoints are.
    pub place: String,
    /// Where its outputs are.
    pub outputs: Vec<String>,
}

/// A place, with a link where a browser can open it.
fn place_link(place: &str) -> String {
    let text = escape(place);
    if !place.starts_with('/') {
        return text;
    }
    let mut address = String::from("file://");
    for byte in place.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' => {
                address.push(char::from(byte));
            }
            other => {
                let _ = write!(address, "%{other:02X}");
            }
        }
    }
    format!("<a href=\"{address}\">{text}</a>")
}

/// Text within HTML.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_stays_text() {
        let mut page = Page::new("<b>&</b>");
        let evil = "<script>alert(1)</script>";
        page.fact(evil, evil);
        page.section("t\"1", evil, evil);
        page.heading(evil);
        let cells = vec!["<img src=x onerror='y'>".into()];
        page.table(&["a".into()], &[Row::Block(evil.into()), Row::Cells { cells, here: true }]);
        page.notes(&["</ul>".into()]);
        page.failed(evil);
        page.run_links(&[("a\"b", evil)]);
        page.runs(&[Run {
            anchor: "a\"b".into(),
            name: evil.into(),
            command: evil.into(),
            revision: evil.into(),
            place: "/a \"b\"><script>".into(),
            outputs: vec!["s3://a/<script>".into()],
        }]);
        page.picture(&RgbImage::new(2, 2), "\"><script>").unwrap();
        let text = page.finish();
        assert!(!text.contains("<script"), "{text}");
        assert!(!text.contains("<img src=x"), "{text}");
        assert!(text.contains("<title>&lt;b&gt;&amp;&lt;/b&gt;</title>"), "{text}");
        assert!(text.contains("href=\"file:///a%20%22b%22%3E%3Cscript%3E\""), "{text}");
        assert_eq!(text.matches("<ul").count(), text.matches("</ul>").count(), "{text}");
    }
}
