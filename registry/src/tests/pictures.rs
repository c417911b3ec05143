//! Pictures of previews: who may record them, which are seen, which go.

use uuid::Uuid;

use super::{anything, lease, new_run, no_lease, set_up, worker};
use crate::queue::fence::Fence;
use crate::{Database, NewPicture, PicturePart};

fn digest(text: &str) -> String {
    storage::atomic::sha256(text.as_bytes())
}

fn picture(part: PicturePart, step: i64, input: i32, content: &str) -> NewPicture {
    NewPicture {
        part,
        step,
        input,
        sample: 0,
        task: "colorization".into(),
        key: format!("photo-{input}"),
        digest: digest(content),
        bytes: 100,
        width: 32,
        height: 24,
        thumbnail: vec![0xff; 20],
    }
}

fn output(step: i64, content: &str) -> NewPicture {
    picture(PicturePart::Output, step, 0, content)
}

async fn steps(db: &Database, run: Uuid) -> Vec<i64> {
    db.picture_steps(&[run]).await.unwrap().into_iter().map(|(_, step)| step).collect()
}

async fn begun(db: &Database) -> Fence {
    let me = worker(db).await;
    db.create_run(new_run("pictured")).await.unwrap();
    db.claim(&me, &anything(), &no_lease()).await.unwrap().unwrap().fence
}

#[test]
fn what_is_given_is_kept_once_and_an_output_by_step() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let fence = begun(&db).await;
        let run = fence.job;
        let given = [
            picture(PicturePart::Source, 0, 0, "source"),
            picture(PicturePart::Reference, 0, 0, "reference"),
            picture(PicturePart::Mask, 0, 0, "mask"),
        ];
        for _ in 0..2 {
            // Sent twice, as after a lost answer.
            db.record_pictures(fence, run, &[&given[..], &[output(10, "ten")]].concat())
                .await
                .unwrap();
        }
        db.record_pictures(fence, run, &[output(20, "twenty")]).await.unwrap();
        assert_eq!(steps(&db, run).await, [10, 20]);
        let shown = db.pictures(&[(run, 20)]).await.unwrap();
        let parts: Vec<_> = shown.iter().map(|one| (one.part, one.step)).collect();
        use PicturePart::{Mask, Output, Reference, Source};
        assert_eq!(parts, [(Source, 0), (Mask, 0), (Output, 20), (Reference, 0)]);
        assert_eq!(db.pictures_of_input(run, 0, 99).await.unwrap().len(), 5);
        assert_eq!(db.pictures_of_input(run, 0, 2).await.unwrap().len(), 2);
        assert_eq!(db.pictures_of_input(run, 1, 99).await.unwrap().len(), 0);
        assert_eq!(db.pictured_runs(5).await.unwrap(), [run]);
        let newest = db.newest_pictures(&[run, Uuid::new_v4()]).await.unwrap();
        assert_eq!((newest.len(), newest[0].step), (1, 20));
        let files = db.picture_files(&digest("ten")).await.unwrap();
        assert_eq!((files.len(), files[0].run_uri.as_str()), (1, "/runs/x"));
        assert_eq!(db.thumbnail(&digest("ten")).await.unwrap().unwrap(), [0xff; 20]);
        for unknown in ["", "ten", &digest("other")] {
            assert_eq!(db.picture_files(unknown).await.unwrap(), []);
            assert_eq!(db.thumbnail(unknown).await.unwrap(), None);
        }
    });
}

#[test]
fn a_later_attempt_replaces_what_it_makes_again_and_a_stale_one_writes_nothing() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let first = begun(&db).await;
        let run = first.job;
        for (step, content) in [(10, "ten"), (20, "twenty"), (30, "thirty")] {
            db.record_pictures(first, run, &[output(step, content)]).await.unwrap();
        }
        db.reclaim(&lease(), &[]).await.unwrap();
        let stale = db.record_pictures(first, run, &[output(40, "forty")]).await;
        assert!(stale.unwrap_err().is_stale());
        assert!(db.retire_pictures(first, run, 1).await.unwrap_err().is_stale());
        assert!(db.pictures_gone(first, run, &[]).await.unwrap_err().is_stale());

        let me = worker(&db).await;
        let second = db.claim(&me, &anything(), &lease()).await.unwrap().unwrap().fence;
        db.mark_resumed(second, run, 10).await.unwrap();
        assert_eq!(steps(&db, run).await, [10], "the rest was another course");
        // The same bits again, and others.
        db.record_pictures(second, run, &[output(20, "twenty")]).await.unwrap();
        db.record_pictures(second, run, &[output(30, "otherwise")]).await.unwrap();
        assert_eq!(steps(&db, run).await, [10, 20, 30]);
        let shown = db.pictures(&[(run, 30)]).await.unwrap();
        assert_eq!((shown.len(), shown[0].attempt), (1, 2));
        assert_eq!(shown[0].digest, digest("otherwise"));
        assert_eq!(db.retire_pictures(second, run, 9).await.unwrap(), [digest("thirty")]);
        db.pictures_gone(second, run, &[digest("thirty"), digest("ten")]).await.unwrap();
        assert_eq!(db.retire_pictures(second, run, 9).await.unwrap(), [""; 0]);
        assert_eq!(steps(&db, run).await, [10, 20, 30], "a shown one is not forgotten");

        // The same attempt goes back.
        db.mark_resumed(second, run, 10).await.unwrap();
        assert_eq!(steps(&db, run).await, [10]);
        db.record_pictures(second, run, &[output(20, "third course")]).await.unwrap();
        assert_eq!(steps(&db, run).await, [10, 20]);
    });
}

#[test]
fn steps_thin_out_and_a_file_of_two_rows_stays_while_one_is_shown() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let me = worker(&db).await;
        db.create_run(new_run("thinned")).await.unwrap();
        let fence = db.claim(&me, &anything(), &lease()).await.unwrap().unwrap().fence;
        let run = fence.job;
        // All black at first.
        for (step, content) in [(10, "black"), (20, "black"), (30, "grey"), (40, "colour")] {
            db.record_pictures(fence, run, &[output(step, content)]).await.unwrap();
        }
        let given = picture(PicturePart::Source, 0, 0, "source");
        db.record_pictures(fence, run, &[given]).await.unwrap();
        assert_eq!(db.retire_pictures(fence, run, 2).await.unwrap(), [digest("grey")]);
        assert_eq!(steps(&db, run).await, [10, 40]);
        assert_eq!(db.all_pictures(run).await.unwrap().0, 4);
        db.pictures_gone(fence, run, &[digest("grey")]).await.unwrap();
        assert_eq!(db.all_pictures(run).await.unwrap(), (3, 300));
        assert_eq!(db.surplus_pictures(run, &[40]).await.unwrap(), (1, 100));
        assert_eq!(db.retire_pictures(fence, run, 0).await.unwrap().len(), 3);
        assert_eq!(db.pictures(&[(run, 40)]).await.unwrap(), []);
    });
}

#[test]
fn the_table_takes_nothing_that_a_page_could_stumble_over() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let fence = begun(&db).await;
        let good = output(10, "good");
        for (wrong, constraint) in [
            (NewPicture { digest: "../../etc".into(), ..good.clone() }, "digest"),
            (NewPicture { thumbnail: vec![0; 8193], ..good.clone() }, "thumbnail"),
            (NewPicture { thumbnail: Vec::new(), ..good.clone() }, "thumbnail"),
            (NewPicture { step: -1, ..good.clone() }, "step"),
            (picture(PicturePart::Source, 10, 0, "given"), "step"),
            (NewPicture { width: 0, ..good.clone() }, "size"),
            (NewPicture { bytes: i32::MAX, ..good.clone() }, "size"),
            (NewPicture { input: -1, ..good.clone() }, "numbers"),
            (NewPicture { key: "k".repeat(5000), ..good.clone() }, "texts"),
        ] {
            let error = db.record_pictures(fence, fence.job, &[wrong]).await.unwrap_err();
            let error = format!("{error:?}");
            assert!(error.contains(&format!("pictures_{constraint}_check")), "{error}");
        }
        assert_eq!(steps(&db, fence.job).await, [0; 0]);
    });
}
