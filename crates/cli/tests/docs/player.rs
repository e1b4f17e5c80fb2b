//! Plays a page: runs its commands, checks its files, and compares what it shows with what happens.

mod services;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::pages::{Page, What};
use crate::support::{
    Program, Reserved, Said, directory, raw_http, run, signal, split as halves, until,
};
use crate::systemd::{Unit, verify};
use crate::{verdicts, words};

/// Places of a real machine that a page may name; here they are below the page's own directory.
const PLACES: &[&str] = &["/etc/navarch", "/var/lib/navarch", "/var/backups"];

/// What pages call the control plane.
const NAMES: &[&str] = &[
    "http://navarch.example.com:50051",
    "http://localhost:50051",
    "http://127.0.0.1:8080",
];

/// Programs of every machine, which run as they are.
const TOOLS: &[&str] = &[
    "cat", "chmod", "cp", "head", "ls", "mkdir", "mv", "rm", "tail",
];

/// What a part of a configuration is completed with.
const PROVIDERS: &str = "\nproviders:\n  cloud:\n    type: fake\n";
const POOLS: &str =
    "\npools:\n  training:\n    provider: cloud\n    instance_type: fake-8x\n    max_nodes: 4\n";

/// Plays a page from its first line to its last.
pub fn play(page: &Page) {
    let mut player = Player {
        page: page.name.clone(),
        line: 0,
        names: BTreeMap::new(),
        environment: Vec::new(),
        units: BTreeMap::new(),
        frozen: Vec::new(),
        url: None,
        programs: BTreeMap::new(),
        place: directory(),
        address: Reserved::new(),
    };
    // Pages show the files of the repository by their paths in it.
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    std::os::unix::fs::symlink(examples, player.place.path().join("examples")).expect("a link");
    player.set_stage(&page.stage);
    for span in &page.spans {
        player.exists(span);
    }
    for step in &page.steps {
        player.line = step.line;
        match &step.what {
            What::Command {
                command,
                prints,
                exit,
                running: false,
            } => player.command(command, prints, *exit),
            What::Command {
                command, prints, ..
            } => player.running(command, prints),
            What::Hidden(command) => player.command(command, &[], 0),
            What::Silence(node) => player.silence(node),
            What::Environment { file, token } => player.environment_file(file, token),
            What::File {
                name,
                text,
                broken,
                example,
            } => {
                player.file(name, text, *broken);
                if !broken && !example {
                    player.judges(name, text);
                }
            }
            What::Part(text) => player.part(text),
            What::Unit { name, text } => player.unit(name, text),
        }
    }
}

struct Player {
    page: String,
    line: usize,
    /// What placeholders stand for.
    names: BTreeMap<String, String>,
    /// What `export` set.
    environment: Vec<(String, String)>,
    /// Units by their name without `.service`.
    units: BTreeMap<String, Unit>,
    /// Agents that do not run until the end.
    frozen: Vec<u32>,
    /// Where the control plane of the page is.
    url: Option<String>,
    /// Programs that run, by the name of their unit or command; they end before the directory.
    programs: BTreeMap<String, Program>,
    place: TempDir,
    address: Reserved,
}

impl Drop for Player {
    fn drop(&mut self) {
        for pid in &self.frozen {
            signal(*pid, Signal::CONT);
        }
    }
}

impl Player {
    #[track_caller]
    fn fail(&self, what: &str) -> ! {
        panic!("docs/{}:{}: {what}", self.page, self.line)
    }

    fn set_stage(&mut self, stage: &str) {
        match stage {
            "none" => {}
            "dev" => {
                self.start("dev", "navarch dev --nodes 4");
                let four = ["NODE_STATUS_ACTIVE"; 4].join(" ");
                until("the fleet of the page is ACTIVE", || {
                    let said = self.navarch(&["list", "--status=active", "--output=yaml"]);
                    let active: Vec<&str> = said
                        .out
                        .lines()
                        .filter_map(|line| line.trim().strip_prefix("status: "))
                        .map(|status| status.trim_matches('"'))
                        .collect();
                    (active.join(" ") == four).then_some(()).ok_or(said.out)
                });
            }
            other => self.fail(&format!("there is no stage {other:?}")),
        }
    }

    /// Runs the program for an answer, as the page's reader does.
    fn navarch(&self, arguments: &[&str]) -> Said {
        run(self.place.path(), &self.variables(), arguments)
    }

    fn variables(&self) -> Vec<(&str, &str)> {
        let mut variables: Vec<(&str, &str)> = self
            .environment
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        if let Some(url) = &self.url {
            variables.push(("NAVARCH_SERVER", url));
        }
        variables
    }

    /// A column of a list, from its first entry that has no placeholder yet.
    fn first(&self, arguments: &[&str], key: &str) -> String {
        until(&format!("there is a {key}"), || {
            let mut all = arguments.to_vec();
            all.push("--output=json");
            let said = self.navarch(&all);
            let list: Vec<serde_json::Value> =
                serde_json::from_str(&said.out).map_err(|error| format!("{error}: {said:?}"))?;
            let mut found = list.iter().filter_map(|one| one[key].as_str());
            let new = found.find(|one| !self.names.values().any(|known| known == one));
            new.map(str::to_owned).ok_or(said.out)
        })
    }

    /// Replaces placeholders, places and addresses by those of this run.
    fn fill(&mut self, text: &str) -> String {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('<') {
            filled.push_str(before);
            let Some((name, after)) = after.split_once('>') else {
                self.fail("a < without its >");
            };
            let value = match self.names.get(name) {
                Some(value) => value.clone(),
                None => {
                    let value = match name {
                        "node" | "other-node" | "third-node" | "fourth-node" => {
                            self.first(&["list", "--status=active"], "node_id")
                        }
                        "instance" => self.first(&["instance", "list"], "instance_id"),
                        "incident" => self.first(&["incident", "list", "--open"], "incident_id"),
                        "pool" => self.first(&["pool", "list"], "name"),
                        _ => self.fail(&format!("what does <{name}> stand for?")),
                    };
                    self.names.insert(name.to_owned(), value.clone());
                    value
                }
            };
            filled.push_str(&value);
            rest = after;
        }
        filled.push_str(rest);
        self.here(&filled)
    }

    /// Replaces places and addresses.
    fn here(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for place in PLACES {
            let ours = format!("{}{place}", self.place.path().display());
            text = text.replace(place, &ours);
        }
        if let Some(url) = &self.url {
            for name in NAMES {
                text = text.replace(name, url);
            }
        }
        text
    }

    /// Output as a page shows it.
    fn elsewhere(&self, output: &str) -> String {
        let mut output = output.replace(&self.place.path().display().to_string(), "");
        if let Some(url) = &self.url {
            let address = url.trim_start_matches("http://");
            let simulated = self.programs.contains_key("simulation");
            let usual = if simulated { 8080 } else { 50051 };
            output = output.replace(address, &format!("127.0.0.1:{usual}"));
        }
        output
    }

    fn compare(&self, prints: &[String], output: &str) -> Result<(), String> {
        let output = self.elsewhere(output);
        match words::missing(prints, &output) {
            None => Ok(()),
            Some(line) => Err(format!("no line as {line:?} in:\n{output}")),
        }
    }

    /// Inline code: a command that exists.
    fn exists(&self, span: &str) {
        let mut words: Vec<String> = words::split(span)
            .into_iter()
            .filter(|word| !word.contains('<') && !word.contains("..."))
            .collect();
        if words.remove(0) == "navarch-node" {
            words.insert(0, "agent".to_owned());
        }
        words.push("--help".to_owned());
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let said = run(self.place.path(), &[], &words);
        if said.code != Some(0) {
            self.fail(&format!("there is no command `{span}`: {}", said.err));
        }
    }

    fn command(&mut self, command: &str, prints: &[String], exit: i32) {
        let command = self.fill(command);
        let words = words::split(&command);
        let all: Vec<&str> = words.iter().map(String::as_str).collect();
        let all = match all.as_slice() {
            ["sudo", rest @ ..] => rest,
            all => all,
        };
        let answer = match all {
            ["navarch", arguments @ ..] => {
                let asks = asks(arguments);
                let once = || {
                    let said = self.navarch(arguments);
                    let output = format!("{}{}", said.out, said.err);
                    if said.code != Some(exit) {
                        return Err(format!(
                            "exit status {:?} instead of {exit}:\n{output}",
                            said.code
                        ));
                    }
                    self.compare(prints, &output)
                };
                if asks {
                    until(&format!("docs/{}:{}", self.page, self.line), once);
                    return;
                }
                once()
            }
            ["curl", "-s", url, rest @ ..] => {
                until(&format!("docs/{}:{}", self.page, self.line), || {
                    let body = self.get(url)?;
                    let shown = match rest {
                        [] => body,
                        ["|", "grep", word] => grep(&body, word),
                        _ => self.fail("a pipe that the harness does not know"),
                    };
                    self.compare(prints, &shown)
                });
                return;
            }
            ["systemctl", "is-active", unit] => {
                let place = format!("docs/{}:{}", self.page, self.line);
                until(&place, || {
                    let (state, status) = self.state(unit)?;
                    if status != exit {
                        return Err(format!("{state}: exit status {status} instead of {exit}"));
                    }
                    self.compare(prints, state)
                });
                return;
            }
            ["systemctl", rest @ ..] => self
                .systemctl(rest)
                .and_then(|output| self.compare(prints, &output)),
            ["journalctl", "-u", unit, rest @ ..] => {
                until(&format!("docs/{}:{}", self.page, self.line), || {
                    let program = self.programs.get(*unit);
                    let output = program.map(Program::output).unwrap_or_default();
                    let shown = match rest {
                        [] => output,
                        ["|", "grep", word] => grep(&output, word),
                        _ => self.fail("what journalctl is asked, the harness does not know"),
                    };
                    self.compare(prints, &shown)
                });
                return;
            }
            ["export", setting] => self.export(setting),
            ["export", name, path] => self.export_file(name, path),
            ["cargo", "build", "--release"] => Ok(()),
            [tool, ..] if TOOLS.contains(tool) => {
                let said = Command::new("sh")
                    .args(["-c", &command])
                    .current_dir(self.place.path())
                    .output()
                    .expect("a shell");
                let mut output = String::from_utf8_lossy(&said.stdout).into_owned();
                output.push_str(&String::from_utf8_lossy(&said.stderr));
                match said.status.code() {
                    Some(code) if code == exit => self.compare(prints, &output),
                    code => Err(format!("exit status {code:?}: {output}")),
                }
            }
            _ => Err("no test runs this command; teach the harness or take it out".to_owned()),
        };
        if let Err(why) = answer {
            self.fail(&format!("{command}: {why}"));
        }
    }

    /// `export NAME=VALUE`, or `export NAME=$(cat PATH)`.
    fn export(&mut self, setting: &str) -> Result<(), String> {
        let (name, value) = setting.split_once('=').ok_or("no = in it")?;
        self.environment.push((name.to_owned(), value.to_owned()));
        Ok(())
    }

    fn export_file(&mut self, name: &str, path: &str) -> Result<(), String> {
        let name = name.strip_suffix("=$(cat").ok_or("what is exported?")?;
        let path = path.strip_suffix(')').ok_or("what is exported?")?;
        let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
        self.environment
            .push((name.to_owned(), text.trim().to_owned()));
        Ok(())
    }

    /// What an address answers to a browser.
    fn get(&self, url: &str) -> Result<String, String> {
        let rest = url.strip_prefix("http://").ok_or("no http:// address")?;
        let (address, path) = rest.split_once('/').unwrap_or((rest, ""));
        let request = format!("GET /{path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
        let answer = raw_http(address, &request);
        let (head, body) = halves(&answer);
        if head.contains(" 200 ") {
            Ok(body.to_owned())
        } else {
            Err(answer)
        }
    }

    /// A command that goes on.
    fn running(&mut self, command: &str, prints: &[String]) {
        let command = self.fill(command);
        let words = words::split(&command);
        let name = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["navarch", "dev", ..] => "dev",
            ["navarch", "sim", "interactive", ..] => "simulation",
            ["navarch", "server", ..] => "server",
            ["navarch", "agent", ..] | ["navarch-node", ..] => "agent",
            ["navarch", ..] => "",
            _ => self.fail("no test runs this command"),
        };
        if name.is_empty() {
            let arguments: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
            let mut program = Program::launch(self.place.path(), &self.variables(), &arguments);
            until(&format!("docs/{}:{}", self.page, self.line), || {
                self.compare(prints, &program.output())
            });
            program.terminate();
            return;
        }
        self.start(name, &command);
        until(&format!("docs/{}:{}", self.page, self.line), || {
            self.compare(prints, &self.programs[name].output())
        });
    }

    /// Starts a program of the fleet, on addresses that are free.
    fn start(&mut self, name: &str, command: &str) {
        let command = self.here(command);
        let mut arguments = words::split(&command);
        let program = arguments.remove(0);
        if program.ends_with("navarch-node") {
            arguments.insert(0, "agent".to_owned());
        }
        let kind = arguments.first().cloned().unwrap_or_default();
        if kind == "agent" {
            // The machine that runs the tests has no GPUs to show.
            let mut variables = vec![("NAVARCH_FAKE_GPU", "true")];
            variables.extend(self.variables());
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let program = Program::launch(self.place.path(), &variables, &arguments);
            until("the agent registered", || {
                let output = program.output();
                output
                    .contains("node daemon started successfully")
                    .then_some(())
                    .ok_or(output)
            });
            self.programs.insert(name.to_owned(), program);
            return;
        }
        // One address for the whole page: programs that go on look for it there.
        arguments.push(self.address.flag());
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let variables: Vec<(&str, &str)> = self
            .environment
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let program = Program::start(self.place.path(), &variables, &words);
        self.url = Some(program.url.clone());
        self.programs.insert(name.to_owned(), program);
    }

    /// Writes what a page tells in words: a file of variables with a token in it.
    fn environment_file(&self, file: &str, token: &str) {
        let text = std::fs::read_to_string(self.here(token)).expect("the token");
        let line = format!("NAVARCH_AUTH_TOKEN={text}");
        std::fs::write(self.here(file), line).expect("a file");
    }

    fn silence(&mut self, node: &str) {
        let node = self.fill(node);
        let said = self.navarch(&["instance", "get", &node, "--output=json"]);
        let instance: serde_json::Value = serde_json::from_str(&said.out).expect("JSON");
        let id = instance["provider_instance_id"].as_str();
        let pid = machine(self.place.path(), id.expect("the cloud's id"))
            .unwrap_or_else(|| self.fail(&format!("no process of {node}")));
        signal(pid, Signal::STOP);
        self.frozen.push(pid);
    }

    fn keep(&self, name: &str, text: &str) -> PathBuf {
        let here = self.here(name);
        let path = self.place.path().join(here.trim_start_matches("./"));
        let folder = path.parent().expect("a folder");
        std::fs::create_dir_all(folder).expect("a folder");
        std::fs::write(&path, self.here(text)).expect("a file");
        path
    }

    fn file(&self, name: &str, text: &str, broken: bool) {
        let path = self.keep(name, text);
        let kind = if is_policy(text) { "policy" } else { "config" };
        let path = path.to_str().expect("a plain path");
        let said = run(self.place.path(), &[], &[kind, "check", path]);
        let fine = said.code == Some(0);
        if fine == broken || (fine && said.err.contains("Warning:")) {
            self.fail(&format!("navarch {kind} check says {said:?}"));
        }
    }

    /// A policy that readers may put in force misses nothing that every policy has to see.
    fn judges(&self, name: &str, text: &str) {
        if is_policy(text)
            && let Some(why) = verdicts::wrong(name, text)
        {
            self.fail(&why);
        }
    }

    fn part(&self, text: &str) {
        let has = |key: &str| text.lines().any(|line| line.starts_with(key));
        let mut whole = text.to_owned();
        if !has("providers:") {
            whole.push_str(PROVIDERS);
        }
        if !has("pools:") {
            whole.push_str(POOLS);
        }
        let path = self.keep("part.yaml", &whole);
        let path = path.to_str().expect("a plain path");
        let said = run(self.place.path(), &[], &["config", "check", path]);
        if said.code != Some(0) || said.err.contains("Warning:") {
            self.fail(&format!("navarch config check says {said:?}"));
        }
    }

    fn unit(&mut self, name: &str, text: &str) {
        let unit = Unit::parse(text).unwrap_or_else(|why| self.fail(&why));
        let file = name.rsplit('/').next().unwrap_or(name);
        let Some(short) = file.strip_suffix(".service") else {
            self.fail("a unit's name ends in .service");
        };
        let kept = self.place.path().join("units").join(file);
        std::fs::create_dir_all(kept.parent().expect("a folder")).expect("a folder");
        std::fs::write(&kept, text).expect("a file");
        if let Err(why) = verify(&kept) {
            self.fail(&why);
        }
        self.units.insert(short.to_owned(), unit);
    }
}

fn is_policy(text: &str) -> bool {
    text.lines().any(|line| line.starts_with("rules:"))
}

/// Whether a command changes nothing, so that it may be asked again.
fn asks(arguments: &[&str]) -> bool {
    match arguments {
        ["--server", _, rest @ ..] => asks(rest),
        ["list" | "get" | "events" | "explain" | "version", ..]
        | ["instance", "list" | "get", ..]
        | ["incident", "list" | "get", ..]
        | ["hold", "list", ..]
        | ["pool", "list" | "explain", ..]
        | ["policy", "show", ..] => true,
        ["automation", rest @ ..] => rest.is_empty(),
        _ => false,
    }
}

fn grep(text: &str, word: &str) -> String {
    let mut found = String::new();
    for line in text.lines().filter(|line| line.contains(word)) {
        found.push_str(line);
        found.push('\n');
    }
    found
}

/// The process of a machine, by the file that names it.
fn machine(folder: &Path, node: &str) -> Option<u32> {
    let entries = std::fs::read_dir(folder).ok()?;
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if let Some(pid) = machine(&path, node) {
                return Some(pid);
            }
        } else if entry.file_name() == "pid"
            && folder.file_name().is_some_and(|name| name == node)
            && let Ok(text) = std::fs::read_to_string(&path)
        {
            return text.split(' ').next()?.trim().parse().ok();
        }
    }
    None
}
