//! Tries: pictures that people give in the control room. They are the files of `sampler run`, whoever makes them and
//! however often the maker dies.

use registry::{
    Blocking, GpuCount, JobState, NewTry, NewTryPicture, Try, TryLimits, TryPart, TryPicture,
    TryService, TryState, Uuid,
};
use testkit::{House, Process, Signal, until};

use crate::pictures::{hole, photo};

/// The database of a house.
struct Rest(Blocking);

impl Rest {
    fn of_house(house: &House) -> Self {
        Self(Blocking::open_url(&house.url()).unwrap())
    }

    fn wait<T>(&self, answer: impl Future<Output = registry::Result<T>>) -> T {
        self.0.wait(answer).unwrap()
    }

    fn enter(&self, new: NewTry, pictures: Vec<NewTryPicture>) -> Uuid {
        self.wait(self.0.submit_try(new, pictures, TryLimits::default())).id
    }

    fn serve(&self, idle: u32) {
        let service = TryService {
            owner: "ann".into(),
            priority: 100,
            gpus: GpuCount::up_to(1),
            preempts: false,
            idle,
            here: false,
            without_tries: false,
        };
        assert!(self.wait(self.0.serve_tries(&service, true)).is_some());
        assert!(self.wait(self.0.serve_tries(&service, true)).is_none(), "one is enough");
    }

    fn of(&self, id: Uuid) -> Try {
        self.wait(self.0.find_try(id))
    }

    fn pictures(&self, id: Uuid, what: TryPart) -> Vec<TryPicture> {
        let all = self.wait(self.0.try_pictures(id));
        all.into_iter().filter(|picture| picture.what == what).collect()
    }

    fn output(&self, id: Uuid, sample: i32) -> Vec<u8> {
        let found = self.0.picture_of_try(id, TryPart::Output, sample);
        self.wait(found).unwrap().1
    }
}

fn wanted(task: &str, steps: i32) -> NewTry {
    NewTry {
        owner: "ann".into(),
        name: "photo".into(),
        weights: "trained@5".into(),
        run_id: None,
        task: task.into(),
        framing: "own".into(),
        short_side: None,
        mask_invert: false,
        any_task: false,
        process: "ddim".into(),
        steps: Some(steps),
        spacing: "linear".into(),
        eta: 0.5,
        samples: 2,
        seed: 3,
    }
}

const SIZE: (u32, u32) = (24, 20);

/// The picture, and the mask, as files of the house and as they are given.
fn files(house: &House) -> Vec<NewTryPicture> {
    photo(SIZE.0, SIZE.1).save(house.path("photo.png")).unwrap();
    hole(SIZE.0, SIZE.1).save(house.path("mask.png")).unwrap();
    let file = |what, name: &str| NewTryPicture {
        what,
        sample: 0,
        step: 0,
        width: SIZE.0.cast_signed(),
        height: SIZE.1.cast_signed(),
        media: "image/png",
        bytes: std::fs::read(house.path(name)).unwrap(),
    };
    vec![file(TryPart::Input, "photo.png"), file(TryPart::Mask, "mask.png")]
}

/// What `sampler run` makes of it.
fn plain(house: &House, new: &NewTry, out: &str) -> [Vec<u8>; 2] {
    let (steps, size) = (new.steps.unwrap().to_string(), "16");
    let mut arguments = vec!["run", "--run", "trained@5", "--input", "photo.png", "--out", out];
    arguments.extend(["--task", &new.task, "--process", "ddim", "--steps", &steps]);
    arguments.extend(["--eta", "0.5", "--samples", "2", "--seed", "3"]);
    if new.task == "inpainting" {
        arguments.extend(["--mask", "mask.png"]);
    }
    match &*new.framing {
        "square" => arguments.push("--square"),
        "short-side" => arguments.extend(["--short-side", size]),
        _ => {}
    }
    house.ok("sampler", &arguments);
    [1, 2].map(|number| std::fs::read(house.path(&format!("{out}/photo-{number}.png"))).unwrap())
}

#[test]
fn a_try_is_what_sampler_run_makes_and_a_bad_one_says_why() {
    let house = House::new();
    house.trained();
    let given = files(&house);
    let rest = Rest::of_house(&house);
    let inpainting = wanted("inpainting", 6);
    let square = NewTry { framing: "square".into(), ..wanted("colorization", 6) };
    let short = NewTry { framing: "short-side".into(), short_side: Some(16), ..wanted("jpeg", 30) };
    let good = [inpainting.clone(), square, short];
    let made: Vec<Uuid> = good.iter().map(|new| rest.enter(new.clone(), given.clone())).collect();
    let mut damaged = given.clone();
    damaged[0].bytes.truncate(60);
    let damaged = rest.enter(inpainting.clone(), damaged);
    let untrained = rest.enter(wanted("uncropping", 6), given.clone());
    let gone =
        rest.enter(NewTry { weights: "nobody@best".into(), ..inpainting.clone() }, given.clone());
    let climbing = rest.enter(NewTry { name: "..".into(), ..inpainting }, given);
    rest.serve(1);
    house.ok("scheduler", &["worker", "--drain"]);

    for (new, id) in good.iter().zip(&made) {
        let row = rest.of(*id);
        assert_eq!(row.state, TryState::Done, "{row:?}");
        assert_eq!((row.step, row.steps_total), (Some(5), Some(2 * i64::from(new.steps.unwrap()))));
        let files = plain(&house, new, &format!("out-{}", new.task));
        for (sample, file) in (0..).zip(&files) {
            assert!(rest.output(*id, sample) == *file, "{}: other bytes", new.task);
        }
        let frames = rest.pictures(*id, TryPart::Frame);
        assert_eq!(frames.len() as i32, 2 * new.steps.unwrap().min(12));
        assert_eq!(rest.pictures(*id, TryPart::Given).len(), 1);
        assert_eq!(rest.pictures(*id, TryPart::Output).len(), 2);
    }
    for (id, words) in [
        (damaged, "damaged"),
        (untrained, "was trained for"),
        (gone, "nobody"),
        (climbing, "no name of a file"),
    ] {
        let row = rest.of(id);
        assert_eq!(row.state, TryState::Failed, "{row:?}");
        let reason = row.reason.unwrap();
        assert!(reason.contains(words), "{reason}");
    }
    let job = rest.wait(rest.0.try_job()).unwrap();
    assert_eq!(job.state, JobState::Succeeded, "one process made them all");
    assert_eq!(job.attempt, 1);
}

#[test]
fn whoever_dies_in_the_middle_the_next_makes_the_same() {
    let house = House::new();
    house.trained();
    let given = files(&house);
    let rest = Rest::of_house(&house);
    let new = wanted("inpainting", 400);
    let id = rest.enter(new.clone(), given);
    rest.serve(1);
    let mut worker = house.worker("first", &["--drain"]);
    until("it is on its way", || rest.pictures(id, TryPart::Frame).len() > 2 || worker.ended());
    worker.kill();
    assert_eq!(rest.of(id).state, TryState::Running);
    house.ok("scheduler", &["worker", "--drain"]);
    let row = rest.of(id);
    assert_eq!((row.state, row.claims, row.attempt), (TryState::Done, 2, Some(2)), "{row:?}");
    let files = plain(&house, &new, "plain");
    assert!(rest.output(id, 0) == files[0] && rest.output(id, 1) == files[1]);
    assert_eq!(rest.pictures(id, TryPart::Frame).len(), 24, "those of the dead are gone");
}

#[test]
fn beside_the_room_a_cancelled_one_makes_way_and_the_end_is_in_order() {
    let house = House::new();
    house.trained();
    let given = files(&house);
    let rest = Rest::of_house(&house);
    let long = rest.enter(NewTry { samples: 1, ..wanted("inpainting", 600) }, given.clone());
    let mut serve: Process = house.start("serve", house.command("sampler", &["serve"]));
    until("it is on its way", || !rest.pictures(long, TryPart::Frame).is_empty() || serve.ended());
    let next = rest.enter(wanted("colorization", 4), given);
    rest.wait(rest.0.cancel_try(long));
    until("the next is made", || rest.of(next).state == TryState::Done || serve.ended());
    assert_eq!(rest.of(long).state, TryState::Cancelled);
    serve.signal(Signal::SIGTERM);
    assert_eq!(serve.end(), Some(0), "{}", serve.said());
    let job = rest.wait(rest.0.try_job()).unwrap();
    assert_eq!(job.state, JobState::Succeeded);
}
