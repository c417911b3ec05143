//! Human studies as their users have them: the real program, a real Postgres, a real browser.

mod making;
mod protocol;
mod rating;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use image::{Rgb, RgbImage};
use outputs::{OutputRow, OutputWriter};
use pipeline::Task;
use serde_json::Value;
use testkit::House;

/// Which picture a file shows: the photograph, or what a system made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Shown {
    Photograph,
    Palette,
    Regression,
}

/// The key of a photograph; nothing of it may reach a browser.
pub fn key(number: u8) -> String {
    format!("garden/kept-secret-{number}.png")
}

/// A picture whose first pixel says what it shows.
pub fn picture(number: u8, shown: Shown) -> RgbImage {
    let mut image = RgbImage::from_fn(96, 64, |x, y| {
        let (x, y) = (x as u8, y as u8);
        match shown {
            Shown::Photograph => Rgb([x * 2, y * 3, number * 20]),
            Shown::Palette => Rgb([x * 2, y * 3, 255 - number * 20]),
            Shown::Regression => Rgb([128, y * 3, number * 20]),
        }
    });
    image.put_pixel(0, 0, Rgb([number, shown as u8, 77]));
    image
}

/// Number of the photograph and what a PNG file shows of it.
pub fn recognise(png: &[u8]) -> (u8, Shown) {
    let image = pipeline::image::decode(png).unwrap();
    let Rgb([number, shown, mark]) = *image.get_pixel(0, 0);
    assert_eq!(mark, 77);
    let all = [Shown::Photograph, Shown::Palette, Shown::Regression];
    (number, all[usize::from(shown)])
}

pub fn png(image: &RgbImage) -> Vec<u8> {
    pictures::png(image).unwrap()
}

/// A house in which studies are made.
pub struct Studio(House);

impl std::ops::Deref for Studio {
    type Target = House;

    fn deref(&self) -> &House {
        &self.0
    }
}

impl Studio {
    pub fn new() -> Self {
        Self(House::new())
    }

    /// An output dataset of `count` photographs: two samples each, of which the first counts.
    pub fn outputs(&self, name: &str, count: u8, tasks: &[Task]) {
        let writer =
            OutputWriter::open(&self.path(name).to_str().unwrap().parse().unwrap(), "made", 1)
                .unwrap();
        let row = |number: u8, task: Task, sample: u32| {
            let shown = if sample == 0 { Shown::Palette } else { Shown::Regression };
            OutputRow {
                source: png(&picture(number, Shown::Regression)),
                mask: png(&picture(number, Shown::Regression)),
                output: png(&picture(number, shown)),
                reference: png(&picture(number, Shown::Photograph)),
                key: key(number),
                seed: 1,
                sample,
                task: task.into(),
            }
        };
        let rows: Vec<OutputRow> = tasks
            .iter()
            .flat_map(|&task| (0..count).map(move |number| (number, task)))
            .flat_map(|(number, task)| [row(number, task, 0), row(number, task, 1)])
            .collect();
        writer.write_chunk(0, &rows).unwrap();
        writer.finish(Value::Null).unwrap();
    }

    /// A folder of what another system made, named as the photographs are.
    pub fn folder(&self, name: &str, count: u8, shown: Shown) {
        std::fs::create_dir_all(self.path(name)).unwrap();
        for number in 0..count {
            let file = self.path(name).join(format!("kept-secret-{number}.png"));
            std::fs::write(file, png(&picture(number, shown))).unwrap();
        }
    }

    /// A study of four images with two systems; the names of the systems may not reach a browser.
    pub fn study(&self, seconds: &str) {
        self.outputs("outputs", 4, &[Task::Colorization]);
        self.folder("others", 4, Shown::Regression);
        let systems = ["--system", "Palette=outputs", "--system", "Regression=others"];
        let create = ["study", "create", "faces", "--images", "4", "--seconds", seconds];
        self.ok("evaluator", &[&create[..], &systems].concat());
    }

    /// Links for so many raters, each the path of their page.
    pub fn invite(&self, raters: &str) -> Vec<String> {
        let links =
            self.json("evaluator", &["study", "invite", "faces", "--raters", raters, "--json"]);
        let path = |link: &Value| {
            let link = link["link"].as_str().unwrap();
            link.strip_prefix("http://127.0.0.1:8090").unwrap().to_owned()
        };
        links.as_array().unwrap().iter().map(path).collect()
    }

    pub fn serve(&self) -> Server {
        self.serve_at("127.0.0.1:0")
    }

    pub fn serve_at(&self, address: &str) -> Server {
        let mut command =
            self.command("evaluator", &["study", "serve", "faces", "--bind", address]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("study faces at http://").unwrap().to_owned();
        Server { child, address }
    }
}

/// The page's server, killed where the test does not end it.
pub struct Server {
    child: Child,
    pub address: String,
}

impl Server {
    /// Asks it to end, which it must do well.
    pub fn end(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
