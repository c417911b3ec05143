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
                // A block is two columns wide at most.
                (_, _, blocks) if 2 * blocks >= columns => Way::Blocks,
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
        let mut ranges = Ranges::default();
        let attempts = self.shown_attempts(ids).await?;
        for &id in ids {
            ranges.all_of(id, attempts.get(&id), from, to);
        }
        Ok(columns(self.loose_points(&ranges, from, width).await?, from, width))
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
        let attempts = self.shown_attempts(ids).await?;
        let (mut cut_of, mut cut_attempts, mut cuts) = (Vec::new(), Vec::new(), Vec::new());
        for (&id, shown) in &attempts {
            for one in shown {
                cut_of.push(id);
                cut_attempts.push(one.number);
                cuts.push(one.cut);
            }
        }
        let mut rows = sqlx::query_as!(
            Row,
            r#"select series_id as "series_id!", attempt as "attempt!",
                   min(first_step) as "first!", max(last_step) as "last!",
                   sum(points) as "points!", sum(lost) as "lost!",
                   min(least) as least, max(most) as most,
                   sum(greatest(-1e290, least(total, 1e290)))
                       filter (where total is not null) as total
               from series
               cross join lateral (
                   select * from metric_blocks
                   where series_id = series.id and last_step between $2 and $3 offset 0) blocks
               left join unnest($5::integer[], $6::integer[], $7::bigint[])
                   as cuts (series_id, attempt, cut) using (series_id, attempt)
               where series.id = any($1) and first_step >= $2
                 and (cut is null or last_step <= cut)
               group by series_id, attempt, (first_step - $2) / $4"#,
            ids,
            from,
            to,
            width,
            &cut_of,
            &cut_attempts,
            &cuts,
        )
        .fetch_all(&self.pool)
        .await?;
        // Of each attempt what lies before its blocks, and behind them.
        let mut spans: BTreeMap<(i32, i32), (i64, i64)> = BTreeMap::new();
        for row in &rows {
            let span = spans.entry((row.series_id, row.attempt)).or_insert((row.first, row.last));
            *span = (span.0.min(row.first), span.1.max(row.last));
        }
        let mut ranges = Ranges::default();
        for &id in ids {
            let known = attempts.get(&id).map_or(&[][..], Vec::as_slice);
            for shown in known {
                let (begins, ends) = (shown.began.max(from), shown.cut.min(to));
                match spans.remove(&(id, shown.number)) {
                    Some((first, last)) => {
                        ranges.add(
                            id,
                            Some(shown.number),
                            begins,
                            ends.min(first.saturating_sub(1)),
                        );
                        ranges.add(
                            id,
                            Some(shown.number),
                            begins.max(last.saturating_add(1)),
                            ends,
                        );
                    }
                    None => ranges.add(id, Some(shown.number), begins, ends),
                }
            }
        }
        for ((id, attempt), (first, last)) in spans {
            ranges.add(id, Some(attempt), from, first.saturating_sub(1));
            ranges.add(id, Some(attempt), last.saturating_add(1), to);
        }
        rows.extend(self.loose_points(&ranges, from, width).await?);
        Ok(columns(rows, from, width))
    }

    /// The attempts at the runs of these series, and which steps of each are shown.
    async fn shown_attempts(&self, ids: &[i32]) -> Result<HashMap<i32, Vec<Shown>>> {
        let rows = sqlx::query!(
            r#"select series.id as "id!", number as "number!", resumed_at as began,
                   min(resumed_at) over (
                       partition by series.id order by number desc
                       rows between unbounded preceding and 1 preceding) as cut
               from series join attempts on job_id = run_id
               where series.id = any($1)"#,
            ids,
        );
        let mut all: HashMap<i32, Vec<Shown>> = HashMap::new();
        for row in rows.fetch_all(&self.pool).await? {
            all.entry(row.id).or_default().push(Shown {
                number: row.number,
                began: row.began.unwrap_or(i64::MIN),
                cut: row.cut.unwrap_or(i64::MAX),
            });
        }
        Ok(all)
    }

    /// Columns of single points in these ranges of steps.
    async fn loose_points(&self, ranges: &Ranges, from: i64, width: i64) -> Result<Vec<Row>> {
        if ranges.series.is_empty() {
            return Ok(Vec::new());
        }
        let rows = sqlx::query_as!(
            Row,
            r#"select id as "series_id!", coalesce(ranges.attempt, 0) as "attempt!",
                   columns.first as "first!", columns.last as "last!", points as "points!",
                   lost as "lost!", columns.least, columns.most, total
               from unnest($1::integer[], $2::integer[], $3::bigint[], $4::bigint[])
                   as ranges (id, attempt, begins, ends)
               cross join lateral (
                   select min(step) as first, max(step) as last, count(*) as points,
                       count(*) filter (where not finite) as lost,
                       min(value) filter (where finite) as least,
                       max(value) filter (where finite) as most,
                       sum(greatest(-1e290, least(value, 1e290))) filter (where finite) as total
                   from (
                       select step, value,
                           value <> 'NaN' and value < 'Infinity' and value > '-Infinity' as finite
                       from metrics
                       where series_id = id and step between begins and ends
                         and (ranges.attempt is null or metrics.attempt = ranges.attempt)
                       offset 0
                   ) single
                   group by (step - $5) / $6
                   offset 0
               ) columns"#,
            &ranges.series,
            &ranges.attempts as &[Option<i32>],
            &ranges.begins,
            &ranges.ends,
            from,
            width,
        );
        Ok(rows.fetch_all(&self.pool).await?)
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

/// A column of a series, or a part of one, as the database gives it.
struct Row {
    series_id: i32,
    attempt: i32,
    first: i64,
    last: i64,
    points: i64,
    lost: i64,
    least: Option<f64>,
    most: Option<f64>,
    total: Option<f64>,
}

/// The steps of an attempt that are shown.
struct Shown {
    number: i32,
    began: i64,
    cut: i64,
}

/// Ranges of steps of series and attempts; of any attempt where none is named.
#[derive(Default)]
struct Ranges {
    series: Vec<i32>,
    attempts: Vec<Option<i32>>,
    begins: Vec<i64>,
    ends: Vec<i64>,
}

impl Ranges {
    fn add(&mut self, series: i32, attempt: Option<i32>, begins: i64, ends: i64) {
        if begins <= ends {
            self.series.push(series);
            self.attempts.push(attempt);
            self.begins.push(begins);
            self.ends.push(ends);
        }
    }

    /// What is shown of a series in a window.
    fn all_of(&mut self, series: i32, attempts: Option<&Vec<Shown>>, from: i64, to: i64) {
        match attempts.map_or(&[][..], Vec::as_slice) {
            // Points without an attempt: nothing hides them.
            [] => self.add(series, None, from, to),
            attempts => {
                for shown in attempts {
                    let (begins, ends) = (shown.began.max(from), shown.cut.min(to));
                    self.add(series, Some(shown.number), begins, ends);
                }
            }
        }
    }
}

/// Columns by series, put together of their parts.
fn columns(mut rows: Vec<Row>, from: i64, width: i64) -> BTreeMap<i32, Vec<CurveColumn>> {
    rows.sort_by_key(|row| (row.series_id, row.first));
    let place = |row: &Row| (row.first.saturating_sub(from)) / width;
    let least = |values: &mut dyn Iterator<Item = f64>| values.reduce(f64::min);
    let most = |values: &mut dyn Iterator<Item = f64>| values.reduce(f64::max);
    let mut all: BTreeMap<i32, Vec<CurveColumn>> = BTreeMap::new();
    for parts in rows.chunk_by(|a, b| a.series_id == b.series_id && place(a) == place(b)) {
        let Some(first) = parts.first() else { continue };
        let points: i64 = parts.iter().map(|part| part.points).sum();
        let lost: i64 = parts.iter().map(|part| part.lost).sum();
        let total: f64 = parts.iter().filter_map(|part| part.total).sum();
        let last = parts.iter().map(|part| part.last).max().unwrap_or(first.last);
        all.entry(first.series_id).or_default().push(CurveColumn {
            first: first.first,
            last,
            points,
            lost,
            least: least(&mut parts.iter().filter_map(|part| part.least)).unwrap_or(f64::NAN),
            most: most(&mut parts.iter().filter_map(|part| part.most)).unwrap_or(f64::NAN),
            mean: if points > lost { total / (points - lost) as f64 } else { f64::NAN },
        });
    }
    all
}
