//! Who calls: bearer tokens, what each may do, and what others are told.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use axum::body::Body;
use axum::http::{HeaderMap, Response, StatusCode, header};
use axum::response::IntoResponse as _;
use futures_util::{StreamExt as _, stream};
use navarch_api::service::{Answers, Call, CallSpec};
use navarch_api::{ApiError, service};
use navarch_config::{AuthConfig, TokenSource};
use navarch_model::Role;
use navarch_providers::fake::AgentToken;
use navarch_time::CancellationToken;
use subtle::ConstantTimeEq as _;

use crate::handlers::pools::stands_for;
use crate::limits::{Address, Limits, Meter, Refusal, Seen};

/// What callers are known as where no token is asked for.
const ANYBODY: &str = "anybody";
/// What callers are known as who show the one token that may do everything.
const EVERYTHING: &str = "token";
/// The fewest bytes of a token. A shorter one is a mistake: it can be guessed.
const SHORTEST: usize = 8;

/// Why tokens cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// A file cannot be read.
    #[error("cannot read the token file {path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A variable of a named token is not set.
    #[error("server.auth.tokens.{name}: the environment variable {variable} is not set")]
    Unset {
        /// The token's name.
        name: String,
        /// The variable.
        variable: String,
    },
    /// A named token is too short to be a secret.
    #[error(
        "server.auth.tokens.{name}: the token has fewer than {SHORTEST} bytes: use a longer one"
    )]
    Short {
        /// The token's name.
        name: String,
    },
    /// The server would let everybody in, and was started with a token.
    #[error(
        "no token is left: a running server is not opened to everybody; keep one, or start it again \
         without"
    )]
    None,
    /// Machines would be bought whose agents are refused.
    #[error(
        "server.auth: no token may speak for machines: add one with the role agent under tokens, or \
         the pools' machines can never register"
    )]
    NoAgent,
    /// Two names have one token.
    #[error(
        "server.auth.tokens: {first} and {second} are the same token: each needs one of its own"
    )]
    Twice {
        /// A token's name.
        first: String,
        /// Another one's.
        second: String,
    },
}

/// Who made a request, and from where.
#[derive(Clone)]
pub struct Caller {
    known: Arc<Known>,
    address: IpAddr,
}

impl Caller {
    /// The name of the token that was shown.
    pub fn name(&self) -> &str {
        &self.known.name
    }

    /// Where the request came from.
    pub const fn address(&self) -> IpAddr {
        self.address
    }
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {}", self.known.name, self.address)
    }
}

/// A token that is let in.
struct Known {
    name: Box<str>,
    /// What it may do; none means everything.
    role: Option<Role>,
    secret: Box<[u8]>,
    /// Told when it is let in no more, or for something else.
    revoked: CancellationToken,
    /// What was called with it.
    meter: Meter,
    /// Where it was shown. A new secret of the same caller takes it over.
    seen: Arc<Seen>,
}

impl Known {
    fn new(name: &str, role: Option<Role>, secret: String) -> Self {
        Self {
            name: Box::from(name),
            role,
            secret: secret.into_bytes().into(),
            revoked: CancellationToken::new(),
            meter: Meter::default(),
            seen: Arc::default(),
        }
    }

    fn may(&self, needed: Role) -> bool {
        self.role.is_none_or(|role| role.may(needed))
    }

    /// Whether it is the same secret of the same caller, who may do the same.
    fn is_same(&self, other: &Self) -> bool {
        self.name == other.name && self.role == other.role && self.secret == other.secret
    }
}

/// Ends the answers to a caller with an error once the caller's token is let in no more. A stream
/// that was begun by a token which was revoked since never says another word.
pub(crate) fn until_revoked<M: Send + 'static>(call: &Call, answers: Answers<M>) -> Answers<M> {
    let Some(Caller { known, .. }) = call.extension::<Caller>().cloned() else {
        return answers;
    };
    let step = |held: Option<(Answers<M>, Arc<Known>)>| async {
        let (mut answers, known) = held?;
        tokio::select! {
            biased;
            () = known.revoked.cancelled() => {
                let error = ApiError::unauthenticated(format!(
                    "the token {:?} was revoked or changed: begin again with the present one",
                    known.name
                ));
                Some((Err(error), None))
            }
            answer = answers.next() => answer.map(|answer| (answer, Some((answers, known)))),
        }
    };
    Box::pin(stream::unfold(Some((answers, known)), step))
}

/// Tokens that may be let in.
pub(crate) struct Tokens(Vec<Known>);

/// The tokens that are let in. Without any, everybody may do everything.
pub struct Gate {
    tokens: RwLock<Arc<[Arc<Known>]>>,
    /// Who calls where no token is asked for.
    anybody: Arc<Known>,
    limits: Arc<Limits>,
    /// The token that machines of this server show, kept as its readers know it.
    machines: Option<AgentToken>,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tokens = self.tokens();
        let names = tokens.iter().map(|known| (&*known.name, known.role));
        f.debug_map().entries(names).finish()
    }
}

impl Gate {
    /// Reads the tokens. `machines` is where those put the token for their agents who start some;
    /// without it, none has to be for agents.
    ///
    /// # Errors
    ///
    /// See [`TokenError`].
    pub(crate) fn open(
        auth: &AuthConfig,
        machines: Option<AgentToken>,
        limits: Arc<Limits>,
    ) -> Result<Self, TokenError> {
        let gate = Self {
            tokens: RwLock::new(Arc::from([])),
            anybody: Arc::new(Known::new(ANYBODY, None, String::new())),
            limits,
            machines,
        };
        let tokens = gate.usable(read(auth)?)?;
        gate.replace(tokens);
        Ok(gate)
    }

    /// The tokens, if the machines of this server have one among them.
    fn usable(&self, tokens: Vec<Known>) -> Result<Tokens, TokenError> {
        let for_agents = tokens.is_empty() || agent_token(&tokens).is_some();
        if self.machines.is_some() && !for_agents {
            return Err(TokenError::NoAgent);
        }
        Ok(Tokens(tokens))
    }

    /// Lets these tokens in and no others, and answers whether they are others than before. A
    /// caller whose token is gone is refused from now on, and its streams end; single answers that
    /// are under way are finished.
    pub(crate) fn replace(&self, Tokens(tokens): Tokens) -> bool {
        if let Some(machines) = &self.machines {
            machines.set(agent_token(&tokens));
        }
        let mut held = self.tokens.write().unwrap_or_else(PoisonError::into_inner);
        // What stays the same keeps its place, and with it its streams.
        let new: Arc<[Arc<Known>]> = tokens
            .into_iter()
            .map(|mut new| {
                let was = |old: &&Arc<Known>| old.name == new.name && old.role == new.role;
                if let Some(old) = held.iter().find(was) {
                    if old.is_same(&new) {
                        return Arc::clone(old);
                    }
                    // Its machines stay where they are.
                    new.seen = Arc::clone(&old.seen);
                }
                Arc::new(new)
            })
            .collect();
        let is_in = |known: &Arc<Known>, tokens: &[Arc<Known>]| {
            tokens.iter().any(|other| Arc::ptr_eq(known, other))
        };
        let changed = held.len() != new.len() || !new.iter().all(|known| is_in(known, &held));
        let old = std::mem::replace(&mut *held, Arc::clone(&new));
        drop(held);
        for known in old.iter().filter(|known| !is_in(known, &new)) {
            known.revoked.cancel();
        }
        if !new.is_empty() {
            self.anybody.revoked.cancel();
        }
        changed
    }

    /// Reads the tokens of a configuration for a gate that is in force. None is let in yet.
    ///
    /// # Errors
    ///
    /// See [`TokenError`].
    pub(crate) fn read(&self, auth: &AuthConfig) -> Result<Tokens, TokenError> {
        let tokens = read(auth)?;
        if tokens.is_empty() && self.is_set() {
            return Err(TokenError::None);
        }
        self.usable(tokens)
    }

    /// Reads the tokens again and lets them in; see [`Gate::replace`].
    ///
    /// # Errors
    ///
    /// See [`TokenError`]; the tokens that were known stay.
    pub fn reload(&self, auth: &AuthConfig) -> Result<bool, TokenError> {
        Ok(self.replace(self.read(auth)?))
    }

    fn tokens(&self) -> Arc<[Arc<Known>]> {
        Arc::clone(&self.tokens.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether callers must show a token.
    pub fn is_set(&self) -> bool {
        !self.tokens().is_empty()
    }

    /// Whether a token may do everything.
    pub fn has_common_token(&self) -> bool {
        self.tokens().iter().any(|known| known.role.is_none())
    }

    /// The token of a caller, or the answer to one that shows none that is known.
    fn recognise(
        &self,
        tokens: &[Arc<Known>],
        headers: &HeaderMap,
        peer: IpAddr,
    ) -> Result<Arc<Known>, Box<Response<Body>>> {
        // The scheme is compared as it is written, the token in constant time; every token is
        // compared, so that the time does not tell which one was near.
        let shown = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        let known = shown.and_then(|shown| {
            tokens.iter().fold(None, |found, known| {
                let same = bool::from(shown.ct_eq(&known.secret));
                if same { Some(known) } else { found }
            })
        });
        let address = Address::from(peer);
        if let Some(known) = known
            && known.seen.has(address)
        {
            // Whoever guesses at the same address does not lock it out.
            return Ok(Arc::clone(known));
        }
        // From here on the answer must not tell whether the token was right.
        if shown.is_some()
            && let Some(wait) = self.limits.must_wait(address)
        {
            let error = self.limits.no_more_guesses(peer, wait);
            return Err(Box::new(error.into_response(headers)));
        }
        if let Some(known) = known {
            known.seen.note(address);
            return Ok(Arc::clone(known));
        }
        if let Some(shown) = shown {
            self.limits.guessed(address, shown);
        }
        self.limits.count(Refusal::Unauthenticated);
        Err(Box::new(unauthorized()))
    }

    /// Who makes a request, or the answer to one that may not be made. `call` is the one at the
    /// path.
    pub(crate) fn admit(
        &self,
        path: &str,
        call: Option<&CallSpec>,
        headers: &HeaderMap,
        peer: IpAddr,
    ) -> Result<Caller, Box<Response<Body>>> {
        let caller = |known| Caller {
            known,
            address: peer,
        };
        if call.is_none() && matches!(path, "/healthz" | "/readyz" | "/metrics") {
            return Ok(caller(Arc::clone(&self.anybody)));
        }
        let tokens = self.tokens();
        let known = if tokens.is_empty() {
            Arc::clone(&self.anybody)
        } else {
            self.recognise(&tokens, headers, peer)?
        };
        let Some(call) = call.or_else(|| service::call_at(stands_for(path))) else {
            return Ok(caller(known));
        };
        if !known.may(call.role) {
            self.limits.count(Refusal::Forbidden);
            let method = call.path.rsplit('/').next().unwrap_or_default();
            let held = known.role.map_or("every role", Role::word);
            let message = format!(
                "{method} needs the role {}; the token {:?} has {held}",
                call.role.word(),
                known.name,
            );
            let error = ApiError::permission_denied(message);
            return Err(Box::new(error.into_response(headers)));
        }
        // A fleet behind one token or one address calls often: its calls are limited by node,
        // where they cost a commit.
        if call.role != Role::Agent {
            let taken = if tokens.is_empty() {
                self.limits.call_from(Address::from(peer), peer)
            } else {
                self.limits.call(&known.name, &known.meter)
            };
            taken.map_err(|error| Box::new(error.into_response(headers)))?;
        }
        Ok(caller(known))
    }
}

/// A token that agents can show: one of theirs before one that may do everything.
fn agent_token(tokens: &[Known]) -> Option<String> {
    let known = tokens.iter().find(|known| known.role == Some(Role::Agent));
    let known = known.or_else(|| tokens.iter().find(|known| known.role.is_none()))?;
    Some(String::from_utf8_lossy(&known.secret).into_owned())
}

/// The answer to a caller without a token that is known. It does not say what is wrong with it.
fn unauthorized() -> Response<Body> {
    (
        StatusCode::UNAUTHORIZED,
        [
            (header::WWW_AUTHENTICATE, "Bearer realm=\"navarch\""),
            (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ],
        "unauthorized\n",
    )
        .into_response()
}

fn read(auth: &AuthConfig) -> Result<Vec<Known>, TokenError> {
    let mut tokens: Vec<Known> = Vec::new();
    if let Some(secret) = auth.token.as_ref().map(secret).transpose()?.flatten() {
        tokens.push(Known::new(EVERYTHING, None, secret));
    }
    for (name, token) in &auth.tokens {
        let Some(secret) = secret(&token.source)? else {
            let variable = match &token.source {
                TokenSource::Environment(variable) => variable.clone(),
                TokenSource::File(path) => path.display().to_string(),
            };
            let name = name.clone();
            return Err(TokenError::Unset { name, variable });
        };
        if secret.len() < SHORTEST {
            return Err(TokenError::Short { name: name.clone() });
        }
        tokens.push(Known::new(name, Some(token.role), secret));
    }
    for (at, one) in tokens.iter().enumerate() {
        if let Some(other) = tokens[..at].iter().find(|other| other.secret == one.secret) {
            return Err(TokenError::Twice {
                first: other.name.to_string(),
                second: one.name.to_string(),
            });
        }
    }
    Ok(tokens)
}

/// The token of a source; none if its variable is not set.
fn secret(source: &TokenSource) -> Result<Option<String>, TokenError> {
    match source {
        TokenSource::Environment(name) => {
            Ok(std::env::var(name).ok().filter(|token| !token.is_empty()))
        }
        TokenSource::File(path) => {
            let failed = |error| TokenError::File {
                path: path.clone(),
                error,
            };
            let text = std::fs::read_to_string(path).map_err(failed)?;
            if text.trim().is_empty() {
                return Err(failed(std::io::Error::other("the file is empty")));
            }
            Ok(Some(text.trim().to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use navarch_config::TokenConfig;

    use super::*;

    fn auth(home: &Path, tokens: &[(&str, Role)]) -> AuthConfig {
        let mut auth = AuthConfig {
            token: None,
            ..AuthConfig::default()
        };
        for (name, role) in tokens {
            let source = TokenSource::File(home.join(name));
            let token = TokenConfig {
                role: *role,
                source,
            };
            auth.tokens.insert((*name).to_owned(), token);
        }
        auth
    }

    fn open(auth: &AuthConfig, machines: Option<AgentToken>) -> Result<Gate, TokenError> {
        let clock = navarch_time::VirtualClock::new().shared();
        let limits = Limits::new(&navarch_config::RateLimits::default(), clock);
        Gate::open(auth, machines, Arc::new(limits))
    }

    fn write(home: &Path, name: &str, token: &str) {
        std::fs::write(home.join(name), token).unwrap();
    }

    #[test]
    fn machines_get_the_token_that_is_let_in_now() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path();
        write(home, "machines", "machine-token-1");
        write(home, "ops", "operator-token");
        let known = auth(home, &[("machines", Role::Agent), ("ops", Role::Operator)]);
        let machines = AgentToken::default();
        let gate = open(&known, Some(machines.clone())).unwrap();
        assert_eq!(machines.get().as_deref(), Some("machine-token-1"));

        write(home, "machines", "machine-token-2");
        assert!(gate.reload(&known).unwrap());
        assert_eq!(machines.get().as_deref(), Some("machine-token-2"));
        assert!(!gate.reload(&known).unwrap());

        let without = auth(home, &[("ops", Role::Operator)]);
        let error = gate.reload(&without).unwrap_err().to_string();
        assert!(error.contains("no token may speak for machines"), "{error}");
        assert_eq!(machines.get().as_deref(), Some("machine-token-2"));
        assert!(matches!(
            open(&without, Some(AgentToken::default())),
            Err(TokenError::NoAgent)
        ));
        // A server without pools starts no machines.
        assert!(open(&without, None).unwrap().is_set());
    }

    #[test]
    fn streams_end_for_exactly_the_tokens_that_are_not_what_they_were() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path();
        for name in ["stays", "changes", "demoted", "goes"] {
            write(home, name, &format!("secret-of-{name}"));
        }
        let admin = Role::Admin;
        let names = ["stays", "changes", "demoted", "goes"].map(|name| (name, admin));
        let gate = open(&auth(home, &names), None).unwrap();
        let held = gate.tokens();
        let revoked = || {
            let gone = held.iter().filter(|known| known.revoked.is_cancelled());
            gone.map(|known| &*known.name).collect::<Vec<_>>()
        };
        assert!(!gate.reload(&auth(home, &names)).unwrap());
        assert_eq!(revoked(), [] as [&str; 0]);
        write(home, "changes", "another-secret");
        let next = [
            ("stays", admin),
            ("changes", admin),
            ("demoted", Role::Viewer),
        ];
        assert!(gate.reload(&auth(home, &next)).unwrap());
        assert_eq!(revoked(), ["changes", "demoted", "goes"]);
        // What is refused revokes nobody.
        assert!(gate.reload(&auth(home, &[("missing", admin)])).is_err());
        assert!(gate.reload(&auth(home, &[])).is_err());
        assert!(!gate.tokens().iter().any(|k| k.revoked.is_cancelled()));
    }

    #[test]
    fn a_new_secret_is_known_where_the_old_one_was_unless_it_may_do_something_else() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path();
        write(home, "machines", "machine-token-1");
        write(home, "ops", "operator-token");
        let known = auth(home, &[("machines", Role::Agent), ("ops", Role::Operator)]);
        let gate = open(&known, None).unwrap();
        let here = Address::from(IpAddr::from([10, 0, 0, 1]));
        for token in gate.tokens().iter() {
            token.seen.note(here);
        }
        write(home, "machines", "machine-token-2");
        let next = auth(home, &[("machines", Role::Agent), ("ops", Role::Viewer)]);
        assert!(gate.reload(&next).unwrap());
        for token in gate.tokens().iter() {
            let is_machines = &*token.name == "machines";
            assert_eq!(token.seen.has(here), is_machines, "{}", token.name);
        }
    }

    #[test]
    fn streams_of_a_server_without_tokens_end_when_it_gets_some() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path();
        let gate = open(&auth(home, &[]), None).unwrap();
        assert!(!gate.reload(&auth(home, &[])).unwrap());
        assert!(!gate.anybody.revoked.is_cancelled());
        write(home, "ops", "operator-token");
        assert!(
            gate.reload(&auth(home, &[("ops", Role::Operator)]))
                .unwrap()
        );
        assert!(gate.anybody.revoked.is_cancelled());
    }
}
