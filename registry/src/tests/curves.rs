//! Curves are what the points say, however they are read.

use super::{Cluster, anything, lease, new_run, no_lease, set_up, worker};
use crate::queue::fence::Fence;
use crate::{CurveColumn, CurveShape, CurveWindow, Database, NewPoint, Uuid};

/// Numbers without a pattern.
struct Draws(u64);

impl Draws {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (self.0 >> 33) % end
    }
}

/// What the columns of a series must be, from its points.
fn expected(points: &[(i64, f64)], from: i64, width: i64) -> Vec<CurveColumn> {
    let groups = points.chunk_by(|a, b| (a.0 - from) / width == (b.0 - from) / width);
    let column = |group: &[(i64, f64)]| {
        let finite: Vec<f64> =
            group.iter().map(|point| point.1).filter(|value| value.is_finite()).collect();
        CurveColumn {
            first: group[0].0,
            last: group[group.len() - 1].0,
            points: group.len() as i64,
            lost: (group.len() - finite.len()) as i64,
            least: finite.iter().copied().fold(f64::NAN, f64::min),
            most: finite.iter().copied().fold(f64::NAN, f64::max),
            mean: finite.iter().sum::<f64>() / finite.len() as f64,
        }
    };
    groups.map(column).collect()
}

fn points(steps: impl Iterator<Item = i64>, draws: &mut Draws) -> Vec<NewPoint> {
    steps
        .flat_map(|step| {
            let value = match draws.below(50) {
                0 => f64::NAN,
                1 => f64::INFINITY,
                2 => f64::NEG_INFINITY,
                _ => draws.below(1000) as f64 - 500.0,
            };
            [("loss", value), ("other", 1.0)].map(|(name, value)| NewPoint {
                step,
                name: name.into(),
                value,
            })
        })
        .collect()
}

/// A run of several attempts that went back and wrote points again, with most points in blocks.
async fn eventful(db: &Database, draws: &mut Draws) -> (Uuid, Fence) {
    let me = worker(db).await;
    let run = db.create_run(new_run("curve")).await.unwrap().run.id;
    let mut step = 0;
    let mut fence = None;
    for attempt in 0..3 {
        let held = if attempt < 2 { no_lease() } else { lease() };
        let current = db.claim(&me, &anything(), &held).await.unwrap().unwrap().fence;
        step -= i64::try_from(draws.below(300)).unwrap().min(step);
        db.mark_resumed(current, run, step).await.unwrap();
        for _ in 0..6 {
            let end = step + 1 + i64::try_from(draws.below(700)).unwrap();
            db.record_metrics(current, run, &points(step + 1..=end, draws)).await.unwrap();
            step = end;
            match draws.below(5) {
                0 => {
                    step -= i64::try_from(draws.below(200)).unwrap().min(step);
                    db.mark_resumed(current, run, step).await.unwrap();
                }
                // A batch comes once more, with other values.
                1 => {
                    let again = points((step - 30).max(1)..=step, draws);
                    let shown = db.metric_series(run, Some("loss")).await.unwrap();
                    let own = |point: &NewPoint| {
                        shown
                            .iter()
                            .any(|one| one.step == point.step && one.attempt == current.number)
                    };
                    let again: Vec<NewPoint> = again.into_iter().filter(own).collect();
                    db.record_metrics(current, run, &again).await.unwrap();
                }
                _ => db.sum_up_metrics(current, run).await.unwrap(),
            }
        }
        if attempt < 2 {
            db.reclaim(&lease(), &[]).await.unwrap();
        }
        fence = Some(current);
    }
    (run, fence.unwrap())
}

/// Compares the curves of a run with its points, in windows of many sizes.
async fn compare(db: &Database, run: Uuid, draws: &mut Draws) {
    let shown = db.metric_series(run, Some("loss")).await.unwrap();
    let all: Vec<(i64, f64)> = shown.iter().map(|point| (point.step, point.value)).collect();
    let last = all[all.len() - 1].0;
    let series = db.series(&[run], &["loss".into()]).await.unwrap();
    for round in 0..60 {
        let columns = 1 + i64::try_from(draws.below(if round % 2 == 0 { 8 } else { 400 })).unwrap();
        let from = i64::try_from(draws.below(last.unsigned_abs())).unwrap();
        let to = from + i64::try_from(draws.below(2 * last.unsigned_abs())).unwrap();
        let window = match round {
            0..3 => CurveWindow { columns, ..CurveWindow::default() },
            _ => CurveWindow { from: Some(from), to: Some(to), columns },
        };
        let curves = db.curves(&series, window).await.unwrap();
        let inside: Vec<(i64, f64)> = all
            .iter()
            .copied()
            .filter(|(step, _)| (curves.from..=curves.to).contains(step))
            .collect();
        let Some(curve) = curves.curves.first() else {
            assert!(inside.is_empty());
            continue;
        };
        let lost = inside.iter().filter(|(_, value)| !value.is_finite()).count();
        assert_eq!(curve.shape.count(), (inside.len() as i64, lost as i64), "{window:?}");
        match &curve.shape {
            CurveShape::Points(points) => {
                assert!(points.len() as i64 <= 2 * columns);
                assert_eq!(format!("{points:?}"), format!("{inside:?}"));
            }
            CurveShape::Columns(got) => check_columns(got, &inside, &curves, window),
        }
    }
}

/// Blocks belong to the column that they begin in, so that the borders are not those of single points; each
/// column must be right about the points that it says it holds.
fn check_columns(
    got: &[CurveColumn],
    inside: &[(i64, f64)],
    curves: &crate::Curves,
    window: CurveWindow,
) {
    assert!(got.len() as i64 <= window.columns + 1);
    let same = |a: f64, b: f64| (a.is_nan() && b.is_nan()) || (a - b).abs() < 1e-9;
    let right = |got: &CurveColumn, wanted: &CurveColumn| {
        (got.first, got.last, got.points, got.lost)
            == (wanted.first, wanted.last, wanted.points, wanted.lost)
            && same(got.least, wanted.least)
            && same(got.most, wanted.most)
            && same(got.mean, wanted.mean)
    };
    let single = expected(inside, curves.from, curves.width);
    if got.len() == single.len() && got.iter().zip(&single).all(|(a, b)| right(a, b)) {
        return;
    }
    let mut left = inside;
    for column in got {
        let (held, rest) = left.split_at(usize::try_from(column.points).unwrap());
        let wanted = &expected(held, held[0].0, i64::MAX)[0];
        assert!(right(column, wanted), "{window:?}: {column:?} is not {wanted:?}");
        left = rest;
    }
    assert!(left.is_empty());
}

#[test]
fn curves_are_what_the_points_say_through_restarts_and_rewinds() {
    let (_cluster, runtime, db): (Cluster, _, _) = set_up();
    runtime.block_on(async {
        for seed in 0..3 {
            let mut draws = Draws(seed);
            let (run, fence) = eventful(&db, &mut draws).await;
            compare(&db, run, &mut draws).await;
            db.sum_up_metrics(fence, run).await.unwrap();
            compare(&db, run, &mut draws).await;
            let blocks: i64 = sqlx::query_scalar("select count(*) from metric_blocks")
                .fetch_one(&db.pool)
                .await
                .unwrap();
            assert!(blocks > 20, "{blocks} blocks");
            db.delete_hidden_points(run).await.unwrap();
            compare(&db, run, &mut draws).await;
            sqlx::query("truncate jobs, runs cascade").execute(&db.pool).await.unwrap();
        }
    });
}

#[test]
fn restarts_rewinds_and_checkpoints_are_marks_and_times_are_kept() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let me = worker(&db).await;
        let run = db.create_run(new_run("marks")).await.unwrap().run.id;
        let first = db.claim(&me, &anything(), &no_lease()).await.unwrap().unwrap().fence;
        db.mark_resumed(first, run, 0).await.unwrap();
        db.record_metrics(first, run, &super::points(1..=9, 0.5)).await.unwrap();
        db.record_checkpoint(first, run, &super::checkpoint(4, 0.5)).await.unwrap();
        db.mark_resumed(first, run, 4).await.unwrap();
        db.reclaim(&lease(), &[]).await.unwrap();
        let second = db.claim(&me, &anything(), &lease()).await.unwrap().unwrap().fence;
        db.mark_resumed(second, run, 4).await.unwrap();
        db.record_metrics(second, run, &super::points(5..=6, 0.5)).await.unwrap();
        let marks = db.curve_marks(&[run]).await.unwrap();
        let said: Vec<_> =
            marks.iter().map(|mark| (mark.kind, mark.step, mark.attempt, mark.from)).collect();
        assert_eq!(
            said,
            [("restart", 4, 2, None), ("rewind", 4, 1, Some(9)), ("checkpoint", 4, 1, None)]
        );
        let moments = db.moments(&[run], 100).await.unwrap();
        let steps: Vec<i64> = moments.iter().map(|moment| moment.step).collect();
        assert_eq!(steps, [0, 4, 6]);
        assert!(moments.windows(2).all(|pair| pair[0].at <= pair[1].at));
    });
}
