//! Who calls: bearer tokens, what each may do, and what others are told.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, Response, StatusCode, header};
use axum::middleware::Next;
use axum::response::IntoResponse as _;
use navarch_api::{ApiError, service};
use navarch_config::{AuthConfig, TokenSource};
use navarch_model::Role;
use navarch_providers::fake::AgentToken;
use subtle::ConstantTimeEq as _;

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

/// Who made a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller(pub Arc<str>);

/// A token that is let in.
#[derive(PartialEq, Eq)]
struct Known {
    name: Arc<str>,
    /// What it may do; none means everything.
    role: Option<Role>,
    secret: Box<[u8]>,
}

impl Known {
    fn may(&self, needed: Role) -> bool {
        self.role.is_none_or(|role| role.may(needed))
    }
}

/// The tokens that are let in. Without any, everybody may do everything.
pub struct Gate {
    tokens: RwLock<Arc<[Known]>>,
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
    pub fn open(auth: &AuthConfig, machines: Option<AgentToken>) -> Result<Self, TokenError> {
        let tokens = read(auth)?;
        let gate = Self {
            tokens: RwLock::new(Arc::from([])),
            machines,
        };
        gate.replace(tokens)?;
        Ok(gate)
    }

    /// Lets these tokens in, and answers whether they are others than before.
    fn replace(&self, tokens: Arc<[Known]>) -> Result<bool, TokenError> {
        if let Some(machines) = &self.machines {
            let token = agent_token(&tokens);
            if token.is_none() && !tokens.is_empty() {
                return Err(TokenError::NoAgent);
            }
            machines.set(token);
        }
        let mut held = self.tokens.write().unwrap_or_else(PoisonError::into_inner);
        let changed = *held != tokens;
        *held = tokens;
        Ok(changed)
    }

    /// Reads the tokens again, and answers whether any changed. A caller whose token is gone is refused from now on; answers that
    /// are under way go on, streams included.
    ///
    /// # Errors
    ///
    /// See [`TokenError`]; the tokens that were known stay.
    pub fn reload(&self, auth: &AuthConfig) -> Result<bool, TokenError> {
        let tokens = read(auth)?;
        if tokens.is_empty() && self.is_set() {
            return Err(TokenError::None);
        }
        self.replace(tokens)
    }

    fn tokens(&self) -> Arc<[Known]> {
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

    /// Who makes a request, or the answer to one that may not be made.
    fn admit(&self, path: &str, headers: &HeaderMap) -> Result<Caller, Box<Response<Body>>> {
        let tokens = self.tokens();
        if tokens.is_empty() || matches!(path, "/healthz" | "/readyz" | "/metrics") {
            return Ok(Caller(Arc::from(ANYBODY)));
        }
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
        let Some(known) = known else {
            return Err(Box::new(unauthorized()));
        };
        let needed = service::CALLS.iter().find(|call| call.path == path);
        match needed {
            Some(call) if !known.may(call.role) => {
                let method = path.rsplit('/').next().unwrap_or_default();
                let held = known.role.map_or("every role", Role::word);
                let message = format!(
                    "{method} needs the role {}; the token {:?} has {held}",
                    call.role.word(),
                    known.name,
                );
                Err(Box::new(
                    ApiError::permission_denied(message).into_response(headers),
                ))
            }
            _ => Ok(Caller(Arc::clone(&known.name))),
        }
    }
}

/// A token that agents can show: one of theirs before one that may do everything.
fn agent_token(tokens: &[Known]) -> Option<String> {
    let known = tokens.iter().find(|known| known.role == Some(Role::Agent));
    let known = known.or_else(|| tokens.iter().find(|known| known.role.is_none()))?;
    Some(String::from_utf8_lossy(&known.secret).into_owned())
}

/// Lets only callers with the right token through, unary calls and streams alike.
pub fn authenticated(router: Router, gate: Arc<Gate>) -> Router {
    router.layer(axum::middleware::from_fn(
        move |mut request: Request<Body>, next: Next| {
            let admitted = gate.admit(request.uri().path(), request.headers());
            async move {
                match admitted {
                    Ok(caller) => {
                        request.extensions_mut().insert(caller);
                        next.run(request).await
                    }
                    Err(refused) => *refused,
                }
            }
        },
    ))
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

fn read(auth: &AuthConfig) -> Result<Arc<[Known]>, TokenError> {
    let mut tokens: Vec<Known> = Vec::new();
    if let Some(secret) = auth.token.as_ref().map(secret).transpose()?.flatten() {
        tokens.push(Known {
            name: Arc::from(EVERYTHING),
            role: None,
            secret: secret.into_bytes().into(),
        });
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
        tokens.push(Known {
            name: Arc::from(name.as_str()),
            role: Some(token.role),
            secret: secret.into_bytes().into(),
        });
    }
    for (at, one) in tokens.iter().enumerate() {
        if let Some(other) = tokens[..at].iter().find(|other| other.secret == one.secret) {
            return Err(TokenError::Twice {
                first: other.name.to_string(),
                second: one.name.to_string(),
            });
        }
    }
    Ok(tokens.into())
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
        let gate = Gate::open(&known, Some(machines.clone())).unwrap();
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
            Gate::open(&without, Some(AgentToken::default())),
            Err(TokenError::NoAgent)
        ));
        // A server without pools starts no machines.
        assert!(Gate::open(&without, None).unwrap().is_set());
    }
}
