//! What others read: the tables of the control room by pandas, Polars and DuckDB, event files by TensorBoard, and the
//! views by SQL.

use std::path::Path;
use std::process::Command;

use registry::{NewJob, NewRun};
use serde_json::json;
use testkit::{House, Process};

use crate::database::{job, set_up};

/// A run named `palette` whose loss falls from 1; at step 5 it is lost.
fn palette(house: &House, runtime: &tokio::runtime::Runtime, db: &registry::Database) {
    let new = NewRun {
        name: "palette".into(),
        experiment: Some("colorization".into()),
        config: json!({"seed": 7, "train": {"learning_rate": 1e-4, "batch_size": 16}}),
        seed: 7,
        total_steps: 200,
        uri: Some("/runs/palette".into()),
        under: None,
        best_metric: "loss".into(),
        git_revision: None,
        datasets: Vec::new(),
        fork: None,
        job: NewJob { owner: "ann".into(), ..job("palette") },
    };
    let run = runtime.block_on(db.create_run(new)).unwrap().run.id;
    for name in ["loss", "noise/0", "validation/loss"] {
        house.sql(&format!(
            "with made as (insert into series (run_id, name) values ('{run}', '{name}') returning id)
             insert into metrics (series_id, step, attempt, value)
             select id, step, 1, case when step = 5 then 'NaN' else 1.0 / step end
             from made, generate_series(1, 200) step"
        ));
    }
    house.sql(&format!(
        "update runs set last_step = 200, latest = '{{\"loss\": 0.005}}' where id = '{run}'"
    ));
}

/// The control room, and where it is.
fn room(house: &House) -> (Process, String) {
    let command = house.command("scheduler", &["room", "--bind", "127.0.0.1:0"]);
    let mut room = house.start("room", command);
    room.says("control room at http://");
    let said = house.read("room");
    let address = said.split_whitespace().find(|word| word.starts_with("http://")).unwrap();
    let address = address.to_owned();
    (room, address)
}

fn run_python(python: &Path, house: &House, script: &str) -> String {
    let mut command = Command::new(python);
    command.args(["-c", script]).current_dir(house.path("."));
    testkit::run_ok(&mut command)
}

#[test]
fn the_examples_of_the_analysis_page_run() {
    let (house, runtime, db) = set_up();
    palette(&house, &runtime, &db);
    let Some(python) = testkit::python(&["pandas", "polars", "duckdb", "pyarrow"]) else { return };
    let (_room, address) = room(&house);
    let page = include_str!("../../../docs/analysis.md");
    let blocks = page.split("```python\n").skip(1).filter_map(|rest| rest.split("```").next());
    let script = blocks.collect::<String>().replace("http://127.0.0.1:8100", &address);
    assert!(script.contains(&address), "the page names another address");
    let said = run_python(&python, &house, &script);
    assert!(said.contains("palette") && said.contains("noise/0"), "{said}");

    let more = format!(
        "import pandas as pd, polars as pl, json, urllib.request as ask
url = '{address}/api/v1/runs/palette/metrics'
by_parquet = pd.read_parquet(url + '.parquet?metrics=loss')
assert len(by_parquet) == 200 and by_parquet.value.isna().sum() == 1
assert (by_parquet.step == range(1, 201)).all()
assert pl.read_ipc(url + '.arrow').shape == (600, 6)
assert pd.read_csv(url + '.csv?metrics=loss').value.isna().sum() == 1
rows = json.load(ask.urlopen(url + '.json?metrics=loss'))
assert rows[4]['value'] is None and rows[3] == dict(
    attempt=1, metric='loss', name='palette', run=rows[0]['run'], step=4, value=0.25)
part = ask.urlopen(ask.Request(url + '.parquet', headers=dict(Range='bytes=-4')))
assert part.status == 206 and part.read() == b'PAR1'
curves = json.load(ask.urlopen('{address}/api/v1/curves?runs=palette&metrics=loss&columns=20'))
[curve] = curves['curves']
assert curve['reduced'] and (curve['points'], curve['lost']) == (200, 1), curve
assert curve['max'][0] == 1 and curve['min'][0] == 0.1
curves = json.load(ask.urlopen('{address}/api/v1/curves?runs=palette&metrics=loss'))
[curve] = curves['curves']
assert not curve['reduced'] and curve['value'][4] is None and curve['value'][3] == 0.25
"
    );
    run_python(&python, &house, &more);
}

#[test]
fn exports_are_read_by_tensorboard_and_as_tables() {
    let (house, runtime, db) = set_up();
    palette(&house, &runtime, &db);
    let at = |name: &str| house.path(name).display().to_string();
    house.ok("scheduler", &["export", "palette", "--csv", &at("points.csv")]);
    let lines = house.read("points.csv");
    assert_eq!(lines.lines().count(), 601);
    assert_eq!(lines.lines().next(), Some("run,name,metric,step,attempt,value"));
    assert!(lines.lines().nth(5).unwrap().ends_with("palette,loss,5,1,NaN"), "{lines}");
    house.ok("scheduler", &["export", "palette", "--tensorboard", &at("logs")]);
    house.ok("scheduler", &["export", "palette", "--parquet", &at("points.parquet")]);
    let output = house.run("scheduler", &["export", "palette"]);
    assert_eq!(output.status.code(), Some(2));
    let output = house.run("scheduler", &["export", "nothing", "--csv", &at("none.csv")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(!house.path("none.csv").exists());

    // The reader of TensorBoard itself, which checks the sums of all records.
    let Some(python) = testkit::python(&["tensorboard"]) else { return };
    let said = run_python(
        &python,
        &house,
        "import glob, math
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
[folder] = glob.glob('logs/palette-*')
events = EventAccumulator(folder, size_guidance=dict(scalars=0))
events.Reload()
assert sorted(events.Tags()['scalars']) == ['loss', 'noise/0', 'validation/loss'], events.Tags()
values = events.Scalars('loss')
assert [value.step for value in values] == list(range(1, 201))
assert math.isnan(values[4].value) and values[3].value == 0.25
assert all(value.wall_time > 1.7e9 for value in values)
print('read')",
    );
    assert_eq!(said, "read\n");
}

#[test]
fn readers_of_sql_have_views() {
    let (house, runtime, db) = set_up();
    palette(&house, &runtime, &db);
    for view in ["checkpoints", "scores", "attempts"] {
        assert_eq!(house.sql(&format!("select count(*) from api_{view}")), "0\n");
    }
    assert_eq!(house.sql("select name, state from api_jobs"), "palette|queued\n");
    assert_eq!(
        house.sql("select count(*), min(step) from api_metrics where name = 'loss'"),
        "200|1\n"
    );
    let page = include_str!("../../../docs/analysis.md");
    let example = page.split("```sql\n").nth(1).unwrap().split("```").next().unwrap();
    assert_eq!(house.sql(example), "palette|7|0.005\n");
}
