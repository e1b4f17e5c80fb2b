//! The spool on disk: a journal of what the agent's core keeps, so that no event is lost with the
//! process.
//!
//! Each line is one JSON object: a fact that is kept, the places of facts that are gone, or how many
//! were lost and not told yet, of which the last such line counts. The
//! file is emptied whenever nothing is kept, and written anew when most of it is of no use.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, Write};
use std::path::PathBuf;
use std::sync::Arc;

use navarch_core::Fact;
use navarch_core::agent::{Changes, Kept, Losses, Spool, SpoolLimits};
use navarch_model::{BootId, HealthEventType, HealthWatchSystem, Time};
use serde::{Deserialize, Serialize};

use crate::AgentError;
use crate::state::{StateDir, private_file, write_whole};

/// The journal's name in the state directory.
const NAME: &str = "spool.jsonl";
/// A journal is written anew once it is longer than twice what it was then, and this. Too low
/// writes often; too high costs disk.
const SLACK_BYTES: u64 = 4 * 1024 * 1024;
/// A journal that is longer than anything this agent writes is not read into memory.
const MAX_BYTES: u64 = 1024 * 1024 * 1024;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Kept(Row),
    Gone(Vec<u64>),
    Lost { shed: u64, refused: u64 },
}

impl From<Losses> for Line {
    fn from(Losses { shed, refused }: Losses) -> Self {
        Self::Lost { shed, refused }
    }
}

/// A fact as it is stored.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    place: u64,
    happened: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gpu: Option<i32>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    gpu_uuid: String,
    system: HealthWatchSystem,
    event_type: HealthEventType,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    metrics: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    message: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    watch: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    boot: Option<BootId>,
    #[serde(default)]
    count: u32,
}

impl From<&Kept> for Row {
    fn from(Kept { place, fact }: &Kept) -> Self {
        let fact = fact.clone();
        Self {
            place: *place,
            happened: fact.happened,
            gpu: fact.gpu,
            gpu_uuid: fact.gpu_uuid,
            system: fact.system,
            event_type: fact.event_type,
            metrics: fact.metrics,
            message: fact.message,
            watch: fact.watch,
            boot: fact.boot,
            count: fact.count,
        }
    }
}

impl From<Row> for Kept {
    fn from(row: Row) -> Self {
        Self {
            place: row.place,
            fact: Fact {
                happened: row.happened,
                gpu: row.gpu,
                gpu_uuid: row.gpu_uuid,
                system: row.system,
                event_type: row.event_type,
                metrics: row.metrics,
                message: row.message,
                watch: row.watch,
                boot: row.boot,
                count: row.count,
            },
        }
    }
}

/// The journal of one agent.
#[derive(Debug)]
pub(crate) struct Journal {
    _state: Arc<StateDir>,
    path: PathBuf,
    file: File,
    /// The length up to which the file is whole.
    length: u64,
    /// Its length when it was last written anew.
    compact: u64,
    /// What the file says was lost.
    losses: Losses,
    failing: bool,
}

/// What a journal held.
struct Content {
    kept: BTreeMap<u64, Kept>,
    losses: Losses,
    length: u64,
    bad_lines: u64,
}

impl Journal {
    /// Opens the journal, and makes a spool of what it holds. A damaged one is set aside after
    /// everything readable was taken from it, and the spool holds a fact about that.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened or written.
    pub(crate) fn open(
        state: &Arc<StateDir>,
        limits: SpoolLimits,
        wall: Time,
    ) -> Result<(Self, Spool), AgentError> {
        let path = state.file(NAME);
        let read = AgentError::io("read", &path);
        let content = match File::open(&path) {
            Ok(file) => read_lines(file).map_err(read)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Content {
                kept: BTreeMap::new(),
                losses: Losses::default(),
                length: 0,
                bad_lines: 0,
            },
            Err(error) => return Err(read(error)),
        };
        let damaged = content.bad_lines > 0;
        let mut kept: Vec<Kept> = content.kept.into_values().collect();
        if damaged {
            let why = format!("{} lines are no JSON of ours", content.bad_lines);
            let aside = state.set_aside(NAME, &why)?;
            let place = kept.last().map_or(1, |last| last.place + 1);
            kept.push(Kept {
                place,
                fact: damage(content.bad_lines, &aside.display().to_string(), wall),
            });
        }
        let file = private_file()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(AgentError::io("open", &path))?;
        let mut journal = Self {
            _state: Arc::clone(state),
            path: path.clone(),
            file,
            length: if damaged { 0 } else { content.length },
            compact: 0,
            losses: content.losses,
            failing: false,
        };
        let mut spool = Spool::load(limits, kept).with_losses(content.losses);
        // From here on, the spool tells what changes; all of now is written.
        spool.take_changes();
        // A torn last line goes; so does what the limit no longer allows.
        journal
            .rewrite(&spool)
            .map_err(AgentError::io("write", &path))?;
        Ok((journal, spool))
    }

    /// Makes the journal say what the spool says, given what changed since the last call. New facts are durable when this returns. If
    /// they cannot be made so, the agent goes on without: they are sent all the same.
    pub(crate) fn sync(&mut self, spool: &Spool, changes: Changes) {
        match self.try_sync(spool, changes) {
            Ok(()) if self.failing => {
                self.failing = false;
                tracing::info!(path = %self.path.display(), "events are kept on disk again");
            }
            Ok(()) => {}
            Err(error) => {
                if !self.failing {
                    tracing::warn!(
                        path = %self.path.display(), %error,
                        "events cannot be kept on disk; a restart loses those that are not sent"
                    );
                }
                self.failing = true;
            }
        }
    }

    fn try_sync(&mut self, spool: &Spool, changes: Changes) -> io::Result<()> {
        if spool.is_empty() {
            if self.length > 0 || self.failing {
                self.file.set_len(0)?;
                (self.length, self.compact) = (0, 0);
                self.losses = Losses::default();
            }
            return Ok(());
        }
        if self.failing || self.length > 2 * self.compact + SLACK_BYTES {
            return self.rewrite(spool);
        }
        let mut lines = Vec::new();
        let Changes { above, gone } = changes;
        let mut fresh = false;
        for kept in spool.above(above) {
            push_line(&mut lines, &Line::Kept(kept.into()));
            fresh = true;
        }
        // In this order, what a crash tears is counted or told again, and never forgotten.
        let losses = spool.losses();
        if losses != self.losses {
            push_line(&mut lines, &losses.into());
        }
        if !gone.is_empty() {
            push_line(&mut lines, &Line::Gone(gone));
        }
        if lines.is_empty() {
            return Ok(());
        }
        self.append(&lines)?;
        self.losses = losses;
        if fresh {
            self.file.sync_data()?;
        }
        Ok(())
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        // What an append that failed half-way left is cut off first.
        self.file.seek(io::SeekFrom::Start(self.length))?;
        if let Err(error) = self.file.write_all(lines) {
            self.file.set_len(self.length)?;
            return Err(error);
        }
        self.length += lines.len() as u64;
        Ok(())
    }

    fn rewrite(&mut self, spool: &Spool) -> io::Result<()> {
        let mut lines = Vec::new();
        for kept in spool.iter() {
            push_line(&mut lines, &Line::Kept(kept.into()));
        }
        let losses = spool.losses();
        if losses != Losses::default() {
            push_line(&mut lines, &losses.into());
        }
        write_whole(&self.path, &lines)?;
        self.losses = losses;
        self.file = private_file().write(true).open(&self.path)?;
        self.length = lines.len() as u64;
        self.compact = self.length;
        Ok(())
    }
}

fn push_line(lines: &mut Vec<u8>, line: &Line) {
    serde_json::to_writer(&mut *lines, line).expect("a line is plain data, and memory takes it");
    lines.push(b'\n');
}

/// Reads a journal. A last line that is not whole is what a crash leaves, and no damage.
fn read_lines(file: File) -> io::Result<Content> {
    let mut content = Content {
        kept: BTreeMap::new(),
        losses: Losses::default(),
        length: 0,
        bad_lines: 0,
    };
    if file.metadata()?.len() > MAX_BYTES {
        content.bad_lines = 1;
        return Ok(content);
    }
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Ok(content);
        }
        content.length += read as u64;
        match serde_json::from_slice(&line) {
            Ok(Line::Kept(row)) => {
                content.kept.insert(row.place, row.into());
            }
            Ok(Line::Gone(places)) => {
                for place in places {
                    content.kept.remove(&place);
                }
            }
            Ok(Line::Lost { shed, refused }) => content.losses = Losses { shed, refused },
            Err(_) => content.bad_lines += 1,
        }
    }
}

/// That events may be lost is itself a fact.
fn damage(lines: u64, aside: &str, wall: Time) -> Fact {
    Fact {
        happened: wall.0,
        watch: "spool".to_owned(),
        metrics: [("lines_damaged".to_owned(), lines.to_string())].into(),
        message: format!(
            "the spool on disk was damaged: {lines} lines could not be read, and events may be lost; it is kept as {aside}"
        ),
        ..Fact::default()
    }
}

#[cfg(test)]
mod tests {
    use navarch_core::agent::Agent;
    use navarch_core::agent::{Intervals, Outcome, Step};
    use navarch_model::{IdSource, SessionId};

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
}
