//! What a server implements, and how its handlers become routes.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use connectrpc::{
    ConnectError, ConnectRpcService, DeadlinePolicy, Encodable, Limits, Protocol, RequestContext,
    Response, ServiceRequest, ServiceResult, ServiceStream,
};
use futures_util::{FutureExt as _, StreamExt as _};

use crate::ApiError;
use crate::contract::every_service;
use crate::reply::Reply;

/// The answers of a streaming call. An error ends it; the caller's leaving drops it.
///
/// A caller's deadline bounds the time to the stream, not the stream. Send the first message at
/// once, so that the caller knows that it is heard.
pub type Answers<M> = Pin<Box<dyn futures_util::Stream<Item = Result<M, ApiError>> + Send>>;

/// What a handler knows of a call beside its message.
#[derive(Debug)]
pub struct Call(RequestContext);

impl Call {
    /// A call with nothing but these extensions, for tests of handlers.
    pub fn with_extensions(extensions: http::Extensions) -> Self {
        Self(RequestContext::new(http::HeaderMap::new()).with_extensions(extensions))
    }

    /// What a layer put into the extensions of the request, for example who calls.
    pub fn extension<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.0.extensions().get::<T>()
    }

    /// A header of the request, if it is there and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.0.header(name).and_then(|value| value.to_str().ok())
    }

    /// When the handler is dropped for lack of time.
    pub fn deadline(&self) -> Option<Instant> {
        self.0.deadline()
    }

    /// How much time the handler has left.
    pub fn time_remaining(&self) -> Option<Duration> {
        self.0.time_remaining()
    }

    /// The path of the call, for example `/navarch.ControlPlaneService/GetNode`.
    pub fn path(&self) -> &str {
        self.0.path().unwrap_or_default()
    }

    /// The protocol that the caller speaks: `connect`, `grpc` or `grpc-web`.
    pub fn protocol(&self) -> &'static str {
        match self.0.protocol() {
            Some(Protocol::Grpc) => "grpc",
            Some(Protocol::GrpcWeb) => "grpc-web",
            _ => "connect",
        }
    }
}

impl Default for Call {
    fn default() -> Self {
        Self::with_extensions(http::Extensions::new())
    }
}

/// What a server grants one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallLimits {
    /// Larger requests are refused, before and after decompression. Too low refuses the reports
    /// of machines with a long spool; too high lets one caller take memory.
    pub max_request_bytes: usize,
    /// Handlers that take longer are dropped, whatever the caller asked. Too low cuts callers
    /// off while a commit is slow; too high keeps dead callers' work.
    pub handler_timeout: Duration,
}

impl Default for CallLimits {
    fn default() -> Self {
        Self {
            max_request_bytes: 4 * 1024 * 1024,
            handler_timeout: Duration::from_secs(30),
        }
    }
}

impl CallLimits {
    fn apply<D: connectrpc::Dispatcher>(self, dispatcher: D) -> ConnectRpcService<D> {
        ConnectRpcService::new(dispatcher)
            .with_limits(
                Limits::default()
                    .with_max_request_body_size(self.max_request_bytes)
                    .with_max_message_size(self.max_request_bytes),
            )
            .with_deadline_policy(
                DeadlinePolicy::new()
                    .with_max(self.handler_timeout)
                    .with_default_timeout(self.handler_timeout),
            )
    }
}

/// Fits handlers to the generated services.
struct Adapter<H>(Arc<H>);

/// Waits for a handler. A panic becomes an error in the caller's protocol; the panic hook has
/// reported it.
async fn guard<T>(
    handler: impl Future<Output = Result<T, ApiError>> + Send,
) -> Result<T, ConnectError> {
    match AssertUnwindSafe(handler).catch_unwind().await {
        Ok(answer) => answer.map_err(ConnectError::from),
        Err(panic) => Err(panicked(&panic)),
    }
}

fn panicked(_: &Box<dyn Any + Send>) -> ConnectError {
    ApiError::internal("the handler panicked; the server's standard error says where").into()
}

fn guard_stream<M: Send + 'static>(answers: Answers<M>) -> ServiceStream<M> {
    Box::pin(
        AssertUnwindSafe(answers)
            .catch_unwind()
            .map(|item| match item {
                Ok(answer) => answer.map_err(ConnectError::from),
                Err(panic) => Err(panicked(&panic)),
            }),
    )
}

macro_rules! declare {
    ($(#[$doc:meta])* unary $method:ident $request:ident, $response:ident) => {
        $(#[$doc])*
        fn $method(
            &self,
            call: Call,
            request: $request,
        ) -> impl Future<Output = Result<$response, ApiError>> + Send;
    };
    ($(#[$doc:meta])* list $method:ident $request:ident, $response:ident) => {
        $(#[$doc])*
        fn $method(
            &self,
            call: Call,
            request: $request,
        ) -> impl Future<Output = Result<Reply<$response>, ApiError>> + Send;
    };
    ($(#[$doc:meta])* stream $method:ident $request:ident, $response:ident) => {
        $(#[$doc])*
        fn $method(
            &self,
            call: Call,
            request: $request,
        ) -> impl Future<Output = Result<Answers<$response>, ApiError>> + Send;
    };
}

macro_rules! adapt {
    (stream $method:ident $request:ident, $response:ident) => {
        async fn $method(
            &self,
            context: RequestContext,
            request: ServiceRequest<'_, $request>,
        ) -> ServiceResult<ServiceStream<impl Encodable<$response> + Send + use<H>>> {
            let request = request.to_owned_message();
            let answers = guard(self.0.$method(Call(context), request)).await?;
            Response::ok(guard_stream(answers))
        }
    };
    ($kind:ident $method:ident $request:ident, $response:ident) => {
        async fn $method<'a>(
            &'a self,
            context: RequestContext,
            request: ServiceRequest<'_, $request>,
        ) -> ServiceResult<impl Encodable<$response> + Send + use<'a, H>> {
            let request = request.to_owned_message();
            Response::ok(guard(self.0.$method(Call(context), request)).await?)
        }
    };
}

macro_rules! make_services {
    ($(
        $(#[$doc:meta])*
        $service:ident, $module:ident, $generated:ident, $server:ident, $client:ident,
        $package:path, $prefix:literal {$(
            $(#[$method_doc:meta])*
            $kind:ident $method:ident $name:literal ($request:ident) -> $response:ident;
        )+}
    )+) => {
        $(mod $module {
            use super::*;
            use $package as package;
            use package::{$($request, $response),+};

            $(#[$doc])*
            pub trait $service: Send + Sync + 'static {
                $(declare! { $(#[$method_doc])* $kind $method $request, $response })+
            }

            impl<H: $service> package::$generated for Adapter<H> {
                $(adapt! { $kind $method $request, $response })+
            }

            pub(super) fn routes<H: $service>(
                handlers: &Arc<H>,
                limits: CallLimits,
            ) -> axum::Router {
                let server = package::$server::new(Adapter(Arc::clone(handlers)));
                axum::Router::new()
                    .route_service(concat!($prefix, "{method}"), limits.apply(server))
            }
        }
        pub use $module::$service;)+

        /// The path of every call, and whether its answer is a stream.
        pub const CALLS: &[(&str, bool)] = &[$($(
            (concat!($prefix, $name), is_stream!($kind)),
        )+)+];

        /// The routes of all services: Connect, gRPC and gRPC-Web, JSON and protobuf.
        ///
        /// Layers around the router see every request before its body is read. Put what they
        /// learn of the caller into the request's extensions; handlers read it from [`Call`].
        pub fn routes<H: $($service +)+>(handlers: &Arc<H>, limits: CallLimits) -> axum::Router {
            axum::Router::new()$(.merge($module::routes(handlers, limits)))+
        }
    };
}

macro_rules! is_stream {
    (stream) => {
        true
    };
    ($other:ident) => {
        false
    };
}

every_service!(make_services);
