//! Pictures that are tried: what is taken and what is not, and the page from a file to the result.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use testkit::{Browser, ControlRoom, House, Look, until};

/// A PNG of this size, in base64.
fn png(width: u32, height: u32) -> String {
    let picture = image::RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([(x * 7 % 256) as u8, (y * 5 % 256) as u8, 90])
    });
    STANDARD.encode(pictures::png(&picture).unwrap())
}

fn refused(room: &ControlRoom, wanted: &Value, status: u16, words: &str) {
    let answer = room.post("/api/v1/tries", wanted);
    let error = answer.json()["error"].as_str().unwrap_or_default().to_owned();
    assert_eq!(answer.status, status, "{error}");
    assert!(error.contains(words), "{error}");
}

#[test]
fn what_cannot_be_tried_is_refused_and_what_fails_says_why() {
    let house = House::new();
    let room = house.room(&[]);
    let weights = house.path("no weights").display().to_string();
    let wanted = |more: Value| {
        let mut all = json!({ "weights": weights, "task": "colorization", "picture": png(20, 16) });
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    let text = STANDARD.encode("no picture at all");
    refused(&room, &wanted(json!({ "picture": text })), 400, "unknown format");
    refused(&room, &wanted(json!({ "picture": "%%" })), 400, "base64");
    refused(&room, &wanted(json!({ "picture": null })), 400, "no picture");
    refused(&room, &wanted(json!({ "task": "magic" })), 400, "magic");
    refused(&room, &wanted(json!({ "samples": 17 })), 400, "1 to 16");
    refused(&room, &wanted(json!({ "process": "guess" })), 400, "guess");
    refused(&room, &wanted(json!({ "weights": "nobody@best" })), 404, "nobody");
    let mask = json!({ "task": "inpainting", "mask": png(20, 15) });
    refused(&room, &wanted(mask), 400, "one size");
    let other = "00000000-0000-0000-0000-000000000000";
    refused(&room, &wanted(json!({ "of": other })), 404, "no try");

    let answer = room.post("/api/v1/tries", &wanted(json!({ "name": "../<b>x</b>.png" })));
    assert_eq!(answer.status, 201, "{}", answer.json());
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/tries/{id}");
    until("it failed", || room.json(&path)["state"] == "failed");
    let made = room.json(&path);
    assert!(made["reason"].as_str().unwrap().contains("no weights"), "{made}");
    assert!(!made["name"].as_str().unwrap().contains(['<', '/']), "{made}");
    // Its picture is found by its digest, and by nothing else.
    let picture = &made["pictures"][0];
    let answer = room.get(picture["address"].as_str().unwrap());
    assert_eq!((answer.status, answer.header("content-type")), (200, "image/png"));
    assert_eq!(room.get("/api/v1/tries/pictures/..%2f..%2fetc%2fpasswd").status, 404);
    assert_eq!(room.get(&format!("/try/{id}")).status, 200);
    assert_eq!(room.get("/try/nonsense").status, 400);
    let kept = room.post(&format!("{path}/keep"), &json!({ "kept": true }));
    assert_eq!(kept.json()["kept"], true);
    assert_eq!(room.json("/api/v1/tries").as_array().unwrap().len(), 1);
}

const GIVE: &str = "const canvas = document.createElement('canvas'); canvas.width = 40; canvas.height = 30;
    const view = canvas.getContext('2d'); view.fillStyle = '#4a7'; view.fillRect(0, 0, 40, 30);
    canvas.toBlob((blob) => { const files = new DataTransfer(); files.items.add(new File([blob], 'photo.png', { type: 'image/png' }));
        const input = document.getElementById('file'); input.files = files.files;
        input.dispatchEvent(new Event('change', { bubbles: true })); }, 'image/png');";

#[test]
fn a_picture_is_given_painted_watched_and_kept() {
    let Some(browser) = Browser::start() else { return };
    let house = House::new();
    house.trained();
    let room = house.room(&[]);
    room.open(&browser, "/try", Look { width: 1280, dark: false });
    browser.until("document.querySelector('select[name=task]').value === 'inpainting'");
    browser.run(GIVE);
    browser.until("!document.getElementById('stage').hidden");
    browser.run("document.querySelector('.numbers').open = true; document.getElementById('box-mark').click();");
    browser.until("document.getElementById('about').textContent.includes('25 % marked')");
    browser.run("document.getElementById('invert').click();");
    browser.until("document.getElementById('about').textContent.includes('75 % marked')");
    browser.run("document.getElementById('undo').click();");
    browser.until("document.getElementById('about').textContent.includes('25 % marked')");
    browser.click("form.try button.main");
    // The page goes there, and follows by itself.
    let at = || browser.run("return location.pathname;").as_str().unwrap_or_default().to_owned();
    until("the page of the try", || at().len() > 10);
    browser.until("document.querySelectorAll('.wiper').length === 2");
    browser.run("const slider = document.querySelector('.wiper'); slider.value = 60; slider.dispatchEvent(new Event('input', { bubbles: true }));");
    browser.until("document.querySelector('.wipe').style.getPropertyValue('--cut') === '60%'");
    browser.click(".actions form[action$='keep'] button");
    until("the page is back", || browser.source().contains("Keep no longer"));
    browser.until("document.querySelector('.actions').textContent.includes('Keep no longer')");
    let page = at();
    let faults = room.faults(&browser, &page);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    // Again, with the next seed; then with changes, from the same picture.
    room.open(&browser, &page, Look { width: 1280, dark: false });
    browser.click(".actions form[action$='again'] button");
    until("the page of the next", || at() != page && at().len() > 10);
    browser.until("document.querySelectorAll('.wiper').length === 2");
    assert!(browser.source().contains("seed 1"));
    browser.click(".actions a.button");
    until("the form is back", || at() == "/try");
    browser.until("document.getElementById('about')?.textContent.includes('25 % marked')");
    let tries = room.json("/api/v1/tries");
    assert_eq!(tries.as_array().unwrap().len(), 2);
}
