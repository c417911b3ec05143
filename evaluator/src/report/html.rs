//! HTML that needs nothing else: styles and pictures are within.

use std::fmt::Write;

use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;

const STYLE: &str = "
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fafaf8; margin: 2rem auto;
  max-width: 76rem; padding: 0 1rem; }
h1 { font-size: 1.6rem } h2 { font-size: 1.25rem; margin-top: 3rem; border-top: 1px solid #ccc;
  padding-top: 1rem } h3 { font-size: 1rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; display: block; overflow-x: auto }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #e2e2de; white-space: nowrap }
th:first-child, td:first-child, .name { text-align: left }
tr.here td { background: #eef4ee; font-weight: 600 }
figure { margin: 1rem 0 } figcaption { color: #555; font-size: .9rem }
img { max-width: 100%; height: auto } details { color: #555; font-size: .9rem } nav a { margin-right: 1rem }
";

/// Pictures of more pixels are embedded as JPEG.
const LOSSLESS: u32 = 1_000_000;

/// A page in the making.
pub struct Page {
    title: String,
    links: String,
    body: String,
}

impl Page {
    /// An empty page.
    pub fn new(title: &str) -> Self {
        Self { title: escape(title), links: String::new(), body: String::new() }
    }

    /// A table's part of the page.
    pub fn section(&mut self, name: &str, title: &str) {
        let (name, title) = (escape(name), escape(title));
        let _ = write!(self.links, "<a href=\"#{name}\">{name}</a> ");
        let _ = writeln!(self.body, "<h2 id=\"{name}\">{title}</h2>");
    }

    /// A smaller heading; nothing where it is empty.
    pub fn heading(&mut self, text: &str) {
        if !text.is_empty() {
            let _ = writeln!(self.body, "<h3>{}</h3>", escape(text));
        }
    }

    /// A table.
    pub fn table(&mut self, headings: &[String], rows: &[Vec<String>]) {
        let cells = |cells: &[String], tag: &str| {
            let mut text = String::new();
            for cell in cells {
                let _ = write!(text, "<{tag}>{}</{tag}>", escape(cell));
            }
            text
        };
        let _ =
            writeln!(self.body, "<table><thead><tr>{}</tr></thead><tbody>", cells(headings, "th"));
        for row in rows {
            let here = if row.iter().any(|cell| cell == "here") { " class=\"here\"" } else { "" };
            let _ = writeln!(self.body, "<tr{here}>{}</tr>", cells(row, "td"));
        }
        self.body.push_str("</tbody></table>\n");
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
            "<figure><img alt=\"{caption}\" src=\"data:image/{kind};base64,{data}\">\
             <figcaption>{caption}</figcaption></figure>"
        );
        Ok(())
    }

    /// The whole file.
    pub fn finish(self) -> String {
        let Self { title, links, body } = self;
        format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\
             <style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n<nav>{links}</nav>\n{body}</body></html>\n"
        )
    }
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
        page.section("t\"1", "<script>alert(1)</script>");
        page.table(&["a".into()], &[vec!["<img src=x onerror='y'>".into()]]);
        page.notes(&["</ul>".into()]);
        page.picture(&RgbImage::new(2, 2), "\"><script>").unwrap();
        let text = page.finish();
        assert!(!text.contains("<script"), "{text}");
        assert!(!text.contains("<img src=x"), "{text}");
        assert!(text.contains("<title>&lt;b&gt;&amp;&lt;/b&gt;</title>"), "{text}");
    }
}
