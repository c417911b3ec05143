//! Hostile pictures among the outputs and the references of `evaluator run`.

use testkit::{House, hostile, run_ok};

/// Kilobytes of address space; libtorch's libraries take the most of it.
const SPACE: u64 = 8_000_000;

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
