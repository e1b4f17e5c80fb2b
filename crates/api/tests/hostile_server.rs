//! The client against servers that answer whatever they like, and files that are no certificates.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use navarch_api::{Client, ClientError, v1, wire};
use navarch_time::{RealClock, Tasks, timeout};
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// How long a call may take at most; reached only when a test fails.
const LONG: Duration = Duration::from_secs(60);

/// A body that may be an answer, a frame of a stream, an error, or nothing of the kind.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let frame = (
        prop_oneof![Just(0_u8), Just(2), any::<u8>()],
        prop_oneof![
            Just(None),
            Just(Some(u32::MAX)),
            any::<u32>().prop_map(Some)
        ],
        vec(any::<u8>(), 0..40),
    );
    let frame = frame.prop_map(|(flags, length, payload)| {
        let length = length.unwrap_or(u32::try_from(payload.len()).expect("it is short"));
        let mut bytes = vec![flags];
        bytes.extend(length.to_be_bytes());
        bytes.extend(payload);
        bytes
    });
    let error = ("[a-z_]{0,12}", ".{0,40}", 0..3_usize).prop_map(|(code, message, much)| {
        let message = message + &"\u{1b}[2J".repeat(much * 2000);
        let error = serde_json::json!({"code": code, "message": message, "details": [{}]});
        error.to_string().into_bytes()
    });
    let end = "[a-z_]{0,12}".prop_map(|code| {
        let end = serde_json::json!({"error": {"code": code, "message": "\u{7}"}});
        let end = end.to_string().into_bytes();
        let mut bytes = vec![2];
        bytes.extend(u32::try_from(end.len()).expect("it is short").to_be_bytes());
        bytes.extend(end);
        bytes
    });
    prop_oneof![
        2 => vec(any::<u8>(), 0..60),
        2 => vec(frame, 0..4).prop_map(|frames| frames.concat()),
        2 => error,
        1 => end,
        1 => Just(vec![0; 100_000]),
        1 => Just(b"[".repeat(100_000)),
    ]
}

/// What a server says: an answer of HTTP with odd parts, or anything.
fn answer() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop::sample::select(vec![
        "application/proto",
        "application/json",
        "application/connect+proto",
        "application/grpc",
        "text/html",
        "",
    ]);
    let odd = prop::sample::select(vec![
        "",
        "content-encoding: gzip\r\n",
        "connect-content-encoding: gzip\r\n",
        "content-encoding: zzz\r\n",
        "transfer-encoding: chunked\r\n",
        "x: \u{1b}[2J\r\n",
    ]);
    let status = prop::sample::select(vec![
        200_u16, 200, 200, 100, 204, 302, 400, 401, 404, 429, 500, 999,
    ]);
    let length = prop_oneof![
        3 => Just(None),
        1 => prop::sample::select(vec!["0", "99999999999999999999", "-1", "5", "x"]).prop_map(Some),
    ];
    let http = (status, kind, odd, length, body()).prop_map(|(status, kind, odd, length, body)| {
        let own = body.len().to_string();
        let length = length.unwrap_or(&own);
        let head = format!(
            "HTTP/1.1 {status} Odd\r\ncontent-type: {kind}\r\n{odd}content-length: {length}\r\n\r\n"
        );
        [head.into_bytes(), body].concat()
    });
    prop_oneof![8 => http, 1 => vec(any::<u8>(), 0..200), 1 => Just(b"HTTP/1.1 200 ".repeat(5000))]
}

/// Says to every caller what it was told to say, and hangs up.
struct Parrot {
    says: Arc<Mutex<Vec<u8>>>,
    client: Client,
    _tasks: Tasks,
}

impl Parrot {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("it is bound"));
        let says = Arc::new(Mutex::new(Vec::new()));
        let (said, tasks) = (Arc::clone(&says), Tasks::new());
        tasks.spawn("parrot", async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = [0; 4096];
                let answer = said.lock().unwrap_or_else(PoisonError::into_inner).clone();
                // The client may have seen enough, and hung up.
                let _gone = stream.read(&mut head).await;
                let _gone = stream.write_all(&answer).await;
                let _gone = stream.shutdown().await;
            }
        });
        let client = Client::builder(address).timeout(LONG).build();
        Self {
            says,
            client: client.expect("the address is one"),
            _tasks: tasks,
        }
    }
}

/// Whether an error can be shown to a person.
fn is_sound(error: &ClientError) -> bool {
    let text = error.to_string();
    let shown = |c: char| !c.is_control() || c == '\n';
    text.len() < 8192 && text.chars().all(shown)
}

thread_local! {
    static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    static PARROT: Parrot = RUNTIME.with(|runtime| runtime.block_on(Parrot::start()));
}

/// Calls once, and opens a stream once. The errors that came of it.
async fn call(parrot: &Parrot) -> Vec<ClientError> {
    let client = &parrot.client;
    let mut errors = Vec::new();
    errors.extend(client.get_node(wire::GetNodeRequest::default()).await.err());
    errors.extend(
        client
            .list_nodes(wire::ListNodesRequest::default())
            .await
            .err(),
    );
    match client.watch_events(v1::WatchEventsRequest::default()).await {
        Err(error) => errors.push(error),
        Ok(mut incoming) => {
            // As many as fit into what was said, and then an end.
            for _ in 0..1000 {
                match incoming.next().await {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(error) => {
                        errors.push(error);
                        break;
                    }
                }
            }
        }
    }
    errors
}

/// As many cases as are asked for, or the usual number.
fn cases(usual: u32) -> u32 {
    let asked = std::env::var("PROPTEST_CASES").ok();
    asked.and_then(|count| count.parse().ok()).unwrap_or(usual)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(96), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_answer_is_read_or_becomes_an_error_for_people(answer in answer()) {
        let errors = PARROT.with(|parrot| {
            *parrot.says.lock().unwrap_or_else(PoisonError::into_inner) = answer;
            let calls = async {
                let clock = RealClock::new();
                timeout(&clock, LONG, call(parrot)).await
            };
            RUNTIME.with(|runtime| runtime.block_on(calls))
        });
        let errors = errors.expect("the server hangs up, so the calls end");
        for error in errors {
            prop_assert!(is_sound(&error), "{:?}", error.to_string());
        }
    }

    #[test]
    fn any_file_of_authorities_is_used_or_refused(
        places in vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in proptest::option::of(any::<prop::sample::Index>()),
        bytes in vec(any::<u8>(), 0..100),
        own in proptest::bool::weighted(0.2),
    ) {
        thread_local! {
            static PEM: String = rcgen::generate_simple_self_signed(["localhost".to_owned()])
                .expect("a certificate")
                .cert
                .pem();
        }
        let mut content = if own { bytes } else { PEM.with(|pem| pem.clone().into_bytes()) };
        if let Some(cut) = cut {
            content.truncate(cut.index(content.len() + 1));
        }
        for (place, byte) in &places {
            if !content.is_empty() {
                *place.get_mut(&mut content) = *byte;
            }
        }
        let dir = std::env::temp_dir().join(format!("navarch-authorities-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        let file = dir.join("ca.pem");
        std::fs::write(&file, &content).expect("it is written");
        let built = Client::builder("https://localhost:1").ca_file(Some(file)).build();
        let untouched = !own && cut.is_none() && places.is_empty();
        match built {
            Ok(_) => prop_assert!(!content.is_empty()),
            Err(error) => {
                let text = error.to_string();
                prop_assert!(!untouched, "{text}");
                prop_assert!(text.contains("ca.pem") && text.len() < 1000, "{text:?}");
                prop_assert!(!text.chars().any(char::is_control), "{text:?}");
            }
        }
        std::fs::remove_dir_all(&dir).expect("it is ours");
    }
}

#[test]
fn a_wait_is_taken_from_a_refusal_of_too_many_calls_and_bounded() {
    let refusal = |code: &str, header: &str| {
        let body = format!("{{\"code\":\"{code}\",\"message\":\"enough\"}}");
        format!(
            "HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\n{header}\
             content-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
    };
    let seconds = |wait: Option<Duration>| wait.map(|wait| wait.as_secs());
    for (code, header, expected) in [
        ("resource_exhausted", "retry-after: 7\r\n", Some(7)),
        ("resource_exhausted", "retry-after: 0\r\n", Some(0)),
        ("resource_exhausted", "retry-after: 99999\r\n", Some(300)),
        ("resource_exhausted", "retry-after: -1\r\n", None),
        ("resource_exhausted", "retry-after: soon\r\n", None),
        ("resource_exhausted", "", None),
        ("unavailable", "retry-after: 7\r\n", None),
    ] {
        let errors = PARROT.with(|parrot| {
            let says = refusal(code, header).into_bytes();
            *parrot.says.lock().unwrap_or_else(PoisonError::into_inner) = says;
            RUNTIME.with(|runtime| {
                let request = wire::GetNodeRequest::default();
                runtime.block_on(parrot.client.get_node(request))
            })
        });
        let error = errors.expect_err("it is refused");
        assert_eq!(error.message, "enough");
        assert_eq!(seconds(error.retry_after), expected, "{code} {header}");
    }
}
