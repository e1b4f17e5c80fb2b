//! The yardstick for heartbeats: the RPC library alone, without Navarch.
//!
//! A process of its own that serves one method straight on the connection, by the library's
//! shortest way: it decodes the same body to the same message and answers an empty one. There is no
//! router, no authentication, no fleet, no layer in between.

use std::time::Duration;

use buffa::bytes::Bytes;
use connectrpc::dispatcher::codegen::{
    RequestStream, StreamingResult, UnaryResult, unimplemented_streaming, unimplemented_unary,
};
use connectrpc::{
    CodecFormat, ConnectRpcService, Dispatcher, MethodDescriptor, Payload, RequestContext, Response,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use navarch_api::wire::{HeartbeatRequest, HeartbeatResponse};
use navarch_time::{RealClock, Tasks};
use tokio::net::TcpListener;

use crate::{Result, fleet, say};

struct Noop;

impl Dispatcher for Noop {
    fn lookup(&self, path: &str) -> Option<MethodDescriptor> {
        (path == fleet::BEAT.trim_start_matches('/')).then_some(MethodDescriptor::unary(false))
    }

    fn call_unary(
        &self,
        _: &str,
        _: RequestContext,
        request: Payload,
        format: CodecFormat,
    ) -> UnaryResult {
        Box::pin(async move {
            let request = request.take_message::<HeartbeatRequest>()?;
            std::hint::black_box(&request);
            Response::new(HeartbeatResponse::default()).encode::<HeartbeatResponse>(format)
        })
    }

    fn call_server_streaming(
        &self,
        path: &str,
        _: RequestContext,
        _: Bytes,
        _: CodecFormat,
    ) -> StreamingResult {
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

/// Serves until standard input closes, which is when the benchmark ends.
pub async fn serve() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    say(&format!("Listening on http://{}", listener.local_addr()?))?;
    let tasks = Tasks::new();
    let service = ConnectRpcService::new(Noop);
    let accept = async {
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let service = TowerToHyperService::new(service.clone());
            tasks.spawn("connection", async move {
                let builder = Builder::new(TokioExecutor::new());
                // A client that leaves is no news.
                drop(
                    builder
                        .serve_connection(TokioIo::new(stream), service)
                        .await,
                );
            });
        }
    };
    let (mut input, mut ignored) = (tokio::io::stdin(), tokio::io::sink());
    let ended: Result<()> = tokio::select! {
        broken = accept => broken,
        closed = tokio::io::copy(&mut input, &mut ignored) => closed.map(drop).map_err(Into::into),
    };
    tasks.shutdown(&RealClock::new(), Duration::ZERO).await;
    ended
}
