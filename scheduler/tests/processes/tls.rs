//! A server that demands TLS and a password: what gets in by the URL alone, what is refused and how.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use testkit::{House, Process, Signal, psql, text};

const PASSWORD: &str = "s3cr/et-p@ss";
/// The same as a URL writes it.
const ENCODED: &str = "s3cr%2Fet-p%40ss";

/// A Postgres of the test's own on 127.0.0.1, with a certificate for `localhost`.
struct Server {
    house: House,
    port: u16,
    process: Process,
}

impl Server {
    fn start() -> Self {
        let house = House::with_scripts();
        let place = house.path("server");
        std::fs::create_dir(&place).unwrap();
        certificates(&place);
        give(&place);
        let data = place.join("data");
        let initdb = as_server("initdb")
            .args(["-A", "trust", "-U", "palette", "--no-sync", "-D"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(initdb.status.success(), "{}", text(&initdb.stderr));
        let rules = "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n";
        std::fs::write(data.join("pg_hba.conf"), rules).unwrap();
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        drop(socket);
        let settings = format!(
            "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{}'\n\
             ssl = on\nssl_cert_file = '{1}/server.crt'\nssl_key_file = '{1}/server.key'\n",
            place.display(),
            place.display()
        );
        std::fs::write(data.join("postgresql.conf"), settings).unwrap();
        let mut postgres = as_server("postgres");
        postgres.arg("-D").arg(&data);
        let mut process = house.start("server.log", postgres);
        process.says("ready to accept");
        let url =
            format!("postgresql:///postgres?host={}&port={port}&user=palette", place.display());
        let set = format!("alter role palette password '{PASSWORD}'; create database shared;");
        for statement in set.split_inclusive(';') {
            let psql = psql(&url, &["-c", statement]);
            assert!(psql.status.success(), "{}", text(&psql.stderr));
        }
        Self { house, port, process }
    }

    fn url(&self, user: &str, host: &str, query: &str) -> String {
        format!("postgres://{user}@{host}:{}/shared?{query}", self.port)
    }

    /// `sslrootcert=FILE` of this authority.
    fn root(&self, authority: &str) -> String {
        format!("sslrootcert={}", self.house.path("server").join(authority).display())
    }

    /// Runs a command; its output never holds the password.
    fn run(&self, url: &str, arguments: &[&str], environment: &[(&str, &str)]) -> (bool, String) {
        let mut command = self.house.command("scheduler", arguments);
        command.env("DATABASE_URL", url).env("HOME", self.house.path("")).env_remove("PGPASSWORD");
        let output = command.envs(environment.iter().copied()).output().unwrap();
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(
            !said.contains(PASSWORD) && !said.contains(ENCODED) && !said.contains("s3cr"),
            "{said}"
        );
        if !output.status.success() {
            assert_eq!(text(&output.stderr).lines().count(), 1, "{said}");
        }
        (output.status.success(), said)
    }

    #[track_caller]
    fn refuses(&self, url: &str, part: &str) {
        let (came_in, said) = self.run(url, &["jobs"], &[]);
        assert!(!came_in && said.contains(part), "{url}: {said}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // In order, so that its processes go too.
        self.process.signal(Signal::SIGINT);
        self.process.end();
    }
}

/// The server's program, as a user that it accepts.
fn as_server(program: &str) -> Command {
    let folder = std::env::var_os("PALETTE_POSTGRES_BIN").map_or_else(
        || {
            let output = Command::new("pg_config").arg("--bindir").output();
            PathBuf::from(text(&output.unwrap().stdout).trim())
        },
        PathBuf::from,
    );
    let mut command = Command::new(folder.join(program));
    command.current_dir("/").stdin(Stdio::null()).env_remove("DATABASE_URL");
    if let Some((user, group)) = server_user() {
        command.uid(user).gid(group);
    }
    command
}

/// Root starts the server as another user.
fn server_user() -> Option<(u32, u32)> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    let user =
        ["postgres", "nobody"].iter().find_map(|name| nix::unistd::User::from_name(name).unwrap());
    user.map(|user| (user.uid.as_raw(), user.gid.as_raw()))
}

fn give(place: &Path) {
    let Some((user, group)) = server_user() else { return };
    for path in [place.to_owned(), place.join("server.key"), place.join("server.crt")] {
        std::os::unix::fs::chown(path, Some(user), Some(group)).unwrap();
    }
}

/// An authority, a certificate for `localhost` that it signed, and another authority.
fn certificates(place: &Path) {
    const KEY: [&str; 6] =
        ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-batch"];
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).current_dir(place).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    };
    for authority in ["ca", "other"] {
        let (key, certificate) = (format!("{authority}.key"), format!("{authority}.crt"));
        let subject = format!("/CN={authority}");
        let request = [
            "req",
            "-x509",
            "-days",
            "2",
            "-subj",
            &subject,
            "-keyout",
            &key,
            "-out",
            &certificate,
        ];
        openssl(&[&request[..], &KEY].concat());
    }
    let request = ["req", "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr"];
    openssl(&[&request[..], &KEY].concat());
    std::fs::write(place.join("names"), "subjectAltName = DNS:localhost\n").unwrap();
    let sign =
        ["x509", "-req", "-days", "2", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key"];
    openssl(&[&sign[..], &["-CAcreateserial", "-extfile", "names", "-out", "server.crt"]].concat());
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(place.join("server.key"), mode).unwrap();
}

#[test]
fn a_server_that_demands_tls_is_reached_by_the_url_and_refusals_are_one_line() {
    let server = Server::start();
    let ann = format!("palette:{ENCODED}");
    let checked = format!("sslmode=verify-full&{}", server.root("ca.crt"));

    // The whole program: its tables, its lists, a worker with its connections beside the pool.
    let url = server.url(&ann, "localhost", &checked);
    for arguments in [&["up"][..], &["jobs"], &["url"]] {
        let (worked, said) = server.run(&url, arguments, &[]);
        assert!(worked, "{arguments:?}: {said}");
    }
    server.house.script("sampler", "echo sampler 0");
    let (worked, said) = server.run(&url, &["worker", "--drain"], &[]);
    assert!(worked && said.contains("the queue is empty"), "{said}");
    let (_, said) = server.run(&url, &["doctor"], &[]);
    assert!(said.contains("TLSv1.3, the server's certificate is checked"), "{said}");
    for query in ["sslmode=require", "sslmode=prefer", ""] {
        let (worked, said) = server.run(&server.url(&ann, "127.0.0.1", query), &["jobs"], &[]);
        assert!(worked, "{query}: {said}");
    }
    let lenient = format!("sslmode=verify-ca&{}", server.root("ca.crt"));
    let (worked, said) = server.run(&server.url(&ann, "127.0.0.1", &lenient), &["jobs"], &[]);
    assert!(worked, "{said}");

    server
        .refuses(&server.url(&ann, "127.0.0.1", &checked), "as the server's certificate names it");
    let wrong = format!("sslmode=verify-full&{}", server.root("other.crt"));
    server.refuses(&server.url(&ann, "localhost", &wrong), "in sslrootcert");
    server.refuses(&server.url(&ann, "localhost", "sslmode=verify-full"), "in sslrootcert");
    let missing = format!("sslmode=verify-full&{}", server.root("missing.crt"));
    server.refuses(&server.url(&ann, "localhost", &missing), "missing.crt");
    server
        .refuses(&server.url(&ann, "localhost", "sslmode=disable"), "does the server demand TLS?");
    server.refuses(
        &server.url("palette:s3cr", "localhost", ""),
        "is it right in DATABASE_URL, PGPASSWORD",
    );
    server.refuses(&server.url(&format!("palette:{PASSWORD}"), "localhost", ""), "cannot open");
}

#[test]
fn the_password_may_come_from_the_environment_or_a_pgpass_file() {
    let server = Server::start();
    let url = server.url("palette", "localhost", "sslmode=require");
    server.refuses(&url, "PGPASSWORD or ~/.pgpass");
    let (worked, said) = server.run(&url, &["jobs"], &[("PGPASSWORD", PASSWORD)]);
    assert!(worked, "{said}");
    let write = |name: &str, mode: u32| {
        let path = server.house.path(name);
        std::fs::write(&path, format!("localhost:{}:*:palette:{PASSWORD}\n", server.port)).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path.to_string_lossy().into_owned()
    };
    let (worked, said) = server.run(&url, &["jobs"], &[("PGPASSFILE", &write("elsewhere", 0o600))]);
    assert!(worked, "{said}");
    write(".pgpass", 0o644);
    server.refuses(&url, "PGPASSWORD or ~/.pgpass");
    write(".pgpass", 0o600);
    let (worked, said) = server.run(&url, &["jobs"], &[]);
    assert!(worked, "{said}");
}
