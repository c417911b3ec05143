//! Hostile pictures as inputs and masks of `sampler run`.

use testkit::{House, hostile};

use super::pictures::{photo, run};

/// Kilobytes of address space; libtorch's libraries take the most of it.
const SPACE: u64 = 8_000_000;

#[test]
fn inputs_and_masks_are_refused_in_one_line() {
    let house = House::new();
    let checkpoint = house.trained();
    std::fs::create_dir(house.path("all")).unwrap();
    photo(16, 16).save(house.path("photo.png")).unwrap();
    for file in hostile::pictures(&house.path("all")) {
        let picture = file.to_str().unwrap();
        let input = run(&checkpoint, &["--input", picture, "--task", "jpeg", "--out", "out"]);
        hostile::refuses(&house, "sampler", &input, &file, SPACE);
        let mask = ["--input", "photo.png", "--task", "inpainting", "--mask", picture];
        hostile::refuses(&house, "sampler", &run(&checkpoint, &mask), &file, SPACE);
    }
}
