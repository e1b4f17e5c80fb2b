//! Connections: accepted, limited, and closed in order.

use std::convert::Infallible;
use std::future::ready;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::{Method, Request, Response};
use futures_util::future::Either;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _, TryFutureExt as _};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use navarch_api::service::{CallBody, CallSpec, Calls, call_at};
use navarch_time::{SharedClock, Tasks};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tower::Service as _;

use crate::access::Gate;
use crate::handlers::Handlers;

/// Connections at a time. An agent keeps one; more than this is an attack or a mistake.
const MAX_CONNECTIONS: usize = 65_536;
/// How long a new connection may take to begin its first request.
const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// How often in its time an idle connection is looked at. Higher ends it closer to its time and
/// wakes every connection more often.
const IDLE_LOOKS: u32 = 4;
/// How long a connection that is closed may take to tell its peer so. Too short and a client sends
/// one more request into the void; too long and slow peers hold up a stop.
const GOODBYE: Duration = Duration::from_secs(1);
/// A request's headers that do not end within so many bytes are refused; the read that brings their
/// end may bring as many again.
const MAX_HEADER_BYTES: usize = 32 * 1024;
/// When the system asks a quiet peer whether it is there, how often then, and how many times in vain
/// before it ends the connection: 50 s in all. Longer keeps the streams of machines that are gone.
const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(30);
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TRIES: u32 = 2;
/// How long to wait before accepting again when the system refuses another connection.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// What one connection may cost.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// A connection without a request for so long is closed.
    pub idle: Duration,
    /// At shutdown, open requests get so long.
    pub shutdown: Duration,
}

/// Accepts connections until the group's token is cancelled; then lets open requests end.
pub async fn serve(
    listener: TcpListener,
    front: Front,
    limits: ConnectionLimits,
    tls: Option<TlsAcceptor>,
    clock: SharedClock,
    connections: Tasks,
) {
    let token = connections.token();
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let permit = tokio::select! {
            () = token.cancelled() => break,
            permit = Arc::clone(&permits).acquire_owned() => permit,
        };
        let Ok(permit) = permit else { break };
        let accepted = tokio::select! {
            () = token.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                clock.sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let connection = Connection {
            front: front.clone(),
            peer,
            limits,
            tls: tls.clone(),
            clock: Arc::clone(&clock),
            closing: token.clone(),
        };
        connections.spawn("connection", async move {
            connection.run(stream).await;
            drop(permit);
        });
    }
    drop(listener);
    connections.shutdown(&*clock, limits.shutdown).await;
}

/// How busy a connection is.
#[derive(Debug, Default)]
struct Activity {
    /// Requests begun.
    begun: AtomicU64,
    /// Requests that wait for their answer, and streams.
    open: AtomicUsize,
}

struct Connection {
    front: Front,
    peer: SocketAddr,
    limits: ConnectionLimits,
    tls: Option<TlsAcceptor>,
    clock: SharedClock,
    closing: navarch_time::CancellationToken,
}

impl Connection {
    async fn run(self, stream: TcpStream) {
        if let Err(error) = set_up(&stream) {
            tracing::debug!(%error, "the options of a connection were refused");
        }
        let Some(tls) = self.tls.clone() else {
            let first = tokio::select! {
                first = is_http1(&stream) => first,
                () = self.closing.cancelled() => return,
                () = self.clock.sleep(FIRST_REQUEST) => return,
            };
            return self.converse(stream, first).await;
        };
        let peer = self.peer;
        let shaken = tokio::select! {
            shaken = tls.accept(stream) => shaken,
            () = self.closing.cancelled() => return,
            () = self.clock.sleep(FIRST_REQUEST) => return,
        };
        match shaken {
            // In a place of its own, so that connections without TLS do not pay for its room.
            Ok(stream) => Box::pin(self.converse(stream, false)).await,
            Err(error) => tracing::debug!(%peer, %error, "no TLS with a caller"),
        }
    }

    /// Answers requests. `http1` says that the peer is known to speak nothing else.
    async fn converse<S>(self, stream: S, http1: bool)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let activity = Arc::new(Activity::default());
        let (peer, front, counted) = (self.peer, self.front.clone(), Arc::clone(&activity));
        let service = service_fn(move |request| {
            counted.begun.fetch_add(1, Ordering::Relaxed);
            counted.open.fetch_add(1, Ordering::Relaxed);
            let busy = Busy(Arc::clone(&counted));
            let call = call_at(request.uri().path());
            let streams = call.is_some_and(|call| call.stream);
            let answer = front.answer(request, call, peer);
            // The body of a stream keeps the connection busy until it ends. One that is there as a
            // whole does not: a peer that never takes it would hold the connection for ever.
            answer.map_ok(move |answer| {
                let busy = streams.then_some(busy);
                answer.map(|body| Held { body, _busy: busy })
            })
        });
        let mut builder = Builder::new(TokioExecutor::new());
        if http1 {
            builder = builder.http1_only();
        }
        builder
            .http1()
            // Headers that do not come to their end are no request: the limit on idle connections
            // ends them, without a timer for each request.
            .header_read_timeout(None)
            .max_buf_size(MAX_HEADER_BYTES);
        builder
            .http2()
            .max_concurrent_streams(256)
            .max_header_list_size(16 * 1024);
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        // A set of one: it is looked at when it has something to say, not with every request.
        let mut end: FuturesUnordered<_> = std::iter::once(self.end(&activity)).collect();
        tokio::select! {
            biased;
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%peer, error = &*error, "a connection broke");
                }
                return;
            }
            _ = end.next() => {}
        }
        connection.as_mut().graceful_shutdown();
        let ended = if activity.open.load(Ordering::Relaxed) > 0 {
            connection.await
        } else {
            // A peer without a request has nothing to wait for but the word that this is the end.
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = self.clock.sleep(GOODBYE) => Ok(()),
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, error = &*error, "a connection broke");
        }
    }

    /// Waits until the connection was idle for too long, or the server stops.
    async fn end(&self, activity: &Activity) {
        let (mut seen, mut quiet) = (0, IDLE_LOOKS - 1);
        let mut wait = FIRST_REQUEST;
        loop {
            tokio::select! {
                () = self.closing.cancelled() => return,
                () = self.clock.sleep(wait) => {}
            }
            let begun = activity.begun.load(Ordering::Relaxed);
            if begun == seen && activity.open.load(Ordering::Relaxed) == 0 {
                quiet += 1;
            } else {
                quiet = 0;
            }
            if quiet == IDLE_LOOKS {
                return;
            }
            seen = begun;
            wait = self.limits.idle / IDLE_LOOKS;
        }
    }
}

/// Sets the options of a new connection. The system finds out which peers are gone, for every
/// protocol alike. Pings of HTTP/2 would also find a process that hangs, or that is gone behind a
/// proxy, but each request would pay for them; a stream that such a peer does not read is cut when
/// it falls behind.
fn set_up(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEP_ALIVE_AFTER)
            .with_interval(KEEP_ALIVE_EVERY)
            .with_retries(KEEP_ALIVE_TRIES),
    )?;
    // A peer that owes an acknowledgement is not asked whether it is there.
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(KEEP_ALIVE_AFTER + KEEP_ALIVE_EVERY * KEEP_ALIVE_TRIES))?;
    Ok(())
}

/// Whether a peer's first bytes can be nothing but HTTP/1. hyper finds out as well, but it takes a
/// few bytes out of the stream to do so, and the short read that this makes doubles the buffer
/// that each connection keeps.
async fn is_http1(stream: &TcpStream) -> bool {
    let mut first = [0; 3];
    matches!(stream.peek(&mut first).await, Ok(3) if first != *b"PRI")
}

/// What answers requests.
#[derive(Debug, Clone)]
pub struct Front {
    /// Says who may ask.
    pub gate: Arc<Gate>,
    /// Answers the calls of the contract.
    pub calls: Calls<Handlers>,
    /// Answers everything else.
    pub pages: Router,
}

impl Front {
    /// Answers a request; `call` is the one at its path. What is a call goes to its handler at once; the router does not add to
    /// it, and costs as much as the smallest calls.
    fn answer(
        &self,
        mut request: Request<Incoming>,
        call: Option<&CallSpec>,
        peer: SocketAddr,
    ) -> impl Future<Output = Result<Response<Answer>, Infallible>> + Send + use<> {
        let caller = match self
            .gate
            .admit(request.uri().path(), call, request.headers(), peer.ip())
        {
            Ok(caller) => caller,
            Err(refused) => return Either::Left(ready(Ok(refused.map(Answer::Page)))),
        };
        request.extensions_mut().insert(caller);
        Either::Right(if call.is_some() && request.method() == Method::POST {
            let answer = self.calls.answer(request);
            Either::Left(answer.map(|answer| Ok(answer.map(Answer::Call))))
        } else {
            // In a place of its own, so that calls do not pay for its room.
            let answer = Box::pin(self.pages.clone().call(request));
            Either::Right(answer.map_ok(|answer| answer.map(Answer::Page)))
        })
    }
}

/// The body of an answer.
enum Answer {
    Call(CallBody),
    Page(Body),
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match self.get_mut() {
            Self::Call(body) => Pin::new(body)
                .poll_frame(context)
                .map_err(|never| match never {}),
            Self::Page(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Call(body) => body.is_end_stream(),
            Self::Page(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Call(body) => body.size_hint(),
            Self::Page(body) => body.size_hint(),
        }
    }
}

/// Counts a request as open until its answer is gone.
struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A body that may keep its connection busy.
struct Held {
    body: Answer,
    _busy: Option<Busy>,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
