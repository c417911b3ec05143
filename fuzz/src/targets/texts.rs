//! Texts that people write or copy: configurations, payloads, tables, addresses.

use contracts::experiment::{Override, sweep::Axis};
use contracts::{EvaluationRequest, Experiment, SamplingJob};
use pipeline::dataset::parse_rows;
use serde_json::Value;
use storage::{Place, Source};

use super::{chosen, ways, write};
use crate::{SOME, Target};

pub const EXPERIMENT: Target = Target {
    name: "experiment",
    about: "configurations of experiments, TOML; a first line that begins with `#--set ` changes a value",
    memory: SOME,
    run: |bytes, scratch| {
        let path = scratch.join("experiment.toml");
        write(&path, bytes);
        let text = String::from_utf8_lossy(bytes);
        let set = text.lines().next().and_then(|line| line.strip_prefix("#--set "));
        let set: Vec<String> = set.map(str::to_owned).into_iter().collect();
        let Ok(experiment) = Experiment::load(&path, &set) else { return };
        let _ = experiment.advice();
        let _ = experiment.memory(tch::Device::Cpu, 1);
        let stored = serde_json::to_value(&experiment).expect("what was read is a value");
        let again = Experiment::from_json(&stored).expect("what was taken is taken again");
        assert_eq!(again.digest(), experiment.digest());
    },
    seeds: || {
        [
            &include_bytes!("../../../configs/demo.toml")[..],
            include_bytes!("../../../configs/small/multitask.toml"),
            b"#--set train.steps=7\nname = \"a\"\n[data]\ndatasets = [{ uri = \"/d\" }]\n\
              tasks = { jpeg = 1 }\n[train]\nsteps = 5\nbatch_size = 4\n",
        ]
        .map(<[u8]>::to_vec)
        .to_vec()
    },
};

pub const PAYLOAD: Target = Target {
    name: "payload",
    about: "payloads of jobs and configurations of runs as the database has them, JSON",
    memory: SOME,
    run: |bytes, _| {
        let Ok(json) = serde_json::from_slice::<Value>(bytes) else { return };
        let _ = Experiment::from_json(&json);
        if let Ok(job) = SamplingJob::from_payload(&json) {
            let _ = (job.outputs_each(), job.chunks(), job.tasks());
            job.payload().expect("what was taken is a payload");
        }
        if let Ok(request) = EvaluationRequest::from_payload(&json) {
            request.payload().expect("what was taken is a payload");
        }
        let _ = contracts::Origin::of_outputs(&json, "outputs");
        let _ = contracts::Trained::of(&json);
    },
    seeds: || {
        let experiment = r#"{"name":"a","data":{"datasets":[{"uri":"/d"}],"tasks":{"jpeg":1}},
            "train":{"steps":5,"batch_size":4}}"#;
        let sampling = r#"{"version":1,"checkpoint":{"uri":"/c","digest":"00"},"dataset":"/d",
            "dataset_digest":"00","evaluations":["jpeg:5"],"count":4,"samples":1,"seed":0,
            "sampling":{"method":{"ddim":{"eta":0.0}},"steps":4},"chunk":4,"out":"/o","png":false}"#;
        let scoring = r#"{"version":1,"outputs":"/o","reference":"/r","extractors":["/e.toml"],
            "splits":10,"kid_subset":100,"structure":true,"details":"/d.csv","label":"l"}"#;
        [experiment, sampling, scoring].map(|text| text.as_bytes().to_vec()).to_vec()
    },
};

pub const TABLES: Target = Target {
    name: "tables",
    about: "tables, profiles, extractors and details of the evaluator",
    memory: SOME,
    run: |bytes, scratch| {
        let (way, bytes) = chosen(bytes, 4);
        let path = scratch.join("file.toml");
        write(&path, bytes);
        let _ = match way {
            0 => evaluator::files::table(&path),
            1 => evaluator::files::profile(&path),
            2 => evaluator::files::extractor(&path),
            _ => evaluator::files::details(&path),
        };
    },
    seeds: || {
        ways([
            include_bytes!("../../../configs/evaluation/table-1.toml").to_vec(),
            include_bytes!("../../../configs/evaluation/profiles/paper.toml").to_vec(),
            EXTRACTOR.to_vec(),
            b"key,sample,task,psnr,perceptual\na,0,jpeg:5,20.5,0.3\n'=b,0,colorization,inf,\n"
                .to_vec(),
        ])
    },
};

const EXTRACTOR: &[u8] =
    include_bytes!("../../../configs/evaluation/extractors/inception-2015-12-05.toml");

/// A password is shown beside no text, however strange.
pub const ADDRESSES: Target = Target {
    name: "addresses",
    about: "URLs of databases, places, sources, and what is typed on command lines",
    memory: SOME,
    run: |bytes, _| {
        let text = String::from_utf8_lossy(bytes);
        let _ = (secrets::address(&text), secrets::database(&text), secrets::text(&text));
        // libFuzzer learns the password, and tries it elsewhere.
        let strange = text.replace(PASSWORD, "");
        for hidden in [
            secrets::database(&format!("postgres://me:{PASSWORD}@host/{strange}")),
            secrets::database(&format!("password={PASSWORD} {strange}")),
            secrets::address(&format!("https://me:{PASSWORD}@host/{strange}")),
            secrets::text(&format!("{strange} postgres://me:{PASSWORD}@host/db")).into_owned(),
            secrets::text(&format!("password='{PASSWORD}' {strange}")).into_owned(),
        ] {
            assert!(!hidden.contains(PASSWORD), "{hidden}");
        }
        if let Ok(place) = text.parse::<Place>() {
            let again = place.to_string().parse::<Place>();
            assert_eq!(again.expect("an address that was shown is one"), place);
            let _ = place.join(&text);
            let _ = place.resolve(&text);
        }
        let _ = text.parse::<Source>().map(|source| (source.name(), source.to_string()));
        let _ = storage::local_path(&text);
        let _ = (storage::names::name(&text), storage::names::word(&text));
        let _ = (storage::names::title(&text), storage::names::label(&text));
        assert!(storage::names::name(&storage::names::fitted(&text)).is_ok() || text.is_empty());
        let file = pipeline::names::file_name(&text);
        assert!(
            !file.contains('\0')
                && !file.split('/').any(|part| part.is_empty() || part.starts_with('.'))
        );
        let _ = parse_rows(&text);
        let _ = (text.parse::<Override>(), text.parse::<Axis>());
        let _ = text.parse::<pipeline::Evaluation>();
        let _ = text.parse::<diffusion::ScheduleConfig>();
        let _ = text.parse::<diffusion::Method>();
    },
    seeds: || {
        [
            "postgres://me:pass word@host:5432/db?sslmode=require&password=x",
            "host=/run/postgresql user=me password='a b'",
            "s3://bucket/a/b?X-Amz-Signature=00",
            "https://me:secret@host/a.tar?token=1",
            "file:///a/../b%20c",
            "gs://bucket",
            "train.steps=[1,2,3]",
            "seed=0..4",
            "jpeg:5",
            "inpainting:free-form:20-30",
            "linear:1e-6:0.01:2000",
            "10..20",
        ]
        .map(|text| text.as_bytes().to_vec())
        .to_vec()
    },
};

const PASSWORD: &str = "correct-horse-battery";
