//! Where a run comes from and what came of it: dataset → run → samples → scores, as a small graph and as a list.

use maud::{Markup, html};

use super::story::{RunStory, Scores};

/// Nodes of a column, at most; the last one says how many more there are.
const MOST: usize = 6;
const WIDTH: usize = 190;
const HEIGHT: usize = 46;
const GAP: usize = 12;
const BETWEEN: usize = 46;
/// Characters of a line within a node.
const LETTERS: usize = 24;

/// Something in the graph.
struct Node {
    /// What it is called.
    title: String,
    /// What is said of it.
    says: String,
    /// Its page.
    link: Option<String>,
    /// The run itself.
    own: bool,
    /// The nodes of the column before that it comes from; of all where none is named.
    from: Option<usize>,
}

impl Node {
    fn new(title: impl Into<String>, says: impl Into<String>, link: Option<String>) -> Self {
        Self { title: title.into(), says: says.into(), link, own: false, from: None }
    }
}

/// The columns, from left to right.
fn columns(story: &RunStory) -> Vec<(&'static str, Vec<Node>)> {
    let mut before: Vec<Node> = story
        .datasets
        .iter()
        .map(|data| {
            let says = format!("{}, {} images", data.role, data.rows);
            Node::new(&data.name, says, Some(format!("/data/{}", data.manifest_digest)))
        })
        .collect();
    if let Some(parent) = &story.parent {
        let says = format!("checkpoint of step {}", parent.step.unwrap_or(0));
        before.push(Node::new(&parent.name, says, Some(format!("/runs/{}", parent.short))));
    }
    let state = story.job.as_ref().map_or("imported", |job| job.state);
    let own = Node {
        own: true,
        ..Node::new(&story.name, format!("{state}, step {}", story.last_step), None)
    };
    let mut after: Vec<Node> = story
        .samplings
        .iter()
        .map(|one| {
            let step = one.step.map(|step| format!(", step {step}")).unwrap_or_default();
            let says = format!("{} {}{step}", one.task, one.state);
            Node::new(&one.name, says, Some(format!("/jobs/{}", one.short)))
        })
        .collect();
    after.extend(story.forks.iter().map(|fork| {
        let says = format!("fork at step {}", fork.step.unwrap_or(0));
        Node::new(&fork.name, says, Some(format!("/runs/{}", fork.short)))
    }));
    let scores = story.scores.iter().map(|scores| {
        let from = story.samplings.iter().position(|one| one.output_uri == scores.outputs_uri);
        Node { from, ..Node::new(title(scores), best(scores), Some("#scores".to_owned())) }
    });
    let mut columns = vec![("Data", before), ("Run", vec![own])];
    columns.push(("Drawn and forked", after));
    columns.push(("Scores", scores.collect()));
    columns.retain(|(_, nodes)| !nodes.is_empty());
    for (_, nodes) in &mut columns {
        let more = nodes.len().saturating_sub(MOST);
        if more > 0 {
            nodes.truncate(MOST - 1);
            nodes.push(Node::new(format!("and {} more", more + 1), "", None));
        }
    }
    columns
}

fn title(scores: &Scores) -> String {
    match &scores.task {
        Some(task) => format!("{} ({task})", scores.label),
        None => scores.label.clone(),
    }
}

/// The first few values.
fn best(scores: &Scores) -> String {
    let values = scores.scores.iter().filter_map(|(name, value)| {
        Some(format!("{name} {}", super::page::figure(super::page::score(value)?)))
    });
    values.take(2).collect::<Vec<_>>().join(", ")
}

/// The graph, and the same as a list for who does not see it.
pub fn graph(story: &RunStory) -> Markup {
    let columns = columns(story);
    let rows = columns.iter().map(|(_, nodes)| nodes.len()).max().unwrap_or(1);
    let height = rows * (HEIGHT + GAP) + 18;
    let width = columns.len() * (WIDTH + BETWEEN) - BETWEEN;
    let at = |column: usize, row: usize| {
        let all = columns[column].1.len();
        let used = all * (HEIGHT + GAP) - GAP;
        let top = 18 + (height - 18 - GAP - used) / 2;
        (column * (WIDTH + BETWEEN), top + row * (HEIGHT + GAP))
    };
    html! {
        div.lineage {
            svg viewBox=(format!("0 0 {width} {height}")) width=(width) height=(height) aria-hidden="true" focusable="false" {
                @for (column, (head, nodes)) in columns.iter().enumerate() {
                    text.head x=(column * (WIDTH + BETWEEN)) y="10" { (head) }
                    @for (row, node) in nodes.iter().enumerate() {
                        @let (x, y) = at(column, row);
                        @if column > 0 {
                            @for before in 0..columns[column - 1].1.len() {
                                @if node.from.is_none_or(|from| from == before) && (column < 3 || node.from.is_some() || columns[column - 1].1.len() == 1) {
                                    @let (from, height) = at(column - 1, before);
                                    @let (x1, y1, y2) = (from + WIDTH, height + HEIGHT / 2, y + HEIGHT / 2);
                                    @let middle = x1 + BETWEEN / 2;
                                    path.edge d=(format!("M{x1} {y1}C{middle} {y1} {middle} {y2} {x} {y2}")) {}
                                }
                            }
                        }
                        @if let Some(link) = &node.link { a href=(link) tabindex="-1" { (drawn(node, x, y)) } }
                        @else { (drawn(node, x, y)) }
                    }
                }
            }
        }
        ul.lineage-list.unseen aria-label="Lineage" {
            @for (head, nodes) in &columns {
                li { (head) ": "
                    @for node in nodes {
                        @if let Some(link) = &node.link { a href=(link) { (node.title) " (" (node.says) ")" } " " }
                        @else { (node.title) " (" (node.says) ") " }
                    }
                }
            }
        }
    }
}

fn drawn(node: &Node, x: usize, y: usize) -> Markup {
    html! {
        g.node.own[node.own] {
            title { (node.title) ": " (node.says) }
            rect x=(x) y=(y) width=(WIDTH) height=(HEIGHT) rx="7" {}
            text.title x=(x + 10) y=(y + 19) { (short(&node.title)) }
            text.says x=(x + 10) y=(y + 36) { (short(&node.says)) }
        }
    }
}

fn short(text: &str) -> String {
    match text.chars().count() > LETTERS {
        true => text.chars().take(LETTERS - 1).chain(['…']).collect(),
        false => text.to_owned(),
    }
}
