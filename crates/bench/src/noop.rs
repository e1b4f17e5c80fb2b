//! The yardstick for heartbeats: the RPC library alone, without Navarch.
//!
//! A process of its own that serves one method with the library's own server, as that comes, and by
//! the shortest way that the library has to a handler: it decodes the same body to the same message
//! and answers an empty one. There is no router, no authentication and no fleet.

use buffa::bytes::Bytes;
use connectrpc::dispatcher::codegen::{
    RequestStream, StreamingResult, UnaryResult, unimplemented_streaming, unimplemented_unary,
};
use connectrpc::{
    CodecFormat, ConnectRpcService, Dispatcher, MethodDescriptor, Payload, RequestContext,
    Response, Server,
};
use navarch_api::wire::{HeartbeatRequest, HeartbeatResponse};

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
    let server = Server::bind("127.0.0.1:0").await?;
    say(&format!("Listening on http://{}", server.local_addr()?))?;
    let (mut input, mut ignored) = (tokio::io::stdin(), tokio::io::sink());
    tokio::select! {
        broken = server.serve_with_service(ConnectRpcService::new(Noop)) => broken,
        closed = tokio::io::copy(&mut input, &mut ignored) => closed.map(drop).map_err(Into::into),
    }
}
