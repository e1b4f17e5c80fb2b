//! Connections: accepted, limited, and closed in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use navarch_time::{SharedClock, Tasks};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

/// Connections at a time. An agent keeps one; more than this is an attack or a mistake.
const MAX_CONNECTIONS: usize = 65_536;
/// How long a new connection may take to begin its first request.
const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// How long a connection that is closed may take to tell its peer so. Too short and a client sends
/// one more request into the void; too long and slow peers hold up a stop.
const GOODBYE: Duration = Duration::from_secs(1);
/// The most bytes of one request's headers.
const MAX_HEADER_BYTES: usize = 64 * 1024;
/// How long to wait before accepting again when the system refuses another connection.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Where a request came from.
#[derive(Debug, Clone, Copy)]
pub struct PeerAddress(pub SocketAddr);

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
    router: Router,
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
            router: router.clone(),
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
    /// Requests under way, streams included.
    open: AtomicUsize,
}

struct Connection {
    router: Router,
    peer: SocketAddr,
    limits: ConnectionLimits,
    tls: Option<TlsAcceptor>,
    clock: SharedClock,
    closing: navarch_time::CancellationToken,
}

impl Connection {
    async fn run(self, stream: TcpStream) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY was refused");
        }
        let Some(tls) = self.tls.clone() else {
            return self.converse(stream).await;
        };
        let peer = self.peer;
        let shaken = tokio::select! {
            shaken = tls.accept(stream) => shaken,
            () = self.closing.cancelled() => return,
            () = self.clock.sleep(FIRST_REQUEST) => return,
        };
        match shaken {
            Ok(stream) => self.converse(stream).await,
            Err(error) => tracing::debug!(%peer, %error, "no TLS with a caller"),
        }
    }

    async fn converse<S>(self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let activity = Arc::new(Activity::default());
        let (peer, router, counted) = (self.peer, self.router, Arc::clone(&activity));
        let service = tower::service_fn(move |mut request: Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(PeerAddress(peer));
            let (router, activity) = (router.clone(), Arc::clone(&counted));
            async move {
                activity.begun.fetch_add(1, Ordering::Relaxed);
                activity.open.fetch_add(1, Ordering::Relaxed);
                let busy = Busy(Arc::clone(&activity));
                let answer = router.oneshot(request.map(Body::new)).await;
                // The body of a stream keeps the connection busy until it ends.
                answer.map(|answer| answer.map(|body| Body::new(Held { body, _busy: busy })))
            }
        });
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.idle)
            .max_buf_size(MAX_HEADER_BYTES);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(Some(Duration::from_secs(30)))
            .keep_alive_timeout(Duration::from_secs(20))
            .max_concurrent_streams(256)
            .max_header_list_size(16 * 1024);
        let connection =
            builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        let mut connection = std::pin::pin!(connection);
        let mut seen = 0;
        let mut wait = FIRST_REQUEST;
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%peer, error = &*error, "a connection broke");
                    }
                    return;
                }
                () = self.closing.cancelled() => break,
                () = self.clock.sleep(wait) => {
                    let begun = activity.begun.load(Ordering::Relaxed);
                    if begun == seen && activity.open.load(Ordering::Relaxed) == 0 {
                        break;
                    }
                    seen = begun;
                    wait = self.limits.idle;
                }
            }
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
}

/// Counts a request as open until its answer is gone.
struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A body that keeps its connection busy.
struct Held {
    body: Body,
    _busy: Busy,
}

impl axum::body::HttpBody for Held {
    type Data = axum::body::Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        std::pin::Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
