//! Raw HTTP: one connection for each request, so that nothing is reused unseen.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Body;
use hyper_util::rt::{TokioExecutor, TokioIo};
use navarch_time::{RealClock, timeout};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The longest that a test waits for what must come. Reached only when a test fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for what must come soon.
pub async fn soon<F: Future>(what: &str, work: F) -> F::Output {
    match timeout(&RealClock::new(), PATIENCE, work).await {
        Ok(output) => output,
        Err(_) => panic!("never within {PATIENCE:?}: {what}"),
    }
}

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Raw {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: HeaderMap,
}

impl Raw {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header, empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().expect("a header of text"))
    }
}

async fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).await.expect("it listens");
    stream
        .set_nodelay(true)
        .expect("the socket takes the option");
    stream
}

async fn read<B>(response: hyper::Response<B>) -> Result<Raw, String>
where
    B: Body<Data = Bytes>,
    B::Error: std::fmt::Display,
{
    let (head, body) = response.into_parts();
    let body = body.collect().await.map_err(|error| error.to_string())?;
    let trailers = body.trailers().cloned().unwrap_or_default();
    Ok(Raw {
        status: head.status.as_u16(),
        headers: head.headers,
        body: body.to_bytes(),
        trailers,
    })
}

/// Sends one request over HTTP/1.1, or says how the connection broke.
pub async fn try_http1(address: SocketAddr, mut request: Request<Bytes>) -> Result<Raw, String> {
    let headers = request.headers_mut();
    headers.insert("host", address.to_string().parse().expect("a host"));
    let io = TokioIo::new(connect(address).await);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io)
        .await
        .map_err(|error| error.to_string())?;
    let mut connection = pin!(connection);
    let mut work = pin!(async move {
        let answer = sender.send_request(request.map(Full::new)).await;
        read(answer.map_err(|error| error.to_string())?).await
    });
    let done = async {
        tokio::select! {
            done = work.as_mut() => done,
            // What came before the end is still there to be read.
            _ = connection.as_mut() => work.as_mut().await,
        }
    };
    soon("an answer over HTTP/1.1", done).await
}

/// Sends one request over HTTP/1.1.
pub async fn http1(address: SocketAddr, request: Request<Bytes>) -> Raw {
    try_http1(address, request).await.expect("an answer")
}

/// Sends one request over HTTP/2 without TLS, as gRPC does.
pub async fn http2(address: SocketAddr, mut request: Request<Bytes>) -> Raw {
    let uri = format!("http://{address}{}", request.uri());
    *request.uri_mut() = uri.parse().expect("a URI");
    let io = TokioIo::new(connect(address).await);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake::<_, _, Full<Bytes>>(TokioExecutor::new(), io)
            .await
            .expect("HTTP/2 is spoken");
    let mut connection = pin!(connection);
    let mut work = pin!(async move {
        let answer = sender.send_request(request.map(Full::new)).await;
        read(answer.map_err(|error| error.to_string())?).await
    });
    let done = async {
        tokio::select! {
            done = work.as_mut() => done,
            _ = connection.as_mut() => work.as_mut().await,
        }
    };
    soon("an answer over HTTP/2", done)
        .await
        .expect("an answer")
}

/// Sends a request for a stream, and reads its body until `enough`; then hangs up.
pub async fn stream(
    address: SocketAddr,
    http2: bool,
    mut request: Request<Bytes>,
    enough: impl Fn(&[u8]) -> bool,
) -> Vec<u8> {
    let io = TokioIo::new(connect(address).await);
    let work = async {
        if http2 {
            let uri = format!("http://{address}{}", request.uri());
            *request.uri_mut() = uri.parse().expect("a URI");
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake::<_, _, Full<Bytes>>(
                    TokioExecutor::new(),
                    io,
                )
                .await
                .expect("HTTP/2 is spoken");
            let answer = sender.send_request(request.map(Full::new));
            tokio::select! {
                body = until_enough(answer, enough) => body,
                end = connection => panic!("the connection ended: {end:?}"),
            }
        } else {
            let host = address.to_string().parse().expect("a host");
            request.headers_mut().insert("host", host);
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io)
                .await
                .expect("HTTP/1.1 is spoken");
            let answer = sender.send_request(request.map(Full::new));
            tokio::select! {
                body = until_enough(answer, enough) => body,
                end = connection => panic!("the connection ended: {end:?}"),
            }
        }
    };
    soon("enough of a stream", work).await
}

async fn until_enough(
    answer: impl Future<Output = Result<hyper::Response<hyper::body::Incoming>, hyper::Error>>,
    enough: impl Fn(&[u8]) -> bool,
) -> Vec<u8> {
    let answer = answer.await.expect("an answer");
    assert_eq!(answer.status(), 200, "{answer:?}");
    let mut body = answer.into_body();
    let mut all = Vec::new();
    while !enough(&all) {
        let frame = body.frame().await.expect("more").expect("a frame");
        if let Ok(data) = frame.into_data() {
            all.extend_from_slice(&data);
        }
    }
    all
}

/// Sends bytes, closes this side, and reads what comes until the end, a reset included.
pub async fn bytes(address: SocketAddr, sent: &[u8]) -> String {
    let mut stream = connect(address).await;
    // A server that has refused already may take no more.
    let _ = stream.write_all(sent).await;
    let _ = stream.shutdown().await;
    soon("the end of the connection", until_closed(&mut stream)).await
}

/// Reads until the other side ends the connection.
pub async fn until_closed(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return String::from_utf8_lossy(&all).into_owned(),
            Ok(count) => all.extend_from_slice(&chunk[..count]),
        }
    }
}

/// A connection of one's own.
pub async fn open(address: SocketAddr, sent: &[u8]) -> TcpStream {
    let mut stream = connect(address).await;
    stream.write_all(sent).await.expect("it takes the bytes");
    stream
}
