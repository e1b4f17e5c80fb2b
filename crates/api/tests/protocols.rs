//! One port answers Connect, gRPC and gRPC-Web, JSON and protobuf, unary and streaming alike.

mod support;

use buffa::HasMessageView;
use connectrpc::client::{
    CallOptions, ClientConfig, ClientTransport, Http2Connection, HttpClient, call_server_stream,
    call_unary,
};
use connectrpc::{ConnectError, ErrorCode, Protocol, Spec, StreamType};
use navarch_api::{v1, wire};
use support::Server;

/// What a call came to: the answer, or the code and the message.
type Outcome<M> = Result<M, (ErrorCode, String)>;

fn outcome(error: &ConnectError) -> (ErrorCode, String) {
    (error.code, error.message.clone().unwrap_or_default())
}

macro_rules! unary {
    ($path:literal, $request:expr, $response:ty, $transport:expr, $config:expr) => {
        call_unary::<_, _, <$response as HasMessageView>::View<'static>>(
            $transport,
            $config,
            Spec::client($path, StreamType::Unary),
            $request,
            CallOptions::default(),
        )
        .await
        .map(|answer| answer.into_owned())
        .map_err(|error| outcome(&error))
    };
}

/// Everything one protocol and encoding has to do.
async fn exercise<T>(what: &str, protocol: &str, transport: &T, config: &ClientConfig)
where
    T: ClientTransport,
    T::ResponseBody: Unpin,
    <T::ResponseBody as connectrpc::http_body::Body>::Error: std::fmt::Display,
{
    let request = wire::RegisterNodeRequest {
        node_id: "n1".to_owned(),
        ..Default::default()
    };
    let answer: Outcome<wire::RegisterNodeResponse> = unary!(
        "/navarch.ControlPlaneService/RegisterNode",
        request,
        wire::RegisterNodeResponse,
        transport,
        config
    );
    let answer = answer.expect(what);
    assert_eq!(
        answer.message,
        format!("n1 by operator over {protocol}"),
        "{what}"
    );

    let request = wire::GetNodeRequest {
        node_id: "gone \u{e9}".to_owned(),
    };
    let answer: Outcome<wire::GetNodeResponse> = unary!(
        "/navarch.ControlPlaneService/GetNode",
        request,
        wire::GetNodeResponse,
        transport,
        config
    );
    assert_eq!(
        answer.err(),
        Some((
            ErrorCode::NotFound,
            "node not found: gone \u{e9}".to_owned()
        )),
        "{what}"
    );

    for (pool, expected) in [("", support::nodes()), ("empty", vec![])] {
        let request = wire::ListNodesRequest {
            pool: pool.to_owned(),
            ..Default::default()
        };
        let answer: Outcome<wire::ListNodesResponse> = unary!(
            "/navarch.ControlPlaneService/ListNodes",
            request,
            wire::ListNodesResponse,
            transport,
            config
        );
        assert_eq!(answer.expect(what).nodes, expected, "{what}");
    }

    // A handler that panics, and one that never answers, are answers in every protocol.
    for (node_id, code) in [
        ("panics", ErrorCode::Internal),
        ("never", ErrorCode::DeadlineExceeded),
    ] {
        let request = wire::HeartbeatRequest {
            node_id: node_id.to_owned(),
            ..Default::default()
        };
        let answer: Outcome<wire::HeartbeatResponse> = unary!(
            "/navarch.ControlPlaneService/SendHeartbeat",
            request,
            wire::HeartbeatResponse,
            transport,
            config
        );
        assert_eq!(
            answer.err().map(|(code, _)| code),
            Some(code),
            "{what} {node_id}"
        );
    }

    for (pool, count, end) in [
        ("", 3, None),
        (
            "slow",
            3,
            Some((ErrorCode::ResourceExhausted, "too slow; resume after 3")),
        ),
        (
            "panics",
            2,
            Some((
                ErrorCode::Internal,
                "the handler panicked; the server's standard error says where",
            )),
        ),
    ] {
        let request = v1::WatchEventsRequest {
            filter: v1::EventFilter {
                pool: pool.to_owned(),
                ..Default::default()
            }
            .into(),
            after_sequence: Some(0),
        };
        let mut stream =
            call_server_stream::<_, _, <v1::WatchEventsResponse as HasMessageView>::View<'static>>(
                transport,
                config,
                Spec::client(
                    "/navarch.v1.FleetService/WatchEvents",
                    StreamType::ServerStream,
                ),
                request,
                CallOptions::default(),
            )
            .await
            .expect(what);
        let mut sequences = vec![];
        let ended = loop {
            match stream.message().await {
                Ok(Some(answer)) => {
                    sequences.push(answer.to_owned_message().resume_after_sequence);
                }
                Ok(None) => break None,
                Err(error) => break Some(outcome(&error)),
            }
        };
        assert_eq!(
            sequences,
            (1..=count).collect::<Vec<_>>(),
            "{what} {pool:?}"
        );
        let ended = ended
            .as_ref()
            .map(|(code, message)| (*code, message.as_str()));
        assert_eq!(ended, end, "{what} {pool:?}");
    }

    // An error before the first answer of a stream.
    let stream =
        call_server_stream::<_, _, <v1::WatchEventsResponse as HasMessageView>::View<'static>>(
            transport,
            config,
            Spec::client(
                "/navarch.v1.FleetService/WatchEvents",
                StreamType::ServerStream,
            ),
            v1::WatchEventsRequest::default(),
            CallOptions::default(),
        )
        .await;
    let refused = match stream {
        Err(error) => outcome(&error),
        Ok(mut stream) => match stream.message().await {
            Err(error) => outcome(&error),
            Ok(answer) => panic!("{what}: {}", answer.is_some()),
        },
    };
    assert_eq!(refused.0, ErrorCode::InvalidArgument, "{what}");
}

fn configuration(server: &Server, token: &str) -> ClientConfig {
    ClientConfig::new(server.url().parse().expect("an address"))
        .with_default_header("authorization", format!("Bearer {token}"))
}

#[tokio::test]
async fn every_protocol_and_encoding_does_everything() {
    let server = Server::start().await;
    let http1 = HttpClient::plaintext();
    let http2 = HttpClient::plaintext_http2_only();
    for (http, transport) in [("HTTP/1.1", &http1), ("h2c", &http2)] {
        for (name, protocol) in [
            ("connect", Protocol::Connect),
            ("grpc-web", Protocol::GrpcWeb),
        ] {
            let config = configuration(&server, "right").with_protocol(protocol);
            for (encoding, config) in [("proto", config.clone()), ("json", config.json())] {
                let what = format!("{name} {encoding} over {http}");
                exercise(&what, name, transport, &config).await;
            }
        }
    }
    let address = server.url().parse().expect("an address");
    let connection = Http2Connection::connect_plaintext(address)
        .await
        .expect("it listens")
        .shared(64);
    let config = configuration(&server, "right").with_protocol(Protocol::Grpc);
    exercise("gRPC proto", "grpc", &connection, &config).await;
    exercise("gRPC JSON", "grpc", &connection, &config.json()).await;
}

#[tokio::test]
async fn a_layer_refuses_unary_and_streaming_calls_in_every_protocol() {
    let server = Server::start().await;
    let http1 = HttpClient::plaintext();
    let http2 = HttpClient::plaintext_http2_only();
    for (transport, protocol) in [
        (&http1, Protocol::Connect),
        (&http1, Protocol::GrpcWeb),
        (&http2, Protocol::Grpc),
    ] {
        for (token, code) in [
            ("wrong", ErrorCode::Unauthenticated),
            ("agent", ErrorCode::PermissionDenied),
        ] {
            let config = configuration(&server, token).with_protocol(protocol);
            let answer: Outcome<wire::RegisterNodeResponse> = unary!(
                "/navarch.ControlPlaneService/RegisterNode",
                wire::RegisterNodeRequest::default(),
                wire::RegisterNodeResponse,
                transport,
                &config
            );
            assert_eq!(
                answer.err().map(|(code, _)| code),
                Some(code),
                "{protocol:?} {token}"
            );
            let stream = call_server_stream::<
                _,
                _,
                <v1::WatchCommandsResponse as HasMessageView>::View<'static>,
            >(
                transport,
                &config,
                Spec::client(
                    "/navarch.v1.AgentService/WatchCommands",
                    StreamType::ServerStream,
                ),
                v1::WatchCommandsRequest::default(),
                CallOptions::default(),
            )
            .await;
            let refused = match stream {
                Err(error) => error.code,
                Ok(mut stream) => match stream.message().await {
                    Err(error) => error.code,
                    Ok(answer) => panic!("{protocol:?} {token}: {}", answer.is_some()),
                },
            };
            assert_eq!(refused, code, "{protocol:?} {token}");
        }
    }
}
