//! What a server implements, and how its handlers become routes.

use std::any::Any;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::HttpBody as Body;
use buffa::bytes::Bytes;
use connectrpc::dispatcher::codegen::{
    RequestStream, StreamingResult, UnaryResult, encode_response_stream, unimplemented_streaming,
    unimplemented_unary,
};
use connectrpc::{
    CodecFormat, ConnectError, ConnectRpcBody, ConnectRpcService, DeadlinePolicy, Dispatcher,
    Limits, MethodDescriptor, Payload, Protocol, RequestContext, Response, ServiceStream, Spec,
    StreamType,
};
use futures_util::{FutureExt as _, StreamExt as _};
use http_body::{Frame, SizeHint};
use tower::Service as _;

use navarch_model::Role;

use crate::contract::every_service;
use crate::reply::Reply;
use crate::{ApiError, Code};

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

/// A call of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallSpec {
    /// Its path, for example `/navarch.ControlPlaneService/GetNode`.
    pub path: &'static str,
    /// Whether its answer is a stream.
    pub stream: bool,
    /// The least role that may make it.
    pub role: Role,
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
    fn apply<D: Dispatcher>(self, dispatcher: D) -> ConnectRpcService<D> {
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

/// Every call of the contract as one service.
pub struct Calls<H>(ConnectRpcService<All<H>>);

impl<H> Clone for Calls<H> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<H> std::fmt::Debug for Calls<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Calls").finish_non_exhaustive()
    }
}

impl<H: Handles> Calls<H> {
    /// The calls that these handlers answer.
    pub fn new(handlers: &Arc<H>, limits: CallLimits) -> Self {
        Self(limits.apply(All::new(handlers)))
    }

    /// Answers a request by POST whose path is that of a call, without the [`routes`] around it.
    pub fn answer<B>(
        &self,
        request: http::Request<B>,
    ) -> impl Future<Output = http::Response<CallBody>> + Send + use<B, H>
    where
        B: Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + 'static,
    {
        let answer = self.0.clone().call(request);
        async {
            match answer.await {
                Ok(answer) => answer.map(CallBody),
                Err(never) => match never {},
            }
        }
    }
}

/// The body of an answer. It tells the length of one that is there as a whole; the library's own
/// does not, and HTTP/1.1 then sends it in chunks, which costs more than small answers carry.
pub struct CallBody(ConnectRpcBody);

impl std::fmt::Debug for CallBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CallBody").finish_non_exhaustive()
    }
}

impl Body for CallBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.0).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            ConnectRpcBody::Full(whole) => whole.is_end_stream(),
            other => other.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            ConnectRpcBody::Full(whole) => whole.size_hint(),
            other => other.size_hint(),
        }
    }
}

/// Waits for a handler, where it lies: it holds the request, and each move would copy that. A
/// panic becomes an error in the caller's protocol; the panic hook has reported it.
async fn guard<T>(
    handler: Pin<&mut (impl Future<Output = Result<T, ApiError>> + Send)>,
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

/// Hears how long each call took and how it ended. A stream counts until its first message may
/// come. What is refused before its handler is known, for its token or its rate, is not heard of.
pub trait Observer: Send + Sync + 'static {
    /// A call begins: the present moment of a clock that never goes back.
    fn begun(&self) -> Duration {
        Duration::ZERO
    }

    /// The call at this place of [`CALLS`] ended, with an error if there is a code.
    fn ended(&self, _call: usize, _begun: Duration, _code: Option<Code>) {}
}

/// A call that is under way. One that is dropped was given up, by its caller or for lack of time.
struct Observed<H: Observer> {
    handlers: Arc<H>,
    call: usize,
    begun: Duration,
    code: Option<Code>,
}

impl<H: Observer> Observed<H> {
    fn begin(handlers: &Arc<H>, call: usize) -> Self {
        Self {
            handlers: Arc::clone(handlers),
            call,
            begun: handlers.begun(),
            code: Some(Code::Canceled),
        }
    }

    fn end<T>(mut self, answer: Result<T, ConnectError>) -> Result<T, ConnectError> {
        self.code = answer
            .as_ref()
            .err()
            .map(|error| Code::from_connect(error.code));
        answer
    }
}

impl<H: Observer> Drop for Observed<H> {
    fn drop(&mut self) {
        self.handlers.ended(self.call, self.begun, self.code);
    }
}

/// The place of a path in [`CALLS`].
const fn place(path: &str) -> usize {
    let mut at = 0;
    while at < CALLS.len() {
        if is_same(CALLS[at].path.as_bytes(), path.as_bytes()) {
            return at;
        }
        at += 1;
    }
    panic!("every method is in the list that the list was made from")
}

const fn is_same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let mut at = 0;
    while at < one.len() {
        if one[at] != other[at] {
            return false;
        }
        at += 1;
    }
    true
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

/// Answers a unary call if it is this method.
macro_rules! answer_unary {
    (stream $($rest:tt)*) => {};
    ($kind:ident $self:ident $method:ident $prefix:literal $name:literal
        $request:ident $response:ident:
        $called:ident, $context:ident, $message:ident, $format:ident) => {
        if $called == Some($name) {
            let observed = Observed::begin(&$self.0, const { place(concat!($prefix, $name)) });
            return Box::pin(async move {
                let handlers = Arc::clone(&observed.handlers);
                let request = match $message.take_message::<$request>() {
                    Ok(request) => request,
                    Err(error) => return observed.end(Err(error)),
                };
                let handler = std::pin::pin!(handlers.$method(Call($context), request));
                let answer = guard(handler).await;
                let encode = |answer| Response::new(answer).encode::<$response>($format);
                observed.end(answer.and_then(encode))
            });
        }
    };
}

/// Answers a streaming call if it is this method.
macro_rules! answer_stream {
    (stream $self:ident $method:ident $prefix:literal $name:literal
        $request:ident $response:ident:
        $called:ident, $context:ident, $message:ident, $format:ident) => {
        if $called == Some($name) {
            let observed = Observed::begin(&$self.0, const { place(concat!($prefix, $name)) });
            return Box::pin(async move {
                let handlers = Arc::clone(&observed.handlers);
                let answer = async {
                    let request = Payload::new($message, $format)
                        .with_decode_options($context.decode_options().clone())
                        .take_message::<$request>()?;
                    let handler = std::pin::pin!(handlers.$method(Call($context), request));
                    let answers = guard(handler).await?;
                    let answers = guard_stream(answers);
                    Ok(Response::new(encode_response_stream::<$response, _, _>(
                        answers, $format,
                    )))
                };
                observed.end(answer.await)
            });
        }
    };
    ($kind:ident $($rest:tt)*) => {};
}

macro_rules! stream_type {
    (stream) => {
        StreamType::ServerStream
    };
    ($other:ident) => {
        StreamType::Unary
    };
}

macro_rules! make_services {
    ($(
        $(#[$doc:meta])*
        $service:ident, $module:ident, $package:path, $prefix:literal {$(
            $(#[$method_doc:meta])*
            $kind:ident $role:ident $method:ident $name:literal ($request:ident) -> $response:ident;
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

            /// Hands the calls of one service to its handlers. Messages are decoded once, to
            /// owned values; the library's own stubs decode JSON twice.
            pub(super) struct Calls<H>(pub(super) Arc<H>);

            /// The name of the called method, if it is one of this service.
            pub(super) fn method(path: &str) -> Option<&str> {
                path.strip_prefix($prefix.trim_start_matches('/'))
            }

            impl<H: $service + Observer> Dispatcher for Calls<H> {
                fn lookup(&self, path: &str) -> Option<MethodDescriptor> {
                    match method(path)? {
                        $($name => Some(descriptor(concat!($prefix, $name), stream_type!($kind))),)+
                        _ => None,
                    }
                }

                fn call_unary(
                    &self,
                    path: &str,
                    context: RequestContext,
                    request: Payload,
                    format: CodecFormat,
                ) -> UnaryResult {
                    let called = method(path);
                    $(answer_unary! {
                        $kind self $method $prefix $name $request $response:
                        called, context, request, format
                    })+
                    let _ = (called, context, request, format);
                    unimplemented_unary(path)
                }

                fn call_server_streaming(
                    &self,
                    path: &str,
                    context: RequestContext,
                    request: Bytes,
                    format: CodecFormat,
                ) -> StreamingResult {
                    let called = method(path);
                    $(answer_stream! {
                        $kind self $method $prefix $name $request $response:
                        called, context, request, format
                    })+
                    let _ = (called, context, request, format);
                    unimplemented_streaming(path)
                }

                fn call_client_streaming(
                    &self,
                    path: &str,
                    _: RequestContext,
                    _: RequestStream,
                    _: CodecFormat,
                ) -> UnaryResult {
                    unimplemented_unary(path)
                }

                fn call_bidi_streaming(
                    &self,
                    path: &str,
                    _: RequestContext,
                    _: RequestStream,
                    _: CodecFormat,
                ) -> StreamingResult {
                    unimplemented_streaming(path)
                }
            }

        }
        pub use $module::$service;)+

        /// Every call of the contract.
        pub const CALLS: &[CallSpec] = &[$($(
            CallSpec {
                path: concat!($prefix, $name),
                stream: is_stream!($kind),
                role: Role::$role,
            },
        )+)+];

        /// What implements every service.
        pub trait Handles: $($service +)+ Observer {}

        impl<H: $($service +)+ Observer> Handles for H {}

        /// Hands each call to its service.
        struct All<H> {
            $($module: $module::Calls<H>,)+
        }

        impl<H> All<H> {
            fn new(handlers: &Arc<H>) -> Self {
                Self {
                    $($module: $module::Calls(Arc::clone(handlers)),)+
                }
            }
        }

        impl<H: Handles> Dispatcher for All<H> {
            fn lookup(&self, path: &str) -> Option<MethodDescriptor> {
                None$(.or_else(|| self.$module.lookup(path)))+
            }

            fn call_unary(
                &self,
                path: &str,
                context: RequestContext,
                request: Payload,
                format: CodecFormat,
            ) -> UnaryResult {
                $(if $module::method(path).is_some() {
                    return self.$module.call_unary(path, context, request, format);
                })+
                unimplemented_unary(path)
            }

            fn call_server_streaming(
                &self,
                path: &str,
                context: RequestContext,
                request: Bytes,
                format: CodecFormat,
            ) -> StreamingResult {
                $(if $module::method(path).is_some() {
                    return self.$module.call_server_streaming(path, context, request, format);
                })+
                unimplemented_streaming(path)
            }

            fn call_client_streaming(
                &self,
                path: &str,
                _: RequestContext,
                _: RequestStream,
                _: CodecFormat,
            ) -> UnaryResult {
                unimplemented_unary(path)
            }

            fn call_bidi_streaming(
                &self,
                path: &str,
                _: RequestContext,
                _: RequestStream,
                _: CodecFormat,
            ) -> StreamingResult {
                unimplemented_streaming(path)
            }
        }

        /// The routes of all services: Connect, gRPC and gRPC-Web, JSON and protobuf.
        ///
        /// Layers around the router see every request before its body is read. Put what they
        /// learn of the caller into the request's extensions; handlers read it from [`Call`].
        pub fn routes<H: Handles>(calls: &Calls<H>) -> axum::Router {
            axum::Router::new()$(.route(
                concat!($prefix, "{method}"),
                axum::routing::post_service(calls.0.clone()).fallback(no_post),
            ))+
        }
    };
}

/// The call at a path, if there is one.
pub fn call_at(path: &str) -> Option<&'static CallSpec> {
    CALLS.iter().find(|call| call.path == path)
}

/// The answer to everything but POST, empty as the Go project's is: every call has effects or
/// costs, so that none is for caches, links and crawlers.
async fn no_post(uri: http::Uri) -> axum::response::Response {
    let answer = http::Response::builder();
    let answer = if call_at(uri.path()).is_some() {
        answer.status(405).header(http::header::ALLOW, "POST")
    } else {
        answer.status(404)
    };
    answer.body(axum::body::Body::empty()).unwrap_or_default()
}

fn descriptor(path: &'static str, stream_type: StreamType) -> MethodDescriptor {
    let descriptor = match stream_type {
        StreamType::ServerStream => MethodDescriptor::server_streaming(),
        _ => MethodDescriptor::unary(false),
    };
    descriptor.with_spec(Spec::server(path, stream_type))
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
