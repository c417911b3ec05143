//! Which crate may use which. The table in `docs/architecture.md` is the rule; the crates must keep to it,
//! arrow by arrow, so that the document is true.

#![allow(clippy::unwrap_used, reason = "a test fails where a value is missing")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Names of crates by the name of a crate.
type Arrows = BTreeMap<String, BTreeSet<String>>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// `cargo metadata` for this machine.
fn metadata() -> Value {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(std::env::var("CARGO").unwrap_or("cargo".into()))
        .current_dir(root())
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", &target])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

/// The crates of the workspace, as `cargo metadata` has them.
fn members(metadata: &Value) -> impl Iterator<Item = &Value> {
    let members = list(&metadata["workspace_members"]);
    list(&metadata["packages"]).iter().filter(|package| members.contains(&package["id"]))
}

/// What the crates of the workspace use of each other, in programs and libraries or in tests only (where
/// all may use `testkit`).
fn used(metadata: &Value, tests: bool) -> Arrows {
    let names: BTreeSet<&str> = members(metadata).map(|package| text(&package["name"])).collect();
    let uses = |package: &Value| {
        list(&package["dependencies"])
            .iter()
            .filter(|dependency| (dependency["kind"] == "dev") == tests)
            .map(|dependency| text(&dependency["name"]))
            .filter(|name| names.contains(name) && !(tests && *name == "testkit"))
            .map(str::to_owned)
            .collect()
    };
    members(metadata).map(|package| (text(&package["name"]).to_owned(), uses(package))).collect()
}

/// What the table in `docs/architecture.md` allows: the last column, and behind `tests:` what only tests
/// may use.
fn allowed(document: &str, tests: bool) -> Arrows {
    let table = document.lines().skip_while(|line| !line.starts_with("| crate |"));
    let rows = table.skip(2).take_while(|line| line.starts_with('|'));
    let names = |cell: &str| -> BTreeSet<String> {
        cell.split('`').skip(1).step_by(2).map(|name| name.trim_end_matches('/').into()).collect()
    };
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        let (crates, last) = (names(cells[0]), cells[cells.len() - 1]);
        let (always, only_tests) = last.split_once("tests:").unwrap_or((last, ""));
        let name = crates.into_iter().next().unwrap();
        (name, names(if tests { only_tests } else { always }))
    })
    .collect()
}

#[test]
fn every_arrow_between_crates_is_in_the_table_and_every_arrow_of_the_table_is_there() {
    let metadata = metadata();
    let document = std::fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let (mut wrong, mut arrows) = (Vec::new(), 0);
    for tests in [false, true] {
        let (used, allowed) = (used(&metadata, tests), allowed(&document, tests));
        let how = if tests { "in tests" } else { "always" };
        for name in used.keys().chain(allowed.keys()).collect::<BTreeSet<_>>() {
            let (Some(used), Some(allowed)) = (used.get(name), allowed.get(name)) else {
                wrong.push(format!("{name} is only in one of Cargo.toml and the table"));
                continue;
            };
            arrows += used.len();
            let difference = used.symmetric_difference(allowed);
            wrong.extend(difference.map(|other| {
                let place = if used.contains(other) { "not in the table" } else { "not used" };
                format!("{name} -> {other} ({how}): {place}")
            }));
        }
    }
    assert!(wrong.is_empty(), "docs/architecture.md and the crates differ:\n{}", wrong.join("\n"));
    assert!(arrows > 20, "only {arrows} arrows were found");
}

#[test]
fn the_library_crates_need_no_web_server_no_sql_and_no_worker() {
    let metadata = metadata();
    let packages = list(&metadata["packages"]).iter();
    let names: BTreeMap<&str, &str> =
        packages.map(|package| (text(&package["id"]), text(&package["name"]))).collect();
    let direct = |node: &Value| -> Vec<String> {
        let deps = list(&node["deps"]).iter();
        let normal =
            |dep: &&Value| list(&dep["dep_kinds"]).iter().any(|kind| kind["kind"] != "dev");
        deps.filter(normal).map(|dep| text(&dep["pkg"]).to_owned()).collect()
    };
    let nodes: BTreeMap<&str, Vec<String>> = list(&metadata["resolve"]["nodes"])
        .iter()
        .map(|node| (text(&node["id"]), direct(node)))
        .collect();
    let reached = |name: &str| {
        let start = members(&metadata).find(|package| package["name"] == name).unwrap();
        let mut open = vec![text(&start["id"])];
        let mut seen = BTreeSet::new();
        while let Some(id) = open.pop() {
            if seen.insert(id) {
                open.extend(nodes[id].iter().map(String::as_str));
            }
        }
        seen.into_iter().map(|id| names[id]).collect::<BTreeSet<_>>()
    };
    for (name, forbidden) in [
        ("pipeline", &["axum", "sqlx", "registry", "scheduler", "tch"][..]),
        ("diffusion", &["axum", "sqlx", "registry", "scheduler", "tokio"]),
        ("contracts", &["axum", "sqlx", "registry", "scheduler"]),
        ("registry", &["axum", "scheduler", "terminal", "tch"]),
    ] {
        let reached = reached(name);
        assert!(reached.len() > 5, "{name} reaches only {reached:?}");
        for other in forbidden {
            assert!(!reached.contains(other), "{name} reaches {other}");
        }
    }
}

#[test]
fn only_the_registry_speaks_sql() {
    for package in members(&metadata()) {
        let dependencies = list(&package["dependencies"]).iter();
        let speaks = dependencies
            .filter(|dependency| dependency["kind"] != "dev")
            .any(|dependency| text(&dependency["name"]).starts_with("sqlx"));
        assert_eq!(speaks, package["name"] == "registry", "{}", package["name"]);
    }
}

#[test]
fn no_library_speaks_to_the_terminal() {
    for package in members(&metadata()) {
        let (name, targets) = (text(&package["name"]), list(&package["targets"]));
        let program = targets.iter().any(|target| list(&target["kind"]).contains(&"bin".into()));
        let dependencies = list(&package["dependencies"]).iter();
        let uses = dependencies.map(|one| text(&one["name"])).any(|one| one == "terminal");
        assert!(program || !uses, "{name} has no program and uses terminal");
    }
    let library = sources("pipeline", &["commands", "main.rs"]);
    assert!(library.len() > 20, "only {} files were read", library.len());
    for (path, source) in library {
        assert!(!source.contains("terminal::"), "{} uses terminal", path.display());
    }
}

#[test]
fn messages_are_events_and_only_the_terminal_prints_them() {
    for package in members(&metadata()) {
        let name = text(&package["name"]);
        if name == "testkit" {
            continue;
        }
        for (path, source) in sources(name, &["tests.rs", "tests", "golden.rs"]) {
            // Tests follow the code of a file.
            let code = source.split("#[cfg(test)]").next().unwrap_or_default();
            let prints = ["print!(", "println!("].iter().any(|print| code.contains(print));
            assert!(
                !prints,
                "{}: a full stdout or stderr is a panic: say it by tracing or print it by `terminal`",
                path.display()
            );
        }
    }
}

/// The source files of a crate and what is in them, without the files and folders of these names.
fn sources(name: &str, without: &[&str]) -> Vec<(PathBuf, String)> {
    let mut open = vec![root().join(name).join("src")];
    let mut sources = Vec::new();
    while let Some(path) = open.pop() {
        if without.iter().any(|name| path.ends_with(name)) {
            continue;
        }
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let source = std::fs::read_to_string(&path).unwrap();
            sources.push((path, source));
        }
    }
    sources
}
