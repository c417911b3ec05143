//! The pages of datasets.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::response::IntoResponse;
use maud::{Markup, html};
use pipeline::Dataset;

use super::api::{self, DatasetFacts, DatasetRow, Sample, Samples};
use super::catalogue;
use super::inside::{self, Inside, Listed};
use super::show::{SIZES, Show, View, offered};
use crate::bars::{Series, binned, histogram};
use crate::format::{bytes, count, moment};
use crate::page::{Page, empty, fragment};
use crate::work::Long;
use crate::{Answer, Room, Who};

const STYLES: &[&str] = &["gallery.css"];
/// Classes that are shown before the rest is unfolded.
const CLASSES: usize = 24;
/// Rejected files that a page lists.
const LISTED: usize = 200;

fn number(value: u64) -> String {
    count(i64::try_from(value).unwrap_or(i64::MAX))
}

pub async fn all(State(room): State<Arc<Room>>, who: Who) -> Answer<impl IntoResponse> {
    let all: Vec<DatasetRow> = catalogue::all(&room).await?.iter().map(DatasetRow::from).collect();
    let body = html! {
        @if all.is_empty() {
            (empty(
                "No dataset is known yet. Those that runs read are listed by themselves; others after a start with --data.",
                Some("pipeline ingest photographs.tar --name photographs --out data/photographs\n\
                      scheduler room --data data"),
            ))
        } @else {
            p.quiet { "Datasets that runs read, and those that the server was started with (" code { "--data" } "). A \
                dataset is its manifest: what is shown is what runs with this digest read." }
            ul.cards.plain {
                @for one in &all { (card(one)) }
            }
        }
    };
    Ok(Page { title: "Data", screen: "/data", who: &who, scripts: &[], styles: STYLES, body }
        .into_response())
}

fn card(one: &DatasetRow) -> Markup {
    let split = one.split.as_deref().unwrap_or_default();
    html! {
        li.card {
            h2 {
                @if one.state == "lost" { (one.name) }
                @else { a href=(format!("/data/{}", one.digest)) { (one.name) } }
                @if !split.is_empty() { " " span.tag { (split) } }
            }
            @if let Some(problem) = &one.problem { p.note.bad { (problem) } }
            p {
                b { (number(one.rows)) } " images"
                @if let Some(all) = one.bytes { ", " (bytes(all)) }
                @if let Some(classes) = one.classes.filter(|classes| *classes > 0) { ", " (number(classes as u64)) " classes" }
                @if one.state == "elsewhere" { ", in an object store" }
            }
            p.quiet.small {
                @if !one.sources.is_empty() { "from " (one.sources.join(", ")) br; }
                (one.place) br;
                @if !one.digest.is_empty() { "manifest " code { (one.digest.get(..12).unwrap_or_default()) } br; }
                (number(one.runs.unsigned_abs())) (if one.runs == 1 { " run reads it" } else { " runs read it" })
                @if let Some(recorded) = one.recorded_at { ", first recorded " (moment(recorded)) }
            }
        }
    }
}

pub async fn one(
    State(room): State<Arc<Room>>,
    who: Who,
    Path(digest): Path<String>,
    Query(view): Query<View>,
) -> Answer<impl IntoResponse> {
    let (known, dataset) = catalogue::open(&room, &digest).await?;
    let facts = api::facts(&room, &dataset).await?;
    let samples = api::sample(&room, &dataset, &view).await?;
    let title = format!("{} {}", known.name, facts.split);
    let inside = format!("/data/{digest}/inside");
    let (within, waits) = within(&room, &dataset).await;
    let body = html! {
        p { a href="/data" { "All datasets" } }
        (described(&facts))
        h2 #sample { "A random sample" }
        (form(&format!("/data/{digest}#sample"), &view, &facts.classes)?)
        (gallery(&digest, &samples, &view)?)
        h2 { "What is in it" }
        div #inside data-live=(inside) data-on=(if waits { "tick" } else { "never" }) { (within) }
    };
    Ok(Page { title: &title, screen: "/data", who: &who, scripts: &[], styles: STYLES, body }
        .into_response())
}

fn described(facts: &DatasetFacts) -> Markup {
    let counts = &facts.counts;
    let options = facts.options.as_object().into_iter().flatten();
    let options: Vec<_> = options.filter(|(_, value)| !value.is_null()).collect();
    html! {
        div.figures {
            div.figure { b { (number(facts.rows)) } "images" }
            div.figure { b { (bytes(facts.bytes)) } "in " (number(facts.shards as u64)) " shards" }
            @if !facts.classes.is_empty() { div.figure { b { (number(facts.classes.len() as u64)) } "classes" } }
            @if facts.cut.is_none() { div.figure { b { (number(counts.rejected)) } "files left out" } }
        }
        dl.facts {
            dt { "Place" } dd { code { (facts.place) } }
            dt { "Manifest" } dd { "sha256 " code { (facts.digest) } }
            @if let Some(cut) = &facts.cut { dt { "Cut" } dd { (cut) } }
            dt { "Made from" }
            dd {
                @if facts.sources.is_empty() { "not recorded" }
                @for source in &facts.sources {
                    div {
                        (source.name) span.quiet { " as " (source.layout) ", " (bytes(source.bytes)) }
                        @if let Some(published) = source.published {
                            span.quiet { ", " (number(published)) " images published" }
                        }
                        @if let Some(sha256) = &source.sha256 { br; code.small { (sha256) } }
                    }
                }
            }
            dt { "Licence" } dd.quiet { "that of its sources; a dataset does not record it" }
            @if !options.is_empty() {
                dt { "Ingested with" }
                dd { @for (key, value) in &options { span.tag { (key) " " (value.to_string()) } " " } }
            }
            @if counts.duplicates + counts.left_out + counts.noted + counts.unlabelled > 0 {
                dt { "Counted" }
                dd {
                    @for (value, what) in [
                        (counts.duplicates, "copies of other images"),
                        (counts.left_out, "left to the other part"),
                        (counts.noted, "stored and listed"),
                        (counts.unlabelled, "without a label"),
                    ] {
                        @if value > 0 { span.tag { (number(value)) " " (what) } " " }
                    }
                }
            }
            dt { "Read by" }
            dd {
                @if facts.runs.is_empty() { span.quiet { "no run yet" } }
                @for reader in &facts.runs {
                    a.tag href=(format!("/runs/{}", path(&reader.run))) { (reader.run) " (" (reader.role) ")" } " "
                }
            }
        }
    }
}

/// A text as a part of a path.
fn path(text: &str) -> String {
    let mut path = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' | b'.' => {
                path.push(byte as char)
            }
            _ => path.push_str(&format!("%{byte:02X}")),
        }
    }
    path
}

fn form(action: &str, view: &View, classes: &[String]) -> Answer<Markup> {
    let (shown, side) = (view.shown()?.to_string(), view.side()?);
    let offered = offered();
    let own = (!offered.iter().any(|(value, _)| *value == shown)).then_some(&shown);
    Ok(html! {
        form.row method="get" action=(action) data-submit="" {
            label.above { "Show"
                select name="show" {
                    @if let Some(own) = own { option value=(own) selected { (own) } }
                    @for (value, text) in &offered {
                        option value=(value) selected[*value == shown] { (text) }
                    }
                }
            }
            label.above { "or an evaluation"
                input type="text" name="other" placeholder="jpeg:33, inpainting:center-64" maxlength="100" size="24";
            }
            @if !classes.is_empty() {
                label.above { "Class"
                    select.narrow name="class" {
                        option value="" { "all" }
                        @for (number, name) in classes.iter().enumerate().take(2000) {
                            option value=(number) selected[view.class == Some(number)] { (name) }
                        }
                    }
                }
            }
            label.above { "Side"
                select name="size" {
                    @if !SIZES.contains(&side) { option value=(side) selected { (side) } }
                    @for one in SIZES { option value=(one) selected[one == side] { (one) " px" } }
                }
            }
            label.above { "Seed" input type="number" name="seed" min="0" max="18446744073709551615" value=(view.seed); }
            button.main type="submit" { "Show" }
        }
    })
}

/// The address of a view.
fn query(view: &View, show: Show, page: u64) -> String {
    let class = view.class.map_or(String::new(), |class| format!("&class={class}"));
    let size = view.size.map_or(String::new(), |size| format!("&size={size}"));
    format!("?show={show}&seed={}&page={page}{size}{class}", view.seed)
}

fn gallery(digest: &str, samples: &Samples, view: &View) -> Answer<Markup> {
    let (show, side) = (view.shown()?, view.side()?);
    let address = |page: u64| format!("/data/{digest}{}#sample", query(view, show, page));
    let another = View { seed: view.seed.wrapping_add(1), ..view.clone() };
    let pages = html! {
        nav.row aria-label="Pages of the sample" {
            @if samples.page > 0 { a.button rel="prev" href=(address(samples.page - 1)) { "Previous" } }
            span.quiet { "page " (number(samples.page.saturating_add(1))) " of " (number(samples.pages)) }
            @if samples.page.saturating_add(1) < samples.pages {
                a.button rel="next" href=(address(samples.page + 1)) { "Next" }
            }
            a.button href=(format!("/data/{digest}{}#sample", query(&another, show, 0))) { "Another sample" }
        }
    };
    Ok(html! {
        @if show != Show::Photograph {
            p.quiet.small { "From left to right: what the network is given (grey where it is to fill a hole; the device \
                puts noise there), the mask (white is to be made), and the target." }
        }
        @if samples.of == 0 { (empty("There is no image of this class.", None)) }
        @else if samples.samples.is_empty() {
            (empty("The sample has no such page.", None)) (pages)
        } @else {
            ul class=(if show == Show::Photograph { "tiles" } else { "tiles triples" }) {
                @for sample in &samples.samples { li { (tile(digest, sample, view, show, side)) } }
            }
            (pages)
        }
    })
}

fn tile(digest: &str, sample: &Sample, view: &View, show: Show, side: u32) -> Markup {
    let key = sample.key.as_deref().unwrap_or("not readable");
    html! {
        @if let Some(problem) = &sample.problem { p.note.bad { "row " (sample.row) ": " (problem) } }
        @else {
            a href=(format!("/data/{digest}/rows/{}{}", sample.row, query(view, show, view.page))) {
                span.strip { (strip(&sample.pictures, key, side)) }
                span.cut.small title=(key) { (key) }
            }
        }
    }
}

fn strip(pictures: &std::collections::BTreeMap<String, String>, key: &str, side: u32) -> Markup {
    html! {
        @for part in super::pictures::PARTS {
            @if let Some(address) = pictures.get(part) {
                img loading="lazy" decoding="async" width=(side) height=(side) src=(address)
                    alt=(if pictures.len() == 1 { key.to_owned() } else { format!("{part} of {key}") });
            }
        }
    }
}

pub async fn inside(
    State(room): State<Arc<Room>>,
    _: Who,
    Path(digest): Path<String>,
) -> Answer<impl IntoResponse> {
    let (_, dataset) = catalogue::open(&room, &digest).await?;
    Ok(fragment(within(&room, &dataset).await.0))
}

/// What is in a dataset, and whether that is still being read.
async fn within(room: &Room, dataset: &Arc<Dataset>) -> (Markup, bool) {
    match inside::read(room, dataset).await {
        Err(refusal) => (html! { p.note.bad { (refusal.why) } }, false),
        Ok(Long::Running(..)) => {
            let reading = html! {
                p.quiet role="status" { "The small columns of all shards are being read; this appears by itself." }
            };
            (reading, true)
        }
        Ok(Long::Done(inside)) => (summary(dataset, &inside), false),
    }
}

fn summary(dataset: &Dataset, inside: &Inside) -> Markup {
    let Inside { summary, .. } = inside;
    let sizes = [
        ("shorter sides", "pixels", &summary.histograms.short_side),
        ("longer sides", "pixels", &summary.histograms.long_side),
        ("bytes of an image", "bytes", &summary.histograms.file_bytes),
    ];
    let classes = &dataset.manifest().classes;
    let mut by_class: Vec<(usize, usize)> =
        inside.classes.iter().map(Vec::len).enumerate().collect();
    by_class.sort_by_key(|&(class, images)| (std::cmp::Reverse(images), class));
    let most = by_class.first().map_or(1, |&(_, images)| images.max(1));
    let digest = dataset.digest();
    let class = |&(class, images): &(usize, usize)| {
        html! {
            tr {
                td.cut { a href=(format!("/data/{digest}?class={class}#sample")) { (classes.get(class).map_or("", String::as_str)) } }
                td.number { (number(images as u64)) }
                td.bar { progress max=(most) value=(images) aria-hidden="true" {} }
            }
        }
    };
    html! {
        p {
            @for (format, images) in &summary.formats { span.tag { (number(*images)) " " (format) } " " }
            @if summary.turned > 0 { span.tag { (number(summary.turned)) " turned by EXIF" } " " }
            @if summary.copies > 0 { span.tag { (number(summary.copies)) " smaller copies" } }
        }
        div.charts {
            @for (name, unit, counts) in sizes {
                @if let Some((bins, ends)) = binned(&counts.0, 40) {
                    div.card {
                        (histogram(name, &[Series { name, counts: &bins }], ends, unit))
                        p.quiet.small { "smallest " (number(counts.spread().min)) ", middle " (number(counts.spread().median))
                            ", largest " (number(counts.spread().max)) }
                    }
                }
            }
        }
        @if !by_class.is_empty() {
            h3 { "Classes" }
            div.table { table.classes {
                thead { tr { th scope="col" { "class" } th.number scope="col" { "images" } td {} } }
                tbody { @for one in by_class.iter().take(CLASSES) { (class(one)) } }
            } }
            @if by_class.len() > CLASSES {
                details #classes {
                    summary { "All " (number(by_class.len() as u64)) " classes" }
                    div.table { table.classes { tbody { @for one in by_class.iter().skip(CLASSES) { (class(one)) } } } }
                }
            }
        }
        (listed(dataset, "Left out", "Nothing was left out.", &summary.rejects, &inside.rejects))
        @if !summary.noted.is_empty() {
            (listed(dataset, "Stored and listed", "", &summary.noted, &inside.noted))
        }
    }
}

fn listed(
    dataset: &Dataset,
    title: &str,
    none: &str,
    reasons: &std::collections::BTreeMap<String, pipeline::dataset::Rejects>,
    files: &[Listed],
) -> Markup {
    let digest = dataset.digest();
    let cut = dataset.manifest().cut.is_some();
    html! {
        h3 { (title) }
        @if cut { p.quiet { "This is a cut; what was left out is listed with the dataset that it was cut from." } }
        @else if reasons.is_empty() { p.quiet { (none) } }
        @else {
            p { @for reason in api::reasons(reasons) { span.tag { (number(reason.files)) " " (reason.reason) } " " } }
            details #(title.replace(' ', "-").to_lowercase()) {
                summary { "The files" @if files.len() > LISTED { ", the first " (LISTED) } }
                p.quiet.small { "Of a file that was left out only the name and the reason are kept. Where a copy of it, or an \
                    image of its name, is stored, that one is shown." }
                div.table { table {
                    thead { tr { th scope="col" { "file" } th scope="col" { "why" } th scope="col" { "source" } th scope="col" { "stored" } } }
                    tbody {
                        @for Listed { file, row } in files.iter().take(LISTED) {
                            tr {
                                td { (file.key) } td { (file.reason) } td { (file.source) }
                                td {
                                    @if let Some(row) = row {
                                        a href=(format!("/data/{digest}/rows/{row}")) {
                                            img loading="lazy" width="64" height="64" alt=(format!("row {row}"))
                                                src=(format!("/data/pictures/{digest}/{row}/target?size=64"));
                                        }
                                    } @else { span.quiet { "–" } }
                                }
                            }
                        }
                    }
                } }
            }
        }
    }
}

pub async fn row(
    State(room): State<Arc<Room>>,
    who: Who,
    Path((digest, row)): Path<(String, u64)>,
    Query(view): Query<View>,
) -> Answer<impl IntoResponse> {
    let (known, dataset) = catalogue::open(&room, &digest).await?;
    let facts = api::row_facts(&room, &dataset, row).await?;
    let view = View { size: view.size.or(Some(256)), ..view };
    let (show, side) = (view.shown()?, view.side()?);
    let address = |row: u64| format!("/data/{digest}/rows/{row}{}", query(&view, show, view.page));
    let pictures = api::addresses(&digest, row, show, side, view.seed);
    let named = |part: &str| match part {
        "source" => "source: what the network is given",
        "mask" => "mask: white is to be made",
        _ if pictures.len() == 1 => "photograph, cut to a square",
        _ => "target",
    };
    let title = format!("{}, row {row}", known.name);
    let body = html! {
        p { a href=(format!("/data/{digest}{}#sample", query(&view, show, view.page))) { "Back to the sample" } }
        nav.row aria-label="Rows" {
            @if row > 0 { a.button rel="prev" href=(address(row - 1)) { "Previous row" } }
            @if row + 1 < dataset.len() { a.button rel="next" href=(address(row + 1)) { "Next row" } }
        }
        (form(&format!("/data/{digest}/rows/{row}"), &view, &[])?)
        div.large {
            @for part in super::pictures::PARTS {
                @if let Some(address) = pictures.get(part) {
                    figure {
                        img src=(address) width=(side) height=(side) alt=(format!("{part} of {}", facts.key));
                        figcaption.quiet { (named(part)) }
                    }
                }
            }
        }
        @if matches!(show, Show::Train(_)) {
            p.quiet.small { "Drawn by the seed, with the paper's numbers. A run draws by its own seed, and with the numbers of its configuration." }
        }
        dl.facts {
            dt { "Key" } dd { (facts.key) }
            @if let Some(class) = &facts.class { dt { "Class" } dd { (class) } }
            dt { "Pixels" } dd { (facts.width) " × " (facts.height) ", " (facts.format) ", " (bytes(facts.bytes as u64)) }
            @if facts.orientation != 1 { dt { "Orientation" } dd { "EXIF " (facts.orientation) "; the pixels are used as they are stored" } }
            dt { "From" } dd { (facts.source) @if facts.path != facts.key { ", " (facts.path) } }
            dt { "sha256" } dd { code { (facts.sha256) } }
            @if let Some(source) = &facts.source_sha256 { dt { "sha256 of its source" } dd { code { (source) } } }
        }
    };
    Ok(Page { title: &title, screen: "/data", who: &who, scripts: &[], styles: STYLES, body }
        .into_response())
}
