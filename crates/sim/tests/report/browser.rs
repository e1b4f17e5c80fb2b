//! A real browser that a test drives: Chromium, over the pipe of its developer tools.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

/// The seconds after which a browser that hangs is ended. Too low, and a busy machine fails tests;
/// too high costs only those who wait for a failure.
const LIMIT_SECONDS: &str = "180";

/// The browser reads orders at descriptor 3 and answers at 4: here the two standard ones.
const PIPES: &str = "exec \"$@\" 3<&0 4>&1 </dev/null >&2";

/// What a window looks like.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Its width in pixels.
    pub width: u32,
    /// Whether its owner prefers dark pages.
    pub dark: bool,
}

/// A browser with one page.
pub struct Browser {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// The page's session.
    session: Value,
    orders_given: u64,
    /// What the page did wrong.
    troubles: Vec<String>,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts a browser; none where `NAVARCH_BROWSER` says `none`.
    ///
    /// # Panics
    ///
    /// When there is no browser, or it does not speak.
    pub fn start() -> Option<Self> {
        let name = std::env::var("NAVARCH_BROWSER").unwrap_or_else(|_| "chromium".to_owned());
        if name == "none" {
            return None;
        }
        let profile = tempfile::tempdir().expect("a folder for the browser");
        let mut child = Command::new("timeout")
            .args([LIMIT_SECONDS, "sh", "-c", PIPES, "sh", &name])
            .args(["--headless=new", "--remote-debugging-pipe", "--no-sandbox"])
            .args(["--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
            .args(["--disable-extensions", "--disable-background-networking"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("`timeout` of the coreutils runs");
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().expect("it was asked for"));
        let mut browser = Self {
            child,
            orders,
            answers,
            session: Value::Null,
            orders_given: 0,
            troubles: Vec::new(),
            _profile: profile,
        };
        let page = browser.order("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": page["targetId"], "flatten": true});
        browser.session = browser.order("Target.attachToTarget", attach)["sessionId"].clone();
        for domain in [
            "Page.enable",
            "Runtime.enable",
            "Log.enable",
            "Network.enable",
        ] {
            browser.order(domain, json!({}));
        }
        Some(browser)
    }

    /// Opens a file in a window and waits until it is loaded.
    pub fn open(&mut self, file: &Path, window: Window) {
        let scheme = if window.dark { "dark" } else { "light" };
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.order("Emulation.setEmulatedMedia", media);
        let size = json!({
            "width": window.width, "height": 900, "deviceScaleFactor": 1, "mobile": false,
        });
        self.order("Emulation.setDeviceMetricsOverride", size);
        self.troubles.clear();
        let url = format!("file://{}", file.display());
        self.order("Page.navigate", json!({"url": url}));
        while self.hear()["method"] != "Page.loadEventFired" {}
    }

    /// Runs a script in the page and gives what it returns, once it is there.
    pub fn run(&mut self, script: &str) -> Value {
        let asked = json!({
            "expression": script, "awaitPromise": true, "returnByValue": true, "userGesture": true,
        });
        let answer = self.order("Runtime.evaluate", asked);
        let failed = &answer["exceptionDetails"];
        assert!(failed.is_null(), "the script failed: {failed}");
        answer["result"]["value"].clone()
    }

    /// What the page did wrong since it was opened: errors of its script, and whatever it asked of
    /// a network.
    pub fn troubles(&self) -> &[String] {
        &self.troubles
    }

    fn order(&mut self, method: &str, params: Value) -> Value {
        self.orders_given += 1;
        let id = self.orders_given;
        let mut order = json!({"id": id, "method": method, "params": params});
        if !self.session.is_null() {
            order["sessionId"] = self.session.clone();
        }
        let orders = self.orders.as_mut().expect("the browser is open");
        // What is wrong shows in the answer that does not come.
        drop(write!(orders, "{order}\0").and_then(|()| orders.flush()));
        loop {
            let heard = self.hear();
            if heard["id"] == id {
                assert!(heard["error"].is_null(), "{method}: {}", heard["error"]);
                return heard["result"].clone();
            }
        }
    }

    fn hear(&mut self) -> Value {
        let mut heard = Vec::new();
        let read = self.answers.read_until(0, &mut heard);
        if heard.pop() != Some(0) {
            panic!(
                "the browser ended or did not start ({read:?}): install Chromium with `apt-get \
                 install chromium`, name it in NAVARCH_BROWSER, or set that to `none`"
            );
        }
        let heard: Value = serde_json::from_slice(&heard).expect("the browser speaks JSON");
        let params = &heard["params"];
        let url = params["request"]["url"].as_str().unwrap_or_default();
        match heard["method"].as_str() {
            Some("Runtime.exceptionThrown") => self
                .troubles
                .push(params["exceptionDetails"]["exception"]["description"].to_string()),
            Some("Log.entryAdded") => self.troubles.push(params["entry"].to_string()),
            Some("Network.requestWillBeSent") if !url.ends_with("report.html") => {
                self.troubles.push(format!("it asked for {url}"));
            }
            _ => {}
        }
        heard
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // A browser whose pipe ends does so too.
        self.orders = None;
        drop(self.child.wait());
    }
}
