//! The part of systemd that the documents use: units that are checked, started and told things.

use std::path::Path;
use std::process::Command;

/// What a service's unit says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// The command line of the service.
    pub start: String,
    /// The command line that makes it read its files again.
    pub reload: Option<String>,
    /// The file with its environment.
    pub environment_file: Option<String>,
    /// When it is started again after it ended by itself.
    pub restart: Option<String>,
}

/// Keys that our units may use, by section. systemd ignores a misspelled key, which is why this
/// list exists where `systemd-analyze` does not.
const KEYS: &[(&str, &[&str])] = &[
    ("Unit", &["Description", "Documentation", "After", "Wants"]),
    (
        "Service",
        &[
            "Type",
            "User",
            "Group",
            "EnvironmentFile",
            "ExecStart",
            "ExecReload",
            "Restart",
            "RestartSec",
            "TimeoutStopSec",
            "StateDirectory",
            "StateDirectoryMode",
            "LimitNOFILE",
            "NoNewPrivileges",
            "ProtectSystem",
            "ProtectHome",
            "PrivateTmp",
        ],
    ),
    ("Install", &["WantedBy"]),
];

impl Unit {
    /// Reads a unit.
    ///
    /// # Errors
    ///
    /// Fails on what systemd would ignore or refuse.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut keys: &[&str] = &[];
        let mut unit = Self {
            start: String::new(),
            reload: None,
            environment_file: None,
            restart: None,
        };
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(section) = line.strip_prefix('[') {
                let section = section.strip_suffix(']').ok_or("a section without ]")?;
                keys = KEYS
                    .iter()
                    .find(|(name, _)| *name == section)
                    .map(|(_, keys)| *keys)
                    .ok_or_else(|| format!("no section {section}"))?;
                continue;
            }
            let (key, value) = line
                .split_once('=')
                .ok_or_else(|| format!("no key: {line}"))?;
            if !keys.contains(&key) {
                return Err(format!("no key {key} in this section"));
            }
            if value.is_empty() {
                return Err(format!("{key} is empty"));
            }
            match key {
                "ExecStart" => unit.start = value.to_owned(),
                "ExecReload" => unit.reload = Some(value.to_owned()),
                "Restart" if !["no", "on-failure", "always"].contains(&value) => {
                    return Err(format!("what is Restart={value}?"));
                }
                "Restart" => unit.restart = Some(value.to_owned()),
                "EnvironmentFile" => unit.environment_file = Some(value.to_owned()),
                _ => {}
            }
        }
        if !unit.start.starts_with('/') {
            return Err("ExecStart must be an absolute path".to_owned());
        }
        Ok(unit)
    }
}

impl Unit {
    /// Whether the service is started again after it ended by itself with this exit status.
    pub fn starts_again(&self, status: Option<i32>) -> bool {
        match self.restart.as_deref() {
            Some("always") => true,
            Some("on-failure") => status != Some(0),
            _ => false,
        }
    }
}

/// Asks systemd itself about a unit file, where it is installed.
///
/// # Errors
///
/// Fails with its complaints.
pub fn verify(file: &Path) -> Result<(), String> {
    let asked = Command::new("systemd-analyze")
        .arg("verify")
        .arg(file)
        .output();
    let Ok(answer) = asked else {
        return Ok(());
    };
    let complaints = String::from_utf8_lossy(&answer.stderr);
    // It is no fault of the unit that this machine is not the one that it is for.
    let about_us: Vec<&str> = complaints
        .lines()
        .filter(|line| {
            let elsewhere = ["is not executable", "No such file", "Unit .* not found"];
            !elsewhere.iter().any(|words| line.contains(words))
                && file
                    .file_name()
                    .and_then(|name| name.to_str())
                    .is_some_and(|name| line.contains(name))
        })
        .collect();
    if about_us.is_empty() {
        Ok(())
    } else {
        Err(about_us.join("\n"))
    }
}

#[test]
fn units() {
    let good = "[Unit]\nDescription=x\n[Service]\nExecStart=/usr/local/bin/navarch server\n\
                ExecReload=/bin/kill -HUP $MAINPID\n[Install]\nWantedBy=multi-user.target\n";
    let unit = Unit::parse(good).expect("a good unit");
    assert_eq!(unit.start, "/usr/local/bin/navarch server");
    for (from, to, complaint) in [
        ("ExecReload", "ExecReloads", "no key ExecReloads"),
        ("[Install]", "[Instal]", "no section Instal"),
        ("/usr/local/bin/", "", "absolute path"),
        ("Description=x", "Description=", "is empty"),
        (
            "ExecReload=",
            "Restart=sometimes\nExecReload=",
            "what is Restart",
        ),
    ] {
        let error = Unit::parse(&good.replace(from, to)).expect_err(to);
        assert!(error.contains(complaint), "{error}");
    }
}
