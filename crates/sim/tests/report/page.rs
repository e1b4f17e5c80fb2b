//! The page: how large it is, and that a real browser can use it.
//!
//! The tests need Chromium, which `scripts/setup` installs. `NAVARCH_BROWSER` names another build
//! of it; the value `none` leaves what needs a browser out.

use std::fs;
use std::path::{Path, PathBuf};

use navarch_sim::record::Record;
use navarch_sim::report::{self, Directory};
use serde_json::{Value, json};

use crate::browser::{Browser, Window};
use crate::crowd::crowd;
use crate::files::hostile;
use crate::synthetic::small;

/// Uses the page as a person does, and returns what it saw.
const CHECK: &str = include_str!("check.js");

/// A window on a desk.
pub const DESK: Window = Window {
    width: 1280,
    dark: false,
};

const PHONE: Window = Window {
    width: 400,
    dark: true,
};

/// The report of a record, in a folder that stays, so that a person can look at it.
pub fn written(name: &str, record: &Record) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("reports")
        .join(name);
    if path.exists() {
        fs::remove_dir_all(&path).expect("the old report can be removed");
    }
    let directory = Directory::create(&path).expect("the folder is new");
    report::write(&directory, record).expect("the report is written");
    path
}

/// What the page of a report shows.
///
/// # Panics
///
/// When anything in the page does not work.
#[track_caller]
pub fn used(browser: &mut Browser, report: &Path, window: Window, searches: &[&str]) -> Value {
    browser.open(&report.join("report.html"), window);
    let result = browser.run(&format!("({CHECK})({})", json!(searches)));
    assert_eq!(
        result["wrong"],
        json!([]),
        "what does not work in {window:?}"
    );
    assert_eq!(
        browser.troubles(),
        [""; 0],
        "what the page did wrong in {window:?}"
    );
    result["facts"].clone()
}

#[test]
fn five_thousand_nodes_fit_into_five_megabytes_and_can_be_used() {
    let record = crowd(5000, 7500, 7);
    let report = written("crowd", &record);
    let size = fs::metadata(report.join("report.html")).unwrap().len();
    assert!(size < 5_000_000, "{size} bytes");

    let Some(mut browser) = Browser::start() else {
        return;
    };
    let searches = ["europe h100-00", "H100-4999"];
    for window in [DESK, PHONE] {
        let facts = used(&mut browser, &report, window, &searches);
        let nodes = record.nodes.len();
        assert_eq!(
            facts["found"],
            format!("{},{:03} nodes", nodes / 1000, nodes % 1000)
        );
        assert!(facts["rows"].as_u64().unwrap() < 120, "{}", facts["rows"]);
        let first = record.nodes.keys().next().unwrap().as_str();
        let last = record.nodes.keys().next_back().unwrap().as_str();
        assert_eq!(facts["firstLane"], first);
        assert_eq!(facts["lastLane"], last);
        let europe = |id: &&str| id.contains("europe") && id.contains("h100-00");
        let ids = record.nodes.keys().map(|id| id.as_str());
        let found = ids.filter(europe).count();
        assert_eq!(
            facts["searches"]["europe h100-00"][0],
            format!("{found} of {},{:03} nodes", nodes / 1000, nodes % 1000)
        );
        assert!(
            facts["searches"]["H100-4999"][1]
                .as_str()
                .unwrap()
                .ends_with("4999")
        );
        assert!(
            facts["chosenRange"]
                .as_str()
                .unwrap()
                .starts_with("0:07:30 to 0:15:00"),
            "{}",
            facts["chosenRange"]
        );
        let most = record
            .nodes
            .values()
            .map(|node| node.failures)
            .max()
            .unwrap();
        let worst = facts["choices"]["order=failures"][1].as_str().unwrap();
        assert_eq!(record.nodes[worst].failures, most, "{worst}");
        let dark = facts["background"] != "rgb(246, 247, 249)";
        assert_eq!(dark, window.dark, "{}", facts["background"]);
    }
}

#[test]
fn the_page_shows_what_the_record_holds() {
    let report = written("small", &small());
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let facts = used(&mut browser, &report, DESK, &["metal", "training b-r1"]);
    assert_eq!(facts["outcome"], "failed");
    assert_eq!(facts["title"], "small: failed (Navarch simulation)");
    for (card, figure) in [
        ("Promises broken", "1"),
        ("Healthy at the end", "2"),
        ("Fewest healthy", "1"),
        ("Capacity delivered", "87.5\u{a0}%"),
        ("GPU-hours lost", "0.4"),
        ("Failures", "2"),
        ("Not noticed", "0"),
        ("Time to notice", "5.5s"),
        ("Time to recover", "48.5s"),
        ("Machines bought", "3"),
        ("Cost", "$6.50"),
        ("Control plane crashes", "1"),
    ] {
        assert_eq!(facts["cards"][card], figure, "{card}");
    }
    assert_eq!(
        facts["verdict"],
        json!([
            "Promise broken P4: 2 nodes are disrupted, the budget is 1",
            "Failed line 12: expected capacity of at least 95 %; it is 87.5 %",
            "Holds line 11: no promise is broken",
        ])
    );
    assert_eq!(
        facts["charts"],
        json!([
            "Health of the fleet",
            "Nodes that are not healthy",
            "Capacity",
            "Failures and recoveries",
            "Open incidents",
            "Cost",
            "Size",
            "Disruptions and budget",
            "What held actions back",
        ])
    );
    let tables = &facts["tables"];
    assert_eq!(
        tables["Failures by type"],
        json!([
            ["gpu_lost", "1", "all", "5.5s", "0\u{a0}%"],
            ["temperature", "1", "all", "8s", "all"],
        ])
    );
    assert_eq!(
        tables["Failures by XID"],
        json!([[
            "79",
            "GPU fell off the bus fatal",
            "1",
            "all",
            "5.5s",
            "0\u{a0}%"
        ]])
    );
    assert_eq!(
        tables["GPU-hours lost by cause"][0],
        json!(["start-up", "0.25", "66.7\u{a0}%"])
    );
    assert_eq!(
        tables["Outages"],
        json!([["zone b", "0:01:30", "the end", "2"]])
    );
    assert_eq!(
        tables["Pool training"],
        json!([["budget", "1", "14s", "14s", "1 of 1 disruptions under way"]])
    );
    assert_eq!(
        tables["Rules of the health policy"][1],
        json!([
            "fatal-xid",
            "1",
            "1",
            "unhealthy",
            "100",
            "event.xid_code in [79, 95] && \"a\" < \"b\""
        ])
    );
    assert_eq!(
        facts["searches"]["metal"],
        json!(["1 of 4 nodes", "metal/7"])
    );
    assert_eq!(
        facts["searches"]["training b-r1"],
        json!(["2 of 4 nodes", "gcp-b-0002"])
    );
    for (choice, answer) in [
        ("provider=gcp", json!(["4 nodes", "gcp-a-0001"])),
        ("zone=rack 7", json!(["1 of 4 nodes", "metal/7"])),
        ("pool=training", json!(["3 of 4 nodes", "gcp-a-0001"])),
        ("state=gone", json!(["2 of 4 nodes", "gcp-a-0001"])),
        ("state=healthy", json!(["2 of 4 nodes", "gcp-b-0002"])),
        ("failures=none", json!(["2 of 4 nodes", "gcp-b-0003"])),
        ("failures=unnoticed", json!(["0 of 4 nodes", ""])),
        ("failures=lemon", json!(["1 of 4 nodes", "gcp-b-0002"])),
        ("order=trouble", json!(["4 nodes", "gcp-a-0001"])),
    ] {
        assert_eq!(facts["choices"][choice], answer, "{choice}");
    }
    assert_eq!(facts["clicked"], "gcp-a-0001");
    assert_eq!(facts["detail"], "gcp-a-0001 gone");
    assert!(report.join(facts["log"].as_str().unwrap()).is_file());
    assert_eq!(facts["facts"]["Registered"], "0:00:30, after 30s");
    assert_eq!(
        facts["events"],
        json!([
            ["0:00:30.000", "registered", ""],
            [
                "0:01:40.000",
                "failure",
                "gpu_lost on GPU 3, XID 79: GPU fell off the bus by the scenario; \
                 noticed after 5.5s: UNHEALTHY by rule fatal-xid; never ended"
            ],
            ["0:01:45.500", "health unhealthy", "was healthy"],
            [
                "0:01:45.500",
                "incident",
                "rule fatal-xid, action replace; closed after 55.8s"
            ],
            [
                "0:01:46.000",
                "status draining",
                "was active: rule fatal-xid asks for replace"
            ],
            ["0:02:40.000", "status terminated", "was draining: drained"],
            ["0:02:41.250", "machine gone", "terminated by us"],
        ])
    );
    assert_eq!(
        facts["texts"],
        json!([
            "navarch sim run scenario.yaml --seed 42",
            "name: small\n",
            "pools: {}\n"
        ])
    );
}

#[test]
fn a_page_of_hostile_names_runs_none_of_them() {
    let record = hostile();
    let report = written("hostile", &record);
    let page = fs::read_to_string(report.join("report.html")).unwrap();
    assert_eq!(
        page.matches("</script>").count(),
        2,
        "the data and the script end once each"
    );
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let facts = used(&mut browser, &report, DESK, &["<img", "/script"]);
    assert_eq!(facts["foreign"], 0);
    assert_eq!(facts["scripts"], 2, "the data and the script");
    assert!(
        facts["title"]
            .as_str()
            .unwrap()
            .contains("../../etc/passwd"),
        "{}",
        facts["title"]
    );
    assert_eq!(facts["searches"]["<img"][1], "<img src=x onerror=alert(1)>");
    let script = facts["searches"]["/script"][1].as_str().unwrap();
    assert_eq!(script, "</script><script>document.title='owned'</script>");
    let seen = record.scenario.replace('\u{1b}', "\\u{1b}");
    assert_eq!(facts["texts"][1], seen.replace('\u{202e}', "\\u{202e}"));
}

#[test]
fn an_empty_record_makes_a_page() {
    let report = written("empty", &Record::default());
    let Some(mut browser) = Browser::start() else {
        return;
    };
    browser.open(&report.join("report.html"), DESK);
    for part in ["results", "timeline", "nodes", "configuration"] {
        let shown = format!(
            "document.getElementById('tab-{part}').click(), document.getElementById('part-{part}').innerText"
        );
        let shown = browser.run(&shown);
        let shown = shown.as_str().unwrap();
        assert!(
            !shown.is_empty() && !shown.contains("NaN"),
            "{part}: {shown}"
        );
        assert!(!shown.contains("undefined"), "{part}: {shown}");
    }
    assert_eq!(browser.troubles(), [""; 0]);
}
