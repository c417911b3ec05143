//! A real S3 server (moto) on loopback.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::{python, run_ok};

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

    /// The variables that tell a program where the server is.
    pub fn environment(&self) -> [(&'static str, &str); 7] {
        [
            ("AWS_ENDPOINT", &self.endpoint),
            ("AWS_ENDPOINT_URL", &self.endpoint),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_ACCESS_KEY_ID", "somebody"),
            ("AWS_SECRET_ACCESS_KEY", "hunter2"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("AWS_REGION", "us-east-1"),
        ]
    }

    /// Gives a command these variables.
    pub fn with<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.envs(self.environment())
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

    /// Digests of the objects whose keys begin with this, by the rest of their keys.
    pub fn digests(&self, prefix: &str) -> BTreeMap<String, String> {
        let list = format!(
            "import hashlib\n\
             found = store.list_objects_v2(Bucket='laboratory', Prefix='{prefix}')\n\
             for key in [item['Key'] for item in found.get('Contents', [])]:\n    \
             body = store.get_object(Bucket='laboratory', Key=key)['Body'].read()\n    \
             print(hashlib.sha256(body).hexdigest(), key.removeprefix('{prefix}'))"
        );
        let lines = self.script(&list);
        let pairs = lines.lines().map(|line| line.split_once(' ').unwrap());
        pairs.map(|(digest, key)| (key.to_owned(), digest.to_owned())).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
