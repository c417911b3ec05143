//! The control room as a user starts it, and its pages as a browser shows them.

use std::path::Path;

use serde_json::{Value, json};

use crate::{Browser, House, Process, http};

/// `scheduler room` of a house, until the value ends.
pub struct ControlRoom {
    /// The server.
    pub process: Process,
    /// `HOST:PORT`.
    pub address: String,
}

/// How a page is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Of the window, in pixels.
    pub width: u32,
    /// By the colours that the reader prefers.
    pub dark: bool,
}

impl Look {
    /// A phone and a screen, light and dark.
    pub const ALL: [Self; 4] = [
        Self { width: 360, dark: false },
        Self { width: 360, dark: true },
        Self { width: 1280, dark: false },
        Self { width: 1280, dark: true },
    ];
}

impl House {
    /// Starts the control room on a free port, with these options more.
    pub fn room(&self, options: &[&str]) -> ControlRoom {
        self.room_at("127.0.0.1:0", options)
    }

    /// Starts the control room on this address.
    pub fn room_at(&self, address: &str, options: &[&str]) -> ControlRoom {
        const SAID: &str = "control room at http://";
        let mut command = self.command("scheduler", &["room", "--bind", address]);
        command.args(options);
        let mut process = self.start("room.log", command);
        process.says(SAID);
        let said = process.said();
        let line = said.lines().find_map(|line| line.split_once(SAID)).unwrap().1;
        let address = line.split([' ', '/']).next().unwrap().to_owned();
        ControlRoom { process, address }
    }
}

impl ControlRoom {
    /// The address of a page.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Asks for a page or a part of the API.
    pub fn get(&self, path: &str) -> http::Answer {
        http::ask(&self.address, "GET", path, &[], None)
    }

    /// The JSON of a part of the API, which must be there.
    pub fn json(&self, path: &str) -> Value {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
        answer.json()
    }

    /// A session as its page has it: the cookie, and the token that its forms carry.
    pub fn session(&self) -> (String, String) {
        let answer = self.get("/");
        let cookie = answer.header("set-cookie").split(';').next().unwrap().to_owned();
        let page = String::from_utf8(answer.body).unwrap();
        let csrf = page.split_once("data-csrf=\"").map(|(_, rest)| rest.split('"').next().unwrap());
        (cookie, csrf.unwrap_or_else(|| panic!("no session: {page}")).to_owned())
    }

    /// Changes something as a page's script does, with a JSON body.
    pub fn post(&self, path: &str, body: &Value) -> http::Answer {
        let (cookie, csrf) = self.session();
        let headers = [
            ("cookie", cookie.as_str()),
            ("x-csrf-token", &csrf),
            ("content-type", "application/json"),
        ];
        http::ask(&self.address, "POST", path, &headers, Some(body.to_string().as_bytes()))
    }

    /// Opens a page in a browser, of this width and these colours.
    pub fn open(&self, browser: &Browser, path: &str, look: Look) {
        let height = if look.width < 600 { 740 } else { 800 };
        browser.devtools(
            "Emulation.setDeviceMetricsOverride",
            json!({ "width": look.width, "height": height, "deviceScaleFactor": 1, "mobile": false }),
        );
        let scheme = if look.dark { "dark" } else { "light" };
        browser.devtools(
            "Emulation.setEmulatedMedia",
            json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] }),
        );
        browser.open(&self.url(path));
    }

    /// What is wrong with a page however it is looked at: what axe finds serious, scrolling sideways, errors and
    /// warnings of the console. The browser's console is empty afterwards.
    pub fn faults(&self, browser: &Browser, path: &str) -> Vec<String> {
        let mut faults = Vec::new();
        for look in Look::ALL {
            self.open(browser, path, look);
            let found = self.faults_here(browser);
            faults.extend(found.into_iter().map(|fault| format!("{path} {look:?}: {fault}")));
        }
        faults
    }

    /// [`ControlRoom::faults`] of the page that is open, as it is now.
    pub fn faults_here(&self, browser: &Browser) -> Vec<String> {
        let mut faults = axe(browser);
        let wide = browser.run(
            "const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
             if (wide <= 0) return [];
             const over = [...document.querySelectorAll('main *')].filter((one) =>
                 one.getBoundingClientRect().right > document.documentElement.clientWidth + 1);
             return [`${wide} px wider than the window: ` + over.slice(0, 4).map((one) =>
                 one.tagName + '.' + one.className + '#' + one.id).join(', ')];",
        );
        let texts = |value: &Value| -> Vec<String> {
            value.as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect()
        };
        faults.extend(texts(&wide));
        let loud = |line: &String| line.starts_with("SEVERE") || line.starts_with("WARNING");
        faults.extend(browser.console().into_iter().filter(loud));
        faults
    }
}

/// What axe finds that keeps people from the page: serious and critical.
fn axe(browser: &Browser) -> Vec<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../room/tests/vendor/axe.min.js");
    let Ok(source) = std::fs::read_to_string(&file) else {
        println!("skipped: no {} (`python3 scripts/assets.py --tests`)", file.display());
        return Vec::new();
    };
    let found = browser.run_async(&format!(
        "const done = arguments[0];
         {source};
         axe.run(document, {{ resultTypes: ['violations'] }}).then((result) => done(result.violations
             .filter((one) => ['serious', 'critical'].includes(one.impact))
             .map((one) => `axe ${{one.id}}: ` + one.nodes.slice(0, 3).map((node) =>
                 node.html.slice(0, 200) + ' ' + (node.failureSummary ?? '').replace(/\\s+/g, ' ')).join(' | '))),
             (error) => done([`axe failed: ${{error}}`]));"
    ));
    found.as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect()
}
