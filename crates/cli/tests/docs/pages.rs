//! A page of the documents, cut into what can be run.

use std::path::{Path, PathBuf};

/// Pages that other tests keep: generated, or about the repository itself.
const ELSEWHERE: &[&str] = &[
    "benchmarks.md",
    "configuration.md",
    "metrics.md",
    "scenarios.md",
    "testing.md",
];

/// One page.
#[derive(Debug)]
pub struct Page {
    /// Its path below `docs/`.
    pub name: String,
    /// Its text.
    pub text: String,
    /// What runs before it.
    pub stage: String,
    /// What happens on it, in order.
    pub steps: Vec<Step>,
    /// Commands in the middle of sentences.
    pub spans: Vec<String>,
}

/// One thing that a page shows or does, and the line where it does.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    /// From 1.
    pub line: usize,
    /// What it is.
    pub what: What,
}

/// What a page shows or does.
#[derive(Debug, PartialEq, Eq)]
pub enum What {
    /// A command, the lines that it prints, and how it ends.
    Command {
        command: String,
        prints: Vec<String>,
        exit: i32,
        running: bool,
    },
    /// A command that readers do not see.
    Hidden(String),
    /// A node's agent is frozen.
    Silence(String),
    /// A file of variables with a token.
    Environment { file: String, token: String },
    /// A whole file; a broken one is refused.
    File {
        name: String,
        text: String,
        broken: bool,
        /// The page shows how a rule is written; it offers no file to use as it is.
        example: bool,
    },
    /// A part of a configuration.
    Part(String),
    /// A systemd unit.
    Unit { name: String, text: String },
}

impl Page {
    /// Reads a page.
    pub fn read(docs: &Path, name: &str) -> Self {
        let path = docs.join(name);
        let text = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self::parse(name, text)
    }

    /// Cuts a page up.
    pub fn parse(name: &str, text: String) -> Self {
        let mut page = Self {
            name: name.to_owned(),
            text: String::new(),
            stage: "none".to_owned(),
            steps: Vec::new(),
            spans: Vec::new(),
        };
        let mut lines = text.lines().enumerate();
        let mut prose = String::new();
        let mut example = false;
        while let Some((at, line)) = lines.next() {
            let Some(info) = line.trim_start().strip_prefix("```") else {
                match comment(line) {
                    Some(("stage", stage)) => page.stage = stage.to_owned(),
                    Some(("run", command)) => page.step(at, What::Hidden(command.to_owned())),
                    Some(("write-env", files)) => {
                        let (file, token) = files.split_once(" from ").expect("FILE from TOKEN");
                        let (file, token) = (file.to_owned(), token.to_owned());
                        page.step(at, What::Environment { file, token });
                    }
                    Some(("example", _)) => example = true,
                    Some(("silence", node)) => page.step(at, What::Silence(node.to_owned())),
                    _ => {
                        prose.push_str(line);
                        prose.push('\n');
                    }
                }
                continue;
            };
            let indent = line.len() - line.trim_start().len();
            let block: Vec<&str> = lines
                .by_ref()
                .map(|(_, line)| line)
                .take_while(|line| !line.trim_start().starts_with("```"))
                .map(|line| line.get(indent..).unwrap_or_default())
                .collect();
            page.block(at, info.trim(), &block, example);
            example = false;
        }
        page.spans = spans(&prose);
        page.text = text;
        page
    }

    fn step(&mut self, at: usize, what: What) {
        self.steps.push(Step { line: at + 1, what });
    }

    fn block(&mut self, at: usize, info: &str, lines: &[&str], example: bool) {
        let text = || {
            let mut text = lines.join("\n");
            text.push('\n');
            text
        };
        let mut words = info.split_whitespace();
        let kind = words.next().unwrap_or_default();
        let more: Vec<&str> = words.collect();
        let file = || {
            let name = more.iter().find_map(|word| word.strip_prefix("file="));
            name.map(str::to_owned)
        };
        match (kind, more.as_slice(), file()) {
            ("console", ..) => self.console(at, &more, lines),
            ("yaml", ["part"], _) => self.step(at, What::Part(text())),
            ("yaml", [_, broken @ ..], Some(name)) if matches!(broken, [] | ["broken"]) => {
                let file = What::File {
                    name,
                    text: text(),
                    broken: !broken.is_empty(),
                    example,
                };
                self.step(at, file);
            }
            ("ini", [_], Some(name)) => self.step(at, What::Unit { name, text: text() }),
            ("text", [], _) => {
                let command = lines
                    .iter()
                    .find(|line| line.starts_with("$ ") || line.starts_with("navarch "));
                assert_eq!(
                    command,
                    None,
                    "{}:{}: a command in a block of text is run by no test; use console",
                    self.name,
                    at + 1
                );
            }
            _ => panic!(
                "{}:{}: no test knows a block of {info:?}; tests/docs/main.rs says which there are",
                self.name,
                at + 1
            ),
        }
    }

    fn console(&mut self, at: usize, more: &[&str], lines: &[&str]) {
        let mut exit = 0;
        let mut running = false;
        for word in more {
            match word.strip_prefix("exit=").map(str::parse) {
                Some(Ok(status)) => exit = status,
                None if *word == "running" => running = true,
                _ => panic!("{}:{}: what is {word:?}?", self.name, at + 1),
            }
        }
        let mut count = 0;
        for (number, line) in lines.iter().enumerate() {
            if let Some(command) = line.strip_prefix("$ ") {
                count += 1;
                self.step(
                    at + 1 + number,
                    What::Command {
                        command: command.to_owned(),
                        prints: Vec::new(),
                        exit,
                        running,
                    },
                );
                continue;
            }
            match self.steps.last_mut() {
                Some(Step {
                    what: What::Command { prints, .. },
                    ..
                }) if count > 0 => prints.push((*line).to_owned()),
                _ => panic!(
                    "{}:{}: a console begins with a command",
                    self.name,
                    at + 2 + number
                ),
            }
        }
        assert!(count > 0, "{}:{}: no command", self.name, at + 1);
    }
}

/// A comment of one line that is an order to this harness.
fn comment(line: &str) -> Option<(&str, &str)> {
    let inside = line.trim().strip_prefix("<!--")?.strip_suffix("-->")?;
    let (order, rest) = inside.trim().split_once(": ")?;
    Some((order, rest.trim()))
}

/// Inline code that begins like a command.
fn spans(prose: &str) -> Vec<String> {
    prose
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|span| span.starts_with("navarch ") || span.starts_with("navarch-node "))
        .map(|span| span.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

/// The pages below a folder that this test has to know, in order.
pub fn documents(docs: &Path) -> Vec<String> {
    let mut found = Vec::new();
    collect(docs, docs, &mut found);
    found.retain(|name| !name.starts_with("design/") && !ELSEWHERE.contains(&name.as_str()));
    found.sort_by_key(|name| (name == "runbooks/README.md", name.clone()));
    found
}

fn collect(docs: &Path, folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path: PathBuf = entry.expect("an entry").path();
        if path.is_dir() {
            collect(docs, &path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            let name = path.strip_prefix(docs).expect("it is below");
            found.push(name.display().to_string());
        }
    }
}

#[test]
fn a_page_is_cut_up() {
    let text = "# T\n<!-- stage: dev -->\nUse `navarch list` or\n`other`.\n\n```console exit=1\n$ a b\nout\n$ c\n```\n\n<!-- run: d e -->\n```yaml part\nx: 1\n```\n";
    let page = Page::parse("t.md", text.to_owned());
    let command = |line, command: &str, prints: &[&str]| Step {
        line,
        what: What::Command {
            command: command.to_owned(),
            prints: prints.iter().map(|line| (*line).to_owned()).collect(),
            exit: 1,
            running: false,
        },
    };
    assert_eq!(page.stage, "dev");
    assert_eq!(page.spans, ["navarch list"]);
    assert_eq!(
        page.steps,
        [
            command(7, "a b", &["out"]),
            command(9, "c", &[]),
            Step {
                line: 12,
                what: What::Hidden("d e".to_owned())
            },
            Step {
                line: 13,
                what: What::Part("x: 1\n".to_owned())
            },
        ]
    );
}

#[test]
fn what_no_test_runs_is_refused() {
    for (text, complaint) in [
        ("```\nnavarch list\n```\n", "no test knows a block"),
        ("```sh\nnavarch list\n```\n", "no test knows a block"),
        ("```yaml\na: 1\n```\n", "no test knows a block"),
        ("```text\n$ navarch list\n```\n", "run by no test"),
        ("```console\nnavarch list\n```\n", "begins with a command"),
        ("```console quick\n$ navarch list\n```\n", "what is"),
    ] {
        let panic = std::panic::catch_unwind(|| Page::parse("t.md", text.to_owned()))
            .expect_err("it must be refused");
        let message = panic.downcast_ref::<String>().expect("a message");
        assert!(message.contains(complaint), "{text}: {message}");
    }
}
