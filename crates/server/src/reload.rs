//! Reloads: configuration, tokens and health policy, on a change of the file and on SIGHUP.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use navarch_config::{AuthConfig, Config, TokenSource};
use navarch_core::{Input, Settings};
use navarch_model::Idempotency;
use navarch_policy::HealthPolicy;
use navarch_time::{CancellationToken, SharedClock};

use crate::access::Gate;
use crate::app::StartError;
use crate::fleet::SubmitError;
use crate::handlers::{Handlers, PolicyText};
use crate::tls::Certificate;

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
    pub(crate) config: Config,
    pub(crate) config_file: Option<PathBuf>,
    pub(crate) marks: Marks,
    pub(crate) hangup: Hangups,
    pub(crate) gate: Arc<Gate>,
    pub(crate) certificate: Option<Arc<Certificate>>,
    pub(crate) text: Arc<RwLock<PolicyText>>,
    pub(crate) clock: SharedClock,
}

/// What tells whether a file changed.
type Mark = Option<(std::time::SystemTime, u64)>;

fn mark(path: Option<&Path>) -> Mark {
    let data = std::fs::metadata(path?).ok()?;
    Some((data.modified().ok()?, data.len()))
}

/// What the watched files were like. Taken before they are read, so that no change between the
/// reading and the first look is missed.
pub(crate) struct Marks {
    config: Mark,
    tokens: (AuthConfig, Vec<Mark>),
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
fn token_marks(config: &Config) -> (AuthConfig, Vec<Mark>) {
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
        // What could not be applied is tried again, though the file stays as it is.
        let mut config_waits = false;
        let mut policy_waits = false;
        loop {
            let asked = tokio::select! {
                () = closing.cancelled() => return,
                () = self.hangup.next() => true,
                () = self.clock.sleep(WATCH_FILES) => false,
            };
            let now = mark(self.config_file.as_deref());
            if asked || config_waits || now != self.marks.config {
                self.marks.config = now;
                config_waits = self.reload_config().await.is_err();
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
            let now = mark(self.config.server.health_policy.as_deref());
            if asked || policy_waits || now != self.marks.policy {
                self.marks.policy = now;
                policy_waits = self.reload_policy().await.is_err();
            }
        }
    }

    fn reload_certificate(&self) {
        match self.certificate.as_ref().map(|held| held.reload()) {
            Some(Ok(true)) => tracing::info!("the certificate changed"),
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

    /// Reads the configuration again. An error means that it could not be applied for now; a file
    /// that is refused is none.
    async fn reload_config(&mut self) -> Result<(), SubmitError> {
        let Some(path) = &self.config_file else {
            return Ok(());
        };
        let (new, warnings) = match Config::load(path) {
            Ok(loaded) => loaded,
            Err(errors) => {
                tracing::error!(%errors, "the new configuration is refused; the old one stays");
                return Ok(());
            }
        };
        for warning in warnings {
            tracing::warn!(%warning, "configuration");
        }
        let reload = navarch_config::Reload::new(&self.config, &new);
        for change in &reload.restart {
            tracing::warn!(%change, "this change needs a restart");
        }
        let providers = &self.handlers.providers;
        let settings = Settings::new(&reload.config, |name| {
            providers
                .get(name)
                .map_or(Idempotency::None, |provider| provider.idempotency())
        });
        let applied = self.apply(Input::Configure(Arc::new(settings))).await;
        if let Err(error) = applied {
            tracing::error!(%error, "the new configuration could not be applied; trying again");
            return Err(error);
        }
        for change in &reload.live {
            tracing::info!(%change, "configuration changed");
        }
        self.config = reload.config;
        Ok(())
    }

    /// Reads the health policy again. An error means that it could not be applied for now; a file
    /// that is refused is none.
    async fn reload_policy(&self) -> Result<(), SubmitError> {
        let path = self.config.server.health_policy.as_deref();
        let (policy, text) = match load_policy(path) {
            Ok(loaded) => loaded,
            Err(error) => {
                tracing::error!(%error, "the new health policy is refused; the old one stays");
                self.refuse_policy(error.to_string());
                return Ok(());
            }
        };
        let same = {
            let mut held = self.text.write().unwrap_or_else(PoisonError::into_inner);
            let same = held.text == text && held.policy.source() == policy.source();
            if same {
                held.refused = None;
            }
            same
        };
        if same {
            return Ok(());
        }
        if let Err(error) = self.apply(Input::SetPolicy(Arc::clone(&policy))).await {
            tracing::error!(%error, "the new health policy could not be applied; trying again");
            self.refuse_policy(format!("it could not be applied yet: {error}"));
            return Err(error);
        }
        tracing::info!(
            path = policy.source(),
            rules = policy.rules().len(),
            "loaded health policy"
        );
        let mut held = self.text.write().unwrap_or_else(PoisonError::into_inner);
        *held = PolicyText {
            policy,
            text,
            loaded: self.handlers.time.now(),
            refused: None,
        };
        Ok(())
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
pub(crate) struct Hangups {
    #[cfg(unix)]
    signal: Option<tokio::signal::unix::Signal>,
}

pub(crate) fn hangups() -> Hangups {
    #[cfg(unix)]
    {
        let signal = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup());
        if let Err(error) = &signal {
            tracing::warn!(%error, "SIGHUP cannot be heard; files are still watched");
        }
        Hangups {
            signal: signal.ok(),
        }
    }
    #[cfg(not(unix))]
    Hangups {}
}

impl Hangups {
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
