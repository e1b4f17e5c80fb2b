//! The API, its client, and what goes wrong between them.

use super::*;

#[tokio::test]
async fn faults_reach_the_agent_of_the_right_machine() {
    use axum::extract::{Json, Path};
    let served = served(GOOD).await;
    let machine = served
        .provider
        .launch(&spec("nv-1"))
        .await
        .expect("a machine");
    let home = home(served._directory.path(), &machine);
    process_of(served._directory.path(), &machine, None).await;
    let injector = served.provider.faults().expect("a fake cloud has faults");
    let mut fault = Fault::new(FaultKind::Xid);
    (fault.gpu, fault.code) = (Some(3), Some(79));
    let instance = InstanceId::new("nv-1");
    let early = injector
        .inject(&instance, &fault)
        .await
        .expect_err("no address yet");
    assert_eq!(early.kind, ProviderErrorKind::Transient, "{early}");

    let (sender, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let cleared = sender.clone();
    let router = axum::Router::new()
        .route(
            "/debug/inject/{kind}",
            axum::routing::post(
                async move |Path(kind): Path<String>, Json(body): Json<serde_json::Value>| {
                    let refused = kind == "nvlink";
                    sender
                        .send(format!("inject {kind} {body}"))
                        .expect("the test listens");
                    if refused {
                        (
                            axum::http::StatusCode::BAD_REQUEST,
                            "{\"error\":\"not that\"}",
                        )
                    } else {
                        (axum::http::StatusCode::OK, "{}")
                    }
                },
            ),
        )
        .route(
            "/debug/clear/{kind}",
            axum::routing::post(async move |Path(kind): Path<String>| {
                cleared
                    .send(format!("clear {kind}"))
                    .expect("the test listens");
            }),
        );
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    std::fs::write(home.join("debug-address"), format!("{address}\n")).expect("written");
    let tasks = Tasks::new();
    tasks.spawn("agent", async move {
        axum::serve(listener, router).await.expect("it serves");
    });

    injector.inject(&instance, &fault).await.expect("injected");
    injector
        .clear(&instance, Some(FaultKind::BackendError))
        .await
        .expect("cleared");
    let error = injector
        .inject(&instance, &Fault::new(FaultKind::Nvlink))
        .await;
    let error = error.expect_err("refused");
    assert_eq!(error.kind, ProviderErrorKind::Configuration);
    assert!(error.message.contains("not that"), "{error}");
    let stranger = injector.clear(&InstanceId::new("nv-9"), None).await;
    let stranger = stranger.expect_err("no such machine");
    assert_eq!(stranger.kind, ProviderErrorKind::NotFound, "{stranger}");
    let mut calls = Vec::new();
    while let Ok(call) = seen.try_recv() {
        calls.push(call);
    }
    let expected = [
        r#"inject xid {"code":79,"gpu":3}"#,
        "clear backend-error",
        "inject nvlink {}",
    ];
    assert_eq!(calls, expected);
    served.cloud.shutdown().await;
}

#[tokio::test]
async fn ordered_errors_reach_the_client_with_their_kind() {
    let served = served(GOOD).await;
    for kind in ProviderErrorKind::ALL {
        let fault = CloudFault::Error {
            error: kind,
            operation: Some(Operation::Launch),
            message: Some("sold out".to_owned()),
            retry_after_seconds: Some(7),
            count: Some(1),
        };
        served.cloud.order(fault).await.expect("ordered");
        let error = served
            .provider
            .launch(&spec("nv-1"))
            .await
            .expect_err(kind.word());
        assert_eq!((error.kind, error.message.as_str()), (kind, "sold out"));
        assert_eq!(error.retry_after, Some(Duration::from_secs(7)));
    }
    let orders = served.cloud.orders().await.expect("orders");
    assert_eq!(orders, [], "each struck once");
    served.cloud.shutdown().await;
}

/// Reads a request to its end: an answer before that would reset the connection.
async fn read_request(stream: &mut tokio::net::TcpStream) -> std::io::Result<()> {
    use tokio::io::AsyncReadExt as _;
    let mut request = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&request).to_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.split_once("content-length: ");
            let length = length.and_then(|(_, rest)| rest.lines().next()?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Ok(());
            }
        }
        if stream.read_buf(&mut request).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

#[tokio::test]
async fn what_goes_wrong_on_the_way_has_its_kind() {
    use tokio::io::AsyncWriteExt as _;
    let text = |status: &str| {
        format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno")
    };
    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{".to_owned();
    for (answer, launch, list) in [
        (
            text("404 Not Found"),
            ProviderErrorKind::Configuration,
            ProviderErrorKind::Configuration,
        ),
        (
            text("401 Unauthorized"),
            ProviderErrorKind::Auth,
            ProviderErrorKind::Auth,
        ),
        (
            text("403 Forbidden"),
            ProviderErrorKind::Auth,
            ProviderErrorKind::Auth,
        ),
        (
            text("302 Found"),
            ProviderErrorKind::Configuration,
            ProviderErrorKind::Configuration,
        ),
        (
            text("429 Too Many Requests"),
            ProviderErrorKind::RateLimit,
            ProviderErrorKind::RateLimit,
        ),
        (
            text("502 Bad Gateway"),
            ProviderErrorKind::OutcomeUnknown,
            ProviderErrorKind::Transient,
        ),
        (
            text("200 OK"),
            ProviderErrorKind::OutcomeUnknown,
            ProviderErrorKind::Transient,
        ),
        (
            cut,
            ProviderErrorKind::OutcomeUnknown,
            ProviderErrorKind::Transient,
        ),
        (
            String::new(),
            ProviderErrorKind::OutcomeUnknown,
            ProviderErrorKind::Transient,
        ),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let tasks = Tasks::new();
        let said = answer.clone();
        tasks.spawn("server", async move {
            loop {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                if read_request(&mut stream).await.is_ok() {
                    // The client may have seen enough.
                    drop(stream.write_all(said.as_bytes()).await);
                }
            }
        });
        let provider = client(&url);
        let error = provider.launch(&spec("nv-1")).await.expect_err(&answer);
        assert_eq!(error.kind, launch, "{answer}: {error}");
        let error = provider.list(&FleetId::new("f")).await.expect_err(&answer);
        assert_eq!(error.kind, list, "{answer}: {error}");
        let id = navarch_model::ProviderInstanceId::new("fake-1");
        let error = provider.terminate(&id).await.expect_err(&answer);
        assert_eq!(error.kind, launch, "{answer}: {error}");
        let error = provider.get(&id).await.expect_err(&answer);
        assert_eq!(error.kind, list, "{answer}: {error}");
        let clock = RealClock::shared();
        tasks.shutdown(&*clock, Duration::ZERO).await;
        // A process that another test is just starting shares the listener for a moment.
        let refused = eventually(&clock, LONG, async || {
            let error = provider.launch(&spec("nv-1")).await;
            error.expect_err("nobody answers").kind == ProviderErrorKind::Transient
        });
        assert!(refused.await, "what was never sent had no effect");
    }
}

#[test]
fn only_plain_loopback_urls_are_fake_clouds() {
    for (url, words) in [
        ("", "is no URL"),
        ("fake", "is no URL"),
        ("https://127.0.0.1:1", "is not http://"),
        ("http://example.com", "loopback"),
        ("http://10.0.0.1:80", "loopback"),
        ("http://127.0.0.1:1/v1", "more than a host"),
        ("http://me@127.0.0.1:1", "more than a host"),
        ("http://127.0.0.1:1/?a", "more than a host"),
    ] {
        let options = HttpOptions {
            url: url.to_owned(),
            gpu_count: 1,
            access: AgentAccess::default(),
            page_size: 0,
        };
        let error = FakeHttp::new(options).err().expect(url).to_string();
        assert!(error.contains(words), "{url}: {error}");
    }
    for url in [
        "http://127.0.0.1:1",
        "http://localhost:1/",
        "http://[::1]:1",
    ] {
        client(url);
    }
}

#[tokio::test]
async fn bad_requests_are_refused_and_change_nothing() {
    let served = served(GOOD).await;
    let http = super::cloud::http_client().expect("a client");
    let long = "x".repeat(600_000);
    let launch = |name: &str, more: &str| {
        format!(r#"{{"client_token":"t","name":"{name}","instance_type":"i","gpus":1{more}}}"#)
    };
    let agent = |more: &str| {
        let more = format!(r#","agent":{{"instance_id":"a","provider":"p","pool":"q"{more}}}"#);
        launch("n", &more)
    };
    let json = "application/json";
    for (method, path, body, kind, status, words) in [
        ("POST", "/v1/instances", "", json, 400, "body: "),
        ("POST", "/v1/instances", "{", json, 400, "body: "),
        ("POST", "/v1/instances", "[]", json, 422, "body: "),
        ("POST", "/v1/instances", "{}", json, 422, "client_token"),
        (
            "POST",
            "/v1/instances",
            &launch("n", ""),
            "text/plain",
            415,
            "body: ",
        ),
        (
            "POST",
            "/v1/instances",
            &launch("n", r#","gpu":1"#),
            json,
            422,
            "unknown field",
        ),
        (
            "POST",
            "/v1/instances",
            &launch("", ""),
            json,
            400,
            "name: is required",
        ),
        (
            "POST",
            "/v1/instances",
            &launch("a b", ""),
            json,
            400,
            "name: has the character",
        ),
        (
            "POST",
            "/v1/instances",
            &launch(&long[..10_000], ""),
            json,
            400,
            "name: is 10000 bytes",
        ),
        (
            "POST",
            "/v1/instances",
            &launch(&long, ""),
            json,
            413,
            "at most",
        ),
        (
            "POST",
            "/v1/instances",
            &launch("n", r#","tags":{"a":"\n"}"#),
            json,
            400,
            "tags.a: ",
        ),
        (
            "POST",
            "/v1/instances",
            &launch("n", r#","tags":{"":"b"}"#),
            json,
            400,
            "tags: the key",
        ),
        (
            "POST",
            "/v1/instances",
            &launch("n", r#","region":"ü""#),
            json,
            400,
            "region: ",
        ),
        (
            "POST",
            "/v1/instances",
            &launch("n", r#","gpus":1"#),
            json,
            422,
            "duplicate field",
        ),
        (
            "POST",
            "/v1/instances",
            &agent(r#","server":"ftp://x""#),
            json,
            400,
            "agent.server: ",
        ),
        (
            "POST",
            "/v1/instances",
            &agent(r#","server":"http://a b""#),
            json,
            400,
            "agent.server: ",
        ),
        (
            "POST",
            "/v1/instances",
            &agent(r#","token":"a\u0000b""#),
            json,
            400,
            "agent.token: ",
        ),
        (
            "POST",
            "/v1/instances",
            &agent(r#","labels":{"-x":"\u0000"}"#),
            json,
            400,
            "agent.labels.-x: ",
        ),
        (
            "GET",
            "/v1/instances?page_token=0",
            "",
            json,
            400,
            "page_token: ",
        ),
        (
            "GET",
            "/v1/instances?page_token=1.2.3.4",
            "",
            json,
            400,
            "page_token: ",
        ),
        (
            "GET",
            "/v1/instances?page_size=0",
            "",
            json,
            400,
            "page_size: ",
        ),
        (
            "GET",
            "/v1/instances?page_size=-1",
            "",
            json,
            400,
            "page_size: ",
        ),
        ("GET", "/v1/instances?tag=x", "", json, 400, "tag: "),
        (
            "GET",
            "/v1/instances?tags=x",
            "",
            json,
            400,
            "not a query parameter",
        ),
        ("GET", "/v1/instances/none", "", json, 404, "no instance"),
        (
            "GET",
            "/v1/instances/..%2f..%2fetc",
            "",
            json,
            404,
            "no instance",
        ),
        (
            "POST",
            "/v1/instances/none/inject",
            r#"{"kind":"xid"}"#,
            json,
            404,
            "no machine",
        ),
        (
            "POST",
            "/v1/instances/none/inject",
            r#"{"kind":"fire"}"#,
            json,
            422,
            "unknown variant",
        ),
        (
            "POST",
            "/v1/instances/none/clear",
            "{}",
            json,
            404,
            "no machine",
        ),
        (
            "POST",
            "/v1/faults",
            r#"{"fault":"fire"}"#,
            json,
            422,
            "unknown variant",
        ),
        (
            "POST",
            "/v1/faults",
            r#"{"fault":"lost_answer","count":0}"#,
            json,
            400,
            "count: ",
        ),
        (
            "POST",
            "/v1/faults",
            r#"{"fault":"hang","instance":"none"}"#,
            json,
            404,
            "no machine",
        ),
        ("DELETE", "/v1/faults/7", "", json, 404, "no fault 7"),
        ("DELETE", "/v1/faults/x", "", json, 400, "not the number"),
        ("PUT", "/v1/instances", "", json, 405, "does not take PUT"),
        ("GET", "/v2", "", json, 404, "not a path"),
    ] {
        let method = method.parse().expect("a method");
        let call = http
            .request(method, format!("{}{path}", served.url))
            .header("content-type", kind)
            .body(body.to_owned());
        let answer = call.send().await.expect("an answer");
        let got = answer.status().as_u16();
        let said: serde_json::Value = answer.json().await.expect("every error is JSON");
        let said = said["error"]["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let body = &body[..body.len().min(200)];
        assert_eq!(got, status, "{path} {body}: {said}");
        assert!(said.contains(words), "{path} {body}: {said}");
    }
    for (header, value) in [
        ("host", "cloud.example.com"),
        ("host", "127.0.0.1.example.com"),
        ("origin", "http://127.0.0.1"),
    ] {
        let call = http
            .get(format!("{}/v1/instances", served.url))
            .header(header, value);
        let status = call.send().await.expect("an answer").status();
        assert_eq!(status, 403, "{header}: {value}");
    }
    let all = served
        .cloud
        .page(PageQuery::default())
        .await
        .expect("a page");
    assert_eq!(all, Page::default());
    assert_eq!(served.cloud.orders().await, Ok(Vec::new()));
    served.cloud.shutdown().await;
}

#[tokio::test]
async fn only_a_loopback_listener_is_served() {
    let directory = TempDir::new().expect("a directory");
    let listener = TcpListener::bind("0.0.0.0:0").await.expect("a port");
    let stop = CancellationToken::new();
    let error = serve(listener, options(directory.path(), GOOD), stop).await;
    let error = error.expect_err("anyone could reach it");
    assert!(
        error.to_string().contains("not a loopback address"),
        "{error}"
    );
}

#[tokio::test]
async fn serving_ends_with_its_machines() {
    let directory = TempDir::new().expect("a directory");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let stop = CancellationToken::new();
    let served = Arc::new(tokio::sync::Notify::new());
    let tasks = Tasks::new();
    let (options, until, done) = (
        options(directory.path(), GOOD),
        stop.clone(),
        Arc::clone(&served),
    );
    tasks.spawn("serve", async move {
        serve(listener, options, until).await.expect("it serves");
        done.notify_one();
    });
    let machine = client(&url).launch(&spec("nv-1")).await.expect("a machine");
    let process = process_of(directory.path(), &machine, None).await;
    stop.cancel();
    let clock = RealClock::shared();
    let ended = navarch_time::timeout(&*clock, LONG, served.notified()).await;
    assert!(ended.is_ok(), "serving ends in time");
    assert!(process.is_gone());
}
