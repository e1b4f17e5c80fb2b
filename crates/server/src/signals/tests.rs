//! What sources answer, and what is made of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use navarch_config::{Question, Secret, Source, Url};
use navarch_time::{RealClock, SharedClock, Tasks};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::{Open, ask, reopen};

/// A server that answers every request with the same bytes, and remembers what it was asked.
struct Canned {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    _tasks: Tasks,
}

/// What a server does after it read a request.
#[derive(Clone)]
enum Answers {
    Bytes(Vec<u8>),
    Never,
    HangsUp,
}

async fn canned(answers: Answers) -> Canned {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it is bound");
    let (tasks, asked) = (Tasks::new(), Arc::new(Mutex::new(Vec::new())));
    let (spawner, heard) = (tasks.spawner(), Arc::clone(&asked));
    tasks.spawn("accept", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (answers, heard) = (answers.clone(), Arc::clone(&heard));
            spawner.spawn("answer", async move {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else {
                        return;
                    };
                    request.push(byte);
                }
                let text = String::from_utf8_lossy(&request).into_owned();
                heard.lock().expect("no test panics with it").push(text);
                match answers {
                    Answers::Bytes(bytes) => {
                        let _ = stream.write_all(&bytes).await;
                    }
                    Answers::Never => std::future::pending().await,
                    Answers::HangsUp => {}
                }
            });
        }
    });
    Canned {
        address,
        asked,
        _tasks: tasks,
    }
}

fn document(status: &str, body: &[u8]) -> Answers {
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    Answers::Bytes([head.as_bytes(), body].concat())
}

fn source(question: Question) -> Source {
    Source {
        question,
        headers: BTreeMap::from([(
            "Authorization".to_owned(),
            Secret::new("Bearer hush".to_owned()),
        )]),
        timeout: Duration::from_millis(300),
    }
}

fn http(address: SocketAddr, pointer: &str) -> Source {
    source(Question::Http {
        url: Url::new(format!("http://{address}/jobs?state=all")),
        pointer: pointer.to_owned(),
    })
}

fn prometheus(address: SocketAddr) -> Source {
    source(Question::Prometheus {
        url: Url::new(format!("http://{address}/prom")),
        query: "sum(jobs{state=\"waiting\"}) + 1".to_owned(),
    })
}

async fn told(source: Source) -> Result<f64, String> {
    let clock: SharedClock = Arc::new(RealClock::new());
    let mut open = Open::new();
    reopen(&mut open, vec![source]);
    let mut told = ask(&open, Duration::from_secs(30), &clock).await;
    told.remove(0).1
}

#[tokio::test]
async fn a_document_has_a_number_or_the_answer_says_what_it_has() {
    let ok = "200 OK";
    let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
    let cases: Vec<(Answers, &str, Result<f64, &str>)> = vec![
        (
            document(ok, b"{\"queue\": {\"depth\": 12}}"),
            "/queue/depth",
            Ok(12.0),
        ),
        (document(ok, b"[1, 2.5]"), "/1", Ok(2.5)),
        (document(ok, b"7"), "", Ok(7.0)),
        (
            document(ok, b"{\"depth\": \"12\"}"),
            "/depth",
            Err("at \"/depth\" is text, not a number"),
        ),
        (
            document(ok, b"{\"depth\": null}"),
            "/depth",
            Err("at \"/depth\" is null, not a number"),
        ),
        (
            document(ok, b"{}"),
            "/depth",
            Err("the answer has nothing at \"/depth\""),
        ),
        (
            document(ok, b"twelve"),
            "",
            Err("the answer is not JSON: \"twelve\""),
        ),
        (
            document(ok, b"NaN"),
            "",
            Err("the answer is not JSON: \"NaN\""),
        ),
        (document(ok, b""), "", Err("the answer is not JSON: \"\"")),
        (
            document(ok, b"\xff\xfe"),
            "",
            Err("the answer is not JSON: \"\u{fffd}\u{fffd}\""),
        ),
        (
            document(ok, &vec![b'1'; 10 << 20]),
            "",
            Err("the answer has more than 1048576 bytes"),
        ),
        (
            document(ok, deep.as_bytes()),
            "",
            Err("the answer is not JSON: "),
        ),
        (
            document("500 Oops", b"no\nway"),
            "",
            Err("it answers 500: no way"),
        ),
        (
            document("302 Found", b""),
            "",
            Err(
                "it answers 302:  (redirects are not followed: configure the URL that it leads to)",
            ),
        ),
        (document("204 No Content", b""), "", Err("it answers 204: ")),
        (
            Answers::Bytes(b"SSH-2.0-OpenSSH\r\n".to_vec()),
            "",
            Err("client error"),
        ),
        (Answers::HangsUp, "", Err("client error")),
        (Answers::Never, "", Err("no answer within 0.3 s")),
    ];
    for (answers, pointer, wanted) in cases {
        let server = canned(answers).await;
        let found = told(http(server.address, pointer)).await;
        match (&found, &wanted) {
            (Ok(found), Ok(wanted)) => assert_eq!(found, wanted),
            (Err(found), Err(wanted)) => {
                assert!(found.starts_with(wanted), "{found}, not {wanted}");
                assert!(!found.contains("hush") && found.len() < 400, "{found}");
            }
            _ => panic!("{found:?}, not {wanted:?}"),
        }
        let asked = server.asked.lock().expect("nobody panicked");
        assert!(
            asked[0].starts_with("GET /jobs?state=all HTTP/1.1\r\n"),
            "{}",
            asked[0]
        );
        assert!(
            asked[0].contains("authorization: Bearer hush\r\n"),
            "{}",
            asked[0]
        );
    }
}

#[tokio::test]
async fn a_query_has_one_number_or_the_answer_says_what_it_has() {
    let vector = |results: &str| {
        format!(
            "{{\"status\":\"success\",\"data\":{{\"resultType\":\"vector\",\"result\":[{results}]}}}}"
        )
    };
    let one = "{\"metric\":{},\"value\":[1.5,\"42\"]}";
    let cases: Vec<(String, Result<f64, &str>)> =
        vec![
        (vector(one), Ok(42.0)),
        (
            "{\"status\":\"success\",\"data\":{\"resultType\":\"scalar\",\"result\":[1,\"3\"]}}"
                .to_owned(),
            Ok(3.0),
        ),
        // Whether it makes sense is not decided here.
        (vector("{\"value\":[1,\"+Inf\"]}"), Ok(f64::INFINITY)),
        (
            vector(""),
            Err("the query has no result: add `or vector(0)` if that means nothing waits"),
        ),
        (
            vector(&format!("{one},{one}")),
            Err("the query has 2 results: make one of them with sum()"),
        ),
        (
            "{\"status\":\"error\",\"error\":\"parse error\"}".to_owned(),
            Err("the query failed: parse error"),
        ),
        ("{}".to_owned(), Err("the query failed: it does not say why")),
        (
            vector("{\"value\":[1,\"many\"]}"),
            Err("the answer is none of Prometheus to an instant query"),
        ),
        (vector("{\"value\":[1]}"), Err("the answer is none of Prometheus to an instant query")),
    ];
    for (body, wanted) in cases {
        let server = canned(document("200 OK", body.as_bytes())).await;
        let found = told(prometheus(server.address)).await;
        assert_eq!(found, wanted.map_err(str::to_owned), "{body}");
        let asked = server.asked.lock().expect("nobody panicked");
        let line =
            "GET /prom/api/v1/query?query=sum%28jobs%7Bstate%3D%22waiting%22%7D%29%20%2B%201 ";
        assert!(asked[0].starts_with(line), "{}", asked[0]);
    }
}

#[tokio::test]
async fn a_source_that_nobody_is_at_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it is bound");
    drop(listener);
    let found = told(http(address, "")).await.expect_err("nobody is there");
    assert!(found.contains("refused"), "{found}");
}
