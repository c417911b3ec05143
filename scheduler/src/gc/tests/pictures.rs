//! Pictures of previews: which go, and removals that do not come to their end.

use registry::pictures::FOLDER;
use registry::{NewPicture, PicturePart};

use super::*;

impl Laboratory {
    async fn draw(&self, fence: Fence, part: PicturePart, step: i64, content: &str) {
        let run = self.db.run(fence.job).await.unwrap();
        let digest = storage::atomic::sha256(content.as_bytes());
        let folder = Path::new(&run.uri).join(FOLDER);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("{digest}.png")), content).unwrap();
        let new = NewPicture {
            part,
            step,
            input: 0,
            sample: 0,
            task: "colorization".into(),
            key: "k".into(),
            digest,
            bytes: content.len() as i32,
            width: 8,
            height: 8,
            thumbnail: vec![1],
        };
        self.db.record_pictures(fence, run.id, &[new]).await.unwrap();
    }

    async fn pictured(&self, name: &str) -> Fence {
        let fence = self.begin(name).await;
        self.draw(fence, PicturePart::Source, 0, "source").await;
        for step in [10, 20, 30, 40] {
            self.draw(fence, PicturePart::Output, step, &format!("output {step}")).await;
        }
        fence
    }

    async fn steps(&self, run: Uuid) -> Vec<i64> {
        let steps = self.db.picture_steps(&[run]).await.unwrap();
        steps.into_iter().map(|(_, step)| step).collect()
    }

    async fn files(&self, run: Uuid) -> usize {
        let uri = self.db.run(run).await.unwrap().uri;
        fs::read_dir(Path::new(&uri).join(FOLDER)).map_or(0, Iterator::count)
    }
}

fn keep_pictures(rule: &str) -> Policy {
    Policy { pictures: Some(rule.parse().unwrap()), ..Policy::default() }
}

#[test]
fn of_an_ended_run_stay_the_pictures_of_some_steps_or_none() {
    let (cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let lab = Laboratory::new(&cluster, &db).await;
        let fence = lab.pictured("demo").await;
        let run = fence.job;
        assert_eq!(lab.gone(&keep_pictures("keep=1")).await, [""; 0], "it runs");
        lab.end(fence, Outcome::Succeeded).await;
        assert_eq!(lab.gone(&Policy::default()).await, [""; 0], "nothing is named");
        assert_eq!(lab.gone(&older(keep_pictures("keep=1"), "1d")).await, [""; 0], "too young");

        let plan = gc::plan(&lab.db, &lab.home, &keep_pictures("keep=2")).await.unwrap();
        let total = gc::totals(&plan.items);
        assert_eq!(total, [gc::Total { class: Class::Pictures, count: 2, bytes: 18 }]);
        assert_eq!(plan.items[0].why, "of 2 of 4 steps: not in keep=2");
        assert_eq!((lab.files(run).await, lab.steps(run).await.len()), (5, 4), "only a plan");

        let what = [format!("run {} pictures", registry::short(&run))];
        assert_eq!(lab.gone(&keep_pictures("keep=2")).await, what);
        assert_eq!((lab.files(run).await, lab.steps(run).await), (3, vec![10, 40]));
        assert_eq!(lab.gone(&keep_pictures("keep=2")).await, [""; 0], "again there is nothing");
        assert_eq!(lab.gone(&keep_pictures("keep=0")).await, what);
        assert_eq!((lab.files(run).await, lab.steps(run).await), (0, vec![]));
        assert_eq!(lab.gone(&keep_pictures("keep=0")).await, [""; 0]);
    });
}

#[test]
fn a_removal_that_was_killed_is_finished_and_a_strange_file_is_left() {
    let (cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let lab = Laboratory::new(&cluster, &db).await;
        let fence = lab.pictured("killed").await;
        let run = fence.job;
        // Killed between the mark and the files.
        lab.db.retire_pictures(fence, run, 2).await.unwrap();
        lab.end(fence, Outcome::Failed).await;
        let uri = lab.db.run(run).await.unwrap().uri;
        let strange = storage::atomic::sha256(b"output 20");
        let strange = Path::new(&uri).join(FOLDER).join(format!("{strange}.png"));
        fs::write(&strange, "a letter").unwrap();
        let fates = lab.reclaim(&Policy::default()).await;
        let [(_, Fate::Failed(why))] = &fates[..] else { panic!("{fates:?}") };
        assert!(why.starts_with("1 of 2 files:") && why.contains("not removed"), "{why}");
        assert_eq!(lab.files(run).await, 4);
        fs::write(&strange, "output 20").unwrap();
        assert_eq!(lab.gone(&Policy::default()).await.len(), 1);
        assert_eq!((lab.files(run).await, lab.steps(run).await), (3, vec![10, 40]));

        // Written, and never registered.
        let orphan = strange.with_file_name(format!("{}.png", storage::atomic::sha256(b"orphan")));
        fs::write(&orphan, "orphan").unwrap();
        let mine = strange.with_file_name("mine.png");
        fs::write(&mine, "mine").unwrap();
        let orphans = Policy { orphans: true, ..Policy::default() };
        assert_eq!(lab.gone(&orphans).await, [""; 0], "too young");
        make_old(&lab.home.runs(), 2 * DAY);
        assert_eq!(lab.gone(&orphans).await.len(), 1);
        assert!(mine.exists() && !orphan.exists() && lab.files(run).await == 4);
    });
}
