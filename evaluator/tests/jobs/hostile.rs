//! Hostile pictures among the outputs and the references of `evaluator run`; hostile manifests, tables, profiles and
//! extractors.

use std::fs;
use std::io::{Cursor, Read, Write};

use testkit::hostile::files::{ANY, JSON, TOML, WEIGHTS};
use testkit::{House, hostile, run_ok};
use zip::write::SimpleFileOptions;
use zip::{ZipArchive, ZipWriter};

/// Kilobytes of address space; libtorch's libraries take the most of it.
const SPACE: u64 = 8_000_000;
/// Where no picture is decoded: the program and libtorch at rest take 1.1 GB of it.
const AT_REST: u64 = 2_500_000;

#[test]
fn outputs_and_originals_are_refused_in_one_line() {
    let house = House::new();
    run_ok(&mut house.command("pipeline", &["scenes", "--out", "scenes", "--count", "1"]));
    let scene = std::fs::read_dir(house.path("scenes")).unwrap().next().unwrap().unwrap().path();
    std::fs::create_dir(house.path("all")).unwrap();
    for (number, file) in hostile::pictures(&house.path("all")).iter().enumerate() {
        let name = file.file_name().unwrap();
        let [bad, good] = ["bad", "good"].map(|name| format!("{name}-{number}"));
        for folder in [&bad, &good] {
            std::fs::create_dir(house.path(folder)).unwrap();
        }
        std::fs::rename(file, house.path(&bad).join(name)).unwrap();
        std::fs::copy(&scene, house.path(&good).join(name)).unwrap();
        for (outputs, originals) in [(&bad, &good), (&good, &bad)] {
            let sets = ["run", "--outputs", outputs, "--reference", originals, "--dry-run"];
            hostile::refuses(&house, "evaluator", &sets, file, SPACE);
        }
    }
}

#[test]
fn hostile_manifests_tables_profiles_and_configurations_are_refused_in_one_line() {
    let house = House::new();
    run_ok(&mut house.command("pipeline", &["scenes", "--out", "scenes", "--count", "1"]));
    let score = ["run", "--outputs", "scenes", "--reference", "scenes", "--dry-run", "--extractor"];
    let table = house.path("table.toml");
    fs::write(&table, "title = \"t\"\ngroup = []\npart = []\n").unwrap();
    for (name, make) in ANY.iter().chain(JSON) {
        fs::create_dir(house.path(name)).unwrap();
        make(&house.path(&format!("{name}/manifest.json")));
        let folder = house.path(name);
        let outputs = ["run", "--outputs", name, "--reference", "scenes", "--dry-run"];
        hostile::refuses(&house, "evaluator", &outputs, &folder, AT_REST);
    }
    for (name, make) in ANY.iter().chain(&TOML[1..2]) {
        let file = house.path(&format!("{name}.toml"));
        make(&file);
        let path = file.to_str().unwrap();
        hostile::refuses(&house, "evaluator", &[&score[..], &[path]].concat(), &file, AT_REST);
        hostile::refuses(&house, "evaluator", &["table", path, "--profile", path], &file, AT_REST);
        let profile = ["table", table.to_str().unwrap(), "--profile", path];
        hostile::refuses(&house, "evaluator", &profile, &file, AT_REST);
    }
}

/// Outputs whose manifest names a shard of somebody else.
#[test]
fn a_manifest_of_outputs_names_no_file_outside_of_its_folder() {
    let house = House::new();
    run_ok(&mut house.command("pipeline", &["scenes", "--out", "scenes", "--count", "1"]));
    let absolute = house.path("private.parquet");
    for (number, file) in
        ["../private.parquet", absolute.to_str().unwrap(), "/dev/zero", ""].iter().enumerate()
    {
        let name = format!("outputs-{number}");
        fs::create_dir(house.path(&name)).unwrap();
        let shard = serde_json::json!({"file": file, "rows": 1, "bytes": 9, "sha256": ""});
        let manifest = serde_json::json!({
            "format": "palette-outputs", "version": 2, "name": "a", "rows": 1, "shards": [shard], "options": {}
        });
        fs::write(house.path(&name).join("manifest.json"), manifest.to_string()).unwrap();
        let score = ["run", "--outputs", &name, "--reference", "scenes", "--dry-run"];
        let said = house.fails(2, "evaluator", &score);
        assert!(said.contains("is not below the folder"), "{said}");
    }
}

/// The file, with the texts of its members changed.
fn script(change: impl Fn(&str, Vec<u8>) -> Vec<u8>) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/extractor/fixtures/flags.pt");
    let mut from = ZipArchive::new(Cursor::new(fs::read(folder).unwrap())).unwrap();
    let mut into = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for at in 0..from.len() {
        let mut member = from.by_index(at).unwrap();
        let name = member.name().unwrap().into_owned();
        let mut bytes = Vec::new();
        member.read_to_end(&mut bytes).unwrap();
        into.start_file(&*name, stored).unwrap();
        into.write_all(&change(&name, bytes)).unwrap();
    }
    into.finish().unwrap().into_inner()
}

#[test]
fn a_hostile_extractor_is_refused_in_one_line() {
    let house = House::new();
    run_ok(&mut house.command("pipeline", &["scenes", "--out", "scenes", "--count", "1"]));
    let refuse = |name: &str, digest: &str| {
        let config = house.path(&format!("{name}.toml"));
        let text = format!(
            "name = \"x\"\nfile = \"{name}.pt\"\nsha256 = \"{digest}\"\nscores = [\"fid\"]\ninput = \"unit\"\n\
             [features]\nwidth = 8\n"
        );
        fs::write(&config, text).unwrap();
        let file = house.path(&format!("{name}.pt"));
        let arguments = [
            "run",
            "--outputs",
            "scenes",
            "--reference",
            "scenes",
            "--dry-run",
            "--extractor",
            config.to_str().unwrap(),
        ];
        hostile::refuses(&house, "evaluator", &arguments, &file, AT_REST);
    };
    for (name, make) in ANY.iter().chain(&WEIGHTS[3..]) {
        make(&house.path(&format!("{name}.pt")));
        // The digest is right where the file is short; a long one is not read before its digest is.
        let short = fs::metadata(house.path(&format!("{name}.pt")))
            .is_ok_and(|meta| meta.is_file() && meta.len() < 1 << 28);
        let digest = if short { digest(&house, name) } else { "0".repeat(64) };
        refuse(name, &digest);
    }
    // libtorch overflows its stack over each of these.
    let deep = |open: &str, close: &str| {
        let code = format!(
            "def forward(self,x):\n  return {}x{}",
            open.repeat(200_000),
            close.repeat(200_000)
        );
        script(|name, bytes| if name.ends_with(".py") { code.clone().into() } else { bytes })
    };
    let nested = [&b"\x80\x02)"[..], &[0x85; 300_000], b"."].concat();
    let tuples =
        |name: &str, bytes| if name.ends_with("data.pkl") { nested.clone() } else { bytes };
    let scripts = [
        ("parentheses", deep("(", ")")),
        ("signs", deep("-", "")),
        ("tuples", script(tuples)),
        ("no-code", script(|_, _| Vec::new())),
    ];
    for (name, bytes) in scripts {
        fs::write(house.path(&format!("{name}.pt")), bytes).unwrap();
        refuse(name, &digest(&house, name));
    }
}

fn digest(house: &House, name: &str) -> String {
    storage::atomic::sha256_file(&house.path(&format!("{name}.pt"))).unwrap().0
}

/// Outputs whose manifest says that they were made of photographs in an object store.
#[test]
fn a_manifest_of_outputs_makes_nobody_reach_for_the_network() {
    let mut house = House::new();
    let checkpoint = house.trained();
    let sample = ["submit", "--checkpoint", &checkpoint, "--dataset", "data", "--task", "jpeg"];
    house.ok("sampler", &[&sample[..], &["--steps", "1", "--out", "outputs"]].concat());
    house.ok("scheduler", &["worker", "--drain"]);
    let manifest = house.path("outputs/manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    let data = house.path("data").display().to_string();
    assert!(text.contains(&data), "{text}");
    fs::write(&manifest, text.replace(&data, "s3://foreign/photographs")).unwrap();
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let endpoint = format!("http://{}", server.local_addr().unwrap());
    let credentials = [("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", "s3cret")];
    house.set(credentials);
    house.set([("AWS_ENDPOINT", endpoint.as_str()), ("AWS_ALLOW_HTTP", "true")]);
    let scored = house.run("evaluator", &["run", "--outputs", "outputs", "--dry-run"]);
    let said = String::from_utf8(scored.stderr).unwrap();
    assert!(scored.status.success(), "{said}");
    assert!(said.contains("PALETTE_BASES=s3://foreign/photographs"), "{said}");
    let asked = server.accept().map(drop).map_err(|error| error.kind());
    assert_eq!(asked, Err(std::io::ErrorKind::WouldBlock));
}
