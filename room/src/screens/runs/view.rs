//! What an address of the table of runs asks for. All of the page's state is in its address, so that it can be kept,
//! sent to others, and gone back to.

use registry::{TableColumn, TableFilter, TableOrder, Uuid, config_path};
use serde_json::{Map, Value};

use crate::{Answer, Refusal};

/// Rows of a page.
const ROWS: i64 = 50;
/// Rows of a page, at most.
const MOST_ROWS: i64 = 500;
/// Columns that are chosen, at most.
const MOST_COLUMNS: usize = 40;
/// Parameters, and bytes of one, at most.
const MOST: (usize, usize) = (300, 2000);

/// A column that is chosen: of a metric, or of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Column {
    /// The newest value of a metric.
    Metric(String),
    /// A key of the configuration, `train.learning_rate`.
    Config(String),
}

impl Column {
    /// As it stands in an address: `metric:loss`.
    pub fn key(&self) -> String {
        match self {
            Self::Metric(name) => format!("metric:{name}"),
            Self::Config(key) => format!("config:{key}"),
        }
    }

    /// As it stands in the table.
    pub fn title(&self) -> &str {
        match self {
            Self::Metric(name) => name,
            Self::Config(key) => key,
        }
    }

    fn read(text: &str) -> Option<Self> {
        match text.split_once(':')? {
            ("metric", name) if !name.is_empty() => Some(Self::Metric(name.to_owned())),
            ("config", key) => config_path(key).map(|_| Self::Config(key.to_owned())),
            _ => None,
        }
    }
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// Which runs.
    pub filter: TableFilter,
    /// The conditions on the configuration, `KEY=VALUE`.
    pub config: Vec<String>,
    /// What they are sorted by, as it stands in the address, without the sign.
    pub sort: String,
    /// The largest or newest first.
    pub descending: bool,
    /// Those that differ by their seed only are one row.
    pub grouped: bool,
    /// The columns; those that are usual where none is given.
    pub columns: Option<Vec<Column>>,
    /// The keys by which those on the page differ are columns too, and what all have in common is left out.
    pub differing: bool,
    /// From 1 on.
    pub page: i64,
    /// Rows of a page.
    pub rows: i64,
}

impl Default for View {
    fn default() -> Self {
        Self {
            filter: TableFilter { archived: Some(false), ..TableFilter::default() },
            config: Vec::new(),
            sort: "created".into(),
            descending: true,
            grouped: false,
            columns: None,
            differing: false,
            page: 1,
            rows: ROWS,
        }
    }
}

impl View {
    /// What these parameters ask for.
    ///
    /// # Errors
    /// Names the parameter that is unknown or says nothing.
    pub fn read(pairs: &[(String, String)]) -> Answer<Self> {
        let mut view = Self::default();
        if pairs.len() > MOST.0 || pairs.iter().any(|(_, value)| value.len() > MOST.1) {
            return Err(Refusal::bad("the address is too long: choose fewer filters"));
        }
        for (name, value) in pairs {
            let value = value.trim();
            if value.contains('\0') {
                return Err(Refusal::bad(format!("`{name}` has a character that no text has")));
            }
            let given = || (!value.is_empty()).then(|| value.to_owned());
            let wrong = |allowed: &str| Refusal::bad(format!("`{name}` is {allowed}"));
            match name.as_str() {
                "state" => view.filter.states.extend(given()),
                "owner" => view.filter.owners.extend(given()),
                "experiment" => view.filter.experiments.extend(given()),
                "tag" => view.filter.tags.extend(given()),
                "kind" => view.filter.kinds.extend(given()),
                "sweep" if value.is_empty() => {}
                "sweep" => {
                    let id =
                        Uuid::try_parse(value).map_err(|_| wrong("the whole id of a sweep"))?;
                    view.filter.sweeps.push(id);
                }
                "archived" => {
                    view.filter.archived = match value {
                        "" | "no" | "false" => Some(false),
                        "only" | "true" => Some(true),
                        "all" => None,
                        _ => return Err(wrong("no, only or all")),
                    }
                }
                "name" => view.filter.name = given(),
                "text" => view.filter.text = given(),
                "config" if value.is_empty() => {}
                "config" => view.config.push(value.to_owned()),
                "sort" if value.is_empty() => {}
                "sort" => {
                    (view.descending, view.sort) = match value.strip_prefix('-') {
                        Some(rest) => (true, rest.to_owned()),
                        None => (false, value.to_owned()),
                    };
                    view.order()?;
                }
                "group" => {
                    view.grouped = match value {
                        "" | "none" => false,
                        "seed" => true,
                        _ => return Err(wrong("seed or none")),
                    }
                }
                "column" => {
                    let columns = view.columns.get_or_insert_default();
                    if let Some(text) = given() {
                        let column = Column::read(&text);
                        let column = column.ok_or_else(|| wrong("metric:NAME or config:KEY"))?;
                        if !columns.contains(&column) && columns.len() < MOST_COLUMNS {
                            columns.push(column);
                        }
                    }
                }
                "differ" => view.differing = !matches!(value, "" | "0" | "false"),
                "page" => {
                    let page = value.parse().ok().filter(|page| (1..=1_000_000).contains(page));
                    view.page = page.ok_or_else(|| wrong("a number from 1 on"))?;
                }
                "rows" => {
                    let rows = value.parse().ok().filter(|rows| (1..=MOST_ROWS).contains(rows));
                    view.rows = rows.ok_or_else(|| wrong("a number from 1 to 500"))?;
                }
                // What the forms of the page send beside it.
                "run" | "csrf" | "back" => {}
                _ => {
                    return Err(Refusal::bad(format!(
                        "no parameter `{name}`; there are state, owner, experiment, tag, sweep, kind, archived, \
                         name, text, config, sort, group, column, differ, page, rows"
                    )));
                }
            }
        }
        view.filter.config = contained(&view.config)?;
        Ok(view)
    }

    /// The same from the query of an address.
    ///
    /// # Errors
    /// As there.
    pub fn of_query(query: &str) -> Answer<Self> {
        let uri = format!("/?{query}").parse().map_err(|_| Refusal::bad("no such address"))?;
        let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&uri);
        Self::read(&pairs.map_err(|_| Refusal::bad("no such address"))?.0)
    }

    /// The order and the part of the table.
    ///
    /// # Errors
    /// When there is no such column.
    pub fn order(&self) -> Answer<TableOrder> {
        let unknown = || {
            Refusal::bad(format!(
                "nothing is sorted by `{}`; there are created, name, owner, experiment, state, step, seed, \
                 metric:NAME, config:KEY, with - before them for the largest first",
                self.sort
            ))
        };
        let column = match self.sort.as_str() {
            "created" => TableColumn::Created,
            "name" => TableColumn::Name,
            "owner" => TableColumn::Owner,
            "experiment" => TableColumn::Experiment,
            "state" => TableColumn::State,
            "step" => TableColumn::Step,
            "seed" => TableColumn::Seed,
            other => match Column::read(other).ok_or_else(unknown)? {
                Column::Metric(name) => TableColumn::Metric(name),
                Column::Config(key) => TableColumn::Config(config_path(&key).ok_or_else(unknown)?),
            },
        };
        let offset = (self.page - 1) * self.rows;
        Ok(TableOrder { column, descending: self.descending, offset, limit: self.rows })
    }

    /// The parameters, in one order; what is usual is left out.
    pub fn pairs(&self) -> Vec<(&'static str, String)> {
        let usual = Self::default();
        let mut pairs = Vec::new();
        let TableFilter {
            states,
            owners,
            experiments,
            tags,
            sweeps,
            kinds,
            archived,
            name,
            text,
            ..
        } = &self.filter;
        for (parameter, values) in [
            ("state", states),
            ("owner", owners),
            ("experiment", experiments),
            ("tag", tags),
            ("kind", kinds),
            ("config", &self.config),
        ] {
            pairs.extend(values.iter().map(|value| (parameter, value.clone())));
        }
        pairs.extend(sweeps.iter().map(|sweep| ("sweep", sweep.to_string())));
        match archived {
            Some(false) => {}
            Some(true) => pairs.push(("archived", "only".into())),
            None => pairs.push(("archived", "all".into())),
        }
        pairs.extend(name.iter().map(|name| ("name", name.clone())));
        pairs.extend(text.iter().map(|text| ("text", text.clone())));
        if (&self.sort, self.descending) != (&usual.sort, usual.descending) {
            let sign = if self.descending { "-" } else { "" };
            pairs.push(("sort", format!("{sign}{}", self.sort)));
        }
        if self.grouped {
            pairs.push(("group", "seed".into()));
        }
        if let Some(columns) = &self.columns {
            pairs.extend(columns.iter().map(|column| ("column", column.key())));
            if columns.is_empty() {
                pairs.push(("column", String::new()));
            }
        }
        if self.differing {
            pairs.push(("differ", "1".into()));
        }
        if self.page != 1 {
            pairs.push(("page", self.page.to_string()));
        }
        if self.rows != usual.rows {
            pairs.push(("rows", self.rows.to_string()));
        }
        pairs
    }

    /// The query of its address, without the question mark.
    pub fn query(&self) -> String {
        let pairs = self.pairs();
        let pairs = pairs.iter().map(|(name, value)| format!("{name}={}", encoded(value)));
        pairs.collect::<Vec<_>>().join("&")
    }

    /// The address of the page.
    pub fn address(&self) -> String {
        let query = self.query();
        if query.is_empty() { "/runs".to_owned() } else { format!("/runs?{query}") }
    }

    /// The same view changed, from its first page on.
    pub fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut other = Self { page: 1, ..self.clone() };
        change(&mut other);
        other
    }

    /// Sorted by a column, the other way round where it is already.
    pub fn sorted(&self, column: &str) -> Self {
        self.with(|view| {
            let newest = matches!(column, "created" | "step");
            view.descending = if view.sort == column { !view.descending } else { newest };
            column.clone_into(&mut view.sort);
        })
    }

    /// Whether something is filtered by.
    pub fn is_filtered(&self) -> bool {
        self.filter != Self::default().filter
    }
}

/// The object that a configuration must contain for these conditions, `KEY=VALUE`, to hold.
fn contained(conditions: &[String]) -> Answer<Option<Value>> {
    let mut all = Map::new();
    for condition in conditions {
        let wrong = || {
            Refusal::bad(format!(
                "`config={condition}`: KEY=VALUE, such as train.learning_rate=0.0001"
            ))
        };
        let (key, value) = condition.split_once('=').ok_or_else(wrong)?;
        let path = config_path(key.trim()).filter(|_| !key.contains('[')).ok_or_else(wrong)?;
        let value = value.trim();
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        let (last, above) = path.split_last().ok_or_else(wrong)?;
        let mut at = &mut all;
        for segment in above {
            let next = at.entry(segment).or_insert_with(|| Value::Object(Map::new()));
            at = next.as_object_mut().ok_or_else(wrong)?;
        }
        at.insert(last.clone(), value);
    }
    Ok((!all.is_empty()).then_some(Value::Object(all)))
}

/// A text as a query has it.
pub fn encoded(text: &str) -> String {
    let mut all = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b':' | b',' => {
                all.push(char::from(byte));
            }
            _ => all += &format!("%{byte:02X}"),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn a_view_comes_back_from_its_address() {
        let hostile = "<img src=x onerror=alert(1)>&\u{202e}\"' %00#?\u{1f600}";
        for query in [
            String::new(),
            "state=running&state=failed&owner=ann&sort=-metric:loss&group=seed&page=3".into(),
            format!("tag={0}&text={0}&name={0}&experiment={0}", encoded(hostile)),
            "column=&differ=1&archived=all&rows=500".into(),
            "column=metric:noise/0&column=config:train.learning_rate&config=train.steps%3D200"
                .into(),
            "sweep=ab000000-0000-4000-8000-000000000001&archived=only&sort=config:a%5B0%5D.b"
                .into(),
        ] {
            let view = View::of_query(&query).unwrap();
            let again = View::of_query(&view.query()).unwrap();
            assert_eq!(view, again, "{query}");
        }
        assert_eq!(View::of_query("").unwrap().address(), "/runs");
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_can() {
        for (query, why) in [
            ("colour=red", "no parameter `colour`"),
            ("sort=colour", "nothing is sorted by `colour`"),
            ("column=loss", "metric:NAME or config:KEY"),
            ("page=0", "a number from 1 on"),
            ("page=99999999999999999999", "a number from 1 on"),
            ("rows=501", "from 1 to 500"),
            ("sweep=grid", "whole id"),
            ("config=train.steps", "KEY=VALUE"),
            ("config=a%3D1&config=a.b%3D1", "KEY=VALUE"),
            ("owner=%00", "no text has"),
        ] {
            let refusal = View::of_query(query).unwrap_err();
            assert!(refusal.why.contains(why), "{query}: {}", refusal.why);
        }
        let many = "tag=a&".repeat(1000);
        assert!(View::of_query(&many).is_err());
    }

    #[test]
    fn conditions_on_the_configuration_are_one_object() {
        let view = View::of_query("config=a.b%3D1e-3&config=a.c%3Dx&config=d%3D%222%22").unwrap();
        assert_eq!(
            view.filter.config,
            Some(serde_json::json!({"a": {"b": 1e-3, "c": "x"}, "d": "2"}))
        );
    }
}
