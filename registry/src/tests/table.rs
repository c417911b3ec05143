//! Runs as a table: filters and their counts, orders, seeds together.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{new_run, set_up};
use crate::{Database, NewRun, TableColumn, TableFilter, TableOrder};

/// A run with this configuration, owner, tags and newest values.
async fn run(
    db: &Database,
    name: &str,
    owner: &str,
    tags: &[&str],
    config: Value,
    latest: Value,
) -> Uuid {
    let mut new = NewRun { experiment: Some("all".into()), ..new_run(name) };
    new.seed = config["seed"].as_i64().unwrap_or(0);
    new.config = config;
    new.job.owner = owner.into();
    new.job.tags = tags.iter().map(|&tag| tag.to_owned()).collect();
    let id = db.create_run(new).await.unwrap().run.id;
    sqlx::query("update runs set latest = $2 where id = $1")
        .bind(id)
        .bind(latest)
        .execute(&db.pool)
        .await
        .unwrap();
    id
}

fn order(column: TableColumn, descending: bool) -> TableOrder {
    TableOrder { column, descending, offset: 0, limit: 100 }
}

fn texts(all: &[&str]) -> Vec<String> {
    all.iter().map(|&text| text.to_owned()).collect()
}

#[test]
fn filters_counts_and_orders_fit_each_other() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let hostile = "<b>\u{202e}'\"%_\\*";
        let rate = |rate: f64| json!({"seed": 1, "train": {"rate": rate}, "odd": [{"k": hostile}]});
        run(&db, "a", "ann", &["x", "y"], rate(1e-3), json!({"loss": 0.5})).await;
        run(&db, "b", "ann", &["x"], rate(1e-2), json!({"loss": null})).await;
        run(&db, "c", "bob", &["y"], rate(1e-1), json!({"loss": 0.1, "other/0": 3})).await;
        let noted =
            run(&db, "d_1", "bob", &[], json!({"train": {"rate": "auto"}}), json!({})).await;
        sqlx::query("update runs set note = $2 where id = $1")
            .bind(noted)
            .bind(hostile.repeat(1000))
            .execute(&db.pool)
            .await
            .unwrap();
        let names = async |filter: &TableFilter, order: TableOrder| {
            let ids = db.run_page(filter, &order).await.unwrap();
            let runs = db.runs_by_id(&ids).await.unwrap();
            let name = |id: &Uuid| runs.iter().find(|run| run.id == *id).unwrap().name.clone();
            ids.iter().map(name).collect::<Vec<_>>().join(" ")
        };
        let all = TableFilter::default;
        let by_name = || order(TableColumn::Name, false);
        let cases = [
            (all(), "a b c d_1"),
            (TableFilter { owners: texts(&["ann"]), ..all() }, "a b"),
            (TableFilter { owners: texts(&["ann", "bob"]), ..all() }, "a b c d_1"),
            (TableFilter { tags: texts(&["x", "y"]), ..all() }, "a"),
            (TableFilter { states: texts(&["running"]), ..all() }, ""),
            (
                TableFilter { states: texts(&["queued"]), kinds: texts(&["train"]), ..all() },
                "a b c d_1",
            ),
            (TableFilter { kinds: texts(&["import"]), ..all() }, ""),
            (TableFilter { experiments: texts(&["'; drop table runs; --"]), ..all() }, ""),
            (TableFilter { sweeps: vec![Uuid::nil()], ..all() }, ""),
            (TableFilter { archived: Some(false), ..all() }, "a b c d_1"),
            (TableFilter { archived: Some(true), ..all() }, ""),
            (TableFilter { name: Some("D_*".into()), ..all() }, "d_1"),
            (TableFilter { name: Some("_".into()), ..all() }, ""),
            (TableFilter { text: Some("BOB".into()), ..all() }, "c d_1"),
            (TableFilter { text: Some("%_\\".into()), ..all() }, "d_1"),
            (TableFilter { text: Some(crate::short(&noted)), ..all() }, "d_1"),
            (TableFilter { config: Some(json!({"train": {"rate": 0.01}})), ..all() }, "b"),
        ];
        for (filter, wanted) in cases {
            assert_eq!(names(&filter, by_name()).await, wanted, "{filter:?}");
            let facets = db.run_facets(&filter).await.unwrap();
            let count = facets.iter().find(|facet| facet.facet == "all").unwrap().count;
            assert_eq!(
                usize::try_from(count).unwrap(),
                wanted.split_whitespace().count(),
                "{filter:?}"
            );
        }
        // The largest last: numbers, what was lost, what has none; and the other way round.
        let loss = || TableColumn::Metric("loss".into());
        assert_eq!(names(&all(), order(loss(), false)).await, "c a b d_1");
        assert_eq!(names(&all(), order(loss(), true)).await, "a c b d_1");
        let rate = || TableColumn::Config(texts(&["train", "rate"]));
        assert_eq!(names(&all(), order(rate(), false)).await, "a b c d_1");
        assert_eq!(names(&all(), order(rate(), true)).await, "c b a d_1");
        let odd = TableColumn::Config(texts(&["odd", "0", "k"]));
        assert!(names(&all(), order(odd, false)).await.ends_with("d_1"));
        let part = TableOrder { offset: 1, limit: 2, ..by_name() };
        assert_eq!(names(&all(), part).await, "b c");

        // The counts of a filter leave out that filter alone.
        let filter = TableFilter { owners: texts(&["ann"]), tags: texts(&["y"]), ..all() };
        let facets = db.run_facets(&filter).await.unwrap();
        let counts = |name: &str| -> BTreeMap<String, i64> {
            let own = facets.iter().filter(|facet| facet.facet == name);
            own.map(|facet| (facet.value.clone(), facet.count)).collect()
        };
        let wanted = |all: &[(&str, i64)]| -> BTreeMap<String, i64> {
            all.iter().map(|&(value, count)| (value.to_owned(), count)).collect()
        };
        assert_eq!(counts("owner"), wanted(&[("ann", 1), ("bob", 1)]));
        assert_eq!(counts("tag"), wanted(&[("x", 1), ("y", 1)]));
        assert_eq!(counts("state"), wanted(&[("queued", 1)]));
    });
}

#[test]
fn the_mean_of_seeds_is_that_of_their_values() {
    let (_cluster, runtime, db) = set_up();
    let db = &db;
    // One cluster for all cases; a case is a setting of its own.
    let case = std::cell::Cell::new(0);
    let values = prop::collection::vec(prop::option::weighted(0.9, -1e3..1e3f64), 1..8);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(12));
    runner
        .run(&values, |values| {
            case.set(case.get() + 1);
            let setting = case.get();
            runtime.block_on(async {
                for (seed, value) in values.iter().enumerate() {
                    let config =
                        json!({"name": format!("n{seed}"), "seed": seed, "setting": setting});
                    run(
                        db,
                        &format!("s{setting}-{seed}"),
                        "ann",
                        &[],
                        config,
                        json!({"loss": value}),
                    )
                    .await;
                }
                let filter =
                    TableFilter { config: Some(json!({"setting": setting})), ..Default::default() };
                let groups =
                    db.run_groups(&filter, &order(TableColumn::Metric("loss".into()), false)).await;
                let groups = groups.unwrap();
                assert_eq!(
                    (groups.len(), groups[0].groups),
                    (1, 1),
                    "the seed and the name do not matter"
                );
                assert_eq!(groups[0].runs.len(), values.len());
                let spread =
                    db.group_metrics(&groups[0].runs, &texts(&["loss", "none"])).await.unwrap();
                assert_eq!(spread.len(), 1);
                let finite: Vec<f64> = values.iter().flatten().copied().collect();
                let close = |a: Option<f64>, b: Option<f64>| match (a, b) {
                    (Some(a), Some(b)) => (a - b).abs() < 1e-9 * (1.0 + b.abs()),
                    (a, b) => a == b,
                };
                let mean = statistics::mean(&finite);
                let n = finite.len() as f64;
                let deviation = statistics::deviation(&finite).filter(|_| n > 1.0);
                let deviation = deviation.map(|deviation| deviation * (n / (n - 1.0)).sqrt());
                let got = &spread[0];
                assert!(close(got.mean, mean), "{got:?} {mean:?}");
                assert!(close(got.deviation, deviation), "{got:?} {deviation:?}");
                assert_eq!(usize::try_from(got.measured + got.lost).unwrap(), values.len());
            });
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_window_is_the_last_tenth_of_the_steps_that_all_have() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let me = super::worker(&db).await;
        let mut runs = Vec::new();
        for (name, last) in [("short", 100), ("long", 300)] {
            let id = db.create_run(new_run(name)).await.unwrap().run.id;
            let claimed =
                db.claim(&me, &super::anything(), &super::lease()).await.unwrap().unwrap();
            let values = (1..=last).map(|step| crate::NewPoint {
                step,
                name: "loss".into(),
                value: step as f64,
            });
            db.record_metrics(claimed.fence, id, &values.collect::<Vec<_>>()).await.unwrap();
            runs.push(id);
        }
        let windows = db.metric_windows(&runs, &texts(&["loss", "none"])).await.unwrap();
        assert_eq!(windows.len(), 2);
        for window in windows {
            assert_eq!((window.first, window.last, window.points), (91, 100, 10));
            assert_eq!((window.mean, window.value), (95.5, 100.0));
            let values: Vec<f64> = (91..=100).map(f64::from).collect();
            let (counted, all) = (window.level(), crate::compare::Level::of(&values).unwrap());
            assert_eq!(counted.points, all.points);
            let (a, b) = (counted.interval.unwrap(), all.interval.unwrap());
            assert!((a[0] - b[0]).abs() < 1e-9 && (a[1] - b[1]).abs() < 1e-9);
        }
    });
}
