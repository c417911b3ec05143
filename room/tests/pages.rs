//! Every page in a real browser: on a phone and a screen, light and dark, read aloud, and without a word on the
//! console.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use testkit::{Browser, House, Look};

/// The screens, as the navigation has them.
fn screens(room: &testkit::ControlRoom) -> Vec<String> {
    let page = String::from_utf8(room.get("/").body).unwrap();
    let nav = page.split_once("<nav").unwrap().1.split_once("</nav>").unwrap().0;
    let links = nav.split("href=\"").skip(1);
    links.map(|link| link.split('"').next().unwrap().to_owned()).collect()
}

#[test]
fn every_page_of_an_empty_database_reads_well() {
    let Some(browser) = Browser::start() else { return };
    let house = House::new();
    let room = house.room(&[]);
    let mut faults = Vec::new();
    for screen in screens(&room) {
        faults.extend(room.faults(&browser, &screen));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_page_of_a_laboratory_reads_well() {
    let Some(browser) = Browser::start() else { return };
    let house = House::new();
    house.trained();
    let run = house.json("scheduler", &["runs", "--json"])[0]["id"].as_str().unwrap().to_owned();
    let room = house.room(&[]);
    let mut faults = Vec::new();
    let more = [format!("/runs/{run}"), format!("/compare?run={run}&run={run}")];
    for page in screens(&room).into_iter().chain(more) {
        faults.extend(room.faults(&browser, &page));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The pictures of the docs: `PALETTE_ROOM=HOST:PORT PALETTE_SCREENSHOTS=FOLDER`, of a room that serves something
/// worth a picture.
#[test]
fn screenshots_for_the_docs() {
    let named = |name| std::env::var(name).ok();
    let (Some(address), Some(folder)) = (named("PALETTE_ROOM"), named("PALETTE_SCREENSHOTS"))
    else {
        println!("skipped: PALETTE_ROOM and PALETTE_SCREENSHOTS are not set");
        return;
    };
    let Some(browser) = Browser::start() else { return };
    let house = House::new();
    let process = house.start("none.log", std::process::Command::new("true"));
    let room = testkit::ControlRoom { process, address };
    let folder = std::path::Path::new(&folder);
    std::fs::create_dir_all(folder).unwrap();
    for screen in screens(&room) {
        let name = if screen == "/" { "now" } else { screen.trim_start_matches('/') };
        for (kind, look) in [
            ("", Look { width: 1280, dark: false }),
            ("-dark", Look { width: 1280, dark: true }),
            ("-phone", Look { width: 360, dark: false }),
        ] {
            room.open(&browser, &screen, look);
            browser.until("document.readyState === 'complete' && [...document.images].every((one) => one.complete)");
            browser.screenshot(&folder.join(format!("room-{name}{kind}.png")));
        }
    }
}
