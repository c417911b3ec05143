//! Pictures as they stand on a page. Scripts bring the true pixels, and zoom and wipe all of a page together; without
//! them the small copies are there.

use maud::{Markup, html};

/// A picture that stands somewhere: where it is served, and its size.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Where the whole picture is served.
    pub url: String,
    /// Where a small copy is served.
    pub small: String,
    /// Pixels of a row and rows, where they are known.
    pub size: Option<(i32, i32)>,
}

impl From<&super::grid::Image> for Shown {
    fn from(image: &super::grid::Image) -> Self {
        Self {
            url: image.url.clone(),
            small: image.small.clone(),
            size: Some((image.width, image.height)),
        }
    }
}

/// A picture, with another below it that a wipe uncovers; it leads somewhere where `href` says where.
pub fn view(
    key: &str,
    alt: &str,
    over: &Shown,
    under: Option<&Shown>,
    href: Option<&str>,
) -> Markup {
    let inner = html! {
        span.stack {
            @if let Some(under) = under { (image(under, "", "under")) }
            (image(over, alt, if under.is_some() { "over" } else { "alone" }))
        }
    };
    html! {
        @match href {
            Some(href) => { a.view data-key=(key) href=(href) draggable="false" { (inner) } }
            None => { span.view data-key=(key) { (inner) } }
        }
    }
}

fn image(shown: &Shown, alt: &str, class: &str) -> Markup {
    let (width, height) = shown.size.unzip();
    html! {
        // A script brings the true pixels in its place, which an update leaves unless the picture is another.
        img class=(class) data-key=(format!("{class}-{}", shown.url)) data-keep src=(shown.small) data-small=(shown.small) data-full=(shown.url) alt=(alt)
            width=[width] height=[height] loading="lazy" decoding="async" draggable="false";
    }
}

/// A small picture.
pub fn small(shown: &Shown, alt: &str, title: &str) -> Markup {
    let (width, height) = shown.size.unzip();
    html! {
        a.small-picture href=(shown.url) title=(title) {
            img src=(shown.small) alt=(alt) width=[width] height=[height] loading="lazy" decoding="async";
        }
    }
}

/// What zooms and wipes all pictures of the page; shown where scripts run.
pub fn tools(wipe: bool) -> Markup {
    html! {
        div.row.tools data-scripted hidden {
            @if wipe {
                label { "Wipe" input #wipe type="range" min="0" max="100" value="0" step="1"; }
            }
            span.row role="group" aria-label="Zoom of all pictures" {
                button type="button" data-zoom="fit" aria-pressed="true" { "Fit" }
                @for scale in [1, 2, 4, 8] {
                    button type="button" data-zoom=(scale) aria-pressed="false" { (scale) "×" }
                }
            }
            span.quiet.small { "Zoomed, drag any picture to move all. " kbd { "0" } " fits, " kbd { "+" } " and " kbd { "−" } " zoom." }
        }
    }
}
