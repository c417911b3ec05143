//! Curves as they are drawn (decision 61): each series as all its points, or as columns with the least, the
//! most and the mean of what lies in them, summed up by the server from `metric_blocks` and points. Nothing of
//! what a later attempt made again is in them. Reads only.

use std::collections::{BTreeMap, HashMap};

use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Database, Result};

/// Columns and points of all curves of an answer together: the bound of its memory.
const MOST: usize = 400_000;

/// Fewest columns that a curve gets, however many there are.
const FEWEST: i64 = 50;

/// A series of a run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SeriesKey {
    /// Its id.
    pub id: i32,
    /// The run.
    pub run: Uuid,
    /// The name of the metric.
    pub name: String,
}

/// What part of curves is wanted, and how finely.
#[derive(Clone, Copy, Debug, Default)]
pub struct CurveWindow {
    /// The first step; that of the earliest point where none is given.
    pub from: Option<i64>,
    /// The last step; that of the latest point where none is given.
    pub to: Option<i64>,
    /// Columns for each curve.
    pub columns: i64,
}

/// Curves of one window.
#[derive(Clone, Debug, Default)]
pub struct Curves {
    /// The first step of the window.
    pub from: i64,
    /// The last step of the window.
    pub to: i64,
    /// Steps of a column.
    pub width: i64,
    /// A curve for each series that has points, in the order in which they were asked for.
    pub curves: Vec<Curve>,
}

/// A curve.
#[derive(Clone, Debug)]
pub struct Curve {
    /// Of this series.
    pub series: SeriesKey,
    /// What it consists of.
    pub shape: CurveShape,
}

/// All points, or columns of them.
#[derive(Clone, Debug)]
pub enum CurveShape {
    /// Every point: its step and value, by step.
    Points(Vec<(i64, f64)>),
    /// Columns that have points, by step.
    Columns(Vec<CurveColumn>),
}

/// What lies in a column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CurveColumn {
    /// The step of the first point.
    pub first: i64,
    /// The step of the last point.
    pub last: i64,
    /// Points.
    pub points: i64,
    /// How many of them are not finite.
    pub lost: i64,
    /// The least finite value; NaN where there is none, as the others.
    pub least: f64,
    /// The most finite value.
    pub most: f64,
    /// The mean of the finite values.
    pub mean: f64,
}

impl CurveShape {
    /// Points in it, and how many of them are not finite.
    pub fn count(&self) -> (i64, i64) {
        match self {
            Self::Points(points) => {
                let lost = points.iter().filter(|(_, value)| !value.is_finite()).count();
                (points.len() as i64, lost as i64)
            }
            Self::Columns(columns) => columns.iter().fold((0, 0), |(points, lost), column| {
                (points + column.points, lost + column.lost)
            }),
        }
    }
}

/// A place on a curve that is worth a line.
#[derive(Clone, Debug, PartialEq)]
pub struct CurveMark {
    /// The run.
    pub run: Uuid,
    /// `restart`, `rewind` or `checkpoint`.
    pub kind: &'static str,
    /// The step.
    pub step: i64,
    /// The attempt.
    pub attempt: i32,
    /// When.
    pub at: OffsetDateTime,
    /// Of a rewind the step from which it went back.
    pub from: Option<i64>,
}

/// When a run was at a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    /// The run.
    pub run: Uuid,
    /// The step.
    pub step: i64,
    /// The time.
    pub at: OffsetDateTime,
}

/// How a series is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Points,
    Grouped,
    Blocks,
}

impl Database {
    /// The series of these runs with these names; with any where no name is given. By run and name, in the order
    /// in which they were named.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn series(&self, runs: &[Uuid], names: &[String]) -> Result<Vec<SeriesKey>> {
        let any = names.is_empty();
        let rows = sqlx::query_as!(
            SeriesKey,
            r#"select series.id, series.run_id as run, series.name
               from series
               where run_id = any($1) and ($3 or name = any($2))
               order by array_position($1, run_id), array_position($2, name), name"#,
            runs,
            names,
            any,
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }

    /// The curves of these series in a window. All curves have the same columns; one with no more points than twice
    /// that is given point by point. Of many curves each has fewer columns than were asked for.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn curves(&self, series: &[SeriesKey], window: CurveWindow) -> Result<Curves> {
        let share = i64::try_from(MOST / 2 / series.len().max(1)).unwrap_or(FEWEST);
        let columns = window.columns.clamp(1, share.max(FEWEST));
        let ids: Vec<i32> = series.iter().map(|one| one.id).collect();
        let Some((from, to)) = self.extent(&ids, window).await? else {
            return Ok(Curves::default());
        };
        let width = (i128::from(to) - i128::from(from)).div_euclid(i128::from(columns)) + 1;
        let width = i64::try_from(width).unwrap_or(i64::MAX);
        let mut ways: HashMap<i32, Way> = HashMap::new();
        for row in self.amounts(&ids, from, to, columns).await? {
            let way = match row {
                (_, points, _) if points <= 2 * columns => Way::Points,
                (_, _, blocks) if blocks >= columns => Way::Blocks,
                _ => Way::Grouped,
            };
            ways.insert(row.0, way);
        }
        let of = |wanted| -> Vec<i32> {
            ids.iter().copied().filter(|id| ways.get(id) == Some(&wanted)).collect()
        };
        let (plain, grouped, blocks) = (of(Way::Points), of(Way::Grouped), of(Way::Blocks));
        // Two connections: the server has a process for each.
        let (left, right) = grouped.split_at(grouped.len() / 2);
        let (first, second) = blocks.split_at(blocks.len() / 2);
        let (points, left, right, first, second) = tokio::try_join!(
            self.plain_points(&plain, from, to),
            self.grouped_points(left, from, to, width),
            self.grouped_points(right, from, to, width),
            self.grouped_blocks(first, from, to, width),
            self.grouped_blocks(second, from, to, width),
        )?;
        let mut shapes: HashMap<i32, CurveShape> =
            points.into_iter().map(|(id, points)| (id, CurveShape::Points(points))).collect();
        for (id, columns) in [left, right, first, second].into_iter().flatten() {
            shapes.insert(id, CurveShape::Columns(columns));
        }
        let curves = series.iter().filter_map(|series| {
            Some(Curve { series: series.clone(), shape: shapes.remove(&series.id)? })
        });
        Ok(Curves { from, to, width, curves: curves.collect() })
    }

    /// The window that these series fill, or the given one; none where there is no point.
    async fn extent(&self, ids: &[i32], window: CurveWindow) -> Result<Option<(i64, i64)>> {
        if let (Some(from), Some(to)) = (window.from, window.to) {
            return Ok((from <= to).then_some((from, to)));
        }
        let row = sqlx::query!(
            "select min(first) as first, max(least(last, last_step)) as last
             from (
                 select last_step,
                     (select step from metrics where series_id = series.id
                      order by step limit 1) as first,
                     (select step from metrics where series_id = series.id
                      order by step desc limit 1) as last
                 from series join runs on runs.id = run_id
                 where series.id = any($1)
             ) edges",
            ids,
        )
        .fetch_one(&self.pool)
        .await?;
        let from = window.from.or(row.first);
        let to = window.to.or(row.last);
        Ok(from.zip(to).filter(|(from, to)| from <= to))
    }

    /// For each series its points in a window, counted to a bit more than twice the columns, and its blocks, counted
    /// to the number of columns.
    async fn amounts(
        &self,
        ids: &[i32],
        from: i64,
        to: i64,
        columns: i64,
    ) -> Result<Vec<(i32, i64, i64)>> {
        let rows = sqlx::query!(
            r#"select id as "id!",
                   (select count(*) from (
                        select from metrics where series_id = id and step between $2 and $3
                        limit 2 * $4::bigint + 1) counted) as "points!",
                   (select count(*) from (
                        select from metric_blocks
                        where series_id = id and last_step between $2 and $3
                        limit $4::bigint) counted) as "blocks!"
               from unnest($1::integer[]) as id"#,
            ids,
            from,
            to,
            columns,
        );
        let rows = rows.fetch_all(&self.pool).await?;
        Ok(rows.into_iter().map(|row| (row.id, row.points, row.blocks)).collect())
    }

    async fn plain_points(
        &self,
        ids: &[i32],
        from: i64,
        to: i64,
    ) -> Result<BTreeMap<i32, Vec<(i64, f64)>>> {
        let mut all: BTreeMap<i32, Vec<(i64, f64)>> = BTreeMap::new();
        if ids.is_empty() {
            return Ok(all);
        }
        let rows = sqlx::query!(
            "select distinct on (series_id, step) series_id, step, value
             from series join metrics on series_id = series.id
             where series_id = any($1) and step between $2 and $3
               and not exists (
                   select from attempts later
                   where later.job_id = run_id and later.number > metrics.attempt
                     and later.resumed_at < metrics.step)
             order by series_id, step, attempt desc",
            ids,
            from,
            to,
        )
        .fetch_all(&self.pool)
        .await?;
        for row in rows {
            all.entry(row.series_id).or_default().push((row.step, row.value));
        }
        Ok(all)
    }

    /// Columns of series, made of their points.
    async fn grouped_points(
        &self,
        ids: &[i32],
        from: i64,
        to: i64,
        width: i64,
    ) -> Result<BTreeMap<i32, Vec<CurveColumn>>> {
        if ids.is_empty() {
            return Ok(BTreeMap::new());
        }
        let rows = sqlx::query_as!(
            Row,
            r#"with cuts as materialized (
                   select job_id, number, min(resumed_at) over (
                       partition by job_id order by number desc
                       rows between unbounded preceding and 1 preceding) as cut
                   from attempts
                   where job_id in (select run_id from series where id = any($1))
               )
               select series_id as "series_id!", min(step) as "first!", max(step) as "last!",
                   count(*) as "points!", count(*) filter (where not finite) as "lost!",
                   min(value) filter (where finite) as least,
                   max(value) filter (where finite) as most,
                   sum(greatest(-1e290, least(value, 1e290))) filter (where finite) as total
               from (
                   select series_id, step, value,
                       value not in ('NaN', 'Infinity', '-Infinity') as finite
                   from series
                   join metrics on series_id = series.id
                   left join cuts on job_id = run_id and number = attempt
                   where series.id = any($1) and step between $2 and $3
                     and (cut is null or step <= cut)
               ) shown
               group by series_id, (step - $2) / $4
               order by series_id, (step - $2) / $4"#,
            ids,
            from,
            to,
            width,
        );
        Ok(columns(rows.fetch_all(&self.pool).await?))
    }

    /// Columns of series, made of the blocks that lie in the window and are shown, and of the points around them. A
    /// block belongs to the column that it begins in.
    async fn grouped_blocks(
        &self,
        ids: &[i32],
        from: i64,
        to: i64,
        width: i64,
    ) -> Result<BTreeMap<i32, Vec<CurveColumn>>> {
        if ids.is_empty() {
            return Ok(BTreeMap::new());
        }
        let rows = sqlx::query_as!(
            Row,
            r#"with cuts as materialized (
                   select job_id, number, coalesce(resumed_at, $2) as began, coalesce(min(resumed_at) over (
                       partition by job_id order by number desc
                       rows between unbounded preceding and 1 preceding), $3) as cut
                   from attempts
                   where job_id in (select run_id from series where id = any($1))
               ), used as materialized (
                   select blocks.*
                   from series
                   join metric_blocks blocks on series_id = series.id
                   left join cuts on job_id = run_id and number = attempt
                   where series.id = any($1) and last_step between $2 and $3 and first_step >= $2
                     and (cut is null or last_step <= cut)
               ), spans as materialized (
                   select series_id, attempt, min(first_step) as first, max(last_step) as last
                   from used group by series_id, attempt
               ), wanted as materialized (
                   -- Of each attempt what lies before its blocks, and behind them.
                   select series.id, coalesce(spans.attempt, number) as attempt,
                       greatest($2, coalesce(began, $2)) as begins,
                       spans.first, spans.last, least($3, coalesce(cut, $3)) as ends
                   from series
                   join cuts on job_id = run_id
                   full join spans on series_id = series.id and spans.attempt = number
                   where series.id = any($1)
                   union all
                   select series_id, spans.attempt, $2, first, last, $3
                   from spans join series on series.id = series_id
                   where not exists (
                       select from cuts where job_id = run_id and number = spans.attempt)
               ), ranges as materialized (
                   select id, attempt, begins, case when first is null then ends else least(first - 1, ends) end as ends
                   from wanted
                   union all
                   select id, attempt, greatest(last + 1, begins), ends
                   from wanted where last is not null
               ), parts as (
                   select series_id, first_step, last_step, points::bigint as points, lost::bigint as lost,
                       least, most, total
                   from used
                   union all
                   select id, step, step, 1, case when finite then 0 else 1 end,
                       case when finite then value end, case when finite then value end,
                       case when finite then value end
                   from ranges cross join lateral (
                       select step, value, value not in ('NaN', 'Infinity', '-Infinity') as finite
                       from metrics
                       where series_id = ranges.id and step between begins and ends
                         and metrics.attempt = ranges.attempt
                   ) loose
                   where begins <= ends
               )
               select series_id as "series_id!", min(first_step) as "first!", max(last_step) as "last!",
                   sum(points)::bigint as "points!", sum(lost)::bigint as "lost!",
                   min(least) as least, max(most) as most, sum(greatest(-1e290, least(total, 1e290)))
                       filter (where total is not null) as total
               from parts
               group by series_id, (first_step - $2) / $4
               order by series_id, (first_step - $2) / $4"#,
            ids,
            from,
            to,
            width,
        );
        Ok(columns(rows.fetch_all(&self.pool).await?))
    }

    /// Where these runs started again, went back and wrote checkpoints, by step.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn curve_marks(&self, runs: &[Uuid]) -> Result<Vec<CurveMark>> {
        let rows = sqlx::query!(
            r#"select run as "run!", kind as "kind!", step as "step!", attempt as "attempt!",
                   at as "at!", "from"
               from (
                   select job_id as run, 1 as kind, resumed_at as step, number as attempt,
                       started_at as at, null::bigint as "from"
                   from attempts where job_id = any($1) and number > 1 and resumed_at is not null
                   union all
                   select run_id, 2, to_step, attempt, at, from_step
                   from run_rewinds where run_id = any($1)
                   union all
                   select run_id, 3, step, attempt, created_at, null
                   from checkpoints where run_id = any($1) and state = 'kept'
               ) marks
               order by step, kind
               limit 20000"#,
            runs,
        );
        let rows = rows.fetch_all(&self.pool).await?;
        let kind = |kind| match kind {
            1 => "restart",
            2 => "rewind",
            _ => "checkpoint",
        };
        Ok(rows
            .into_iter()
            .map(|row| CurveMark {
                run: row.run,
                kind: kind(row.kind),
                step: row.step,
                attempt: row.attempt,
                at: row.at,
                from: row.from,
            })
            .collect())
    }

    /// When these runs were at which step, by run and step: as recorded, at most so many of each, and where nothing
    /// was recorded by the beginnings and ends of their attempts. Of what was made twice the newer.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn moments(&self, runs: &[Uuid], most: i64) -> Result<Vec<Moment>> {
        let rows = sqlx::query_as!(
            Moment,
            r#"with recorded as (
                   select run_id, attempt, step, at,
                       row_number() over (partition by run_id order by attempt, step) as number,
                       count(*) over (partition by run_id) as count
                   from run_moments where run_id = any($1)
               ), anchors as (
                   select run_id, attempt, step, at from recorded
                   where number % greatest(1, (count + $2 - 1) / $2) = 0 or number = count or number = 1
                   union all
                   select job_id, number, resumed_at, started_at
                   from attempts where job_id = any($1) and resumed_at is not null
                   union all
                   select attempts.job_id, number, last_step, coalesce(ended_at, now())
                   from attempts join runs on runs.id = attempts.job_id
                   where attempts.job_id = any($1) and resumed_at is not null
                     and number = (select max(number) from attempts newest
                                   where newest.job_id = attempts.job_id and resumed_at is not null)
                     and not exists (select from run_moments where run_id = attempts.job_id)
               )
               select distinct on (run_id, step) run_id as "run!", step as "step!", at as "at!"
               from anchors
               where not exists (
                   select from attempts later
                   where later.job_id = run_id and later.number > anchors.attempt
                     and later.resumed_at < anchors.step)
               order by run_id, step, attempt desc, at desc"#,
            runs,
            most,
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }

    /// Points of a series from a step on, at most so many, by step.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn points_from(
        &self,
        series: i32,
        from: i64,
        limit: i64,
    ) -> Result<Vec<(i64, i32, f64)>> {
        let rows = sqlx::query!(
            "select distinct on (step) step, attempt, value
             from series join metrics on series_id = series.id
             where series.id = $1 and step >= $2
               and not exists (
                   select from attempts later
                   where later.job_id = run_id and later.number > metrics.attempt
                     and later.resumed_at < metrics.step)
             order by step, attempt desc
             limit $3",
            series,
            from,
            limit,
        );
        let rows = rows.fetch_all(&self.pool).await?;
        Ok(rows.into_iter().map(|row| (row.step, row.attempt, row.value)).collect())
    }
}

/// A column of a series as the database gives it.
struct Row {
    series_id: i32,
    first: i64,
    last: i64,
    points: i64,
    lost: i64,
    least: Option<f64>,
    most: Option<f64>,
    total: Option<f64>,
}

fn columns(rows: Vec<Row>) -> BTreeMap<i32, Vec<CurveColumn>> {
    let mut all: BTreeMap<i32, Vec<CurveColumn>> = BTreeMap::new();
    for row in rows {
        let finite = (row.points - row.lost) as f64;
        all.entry(row.series_id).or_default().push(CurveColumn {
            first: row.first,
            last: row.last,
            points: row.points,
            lost: row.lost,
            least: row.least.unwrap_or(f64::NAN),
            most: row.most.unwrap_or(f64::NAN),
            mean: row.total.map_or(f64::NAN, |total| total / finite),
        });
    }
    all
}
