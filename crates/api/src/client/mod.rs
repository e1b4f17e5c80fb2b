//! The client of commands and agents: Connect with protobuf over kept connections.

mod address;
mod error;
mod transport;

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use buffa::HasMessageView;
use connectrpc::client::{CallOptions, ClientConfig, call_server_stream, call_unary};
use connectrpc::{Spec, StreamType};
use futures_util::StreamExt as _;

use crate::contract::every_service;

pub use address::AddressError;
pub use error::{Cause, ClientError};
pub use transport::{Connector, TrustError, connector};

use error::{Circumstances, explain};
use transport::Transport;

/// The longest answer that is read, in bytes: a list of 100,000 nodes with eight GPUs each.
const MAX_ANSWER_BYTES: usize = 256 * 1024 * 1024;
/// The most memory that the elements of one answer may take, in bytes.
const MAX_ANSWER_MEMORY_BYTES: usize = 1024 * 1024 * 1024;

/// How a client is made. See [`Client::builder`].
#[derive(Clone)]
pub struct ClientBuilder {
    address: String,
    token: Option<String>,
    authorities: Option<PathBuf>,
    user_agent: String,
    timeout: Duration,
}

impl ClientBuilder {
    /// The token that every call carries. An empty one is none.
    #[must_use]
    pub fn token(mut self, token: Option<String>) -> Self {
        self.token = token.filter(|token| !token.is_empty());
        self
    }

    /// The file with the certificate authorities to trust, in PEM, instead of the system's.
    #[must_use]
    pub fn ca_file(mut self, authorities: Option<PathBuf>) -> Self {
        self.authorities = authorities;
        self
    }

    /// What the client calls itself, for example `navarch/0.1.0`.
    #[must_use]
    pub fn user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.user_agent = user_agent.into();
        self
    }

    /// How long a call may take, from its start to the whole answer. Streams are not bounded.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Makes the client. Nothing is sent until the first call.
    ///
    /// # Errors
    ///
    /// If the address, the token or the certificate authorities cannot be used.
    pub fn build(self) -> Result<Client, AddressError> {
        let base = address::parse(&self.address)?;
        let mut headers = http::HeaderMap::new();
        if let Ok(user_agent) = http::HeaderValue::from_str(&self.user_agent) {
            headers.insert(http::header::USER_AGENT, user_agent);
        }
        if let Some(token) = &self.token {
            if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(AddressError::Token);
            }
            let mut bearer = http::HeaderValue::from_str(&format!("Bearer {token}"))
                .map_err(|_| AddressError::Token)?;
            bearer.set_sensitive(true);
            headers.insert(http::header::AUTHORIZATION, bearer);
        }
        let tls = base.scheme() == Some(&http::uri::Scheme::HTTPS);
        let transport = transport::transport(tls, self.authorities.as_deref())?;
        let circumstances = Circumstances {
            address: base.to_string().trim_end_matches('/').to_owned(),
            has_token: self.token.is_some(),
            timeout: Some(self.timeout),
        };
        let config = ClientConfig::new(base)
            .with_default_headers(headers)
            .with_default_max_message_size(MAX_ANSWER_BYTES)
            .with_default_element_memory_limit(MAX_ANSWER_MEMORY_BYTES);
        Ok(Client {
            wiring: Arc::new(Wiring { transport, config }),
            circumstances,
        })
    }
}

impl std::fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("address", &self.address)
            .field("has_token", &self.token.is_some())
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

struct Wiring {
    transport: Transport,
    config: ClientConfig,
}

/// A client of one control plane. Clones share its connections.
#[derive(Clone)]
pub struct Client {
    wiring: Arc<Wiring>,
    circumstances: Circumstances,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Client").field(&self.circumstances).finish()
    }
}

impl Client {
    /// Begins to make a client of the control plane at `address`, for example
    /// `http://localhost:50051`.
    pub fn builder(address: impl Into<String>) -> ClientBuilder {
        ClientBuilder {
            address: address.into(),
            token: None,
            authorities: None,
            user_agent: concat!("navarch/", env!("CARGO_PKG_VERSION")).to_owned(),
            timeout: Duration::from_secs(30),
        }
    }

    /// The address it calls.
    pub fn address(&self) -> &str {
        &self.circumstances.address
    }

    /// The same client with another time for each call.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.circumstances.timeout = Some(timeout);
        self
    }

    fn options(&self) -> CallOptions {
        match self.circumstances.timeout {
            Some(timeout) => CallOptions::default().with_timeout(timeout),
            None => CallOptions::default(),
        }
    }
}

/// The answers of a streaming call, one after the other.
pub struct Incoming<M>(Pin<Box<dyn futures_util::Stream<Item = Result<M, ClientError>> + Send>>);

impl<M> Incoming<M> {
    /// The next answer; none when the control plane ended the stream.
    ///
    /// # Errors
    ///
    /// If the stream broke or the control plane ended it with an error. After an error there is
    /// nothing more: call again, from the last resume point.
    pub async fn next(&mut self) -> Result<Option<M>, ClientError> {
        self.0.next().await.transpose()
    }
}

impl<M> std::fmt::Debug for Incoming<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Incoming")
    }
}

macro_rules! call {
    ($(#[$doc:meta])* stream $method:ident $path:expr, $request:ident, $response:ident) => {
        $(#[$doc])*
        ///
        /// The time until the stream opens, and between its answers, is the caller's to bound.
        ///
        /// # Errors
        ///
        /// If the control plane refuses, or cannot be reached.
        pub async fn $method(
            &self,
            request: $request,
        ) -> Result<Incoming<$response>, ClientError> {
            const SPEC: Spec = Spec::client($path, StreamType::ServerStream);
            let at = Circumstances { timeout: None, ..self.circumstances.clone() };
            let Wiring { transport, config } = &*self.wiring;
            let options = CallOptions::default();
            let stream = call_server_stream::<_, _, <$response as HasMessageView>::View<'static>>(
                transport, config, SPEC, request, options,
            )
            .await
            .map_err(|error| explain(&error, &at))?;
            let answers = futures_util::stream::unfold(Some((stream, at)), |open| async move {
                let (mut stream, at) = open?;
                match stream.message().await {
                    Ok(Some(answer)) => Some((Ok(answer.to_owned_message()), Some((stream, at)))),
                    Ok(None) => None,
                    Err(error) => Some((Err(explain(&error, &at)), None)),
                }
            });
            Ok(Incoming(Box::pin(answers.fuse())))
        }
    };
    ($(#[$doc:meta])* $kind:ident $method:ident $path:expr, $request:ident, $response:ident) => {
        $(#[$doc])*
        ///
        /// # Errors
        ///
        /// If the control plane refuses, or does not answer in time.
        pub async fn $method(&self, request: $request) -> Result<$response, ClientError> {
            const SPEC: Spec = Spec::client($path, StreamType::Unary);
            let Wiring { transport, config } = &*self.wiring;
            let options = self.options();
            call_unary::<_, _, <$response as HasMessageView>::View<'static>>(
                transport, config, SPEC, request, options,
            )
            .await
            .map(|answer| answer.into_owned())
            .map_err(|error| explain(&error, &self.circumstances))
        }
    };
}

macro_rules! make_client {
    ($(
        $(#[$doc:meta])*
        $service:ident, $module:ident, $package:path, $prefix:literal {$(
            $(#[$method_doc:meta])*
            $kind:ident $role:ident $method:ident $name:literal ($request:ident) -> $response:ident;
        )+}
    )+) => {$(
        mod $module {
            use super::*;
            use $package as package;
            use package::{$($request, $response),+};

            $(#[$doc])*
            impl Client {
                $(call! {
                    $(#[$method_doc])* $kind $method concat!($prefix, $name), $request, $response
                })+
            }
        }
    )+};
}

every_service!(make_client);
