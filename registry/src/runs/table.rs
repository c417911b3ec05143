//! Runs as a table: filtered, counted by value, sorted by any column, a page at a time; alone or with those together
//! that differ by their seed only. Lists for programs are [`Database::runs`].
//!
//! A statement looks at all runs, and reads configurations only where it filters or sorts by them. What a page shows
//! is read by its ids then.

use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::filter::like;
use crate::{Database, Result};

/// Values of one filter that are counted, at most: those that are asked for, and the most frequent.
const VALUES: i64 = 40;

/// Which runs a table has. Of several values of one filter a run has one; of tags it has all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TableFilter {
    /// States of the jobs; `imported` of runs without one.
    pub states: Vec<String>,
    /// Owners.
    pub owners: Vec<String>,
    /// Experiments.
    pub experiments: Vec<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// Sweeps.
    pub sweeps: Vec<Uuid>,
    /// `train`, `import`.
    pub kinds: Vec<String>,
    /// Only archived ones, or only those that are not; both where none is given.
    pub archived: Option<bool>,
    /// A name, in which `*` is any text.
    pub name: Option<String>,
    /// A part of the name, the experiment, the owner, a tag, the note, or the beginning of the id.
    pub text: Option<String>,
    /// An object that the configuration contains.
    pub config: Option<Value>,
}

/// What a table is sorted by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TableColumn {
    /// When it was created.
    #[default]
    Created,
    /// Its name.
    Name,
    /// Its owner.
    Owner,
    /// Its experiment.
    Experiment,
    /// The state of its job.
    State,
    /// Its last step.
    Step,
    /// Its seed.
    Seed,
    /// The newest value of a metric.
    Metric(String),
    /// A value of the configuration.
    Config(Vec<String>),
}

impl TableColumn {
    fn parts(&self) -> (&'static str, &[String]) {
        match self {
            Self::Created => ("created", &[]),
            Self::Name => ("name", &[]),
            Self::Owner => ("owner", &[]),
            Self::Experiment => ("experiment", &[]),
            Self::State => ("state", &[]),
            Self::Step => ("step", &[]),
            Self::Seed => ("seed", &[]),
            Self::Metric(name) => ("metric", std::slice::from_ref(name)),
            Self::Config(path) => ("config", path),
        }
    }
}

/// The order of a table, and the part of it that is shown. Numbers come first, then what was lost, then texts, then
/// what has no value; equal ones by age, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableOrder {
    /// By this.
    pub column: TableColumn,
    /// The largest first.
    pub descending: bool,
    /// Rows before the first.
    pub offset: i64,
    /// Rows, at most.
    pub limit: i64,
}

/// How many runs have a value of a filter, among those that all other filters let through. A facet of name `all`
/// counts the rows of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facet {
    /// `state`, `owner`, `experiment`, `tag`, `sweep`, `kind`, `archived`, `all`.
    pub facet: String,
    /// The value, as the filter takes it.
    pub value: String,
    /// What people call it, where that is something else.
    pub label: Option<String>,
    /// Runs.
    pub count: i64,
}

/// Runs that differ by their seed and name only.
#[derive(Clone, Debug, PartialEq)]
pub struct RunGroup {
    /// What they have in common.
    pub setting: Uuid,
    /// The newest one, which stands for all.
    pub run: Uuid,
    /// All of them, newest first.
    pub runs: Vec<Uuid>,
    /// Their states.
    pub states: Vec<String>,
    /// When the newest was created.
    pub created_at: OffsetDateTime,
    /// Groups in all.
    pub groups: i64,
}

/// A metric over the runs of a group.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupMetric {
    /// The group.
    pub setting: Uuid,
    /// The metric.
    pub metric: String,
    /// Runs with a finite value.
    pub measured: i64,
    /// Runs whose newest value is not finite.
    pub lost: i64,
    /// The mean of the finite ones.
    pub mean: Option<f64>,
    /// The standard deviation of what they were drawn from; none of one.
    pub deviation: Option<f64>,
}

/// A statement over `base`: every run that the name, the text and the configuration let through, with whether each
/// of the other filters does.
macro_rules! over_runs {
    ($row:ty, $filter:expr, $column:expr, $tail:tt $(, $argument:expr)* $(,)?) => {{
        let TableFilter { states, owners, experiments, tags, sweeps, kinds, archived, name, text, config } = $filter;
        let (by, path) = $column.parts();
        sqlx::query_as!(
            $row,
            r#"with every as (
                 select runs.id, runs.setting, runs.name, runs.owner, runs.tags, runs.kind::text as kind,
                     runs.created_at, experiments.name as experiment, jobs.sweep_id,
                     coalesce(jobs.state::text, 'imported') as state,
                     runs.archived_at is not null as archived,
                     case $11::text
                         when 'created' then extract(epoch from runs.created_at)::float8
                         when 'step' then runs.last_step::float8
                         when 'seed' then runs.seed::float8
                         when 'metric' then case when jsonb_typeof(asked.value) = 'number' then asked.value::float8 end
                         when 'config' then case when jsonb_typeof(asked.value) = 'number' then asked.value::float8 end
                     end as number,
                     case $11::text
                         when 'name' then lower(runs.name)
                         when 'owner' then lower(runs.owner)
                         when 'experiment' then lower(experiments.name)
                         when 'state' then coalesce(jobs.state::text, 'imported')
                         when 'config' then case when jsonb_typeof(asked.value) <> 'number'
                             then left(asked.value #>> '{}', 1000) end
                     end as words,
                     $11::text = 'metric' and coalesce(jsonb_typeof(asked.value) = 'null', false) as lost
                 from runs
                 join experiments on experiments.id = runs.experiment_id
                 left join jobs on jobs.id = runs.id
                 -- `offset` keeps it from being written out at each place, where the value would be read again.
                 cross join lateral (
                     select case $11::text when 'metric' then runs.latest -> ($12::text[])[1]
                         when 'config' then runs.config #> $12::text[] end as value offset 0) asked
                 where ($8::text is null or runs.name ilike $8)
                   and ($9::text is null or runs.name ilike $9 or experiments.name ilike $9
                     or runs.owner ilike $9 or runs.note ilike $9 or runs.short ilike ltrim($9, '%')
                     or exists (select from unnest(runs.tags) tag where tag ilike $9))
                   and ($10::jsonb is null or runs.config @> $10)
             ),
             base as (
                 select every.*,
                     ($1::text[] is null or state = any($1)) as by_state,
                     ($2::text[] is null or owner = any($2)) as by_owner,
                     ($3::text[] is null or experiment = any($3)) as by_experiment,
                     ($4::text[] is null or tags @> $4) as by_tags,
                     ($5::uuid[] is null or coalesce(sweep_id = any($5), false)) as by_sweep,
                     ($6::text[] is null or kind = any($6)) as by_kind,
                     ($7::boolean is null or archived = $7) as by_archived
                 from every
             ) "# + $tail,
            some(states),
            some(owners),
            some(experiments),
            some(tags),
            (!sweeps.is_empty()).then_some(&sweeps[..]) as Option<&[Uuid]>,
            some(kinds),
            *archived,
            name.as_deref().map(like),
            text.as_deref().map(|text| like(&format!("*{}*", text.replace('*', " ")))),
            config.as_ref(),
            by,
            path
            $(, $argument)*
        )
    }};
}

/// None where there is no choice.
fn some(values: &[String]) -> Option<&[String]> {
    (!values.is_empty()).then_some(values)
}

impl Database {
    /// How many runs each filter would let through by each of its values, the most frequent first; and how many rows
    /// the table has.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn run_facets(&self, filter: &TableFilter) -> Result<Vec<Facet>> {
        let rows = over_runs!(
            Facet,
            filter,
            TableColumn::Created,
            r#", tagged as (
                 select unnest(tags) as tag from base
                 where by_state and by_owner and by_experiment and by_tags and by_sweep and by_kind and by_archived
             )
             select 'all' as "facet!", '' as "value!", null::text as label, count(*) as "count!" from base
             where by_state and by_owner and by_experiment and by_tags and by_sweep and by_kind and by_archived
             union all
             select 'state', state, null, count(*) from base
             where by_owner and by_experiment and by_tags and by_sweep and by_kind and by_archived group by state
             union all
             (select 'owner', owner, null, count(*) from base
              where by_state and by_experiment and by_tags and by_sweep and by_kind and by_archived group by owner
              order by owner = any($2) desc nulls last, count(*) desc, owner limit $13)
             union all
             (select 'experiment', experiment, null, count(*) from base
              where by_state and by_owner and by_tags and by_sweep and by_kind and by_archived group by experiment
              order by experiment = any($3) desc nulls last, count(*) desc, experiment limit $13)
             union all
             (select 'tag', tag, null, count(*) from tagged group by tag
              order by tag = any($4) desc nulls last, count(*) desc, tag limit $13)
             union all
             (select 'sweep', sweeps.id::text, sweeps.name, counted.count
              from (select sweep_id, count(*) as count from base
                    where sweep_id is not null and by_state and by_owner and by_experiment and by_tags and by_kind
                      and by_archived group by sweep_id) counted
              join sweeps on sweeps.id = counted.sweep_id
              order by sweeps.id = any($5) desc nulls last, sweeps.created_at desc limit $13)
             union all
             select 'kind', kind, null, count(*) from base
             where by_state and by_owner and by_experiment and by_tags and by_sweep and by_archived group by kind
             union all
             select 'archived', archived::text, null, count(*) from base
             where by_state and by_owner and by_experiment and by_tags and by_sweep and by_kind group by archived"#,
            VALUES,
        );
        Ok(rows.fetch_all(&mut *self.planned().await?).await?)
    }

    /// The ids of a page of the table, in its order.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn run_page(&self, filter: &TableFilter, order: &TableOrder) -> Result<Vec<Uuid>> {
        struct Row {
            id: Uuid,
        }
        let rows = over_runs!(
            Row,
            filter,
            order.column,
            r#"select id as "id!" from base
             where by_state and by_owner and by_experiment and by_tags and by_sweep and by_kind and by_archived
             order by case when $13::boolean then -number else number end nulls last, lost desc,
                 case when not $13 then words end nulls last, case when $13 then words end desc nulls last,
                 created_at desc, id
             limit $14 offset $15"#,
            order.descending,
            order.limit,
            order.offset,
        );
        let rows = rows.fetch_all(&mut *self.planned().await?).await?;
        Ok(rows.into_iter().map(|row| row.id).collect())
    }

    /// The same with those together that differ by their seed and name only, sorted by their mean.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn run_groups(
        &self,
        filter: &TableFilter,
        order: &TableOrder,
    ) -> Result<Vec<RunGroup>> {
        let rows = over_runs!(
            RunGroup,
            filter,
            order.column,
            r#", grouped as (
                 select setting, array_agg(id order by created_at desc, id) as runs,
                     array_agg(state) as states, max(created_at) as created_at,
                     case when bool_or(lost) then null when $11 = 'created' then max(number)
                         else avg(number) end as number,
                     bool_or(lost) as lost, min(words) as words
                 from base
                 where by_state and by_owner and by_experiment and by_tags and by_sweep and by_kind and by_archived
                 group by setting
             )
             select setting as "setting!", runs[1] as "run!", runs as "runs!", states as "states!",
                 created_at as "created_at!", count(*) over () as "groups!"
             from grouped
             order by case when $13::boolean then -number else number end nulls last, lost desc,
                 case when not $13 then words end nulls last, case when $13 then words end desc nulls last,
                 created_at desc, setting
             limit $14 offset $15"#,
            order.descending,
            order.limit,
            order.offset,
        );
        Ok(rows.fetch_all(&mut *self.planned().await?).await?)
    }

    /// The newest values of these metrics over the runs of groups; only those that some have.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn group_metrics(
        &self,
        runs: &[Uuid],
        metrics: &[String],
    ) -> Result<Vec<GroupMetric>> {
        let rows = sqlx::query_as!(
            GroupMetric,
            r#"select setting as "setting!", metric as "metric!", count(value) as "measured!",
                   count(*) filter (where value is null) as "lost!", avg(value) as mean,
                   stddev_samp(value) as deviation
               from (
                   select setting, metric,
                       case when jsonb_typeof(latest -> metric) = 'number'
                           then (latest ->> metric)::float8 end as value
                   from runs cross join unnest($2::text[]) metric
                   where runs.id = any($1) and latest ? metric
               ) as measured
               group by setting, metric"#,
            runs,
            metrics,
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }
}
