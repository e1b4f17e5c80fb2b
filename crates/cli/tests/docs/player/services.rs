//! The player's systemd: it starts, ends and watches the services of a page.

use rustix::process::Signal;

use super::Player;
use crate::support::{runs, signal};
use crate::systemd::Unit;

impl Player {
    /// Plays systemd.
    pub(super) fn systemctl(&mut self, words: &[&str]) -> Result<String, String> {
        let (verb, names) = match words {
            ["daemon-reload"] => return Ok(String::new()),
            ["enable", "--now", names @ ..] => ("start", names),
            [verb, names @ ..] => (*verb, names),
            [] => return Err("what is systemctl to do?".to_owned()),
        };
        for name in names {
            let unit = self.units.get(*name).cloned();
            let unit = unit.ok_or_else(|| format!("the page shows no unit {name}"))?;
            match verb {
                "start" => self.start_unit(name, &unit)?,
                "stop" => self.stop_unit(name)?,
                "restart" => {
                    self.stop_unit(name)?;
                    self.start_unit(name, &unit)?;
                }
                "reload" => {
                    if unit.reload.as_deref() != Some("/bin/kill -HUP $MAINPID") {
                        return Err("the unit says nothing else that reloads".to_owned());
                    }
                    let program = self.programs.get(*name).ok_or("it does not run")?;
                    signal(program.pid(), Signal::HUP);
                }
                _ => return Err(format!("the harness does not know systemctl {verb}")),
            }
        }
        Ok(String::new())
    }

    /// What systemd says of a service, and the exit status of saying so. A service that ended is
    /// started again where its unit says so.
    pub(super) fn state(&mut self, name: &str) -> Result<(&'static str, i32), String> {
        let unit = self.units.get(name).cloned();
        let unit = unit.ok_or_else(|| format!("the page shows no unit {name}"))?;
        let Some(program) = self.programs.get_mut(name) else {
            return Ok(("inactive", 3));
        };
        if runs(program.pid()) {
            return Ok(("active", 0));
        }
        let (status, _) = program.terminate();
        if unit.starts_again(status) {
            self.start_unit(name, &unit)?;
            return Ok(("active", 0));
        }
        let state = if status == Some(0) {
            "inactive"
        } else {
            "failed"
        };
        Ok((state, 3))
    }

    fn start_unit(&mut self, name: &str, unit: &Unit) -> Result<(), String> {
        let mut added = 0;
        if let Some(file) = &unit.environment_file {
            let file = self.here(file);
            let text = std::fs::read_to_string(&file)
                .map_err(|error| format!("EnvironmentFile {file}: {error}"))?;
            for line in text.lines().filter(|line| !line.starts_with('#')) {
                let (key, value) = line.split_once('=').ok_or("a line without =")?;
                self.environment.push((key.to_owned(), value.to_owned()));
                added += 1;
            }
        }
        self.start(name, &unit.start);
        let keep = self.environment.len() - added;
        self.environment.truncate(keep);
        Ok(())
    }

    fn stop_unit(&mut self, name: &str) -> Result<(), String> {
        let mut program = self.programs.remove(name).ok_or("it does not run")?;
        match program.terminate() {
            (Some(0), _) => Ok(()),
            other => Err(format!("it ended with {other:?}: {}", program.output())),
        }
    }
}
