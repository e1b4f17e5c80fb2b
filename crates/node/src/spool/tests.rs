//! Lives of agents on one directory, and what damage does to it.

use navarch_core::agent::Agent;
use navarch_core::agent::{Intervals, Outcome, Step};
use navarch_model::{IdSource, SessionId};
use proptest::prelude::*;

use navarch_core::Fact;
use navarch_model::{BootId, HealthEventType, HealthWatchSystem};

use super::*;

struct Fixed;

impl IdSource for Fixed {
    fn next_bits(&mut self) -> u64 {
        1 << 63
    }
}

fn xid(code: u32) -> Fact {
    Fact {
        happened: 1_771_000_000_000_000,
        gpu: Some(3),
        gpu_uuid: "GPU-x".to_owned(),
        system: HealthWatchSystem::Driver,
        event_type: HealthEventType::Xid,
        metrics: [("xid_code".to_owned(), code.to_string())].into(),
        message: "NVRM: \"Xid\"\\n".to_owned(),
        watch: String::new(),
        boot: Some(BootId::new("b")),
        count: 4,
    }
}

/// One life of an agent on a directory.
struct Life {
    agent: Agent,
    journal: Journal,
}

impl Life {
    fn begin(dir: &std::path::Path) -> Self {
        Self::begin_within(dir, SpoolLimits::default())
    }

    fn begin_within(dir: &std::path::Path, limits: SpoolLimits) -> Self {
        let state = Arc::new(StateDir::open(dir).expect("it opens"));
        let (journal, spool) = Journal::open(&state, limits, Time(5)).expect("it opens");
        let agent = Agent::new(SessionId::new("s"), spool, Vec::new());
        Self { agent, journal }
    }

    fn keep(&mut self) {
        let changes = self.agent.take_spool_changes();
        self.journal.sync(self.agent.spool(), changes);
    }

    fn happens(&mut self, code: u32) {
        self.agent.happened(vec![xid(code)]);
        self.keep();
    }

    /// Sends one report, which ends so.
    fn send(&mut self, outcome: Outcome) {
        let long = Intervals {
            beat: std::time::Duration::from_secs(3600),
            full: std::time::Duration::from_secs(3600),
        };
        let mut now = Time(0);
        loop {
            match self.agent.next(now) {
                Step::Register => {
                    self.agent
                        .registered(Outcome::Taken, Some(long), now, &mut Fixed);
                }
                Step::Beat => self.agent.beaten(Outcome::Taken, now, &mut Fixed),
                Step::ReadAll | Step::Poll => {}
                Step::Send(_) => break,
                Step::Wait(until) => now = until,
            }
        }
        self.agent.sent(outcome, now, &mut Fixed);
        self.keep();
    }

    fn codes(&self) -> Vec<String> {
        let code = |kept: &Kept| {
            kept.fact
                .metrics
                .get("xid_code")
                .cloned()
                .unwrap_or_else(|| kept.fact.watch.clone())
        };
        self.agent.spool().iter().map(code).collect()
    }
}

#[test]
fn events_outlive_the_agent_until_they_were_taken() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut first = Life::begin(dir.path());
    first.happens(79);
    first.happens(48);
    first.send(Outcome::Failed);
    drop(first);
    let mut second = Life::begin(dir.path());
    assert_eq!(second.codes(), ["79", "48"]);
    let kept: Vec<_> = second
        .agent
        .spool()
        .iter()
        .map(|kept| kept.fact.clone())
        .collect();
    assert_eq!(kept, [xid(79), xid(48)], "every field is kept");
    second.send(Outcome::Taken);
    second.happens(94);
    drop(second);
    let mut third = Life::begin(dir.path());
    assert_eq!(third.codes(), ["94"]);
    third.send(Outcome::Taken);
    drop(third);
    assert!(Life::begin(dir.path()).codes().is_empty());
    let left = std::fs::read(dir.path().join(NAME)).expect("it is there");
    assert_eq!(String::from_utf8_lossy(&left), "");
    // Nor is it forgotten what there was no room for, over starts that lose more or nothing.
    let mut full = Life::begin_within(dir.path(), SpoolLimits { bytes: 1 });
    full.happens(79);
    full.happens(48);
    drop(full);
    let mut full = Life::begin_within(dir.path(), SpoolLimits { bytes: 1 });
    full.happens(94);
    drop(full);
    let mut life = Life::begin(dir.path());
    assert_eq!(life.codes(), ["79"]);
    life.send(Outcome::Taken);
    drop(life);
    let mut life = Life::begin(dir.path());
    assert_eq!(life.codes(), ["spool"]);
    let told: Vec<_> = life.agent.spool().iter().collect();
    assert_eq!(told[0].fact.metrics["events_lost"], "2");
    life.send(Outcome::Taken);
    assert!(life.codes().is_empty(), "and told once");
    drop(life);
    assert!(Life::begin(dir.path()).codes().is_empty());
}

#[test]
fn a_part_that_was_taken_does_not_come_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut first = Life::begin(dir.path());
    for code in 1..=300 {
        first.happens(code);
    }
    first.send(Outcome::Taken);
    let left = first.codes();
    assert_eq!(
        (left.len(), left[0].as_str()),
        (44, "257"),
        "a report holds 256 facts"
    );
    drop(first);
    assert_eq!(Life::begin(dir.path()).codes(), left);
}

#[test]
fn a_long_journal_is_opened_and_worked_off_in_linear_time() {
    // As many lines as the limits of a spool allow; anything quadratic takes hours.
    const FACTS: u64 = 100_000;
    let dir = tempfile::tempdir().expect("a directory");
    let mut lines = Vec::new();
    for place in 1..=2 * FACTS {
        let fact = Fact::default();
        push_line(&mut lines, &Line::Kept((&Kept { place, fact }).into()));
    }
    for place in 1..=FACTS {
        push_line(&mut lines, &Line::Gone([place].into()));
    }
    std::fs::write(dir.path().join(NAME), &lines).expect("it is written");
    let mut life = Life::begin(dir.path());
    assert_eq!(life.agent.spool().len() as u64, FACTS);
    while !life.agent.spool().is_empty() {
        life.send(Outcome::Taken);
    }
    drop(life);
    assert!(Life::begin(dir.path()).codes().is_empty());
}

#[test]
fn a_torn_last_line_is_what_a_crash_leaves() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join(NAME);
    let mut first = Life::begin(dir.path());
    first.happens(79);
    let whole = std::fs::read(&path).expect("it is there");
    first.happens(48);
    let both = std::fs::read(&path).expect("it is there");
    drop(first);
    for cut in whole.len()..both.len() {
        std::fs::write(&path, &both[..cut]).expect("it is written");
        let mut life = Life::begin(dir.path());
        assert_eq!(life.codes(), ["79"], "cut at {cut}");
        life.happens(94);
        drop(life);
        assert_eq!(
            Life::begin(dir.path()).codes(),
            ["79", "94"],
            "cut at {cut}"
        );
    }
    assert!(!dir.path().join("spool.jsonl.damaged").exists());
}

#[test]
fn a_damaged_file_is_set_aside_told_and_no_crash_loop() {
    for damage in [
        &b"not json\n"[..],
        b"\0\0\0\0\0\0\n",
        b"{\"kept\":{\"place\":-1}}\n",
        b"{\"kept\":{\"place\":18446744073709551615,\"happened\":0,\"system\":\"driver\",\"event_type\":\"xid\"}}\n",
        b"{\"kept\":{\"place\":1,\"happened\":0,\"system\":\"warp\",\"event_type\":\"xid\"}}\n",
        b"{\"other\":1}\n\xff\xfe\n",
        b"[]\n",
    ] {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(NAME);
        let mut first = Life::begin(dir.path());
        first.happens(79);
        drop(first);
        let mut content = std::fs::read(&path).expect("it is there");
        content.extend_from_slice(damage);
        std::fs::write(&path, &content).expect("it is written");
        let second = Life::begin(dir.path());
        assert_eq!(
            second.codes(),
            ["79", "spool"],
            "what is readable is kept, and the loss told"
        );
        let aside = std::fs::read(dir.path().join("spool.jsonl.damaged")).expect("it is kept");
        assert_eq!(aside, content);
        drop(second);
        assert_eq!(
            Life::begin(dir.path()).codes(),
            ["79", "spool"],
            "and not found again"
        );
    }
}

#[test]
fn a_journal_of_much_that_is_gone_is_written_anew() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut life = Life::begin(dir.path());
    life.happens(1);
    let message = "m".repeat(100_000);
    let mut longest = 0;
    for code in 0..200 {
        life.agent.happened(vec![Fact {
            message: message.clone(),
            ..xid(code)
        }]);
        life.keep();
        life.send(Outcome::Taken);
        life.happens(1);
        longest = longest.max(
            std::fs::metadata(dir.path().join(NAME))
                .expect("it is there")
                .len(),
        );
    }
    assert!(longest < 2 * SLACK_BYTES, "{longest}");
}

#[test]
fn a_disk_that_takes_nothing_loses_only_durability() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut life = Life::begin(dir.path());
    life.happens(79);
    // Nothing can be written to a file that is open for reading.
    life.journal.file = File::open(dir.path().join(NAME)).expect("it is there");
    life.happens(48);
    assert!(life.journal.failing);
    assert_eq!(life.codes(), ["79", "48"], "both are sent all the same");
    life.happens(94);
    assert!(!life.journal.failing, "the disk takes it again");
    drop(life);
    assert_eq!(Life::begin(dir.path()).codes(), ["79", "48", "94"]);
}

/// What happens to a file on a disk.
#[derive(Debug, Clone)]
enum Harm {
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Zeros(prop::sample::Index, usize),
    Insert(prop::sample::Index, Vec<u8>),
    Swap(prop::sample::Index, prop::sample::Index),
}

fn harm() -> impl Strategy<Value = Harm> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        4 => (at(), 0..8_u8).prop_map(|(at, bit)| Harm::Flip(at, bit)),
        1 => at().prop_map(Harm::Cut),
        1 => (at(), 1..600_usize).prop_map(|(at, count)| Harm::Zeros(at, count)),
        1 => (at(), prop::collection::vec(any::<u8>(), 1..20)).prop_map(|(at, by)| Harm::Insert(at, by)),
        1 => (at(), at()).prop_map(|(a, b)| Harm::Swap(a, b)),
    ]
}

fn harmed(mut bytes: Vec<u8>, harms: &[Harm]) -> Vec<u8> {
    for harm in harms {
        if bytes.is_empty() {
            break;
        }
        match harm {
            Harm::Flip(at, bit) => *at.get_mut(&mut bytes) ^= 1 << bit,
            Harm::Cut(at) => bytes.truncate(at.index(bytes.len())),
            Harm::Zeros(at, count) => {
                let at = at.index(bytes.len());
                let end = (at + count).min(bytes.len());
                bytes[at..end].fill(0);
            }
            Harm::Insert(at, by) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, by.iter().copied());
            }
            Harm::Swap(a, b) => {
                let (a, b) = (a.index(bytes.len()), b.index(bytes.len()));
                bytes.swap(a, b);
            }
        }
    }
    bytes
}

/// A journal with facts that are kept, that went, and that were lost.
fn lived_in() -> Vec<u8> {
    let dir = tempfile::tempdir().expect("a directory");
    let mut life = Life::begin_within(dir.path(), SpoolLimits { bytes: 2000 });
    for code in 1..=4 {
        life.happens(code);
    }
    life.send(Outcome::Taken);
    for code in [79, 79, 79, 79, 79, 79, 79, 79, 79, 79, 79, 48, 94, 119] {
        life.happens(code);
    }
    std::fs::read(dir.path().join(NAME)).expect("it is there")
}

/// As many cases as are asked for, or the usual number.
fn cases(usual: u32) -> u32 {
    let asked = std::env::var("PROPTEST_CASES").ok();
    asked.and_then(|count| count.parse().ok()).unwrap_or(usual)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(128), failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a disk does to the journal: the agent starts, keeps the lines that are whole, tells
    /// what is not, starts again to the same, and goes on.
    #[test]
    fn any_damage_costs_only_what_it_hit(harms in prop::collection::vec(harm(), 0..4)) {
        thread_local! {
            static JOURNAL: Vec<u8> = lived_in();
        }
        let whole = JOURNAL.with(Clone::clone);
        let bytes = harmed(whole.clone(), &harms);
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(NAME);
        std::fs::write(&path, &bytes).expect("it is written");
        let mut life = Life::begin(dir.path());
        let found = life.codes();
        // A line that nothing hit, and that no later line takes back, is still there.
        let lines = |bytes: &[u8]| -> Vec<Vec<u8>> {
            let mut lines: Vec<_> = bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
            lines.pop();
            lines
        };
        let is_newest = |line: &Vec<u8>| line.windows(5).any(|text| text == b"\"119\"");
        let newest = lines(&whole).into_iter().find(is_newest).expect("it was kept");
        let intact = lines(&bytes);
        if intact.contains(&newest) && !intact.iter().any(|line| line.starts_with(b"{\"gone")) {
            prop_assert!(found.contains(&"119".to_owned()), "{found:?}");
        }
        let aside = dir.path().join("spool.jsonl.damaged").exists();
        prop_assert_eq!(aside, found.contains(&"spool".to_owned()), "{:?}", found);
        if bytes == whole {
            prop_assert!(!aside);
        }
        drop(life);
        life = Life::begin(dir.path());
        prop_assert_eq!(life.codes(), found, "the second start finds the same");
        life.happens(31);
        let mut rounds = 0;
        while !life.agent.spool().is_empty() {
            rounds += 1;
            prop_assert!(rounds < 10, "it is sent in the end: {:?}", life.codes());
            life.send(Outcome::Taken);
        }
    }

    #[test]
    fn any_file_is_opened(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join(NAME), &bytes).expect("it is written");
        let first = Life::begin(dir.path()).codes();
        prop_assert_eq!(Life::begin(dir.path()).codes(), first);
    }
}
