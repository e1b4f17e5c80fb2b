//! Reloads: configuration, tokens and health policy, on a change of the file and on SIGHUP.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use navarch_config::{AuthConfig, Config, TokenSource};
use navarch_core::{Input, Settings};
use navarch_model::{Idempotency, ProviderName};
use navarch_policy::HealthPolicy;
use navarch_providers::Provider;
use navarch_store::Retention;
use navarch_time::{CancellationToken, SharedClock};
use tokio::sync::watch;

use crate::access::{Gate, Tokens};
use crate::app::StartError;
use crate::fleet::SubmitError;
use crate::handlers::{ConfigText, Handlers, PolicyText};
use crate::limits::Limits;
use crate::notifier::Notifier;
use crate::tls::Certificate;

/// Seconds of a day.
const DAY: i64 = 24 * 60 * 60;
/// Seconds before a certificate expires from which on it is said. Shorter leaves too little time
/// for whoever renews it by hand, longer is said of certificates that renew themselves.
const TELL_BEFORE: i64 = 14 * DAY;
/// How long until it is said again.
const TELL_AGAIN: Duration = Duration::from_secs(24 * 60 * 60);

/// How often the files are looked at for changes.
const WATCH_FILES: Duration = Duration::from_secs(1);

/// The policy of a file, or the built-in one, with its text.
pub(crate) fn load_policy(path: Option<&Path>) -> Result<(Arc<HealthPolicy>, String), StartError> {
    let Some(path) = path else {
        return Ok((
            HealthPolicy::builtin(),
            HealthPolicy::builtin_text().to_owned(),
        ));
    };
    let text = std::fs::read_to_string(path).map_err(|error| StartError::PolicyFile {
        path: path.to_owned(),
        error,
    })?;
    let policy =
        HealthPolicy::parse(&path.display().to_string(), &text).map_err(StartError::Policy)?;
    Ok((Arc::new(policy), text))
}

/// Watches the configuration and the health policy, and applies what may change live.
pub(crate) struct Watcher {
    pub(crate) handlers: Arc<Handlers>,
    pub(crate) providers: BTreeMap<ProviderName, Arc<dyn Provider>>,
    pub(crate) config: Config,
    pub(crate) config_file: Option<PathBuf>,
    pub(crate) marks: Marks,
    pub(crate) hangups: Hangups,
    pub(crate) gate: Arc<Gate>,
    pub(crate) certificate: Option<Arc<Certificate>>,
    /// When it was last said that the certificate expires, by the monotonic clock.
    pub(crate) expiry_told: Option<Duration>,
    pub(crate) flags: Flags,
    pub(crate) limits: Arc<Limits>,
    pub(crate) keep: watch::Sender<Retention>,
    pub(crate) text: Arc<RwLock<PolicyText>>,
    pub(crate) effective: Arc<RwLock<ConfigText>>,
    pub(crate) clock: SharedClock,
}

/// What became of a configuration that was read again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It is in force, or refused for what it says.
    Settled,
    /// Something else keeps it from being applied for now: it is tried again.
    Waits,
}

/// What a configuration names beside itself, read and sound.
struct Beside {
    notifier: Arc<dyn Notifier>,
    /// Other tokens than before, if it names others.
    tokens: Option<(TokenMarks, Tokens)>,
    /// Another health policy, if it names another.
    policy: Option<(Mark, Arc<HealthPolicy>, String)>,
}

/// What flags of the start say in place of the file. They go on to count when it is read again.
pub(crate) struct Flags {
    address: Option<String>,
    data_dir: Option<PathBuf>,
}

impl Flags {
    /// Finds what the configuration has and its file has not.
    pub(crate) fn found(config: &Config, file: Option<&Path>) -> Self {
        let Some(Ok((written, _))) = file.map(Config::load) else {
            return Self {
                address: None,
                data_dir: None,
            };
        };
        let (address, data_dir) = (&config.server.address, &config.store.data_dir);
        Self {
            address: (written.server.address != *address).then(|| address.clone()),
            data_dir: (written.store.data_dir != *data_dir).then(|| data_dir.clone()),
        }
    }

    fn apply(&self, config: &mut Config) {
        if let Some(address) = &self.address {
            config.server.address.clone_from(address);
        }
        if let Some(data_dir) = &self.data_dir {
            config.store.data_dir.clone_from(data_dir);
        }
    }
}

/// What the store keeps.
pub(crate) fn retention(config: &Config) -> Retention {
    let keep = config.store.retention;
    Retention {
        events_age: keep.events_age,
        events_bytes: keep.events_size.0,
        records_age: keep.records_age,
        ..Retention::default()
    }
}

/// What is to be said of a certificate.
#[derive(Debug, PartialEq, Eq)]
enum Expiry {
    Quiet,
    Soon,
    Past,
}

impl Expiry {
    /// Of one that has so many seconds left, and was last spoken of so long ago.
    fn of(left: i64, told: Option<Duration>) -> Self {
        if told.is_some_and(|ago| ago < TELL_AGAIN) || left >= TELL_BEFORE {
            Self::Quiet
        } else if left > 0 {
            Self::Soon
        } else {
            Self::Past
        }
    }
}

/// What tells whether a file changed.
type Mark = Option<(std::time::SystemTime, u64)>;

fn mark(path: Option<&Path>) -> Mark {
    let data = std::fs::metadata(path?).ok()?;
    Some((data.modified().ok()?, data.len()))
}

/// The tokens as configured, and what their files were like.
type TokenMarks = (AuthConfig, Vec<Mark>);

/// What the watched files were like. Taken before they are read, so that no change between the
/// reading and the first look is missed.
pub(crate) struct Marks {
    config: Mark,
    tokens: TokenMarks,
    certificate: [Mark; 2],
    policy: Mark,
}

impl Marks {
    pub(crate) fn take(config: &Config, file: Option<&Path>) -> Self {
        Self {
            config: mark(file),
            tokens: token_marks(config),
            certificate: certificate_marks(config),
            policy: mark(config.server.health_policy.as_deref()),
        }
    }
}

/// When the files of the certificate changed.
fn certificate_marks(config: &Config) -> [Mark; 2] {
    let tls = config.server.tls.as_ref();
    [
        mark(tls.map(|tls| tls.cert_file.as_path())),
        mark(tls.map(|tls| tls.key_file.as_path())),
    ]
}

/// The tokens as configured, and when their files changed.
fn token_marks(config: &Config) -> TokenMarks {
    let auth = config.server.auth.clone();
    let named = auth.tokens.values().map(|token| &token.source);
    let marks = auth
        .token
        .iter()
        .chain(named)
        .map(|source| match source {
            TokenSource::File(path) => mark(Some(path)),
            TokenSource::Environment(_) => None,
        })
        .collect();
    (auth, marks)
}

impl Watcher {
    pub(crate) async fn run(mut self, closing: CancellationToken) {
        // What could not be applied is tried again, though its file stays as it is.
        let (mut config_waits, mut policy_waits) = (false, false);
        loop {
            let asked = tokio::select! {
                () = closing.cancelled() => return,
                () = self.hangups.next() => true,
                () = self.clock.sleep(WATCH_FILES) => false,
            };
            let now = mark(self.config_file.as_deref());
            let anew = asked || now != self.marks.config;
            if anew || config_waits {
                self.marks.config = now;
                config_waits = self.reload_config(anew).await == Outcome::Waits;
            }
            let now = token_marks(&self.config);
            if asked || now != self.marks.tokens {
                self.marks.tokens = now;
                self.reload_tokens();
            }
            let now = certificate_marks(&self.config);
            if asked || now != self.marks.certificate {
                self.marks.certificate = now;
                self.reload_certificate();
            }
            self.tell_of_expiry();
            let now = mark(self.config.server.health_policy.as_deref());
            if asked || policy_waits || now != self.marks.policy {
                self.marks.policy = now;
                policy_waits = self.reload_policy().await.is_err();
            }
        }
    }

    /// Says once a day that the certificate expires soon, or has.
    fn tell_of_expiry(&mut self) {
        let Some(certificate) = &self.certificate else {
            return;
        };
        let Some(left) = certificate.left(self.handlers.time.now().wall) else {
            return;
        };
        let now = self.clock.monotonic();
        let told = self.expiry_told.map(|told| now.saturating_sub(told));
        let (file, days) = (certificate.file().display(), left / DAY);
        match Expiry::of(left, told) {
            Expiry::Quiet => return,
            Expiry::Soon => tracing::warn!(
                %file, days,
                "the certificate expires soon: put a new one into its files, no restart is needed"
            ),
            Expiry::Past => tracing::error!(
                %file,
                "the certificate has expired and callers refuse it: put a new one into its files"
            ),
        }
        self.expiry_told = Some(now);
    }

    fn reload_certificate(&mut self) {
        match self.certificate.as_ref().map(|held| held.reload()) {
            Some(Ok(true)) => {
                tracing::info!("the certificate changed");
                // A new one that expires soon as well is worth a word at once.
                self.expiry_told = None;
            }
            Some(Err(error)) => {
                tracing::error!(%error, "the new certificate is refused; the old one stays");
            }
            Some(Ok(false)) | None => {}
        }
    }

    fn reload_tokens(&self) {
        match self.gate.reload(&self.config.server.auth) {
            Ok(true) => tracing::info!(tokens = ?self.gate, "tokens changed"),
            Ok(false) => {}
            Err(error) => {
                tracing::error!(%error, "the new tokens are refused; the old ones stay");
            }
        }
    }

    /// Reads the configuration again. It applies as a whole or not at all. A second look at the
    /// same file, which is not `anew`, says nothing that was said already.
    async fn reload_config(&mut self, anew: bool) -> Outcome {
        let Some(path) = &self.config_file else {
            return Outcome::Settled;
        };
        let (mut new, warnings) = match Config::load(path) {
            Ok(loaded) => loaded,
            Err(errors) => {
                let problems = errors.errors().iter().map(ToString::to_string);
                self.refuse_config(problems.collect(), anew);
                return Outcome::Settled;
            }
        };
        for warning in warnings.iter().filter(|_| anew) {
            tracing::warn!(%warning, "configuration");
        }
        self.flags.apply(&mut new);
        let reload = navarch_config::Reload::new(&self.config, &new);
        if reload.is_refused() {
            let problems = reload.restart.iter().map(ToString::to_string);
            self.refuse_config(problems.collect(), anew);
            return Outcome::Settled;
        }
        let beside = match self.beside(&reload.config) {
            Ok(beside) => beside,
            Err(problems) => {
                self.refuse_config(problems, anew);
                // The file that it names may come yet.
                return Outcome::Waits;
            }
        };
        let settings = Settings::new(&reload.config, |name| {
            self.providers
                .get(name)
                .map_or(Idempotency::None, |provider| provider.idempotency())
        });
        let policy = beside
            .policy
            .as_ref()
            .map(|(_, policy, text)| (policy, text));
        let policy = policy
            .filter(|(policy, text)| !self.is_in_force(policy, text))
            .map(|(policy, _)| Arc::clone(policy));
        // Whoever is told from now on is told by the new one.
        let tells = reload.config.server.notifier.webhook.is_some();
        let notifiers = &self.handlers.notifiers;
        let before = tells.then(|| notifiers.replace(Arc::clone(&beside.notifier)));
        let settings = Arc::new(settings);
        if let Err(error) = self.apply(Input::Configure { settings, policy }).await {
            // Nothing is told by one whose configuration is not in force.
            if let Some(before) = before {
                notifiers.replace(before);
            }
            self.refuse_config(vec![format!("it could not be applied yet: {error}")], anew);
            return Outcome::Waits;
        }
        notifiers.replace(beside.notifier);
        for change in &reload.live {
            tracing::info!(%change, "configuration changed");
        }
        self.config = reload.config;
        self.limits.set(&self.config.server.limits.rates);
        self.keep.send_replace(retention(&self.config));
        if let Some((marks, tokens)) = beside.tokens {
            self.marks.tokens = marks;
            self.gate.replace(tokens);
            tracing::info!(tokens = ?self.gate, "tokens changed");
        }
        if let Some((mark, policy, text)) = beside.policy {
            self.marks.policy = mark;
            self.policy_taken(policy, text);
        }
        let mut held = self
            .effective
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if !reload.live.is_empty() {
            held.text = self.config.to_yaml();
            held.loaded = self.handlers.time.now();
        }
        held.refused = None;
        Outcome::Settled
    }

    /// Reads what a new configuration names beside itself, or says all that is wrong with it.
    fn beside(&self, new: &Config) -> Result<Beside, Vec<String>> {
        let old = &self.config.server;
        // Its secret may be another, though the configuration is the same.
        let notifier = self.handlers.notifiers.make(&new.server.notifier);
        let tokens = (old.auth != new.server.auth).then(|| {
            let marks = token_marks(new);
            let tokens = self.gate.read(&new.server.auth);
            tokens.map(|tokens| (marks, tokens))
        });
        let policy = (old.health_policy != new.server.health_policy).then(|| {
            let path = new.server.health_policy.as_deref();
            let mark = mark(path);
            load_policy(path).map(|(policy, text)| (mark, policy, text))
        });
        let mut problems = Vec::new();
        let notifier = notifier.map_err(|error| problems.push(error.to_string()));
        let tokens = tokens.transpose();
        let tokens = tokens.map_err(|error| problems.push(format!("server.auth: {error}")));
        let policy = policy.transpose();
        let policy =
            policy.map_err(|error| problems.push(format!("server.health_policy: {error}")));
        match (notifier, tokens, policy) {
            (Ok(notifier), Ok(tokens), Ok(policy)) => Ok(Beside {
                notifier,
                tokens,
                policy,
            }),
            _ => Err(problems),
        }
    }

    fn refuse_config(&self, problems: Vec<String>, anew: bool) {
        let now = self.handlers.time.now();
        let mut held = self
            .effective
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let told = held.refused.as_ref().map(|(_, told)| told);
        if !anew && told == Some(&problems) {
            return;
        }
        for problem in &problems {
            tracing::error!(%problem, "the new configuration is refused as a whole; the old one stays");
        }
        held.refused = Some((now, problems));
    }

    /// Reads the health policy again. An error means that it could not be applied for now; a file
    /// that is refused is none.
    async fn reload_policy(&self) -> Result<(), SubmitError> {
        let path = self.config.server.health_policy.as_deref();
        let (policy, text) = match load_policy(path) {
            Ok(loaded) => loaded,
            Err(error) => {
                tracing::error!(%error, "the new health policy is refused; the old one stays");
                let refused = Input::PolicyRefused {
                    source: path.map_or_else(String::new, |path| path.display().to_string()),
                    error: error.to_string(),
                };
                // On record first: whoever sees the refusal finds it there.
                let told = self.apply(refused).await;
                self.refuse_policy(error.to_string());
                return told;
            }
        };
        self.take_policy(policy, text).await
    }

    /// Puts a health policy in force that was read.
    async fn take_policy(
        &self,
        policy: Arc<HealthPolicy>,
        text: String,
    ) -> Result<(), SubmitError> {
        if !self.is_in_force(&policy, &text)
            && let Err(error) = self.apply(Input::SetPolicy(Arc::clone(&policy))).await
        {
            tracing::error!(%error, "the new health policy could not be applied; trying again");
            self.refuse_policy(format!("it could not be applied yet: {error}"));
            return Err(error);
        }
        self.policy_taken(policy, text);
        Ok(())
    }

    /// Whether a health policy that was read is the one in force.
    fn is_in_force(&self, policy: &HealthPolicy, text: &str) -> bool {
        let held = self.text.read().unwrap_or_else(PoisonError::into_inner);
        held.text == text && held.policy.source() == policy.source()
    }

    /// Says that the fleet has a health policy that was read.
    fn policy_taken(&self, policy: Arc<HealthPolicy>, text: String) {
        let is_new = !self.is_in_force(&policy, &text);
        let mut held = self.text.write().unwrap_or_else(PoisonError::into_inner);
        held.refused = None;
        if is_new {
            tracing::info!(
                path = policy.source(),
                rules = policy.rules().len(),
                "loaded health policy"
            );
            *held = PolicyText {
                policy,
                text,
                loaded: self.handlers.time.now(),
                refused: None,
            };
        }
    }

    fn refuse_policy(&self, why: String) {
        let now = self.handlers.time.now();
        let mut held = self.text.write().unwrap_or_else(PoisonError::into_inner);
        held.refused = Some((now, why));
    }

    async fn apply(&self, input: Input) -> Result<(), SubmitError> {
        self.handlers.fleet.submit(input).await.map(drop)
    }
}

/// Hang-up signals, where the system has them.
#[derive(Debug)]
pub struct Hangups {
    #[cfg(unix)]
    signal: Option<tokio::signal::unix::Signal>,
}

impl Hangups {
    /// Listens for SIGHUP: from now on it does not kill the process. To be called before anything is
    /// begun; one that comes during the start has the files read again once the start is over.
    pub fn listen() -> Self {
        #[cfg(unix)]
        {
            let signal = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup());
            if let Err(error) = &signal {
                tracing::warn!(%error, "SIGHUP cannot be heard; files are still watched");
            }
            Self {
                signal: signal.ok(),
            }
        }
        #[cfg(not(unix))]
        Self {}
    }

    async fn next(&mut self) {
        #[cfg(unix)]
        if let Some(signal) = &mut self.signal
            && signal.recv().await.is_some()
        {
            return;
        }
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_the_start_stay_and_are_no_change_of_the_file() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("navarch.yaml");
        let write = |server: &str| {
            let pools = "pools: {p: {provider: fake, instance_type: x, max_nodes: 1}}";
            let text = format!("providers: {{fake: {{}}}}\n{pools}\nserver: {{{server}}}\n");
            std::fs::write(&file, text).unwrap();
        };
        let restarts = |flags: &Flags, running: &Config| {
            let mut new = Config::load(&file).unwrap().0;
            flags.apply(&mut new);
            let reload = navarch_config::Reload::new(running, &new);
            let keys = reload.restart.into_iter().map(|change| change.key);
            keys.collect::<Vec<_>>()
        };
        write("address: \":1\"");
        let mut running = Config::load(&file).unwrap().0;
        let none = Flags::found(&running, Some(&file));
        running.server.address = "127.0.0.1:7".to_owned();
        running.store.data_dir = "/elsewhere".into();
        let flags = Flags::found(&running, Some(&file));
        for server in [
            "address: \":1\"",
            "address: \":2\"",
            "heartbeat_timeout: 50s",
        ] {
            write(server);
            assert_eq!(restarts(&flags, &running), [] as [&str; 0], "{server}");
        }
        write("external_address: http://h");
        assert_eq!(restarts(&flags, &running), ["server.external_address"]);
        // Without the flag, the key is the file's.
        write("address: \":2\"");
        let running = Config {
            server: navarch_config::ServerConfig {
                address: ":1".to_owned(),
                ..running.server
            },
            store: Default::default(),
            ..running
        };
        assert_eq!(restarts(&none, &running), ["server.address"]);
    }

    #[test]
    fn an_expiry_is_told_once_a_day_from_two_weeks_ahead() {
        let hours = |hours: u64| Some(Duration::from_secs(hours * 3600));
        for (left, told, expected) in [
            (14 * DAY, None, Expiry::Quiet),
            (14 * DAY - 1, None, Expiry::Soon),
            (14 * DAY - 1, hours(23), Expiry::Quiet),
            (13 * DAY, hours(24), Expiry::Soon),
            (1, hours(25), Expiry::Soon),
            (0, hours(24), Expiry::Past),
            (-DAY, hours(1), Expiry::Quiet),
            (i64::MIN, None, Expiry::Past),
        ] {
            assert_eq!(Expiry::of(left, told), expected, "{left} s, {told:?}");
        }
    }
}
