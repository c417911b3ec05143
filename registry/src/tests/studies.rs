//! Human studies: made whole, answered once, counted.

use super::set_up;
use crate::{
    Answered, Database, NewAnswer, NewRater, NewStudy, NewStudyImage, NewTrial, RaterInput, Side,
    Standing, Study,
};

fn study(name: &str) -> NewStudy {
    let image = |number: u8| NewStudyImage {
        set: i16::from(number / 2) + 1,
        key: format!("image-{number}"),
        reference: vec![number, 255],
        outputs: vec![vec![number, 0], vec![number, 1]],
    };
    NewStudy {
        name: name.into(),
        owner: "ann".into(),
        seed: 3,
        seconds: vec![0.1, 5.0],
        reference_uri: "/photographs".into(),
        systems: vec![("Palette".into(), "/a".into()), ("Regression".into(), "/b".into())],
        images: (0..4).map(image).collect(),
    }
}

/// A rater of set 1 who sees both of its images.
fn rater(number: i32, token: &str) -> NewRater {
    let trials = vec![
        NewTrial { image: 1, system: 0, reference_side: Side::Left },
        NewTrial { image: 0, system: 1, reference_side: Side::Right },
    ];
    NewRater { set: 1, seconds: 0.1, number, token: token.into(), trials }
}

fn answer(trial: i32, chosen: Side) -> NewAnswer {
    NewAnswer {
        trial,
        chosen,
        shown_ms: 100.0,
        response_ms: 900.0,
        interrupted: false,
        input: RaterInput::Key,
    }
}

async fn invited(db: &Database) -> (Study, crate::Uuid) {
    let study = db.create_study(&study("faces")).await.unwrap();
    db.invite_raters(study.id, &[rater(0, "secret")]).await.unwrap();
    let rater = db.rater(study.id, "secret").await.unwrap().unwrap();
    assert_eq!((rater.seconds, rater.started), (0.1, false));
    (study, rater.id)
}

/// Answers as soon as the server's clock lets it: the pair was shown for its time.
async fn answer_in_time(db: &Database, rater: crate::Uuid, given: NewAnswer) {
    assert!(db.show_trial(rater, given.trial).await.unwrap());
    while db.answer_trial(rater, &given).await.unwrap() == Answered::NotShown {}
}

#[test]
fn a_study_is_made_whole_and_under_one_name() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let made = db.create_study(&study("faces")).await.unwrap();
        assert_eq!((made.images, made.raters, made.answers), (4, 0, 0));
        assert_eq!(made.systems, ["Palette", "Regression"]);
        let images = db.study_images(made.id).await.unwrap();
        assert_eq!(images.iter().map(|image| image.set).collect::<Vec<_>>(), [1, 1, 2, 2]);

        type Change = fn(&mut NewStudy);
        let cases: [(&str, Change); 5] = [
            ("there is a study of this name already", |_| {}),
            ("0.1 to 60 seconds", |new| (new.name, new.seconds) = ("b".into(), vec![0.05])),
            ("two systems have one name", |new| {
                (new.name, new.systems[1].0) = ("b".into(), "Palette".into());
            }),
            ("1 to 100 characters", |new| new.name.clear()),
            ("empty or has more than 32 MiB", |new| {
                (new.name, new.images[3].outputs[1]) = ("b".into(), vec![]);
            }),
        ];
        for (why, change) in cases {
            let mut new = study("faces");
            change(&mut new);
            let error = db.create_study(&new).await.unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        assert_eq!(db.studies().await.unwrap().len(), 1, "what is refused leaves nothing behind");
        assert!(db.study("b").await.unwrap_err().to_string().contains("evaluator study list"));
    });
}

#[test]
fn a_rater_sees_his_next_trial_alone_and_answers_it_once() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let (study, rater) = invited(&db).await;
        assert_eq!(db.rater(study.id, "another").await.unwrap(), None);
        let again = db.invite_raters(study.id, &[self::rater(0, "third")]).await.unwrap_err();
        assert!(again.to_string().contains("same moment"), "{again}");

        // Nothing before they have begun.
        let picture = async |trial, side| db.trial_picture(rater, trial, side).await.unwrap();
        assert_eq!(picture(1, Side::Left).await, None);
        assert!(!db.show_trial(rater, 1).await.unwrap());
        db.start_rater(rater).await.unwrap();
        assert_eq!(picture(1, Side::Left).await, Some(vec![1, 255]));
        assert_eq!(picture(1, Side::Right).await, Some(vec![1, 0]));
        assert_eq!(picture(2, Side::Left).await, None, "not before its turn");

        // Neither before the pair was shown, nor before it was shown for its time.
        let first = answer(1, Side::Right);
        assert_eq!(db.answer_trial(rater, &first).await.unwrap(), Answered::NotShown);
        assert!(!db.show_trial(rater, 2).await.unwrap());
        answer_in_time(&db, rater, first).await;
        let second = answer(1, Side::Left);
        assert_eq!(db.answer_trial(rater, &second).await.unwrap(), Answered::Before);
        assert!(!db.show_trial(rater, 1).await.unwrap());
        assert_eq!(picture(1, Side::Left).await, None);
        let standing = Standing { trials: 2, answered: 1, next: Some(2) };
        assert_eq!(db.standing(rater).await.unwrap(), standing);

        // One that was interrupted has not had its time; times out of range are refused.
        assert!(db.show_trial(rater, 2).await.unwrap());
        assert!(db.show_trial(rater, 2).await.unwrap());
        let far =
            NewAnswer { interrupted: true, response_ms: 3_600_001.0, ..answer(2, Side::Left) };
        assert!(db.answer_trial(rater, &far).await.is_err());
        let cut = NewAnswer { interrupted: true, ..answer(2, Side::Left) };
        assert_eq!(db.answer_trial(rater, &cut).await.unwrap(), Answered::Kept);
        assert_eq!(db.standing(rater).await.unwrap().next, None);

        let answers = db.study_answers(study.id).await.unwrap();
        let told: Vec<_> = answers
            .iter()
            .map(|it| (it.key.as_str(), it.system.as_str(), it.fooled, it.shown, it.interrupted))
            .collect();
        assert_eq!(
            told,
            [("image-1", "Palette", true, 1, false), ("image-0", "Regression", true, 2, true)]
        );
    });
}

#[test]
fn answers_that_come_at_once_are_one() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let (study, rater) = invited(&db).await;
        db.start_rater(rater).await.unwrap();
        assert!(db.show_trial(rater, 1).await.unwrap());
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..8 {
            let db = db.clone();
            let side = if number % 2 == 0 { Side::Left } else { Side::Right };
            let given = NewAnswer { interrupted: true, ..answer(1, side) };
            tasks.spawn(async move { db.answer_trial(rater, &given).await.unwrap() });
        }
        let all = tasks.join_all().await;
        assert_eq!(all.iter().filter(|became| **became == Answered::Kept).count(), 1);
        assert_eq!(db.study("faces").await.unwrap().answers, 1);
        assert_eq!(db.study_answers(study.id).await.unwrap().len(), 1);
    });
}

#[test]
fn answers_say_who_was_fooled_by_what() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let (study, first) = invited(&db).await;
        db.invite_raters(study.id, &[rater(1, "b")]).await.unwrap();
        let second = db.rater(study.id, "b").await.unwrap().unwrap().id;
        assert!(db.study_answers(study.id).await.unwrap().is_empty());
        for rater in [first, second] {
            db.start_rater(rater).await.unwrap();
        }
        // The photographs are left, then right.
        answer_in_time(&db, first, answer(1, Side::Right)).await;
        answer_in_time(&db, first, answer(2, Side::Right)).await;
        answer_in_time(&db, second, answer(1, Side::Left)).await;
        let answers = db.study_answers(study.id).await.unwrap();
        let told: Vec<_> = answers
            .iter()
            .map(|it| (it.rater, it.trial, it.system.as_str(), it.set, it.seconds, it.fooled))
            .collect();
        assert_eq!(
            told,
            [
                (first, 1, "Palette", 1, 0.1, true),
                (first, 2, "Regression", 1, 0.1, false),
                (second, 1, "Palette", 1, 0.1, false),
            ]
        );
        let raters = db.study_raters(study.id).await.unwrap();
        let told: Vec<_> = raters.iter().map(|it| (it.number, it.trials, it.answers)).collect();
        assert_eq!(told, [(0, 2, 2), (1, 2, 1)]);
    });
}
