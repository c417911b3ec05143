//! The filters beside the table, with counts, and the choice of columns: forms that need no script.

use maud::{Markup, html};

use super::table::{RunTable, STAR};
use super::view::{Column, View};

/// Values of a filter that are shown at once; the others are a click away.
const SHOWN: usize = 8;

/// The form of the filters.
pub fn filters(view: &View, table: &RunTable) -> Markup {
    let lists = [
        ("State", "state", &view.filter.states),
        ("Owner", "owner", &view.filter.owners),
        ("Experiment", "experiment", &view.filter.experiments),
        ("Tag", "tag", &view.filter.tags),
        ("Kind", "kind", &view.filter.kinds),
    ];
    let sweeps: Vec<String> = view.filter.sweeps.iter().map(ToString::to_string).collect();
    let archived = match view.filter.archived {
        Some(false) => "no",
        Some(true) => "only",
        None => "all",
    };
    let of = |value: &str| {
        let all = table.counts.get("archived").map(Vec::as_slice).unwrap_or_default();
        all.iter().find(|one| one.value == value).map_or(0, |one| one.count)
    };
    let counted = |value: &str| match value {
        "no" => of("false"),
        "only" => of("true"),
        _ => of("false") + of("true"),
    };
    html! {
        form.filters method="get" action="/runs" data-submit aria-label="Filters" {
            // What the other forms set stays.
            @for (name, value) in view.pairs() {
                @if matches!(name, "sort" | "group" | "column" | "differ" | "rows") {
                    input type="hidden" name=(name) value=(value);
                }
            }
            label.above { "Search"
                input type="search" name="text" value=(view.filter.text.as_deref().unwrap_or("")) placeholder="name, tag, note, id";
            }
            label.above { "Name, with * for any text"
                input name="name" value=(view.filter.name.as_deref().unwrap_or("")) placeholder="palette-*";
            }
            label.above { "Configuration, KEY=VALUE"
                input name="config" value=(view.config.first().map_or("", String::as_str)) placeholder="train.learning_rate=0.0001";
            }
            @for more in view.config.iter().skip(1) {
                label.above { span.unseen { "Configuration, KEY=VALUE" } input name="config" value=(more); }
            }
            @for (title, name, chosen) in lists { (values(table, title, name, chosen)) }
            (values(table, "Sweep", "sweep", &sweeps))
            fieldset {
                legend { "Archived" }
                @for (value, text) in [("no", "left out"), ("only", "only these"), ("all", "with the others")] {
                    label.value {
                        input type="radio" name="archived" value=(value) checked[value == archived];
                        span.cut { (text) }
                        span.count { (crate::format::count(counted(value))) }
                    }
                }
            }
            div.row { button.main { "Apply" }
                @if view.is_filtered() { a.button href=(View { filter: View::default().filter, config: vec![], page: 1, ..view.clone() }.address()) { "Clear" } } }
        }
    }
}

fn values(table: &RunTable, title: &str, name: &str, chosen: &[String]) -> Markup {
    let counted = table.counts.get(name).map(Vec::as_slice).unwrap_or_default();
    let missing = chosen.iter().filter(|value| !counted.iter().any(|one| one.value == **value));
    let mut all: Vec<(&str, &str, i64)> =
        missing.map(|value| (value.as_str(), value.as_str(), 0)).collect();
    all.extend(counted.iter().map(|one| (one.value.as_str(), one.label.as_str(), one.count)));
    all.sort_by_key(|(value, ..)| !chosen.iter().any(|one| one == value));
    let shown = |(value, label, count): &(&str, &str, i64)| {
        html! {
            label.value {
                input type="checkbox" name=(name) value=(value) checked[chosen.iter().any(|one| one == value)];
                span.cut title=(label) { @if name == "tag" && *value == STAR { "★ starred" } @else { bdi { (label) } } }
                span.count { (crate::format::count(*count)) }
            }
        }
    };
    html! {
        @if !all.is_empty() {
            fieldset {
                legend { (title) }
                @for one in all.iter().take(SHOWN) { (shown(one)) }
                @if all.len() > SHOWN {
                    details { summary { (all.len() - SHOWN) " more" }
                        @for one in all.iter().skip(SHOWN) { (shown(one)) } }
                }
            }
        }
    }
}

/// The form of columns, grouping and rows.
pub fn columns(view: &View, table: &RunTable) -> Markup {
    let chosen = |key: &str| table.columns.iter().any(|column| column == key);
    let metrics: Vec<Column> = table.metrics.iter().cloned().map(Column::Metric).collect();
    let keys: Vec<(Column, bool)> =
        table.keys.iter().map(|(key, differs)| (Column::Config(key.clone()), *differs)).collect();
    // A column that no run of this page has stays chosen.
    let known = |key: &String| {
        metrics.iter().chain(keys.iter().map(|(key, _)| key)).any(|column| column.key() == *key)
    };
    let absent: Vec<&String> = table.columns.iter().filter(|key| !known(key)).collect();
    let check = |column: &Column| {
        html! {
            label.value { input type="checkbox" name="column" value=(column.key()) checked[chosen(&column.key())];
                span.cut title=(column.title()) { bdi { (column.title()) } } }
        }
    };
    html! {
        details.columns {
            summary { "Columns" }
            form method="get" action="/runs" {
                @for (name, value) in view.pairs() {
                    @if !matches!(name, "column" | "page" | "rows" | "differ") { input type="hidden" name=(name) value=(value); }
                }
                input type="hidden" name="column" value="";
                @for key in absent { input type="hidden" name="column" value=(key); }
                div.choices {
                    fieldset { legend { "Metrics: the newest value" }
                        @for column in &metrics { (check(column)) }
                        @if metrics.is_empty() { span.quiet { "none yet" } } }
                    fieldset { legend { "Configuration: values that differ here" }
                        @for (column, _) in keys.iter().filter(|(_, differs)| *differs) { (check(column)) } }
                    fieldset { legend { "Configuration: the same in all rows" }
                        details { summary { (keys.iter().filter(|(_, differs)| !differs).count()) " keys" }
                            @for (column, _) in keys.iter().filter(|(_, differs)| !differs) { (check(column)) } } }
                }
                div.row {
                    label { input type="checkbox" name="differ" value="1" checked[view.differing]; "Only what differs" }
                    label { "Rows" select name="rows" {
                        @for rows in [20, 50, 100, 200, 500] { option value=(rows) selected[view.rows == rows] { (rows) } } } }
                    button.main { "Show" }
                    a.button href=(View { columns: None, differing: false, ..view.with(|_| {}) }.address()) { "Usual columns" }
                }
            }
        }
    }
}
