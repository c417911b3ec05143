//! A headless Chromium, driven by the WebDriver protocol: JSON over HTTP, of which the tests need a
//! dozen requests. Waits are made in the page, frame by frame, and never by sleeping here.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::http;
use serde_json::{Value, json};

/// A browser with a profile of its own; closed when it is dropped.
pub struct Browser {
    driver: Child,
    address: String,
    session: String,
    _profile: tempfile::TempDir,
}

/// How WebDriver writes an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

impl Browser {
    /// None, with a line that says so, where Chromium or its driver is not installed.
    pub fn start() -> Option<Self> {
        let found = |name: &str| {
            let path = std::env::var_os("PATH")?;
            std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
        };
        let chromium =
            ["chromium", "chromium-browser", "google-chrome"].into_iter().find_map(found);
        let (Some(chromium), Some(driver)) = (chromium, found("chromedriver")) else {
            println!("skipped: no chromium with chromedriver (`sh scripts/browser.sh`)");
            return None;
        };
        let mut driver = Command::new(driver)
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            let port = line.unwrap().split_once("started successfully on port ")?.1.to_owned();
            Some(port.trim_end_matches('.').to_owned())
        });
        // Nobody reads on, and a full pipe would hold the driver up.
        std::thread::spawn(move || lines.for_each(drop));
        let address = format!("127.0.0.1:{}", port.unwrap());
        let profile = tempfile::tempdir().unwrap();
        let mut browser = Self { driver, address, session: String::new(), _profile: profile };
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1000,700",
            &format!("--user-data-dir={}", browser._profile.path().display()),
        ];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "args": arguments, "binary": chromium.to_str().unwrap() },
            "goog:loggingPrefs": { "browser": "ALL" },
            "timeouts": { "script": 60_000 },
        }}});
        let answer = http::send(&browser.address, "POST", "/session", Some(&wanted.to_string()));
        assert_eq!(answer.status, 200, "{}", answer.json());
        browser.session = answer.json()["value"]["sessionId"].as_str().unwrap().to_owned();
        Some(browser)
    }

    fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let path = format!("/session/{}{path}", self.session);
        let body = body.map(|body| body.to_string());
        let answer = http::send(&self.address, method, &path, body.as_deref());
        assert_eq!(answer.status, 200, "{path}: {}", answer.json());
        answer.json()["value"].take()
    }

    /// Opens an address and waits until it is loaded.
    pub fn open(&self, url: &str) {
        self.ask("POST", "/url", Some(json!({ "url": url })));
    }

    /// Loads the page again.
    pub fn reload(&self) {
        self.ask("POST", "/refresh", Some(json!({})));
    }

    /// The page as it is now.
    pub fn source(&self) -> String {
        self.ask("GET", "/source", None).as_str().unwrap().to_owned()
    }

    /// Runs a function's body in the page.
    pub fn run(&self, script: &str) -> Value {
        self.ask("POST", "/execute/sync", Some(json!({ "script": script, "args": [] })))
    }

    /// Runs a function's body in the page, which gives its value to the function `arguments[0]` when it has it.
    pub fn run_async(&self, script: &str) -> Value {
        self.ask("POST", "/execute/async", Some(json!({ "script": script, "args": [] })))
    }

    /// Waits until an expression is true in a frame of the page.
    pub fn until(&self, expression: &str) {
        let script = format!(
            "const done = arguments[0];
             const look = () => ({expression}) ? done(true) : requestAnimationFrame(look);
             look();"
        );
        self.run_async(&script);
    }

    /// Presses a key and lets it go; names as WebDriver has them.
    pub fn key(&self, key: char) {
        let key = key.to_string();
        self.act(json!({ "type": "key", "id": "keyboard", "actions": [
            { "type": "keyDown", "value": key }, { "type": "keyUp", "value": key },
        ]}));
    }

    /// Presses an element with a mouse or a finger (`touch`).
    pub fn press(&self, pointer: &str, css: &str) {
        let element = self.element(css);
        self.act(json!({
            "type": "pointer", "id": pointer, "parameters": { "pointerType": pointer },
            "actions": [
                { "type": "pointerMove", "duration": 0, "origin": { ELEMENT: element }, "x": 0, "y": 0 },
                { "type": "pointerDown", "button": 0 },
                { "type": "pointerUp", "button": 0 },
            ],
        }));
    }

    /// Presses an element with the mouse where it can be pressed, scrolled to if need be.
    pub fn click(&self, css: &str) {
        let element = self.element(css);
        self.ask("POST", &format!("/element/{element}/click"), Some(json!({})));
    }

    /// Types a text into a field; for a field of files, the path of one.
    pub fn write(&self, css: &str, text: &str) {
        let element = self.element(css);
        self.ask("POST", &format!("/element/{element}/value"), Some(json!({ "text": text })));
    }

    fn element(&self, css: &str) -> String {
        let found = json!({ "using": "css selector", "value": css });
        self.ask("POST", "/element", Some(found))[ELEMENT].as_str().unwrap().to_owned()
    }

    /// A command of Chromium's own protocol.
    pub fn devtools(&self, command: &str, parameters: Value) -> Value {
        let body = json!({ "cmd": command, "params": parameters });
        self.ask("POST", "/goog/cdp/execute", Some(body))
    }

    /// What pages have written to the console since this was last asked, with errors of the network and violations of
    /// the content security policy.
    pub fn console(&self) -> Vec<String> {
        let lines = self.ask("POST", "/se/log", Some(json!({ "type": "browser" })));
        let text = |line: &Value| {
            format!("{}: {}", line["level"].as_str().unwrap(), line["message"].as_str().unwrap())
        };
        lines.as_array().unwrap().iter().map(text).collect()
    }

    /// Draws what is seen now as a PNG file.
    pub fn screenshot(&self, file: &std::path::Path) {
        let drawn = self.ask("GET", "/screenshot", None);
        let bytes = base64::Engine::decode(
            &base64::engine::general_purpose::STANDARD,
            drawn.as_str().unwrap(),
        );
        std::fs::write(file, bytes.unwrap()).unwrap();
    }

    fn act(&self, sequence: Value) {
        self.ask("POST", "/actions", Some(json!({ "actions": [sequence] })));
    }

    /// The window's size in pixels.
    pub fn resize(&self, width: u32, height: u32) {
        self.ask("POST", "/window/rect", Some(json!({ "width": width, "height": height })));
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            let path = format!("/session/{}", self.session);
            http::send(&self.address, "DELETE", &path, None);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
