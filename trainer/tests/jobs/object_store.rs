//! A run whose checkpoints live in an object store: a real S3 server (moto) on loopback.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::house::{House, kill, wait_for};

pub struct Server {
    child: Child,
    endpoint: String,
}

impl Server {
    /// Starts one with an empty bucket `laboratory`; none where the Python of `make test` is not.
    pub fn start() -> Option<Self> {
        let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/python");
        let found = Command::new(&python).args(["-c", "import moto.server, boto3, flask"]).output();
        if !found.is_ok_and(|output| output.status.success()) {
            println!("skipped: .venv has no moto (`make python`)");
            return None;
        }
        let mut command = Command::new(&python);
        command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let address = lines.find_map(|line| Some(line.split("http://").nth(1)?.to_owned()));
        // The server goes on to write what it serves; somebody must read it.
        std::thread::spawn(move || lines.for_each(drop));
        let endpoint = format!("http://{}", address.unwrap().trim());
        let server = Self { child, endpoint };
        let script = "import boto3; boto3.client('s3').create_bucket(Bucket='laboratory')";
        let mut bucket = Command::new(&python);
        bucket.args(["-c", script]).envs(server.environment());
        assert!(bucket.status().unwrap().success());
        Some(server)
    }

    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT", self.endpoint.clone()),
            ("AWS_ENDPOINT_URL", self.endpoint.clone()),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_ACCESS_KEY_ID", "somebody".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "hunter2".to_owned()),
            ("AWS_DEFAULT_REGION", "us-east-1".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
        ]
    }

    /// SHA-256 of the objects whose keys begin so, by the rest of their keys.
    pub fn digests(&self, prefix: &str) -> BTreeMap<String, String> {
        let script = format!(
            "import boto3, hashlib\nstore = boto3.client('s3')\n\
             found = store.list_objects_v2(Bucket='laboratory', Prefix='{prefix}')\n\
             for key in [item['Key'] for item in found.get('Contents', [])]:\n    \
             body = store.get_object(Bucket='laboratory', Key=key)['Body'].read()\n    \
             print(hashlib.sha256(body).hexdigest(), key.removeprefix('{prefix}'))"
        );
        let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/python");
        let mut command = Command::new(python);
        let output = command.args(["-c", &script]).envs(self.environment()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let pairs = text.lines().map(|line| line.split_once(' ').unwrap());
        pairs.map(|(digest, key)| (key.to_owned(), digest.to_owned())).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_run_in_an_object_store_is_killed_resumed_and_sampled() {
    let Some(server) = Server::start() else { return };
    let mut house = House::new();
    house.environment = server.environment();
    house.dataset(8);
    let alone = house.config("alone", 20);
    house.ok("trainer", &["run", &alone]);

    let config = house.config("afar", 20);
    let place = "train.checkpoint={ every = 5, keep_last = 1, place = \"s3://laboratory/runs\" }";
    house.ok("trainer", &["submit", &config, "--set", place]);
    let mut worker = house.worker();
    let (stdout, stderr) = (worker.stdout.take().unwrap(), worker.stderr.take().unwrap());
    std::thread::spawn(move || BufReader::new(stdout).lines().count());
    let seen = wait_for(&mut BufReader::new(stderr).lines(), "step 15/");
    kill(&mut worker);
    assert!(seen);
    // Another machine has nothing of what lay on the one that died.
    std::fs::remove_dir_all(house.path("home/jobs")).unwrap();
    house.ok("scheduler", &["worker", "--drain"]);

    let all = house.json("scheduler", &["checkpoints", "afar", "--json"]);
    let all = all.as_array().unwrap();
    assert_eq!(all.last().unwrap()["step"], 20);
    let uri = all.last().unwrap()["uri"].as_str().unwrap();
    assert!(uri.starts_with("s3://laboratory/runs/"), "{uri}");
    let left = std::fs::read_dir(house.path("home/jobs")).unwrap().flatten();
    let left = left.flat_map(|job| std::fs::read_dir(job.path()).into_iter().flatten().flatten());
    for attempt in left {
        assert!(!attempt.path().join("checkpoints").exists(), "copies are left on this machine");
    }
    // The weights that come out are those of a run that stayed at home.
    let here = house.json("scheduler", &["checkpoints", "alone", "--json"]);
    let home = here.as_array().unwrap().last().unwrap()["uri"].as_str().unwrap().to_owned();
    for (checkpoint, file) in [(uri, "afar.safetensors"), (home.as_str(), "alone.safetensors")] {
        house.ok("trainer", &["export", "--checkpoint", checkpoint, "--out", file]);
    }
    let read = |file| std::fs::read(house.path(file)).unwrap();
    assert_eq!(read("afar.safetensors"), read("alone.safetensors"));
    house.ok(
        "sampler",
        &[
            "submit",
            "--run",
            "afar",
            "--dataset",
            "data",
            "--count",
            "2",
            "--task",
            "colorization",
            "--process",
            "ddim",
            "--steps",
            "2",
            "--out",
            "s3://laboratory/outputs",
        ],
    );
    house.ok("scheduler", &["worker", "--drain"]);
    assert!(server.digests("outputs/").contains_key("sheet.png"));
}
