//! `sampler run`: pictures of one's own.

use std::path::Path;

use image::{GrayImage, Luma, Rgb, RgbImage};
use testkit::{House, program};

const FAST: [&str; 4] = ["--process", "ddim", "--steps", "2"];

pub fn photo(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let wave = ((x as f64 / 5.0).sin() + (y as f64 / 7.0).cos() + 2.0) * 60.0;
        Rgb([wave as u8, (x * 3 % 256) as u8, (y * 5 % 256) as u8])
    })
}

pub fn hole(width: u32, height: u32) -> GrayImage {
    let inside = |at: u32, side: u32| (side / 4..side / 2).contains(&at);
    GrayImage::from_fn(width, height, |x, y| {
        Luma([if inside(x, width) && inside(y, height) { 255 } else { 0 }])
    })
}

pub fn open(path: &Path) -> RgbImage {
    image::open(path).unwrap().into_rgb8()
}

/// Arguments of a run with the checkpoint; the last word wins.
pub fn run<'a>(checkpoint: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["run", "--checkpoint", checkpoint], &FAST[..], more].concat()
}

#[test]
fn pictures_of_any_size_keep_what_is_known_and_their_size() {
    let house = House::new();
    let checkpoint = house.trained();
    // Larger than the network's 16 pixels, not square, smaller in one direction, and its own size.
    for (name, width, height) in
        [("wide", 61, 34), ("flat", 40, 9), ("tiny", 5, 5), ("own", 16, 16)]
    {
        let picture = photo(width, height);
        picture.save(house.path(&format!("{name}.png"))).unwrap();
        hole(width, height).save(house.path("mask.png")).unwrap();
        let file = format!("{name}.png");
        let arguments =
            ["--input", &file, "--mask", "mask.png", "--task", "inpainting", "--samples", "2"];
        house.ok("sampler", &run(&checkpoint, &arguments));
        let outputs = [1, 2].map(|number| open(&house.path(&format!("{name}-{number}.png"))));
        assert_ne!(outputs[0], outputs[1], "{name}: both samples are the same");
        for output in &outputs {
            assert_eq!(output.dimensions(), (width, height), "{name}");
            let mut made = 0;
            for ((own, out), mask) in
                picture.pixels().zip(output.pixels()).zip(hole(width, height).pixels())
            {
                assert!(mask.0[0] > 0 || own == out, "{name}: a known pixel changed");
                made += u32::from(own != out);
            }
            assert!(made > 0, "{name}: nothing was made");
        }
        // The same seed is the same picture, whatever is restored beside it.
        let again = [
            "--input",
            &file,
            "--mask",
            "mask.png",
            "--task",
            "inpainting",
            "--out",
            "again",
            "--batch",
            "7",
        ];
        house.ok("sampler", &run(&checkpoint, &again));
        assert_eq!(open(&house.path("again").join(format!("{name}-1.png"))), outputs[0], "{name}");
    }
}

#[test]
fn a_panorama_grows_to_every_side_around_its_picture() {
    let house = House::new();
    let checkpoint = house.trained();
    let picture = photo(30, 20);
    picture.save(house.path("photo.png")).unwrap();
    let sides = [
        "--extend",
        "right=2.0",
        "--extend",
        "left=1.5",
        "--extend",
        "up=2",
        "--extend",
        "down=1.25",
    ];
    let base = ["--input", "photo.png", "--task", "uncropping", "--any-task"];
    let made = house.json("sampler", &run(&checkpoint, &[&base[..], &sides, &["--json"]].concat()));
    assert_eq!((&made[0]["width"], &made[0]["height"]), (&90.into(), &50.into()));
    let panorama = open(&house.path("photo-1.png"));
    assert_eq!(panorama.dimensions(), (90, 50));
    let own = image::imageops::crop_imm(&panorama, 30, 20, 30, 20).to_image();
    assert_eq!(own, picture);

    let output = house.run(
        "sampler",
        &run(&checkpoint, &[&base[..4], &sides[..2], &["--out", "other"]].concat()),
    );
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("was trained for") && stderr.contains("--any-task"), "{stderr}");
}

#[test]
fn a_folder_is_restored_and_its_damaged_pictures_are_named() {
    let house = House::new();
    let checkpoint = house.trained();
    let folder = house.path("photos");
    std::fs::create_dir(&folder).unwrap();
    for (name, side) in [("a", 16), ("b", 24), ("d", 16)] {
        photo(side, side).save(folder.join(format!("{name}.png"))).unwrap();
    }
    std::fs::write(folder.join("c.jpg"), b"\xff\xd8\xff no picture").unwrap();
    let base = ["--input", "photos", "--task", "jpeg"];
    let output = house.run("sampler", &run(&checkpoint, &base));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("c.jpg") && stderr.contains("1 of 4 pictures"), "{stderr}");
    for name in ["a", "b", "d"] {
        assert!(folder.join("restored").join(format!("{name}-1.png")).exists(), "{name}");
    }
    // What is there is not made anew unasked, and the rest can follow.
    let output = house.run("sampler", &run(&checkpoint, &base));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(
        stderr.contains("a-1.png is there already") && stderr.contains("--overwrite"),
        "{stderr}"
    );
    photo(20, 20).save(folder.join("c.jpg")).unwrap();
    let made = house
        .json("sampler", &run(&checkpoint, &[&base[..], &["--skip-existing", "--json"]].concat()));
    assert_eq!(made.as_array().unwrap().len(), 1, "{made}");
    assert!(made[0]["output"].as_str().unwrap().ends_with("restored/c-1.png"), "{made}");
}

/// The network learned on 16×16.
#[test]
fn photographs_far_larger_than_what_was_learned_are_said_once_with_the_remedy() {
    let house = House::new();
    let checkpoint = house.trained();
    std::fs::create_dir(house.path("photos")).unwrap();
    for (name, width, height) in [("a", 20, 30), ("b", 48, 40), ("c", 50, 60)] {
        photo(width, height).save(house.path("photos").join(format!("{name}.png"))).unwrap();
    }
    let said = |more: &[&str]| {
        let base = ["--input", "photos", "--task", "jpeg", "--out", "made", "--overwrite"];
        let output = house.run("sampler", &run(&checkpoint, &[&base[..], more].concat()));
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{stderr}");
        let lines = stderr.lines().filter(|line| line.contains("the network learned on"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    for more in [&["--dry-run"][..], &[]] {
        let lines = said(more);
        assert_eq!(lines.len(), 1, "{lines:?}");
        let line = &lines[0];
        for words in
            ["warning: ", "b.png", "16×16, this is 48×40, 2.5 times", "--short-side 16", "--square"]
        {
            assert!(line.contains(words), "`{words}` is not in {line}");
        }
    }
    for framed in [&["--short-side", "16"][..], &["--square"]] {
        assert_eq!(said(framed), [""; 0], "{framed:?}");
    }
}

#[test]
fn the_denoising_can_be_looked_at() {
    let house = House::new();
    let checkpoint = house.trained();
    photo(20, 12).save(house.path("photo.png")).unwrap();
    for (form, out) in [("strip", "strip"), ("animation", "animation")] {
        let arguments = [
            "--input",
            "photo.png",
            "--task",
            "colorization",
            "--save-process",
            form,
            "--out",
            out,
            "--samples",
            "2",
        ];
        house.ok("sampler", &run(&checkpoint, &arguments));
        for number in [1, 2] {
            let bytes =
                std::fs::read(house.path(out).join(format!("photo-{number}-process.png"))).unwrap();
            let animated = bytes.windows(4).any(|window| window == b"acTL");
            assert_eq!(animated, form == "animation");
            assert!(image::load_from_memory(&bytes).unwrap().width() >= 20);
        }
    }
}

#[test]
fn what_does_not_fit_is_refused_with_a_reason() {
    let house = House::new();
    let checkpoint = house.trained();
    photo(30, 20).save(house.path("photo.png")).unwrap();
    GrayImage::new(30, 20).save(house.path("nothing.png")).unwrap();
    hole(20, 30).save(house.path("other.png")).unwrap();
    hole(30, 20).save(house.path("mask.png")).unwrap();
    let inpainting = ["--input", "photo.png", "--task", "inpainting"];
    for (more, words) in [
        (vec!["--mask", "other.png"], vec!["20×30", "30×20"]),
        (vec!["--mask", "nothing.png"], vec!["photo.png", "marks nothing"]),
        (vec![], vec!["--mask is needed for inpainting"]),
        (vec!["--mask", "mask.png", "--extend", "right=2"], vec!["--extend"]),
        (
            vec!["--mask", "mask.png", "--eta", "0.5", "--process", "heun"],
            vec!["only ddim", "heun"],
        ),
        (vec!["--mask", "mask.png", "--steps", "0"], vec!["sampling.steps", "1 to 100000"]),
        (
            vec!["--mask", "mask.png", "--precision", "fp8"],
            vec!["[possible values: fp32, tf32, bf16]"],
        ),
        (vec!["--mask", "none.png"], vec!["none.png"]),
        (vec!["--mask", "mask.png", "--checkpoint", "nowhere"], vec!["nowhere"]),
    ] {
        // A later option takes the place of an earlier one only where it may be repeated.
        let mut arguments = run(&checkpoint, &[&inpainting[..], &more].concat());
        for option in ["--checkpoint", "--steps", "--process"] {
            if more.contains(&option) {
                let first = arguments.iter().position(|word| *word == option).unwrap();
                arguments.drain(first..first + 2);
            }
        }
        let output = house.run("sampler", &arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{more:?}");
        for word in words {
            assert!(stderr.contains(word), "{more:?}: `{word}` is not in: {stderr}");
        }
        assert!(!house.path("photo-1.png").exists(), "{more:?}");
    }
}

/// What is written before the disk is full stays, and where it was is said.
#[test]
fn a_full_disk_loses_nothing_that_was_done() {
    let house = House::new();
    let checkpoint = house.trained();
    let folder = house.path("photos");
    std::fs::create_dir(&folder).unwrap();
    photo(16, 16).save(folder.join("a.png")).unwrap();
    photo(200, 150).save(folder.join("b.png")).unwrap();
    // No file may grow beyond 8 kB, and the signal that tells so is ignored: writing fails, as it
    // does on a full disk.
    let script = format!(
        "trap '' XFSZ; ulimit -f 16; exec {} run --checkpoint {checkpoint} --input photos \
         --task jpeg --process ddim --steps 1 --batch 1",
        program("sampler").display()
    );
    let output = house.shell(&script).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("b-1.png") && stderr.contains("File too large"), "{stderr}");
    let there: Vec<_> = std::fs::read_dir(folder.join("restored"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(there, ["a-1.png"]);
}

/// Memory that does not suffice for a batch suffices for a smaller one, and the bits stay.
#[test]
fn batches_are_halved_where_memory_runs_out() {
    let house = House::new();
    let checkpoint = house.trained();
    std::fs::create_dir(house.path("photos")).unwrap();
    for name in ["a", "b"] {
        photo(16, 16).save(house.path("photos").join(format!("{name}.png"))).unwrap();
    }
    let script = |limit: &str, more: &str| {
        format!(
            "{limit} exec {} run --checkpoint {checkpoint} --input photos --task jpeg \
             --process ddim --steps 1 --samples 500 {more}",
            program("sampler").display()
        )
    };
    // The address space that the program takes with batches of 16, and far less than 1000 want.
    let mut free = house.start("free.log", house.shell(&script("", "--batch 16 --out free")));
    let status = format!("/proc/{}/status", free.id());
    let mut peak = 0_u64;
    while !free.ended() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmPeak:")).unwrap_or_default();
        let kibibytes = line.trim().trim_end_matches(" kB").parse();
        peak = peak.max(kibibytes.unwrap_or(0));
        std::thread::yield_now();
    }
    // oneDNN, as libtorch 2.11 has it, does not ask whether there was room for the code of its convolutions
    // (`brgemm_convolution_fwd_t`): where the very last of the address space is missing there, the process dies.
    // With another limit something else is what finds no room.
    let out = (0..5).map(|round| {
        let out = format!("limited-{round}");
        let limit = format!("ulimit -v {};", peak + 200_000 + 40_000 * round);
        // Into a file too: to a pipe a thread of its own writes, which takes address space.
        let limited = house.shell(&script(&limit, &format!("--batch 1000 --out {out}")));
        let status = house.start(&format!("{out}.log"), limited).end();
        let said = house.read(&format!("{out}.log"));
        assert!(matches!(status, None | Some(0)), "{status:?} {said}");
        status?;
        assert!(said.contains("memory does not suffice for 1000 images at once"), "{said}");
        Some(out)
    });
    let out = out.flatten().next().expect("an attempt of five is not ended by oneDNN");
    for name in ["a-1.png", "a-500.png", "b-250.png"] {
        let read = |out: &str| std::fs::read(house.path(out).join(name)).unwrap();
        assert_eq!(read(&out), read("free"), "{name}");
    }
}
