//! A real S3 server (moto) on loopback; also for the tests of other crates.
#![allow(dead_code, clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A server with an empty bucket `laboratory`; it ends with the value.
pub struct Server {
    child: Child,
    python: PathBuf,
    endpoint: String,
}

impl Server {
    /// Starts one; none where Python lacks what it needs.
    pub fn start() -> Option<Self> {
        let python = python(&["moto.server", "boto3", "flask"])?;
        let mut command = Command::new(&python);
        command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut lines = lines.map(Result::unwrap);
        let address = lines.find_map(|line| Some(line.split("http://").nth(1)?.to_owned()));
        // The server goes on to write what it serves; somebody must read it.
        std::thread::spawn(move || lines.for_each(drop));
        let endpoint = format!("http://{}", address.unwrap().trim());
        let server = Self { child, python, endpoint };
        server.script("store.create_bucket(Bucket='laboratory')");
        Some(server)
    }

    /// Tells a command where the server is.
    pub fn with<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("AWS_ENDPOINT", &self.endpoint)
            .env("AWS_ENDPOINT_URL", &self.endpoint)
            .env("AWS_ALLOW_HTTP", "true")
            .env("AWS_ACCESS_KEY_ID", "somebody")
            .env("AWS_SECRET_ACCESS_KEY", "hunter2")
            .env("AWS_DEFAULT_REGION", "us-east-1")
            .env("AWS_REGION", "us-east-1")
    }

    /// Runs Python with `store`, a client of the server.
    pub fn script(&self, line: &str) -> String {
        let script = format!("import boto3\nstore = boto3.client('s3')\n{line}\n");
        run_ok(self.with(Command::new(&self.python).args(["-c", &script])))
    }

    /// Keys of the bucket that begin with this.
    pub fn names(&self, prefix: &str) -> Vec<String> {
        let list = format!(
            "found = store.list_objects_v2(Bucket='laboratory', Prefix='{prefix}')\n\
             for item in found.get('Contents', []): print(item['Key'])"
        );
        self.script(&list).lines().map(str::to_owned).collect()
    }

    /// Digest of an object.
    pub fn sha256(&self, key: &str) -> String {
        let read = format!("store.get_object(Bucket='laboratory', Key='{key}')['Body'].read()");
        let line = format!("import hashlib; print(hashlib.sha256({read}).hexdigest())");
        self.script(&line).trim().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command that must succeed; gives its stdout.
pub fn run_ok(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{stderr}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// A Python that has these modules: that of `.venv`, which `make test` fills, or python3. Prints that
/// the test is skipped where there is none.
pub fn python(modules: &[&str]) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let imports = modules.iter().map(|module| format!("import {module}\n")).collect::<String>();
    let found =
        [root.join(".venv/bin/python"), PathBuf::from("python3")].into_iter().find(|python| {
            let output = Command::new(python).args(["-c", &imports]).output();
            output.is_ok_and(|output| output.status.success())
        });
    if found.is_none() {
        println!("skipped: no python3 with {}; see scripts/python.sh", modules.join(", "));
    }
    found
}
