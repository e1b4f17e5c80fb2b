//! TLS: who is trusted, certificates that change under a running server, callers without it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use navarch_api::{Cause, Client, ClientError, v1, wire};
use navarch_config::TlsConfig;
use navarch_server::{App, Options};
use navarch_time::VirtualClock;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;

use crate::support::http::soon;
use crate::support::plane::Plane;

/// A certificate authority.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        // Two authorities of one name would be told apart by their signatures alone.
        params
            .distinguished_name
            .push(DnType::CommonName, format!("{:x?}", key.public_key_raw()));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// Writes a certificate for `name` and its key to the files.
    fn issue(&self, name: &str, files: &TlsConfig) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        std::fs::write(&files.key_file, key.serialize_pem()).expect("the key is written");
        std::fs::write(&files.cert_file, certificate.pem()).expect("it is written");
    }

    /// Writes what callers need to trust it.
    fn file(&self, home: &Path, name: &str) -> PathBuf {
        let path = home.join(name);
        std::fs::write(&path, &self.pem).expect("the file is written");
        path
    }
}

fn files(home: &TempDir) -> TlsConfig {
    TlsConfig {
        cert_file: home.path().join("cert.pem"),
        key_file: home.path().join("key.pem"),
        ca_file: None,
    }
}

async fn plane(authority: &Authority) -> Plane {
    Plane::with(|config, home| {
        let files = files(home);
        authority.issue("127.0.0.1", &files);
        config.server.tls = Some(files);
    })
    .await
}

fn client(plane: &Plane, authorities: &Path) -> Client {
    Client::builder(plane.app.url())
        .ca_file(Some(authorities.to_owned()))
        .build()
        .expect("a client")
}

async fn list(client: &Client) -> Result<usize, ClientError> {
    let request = wire::ListNodesRequest::default();
    let answer = soon("an answer", client.list_nodes(request)).await?;
    Ok(answer.nodes.len())
}

#[tokio::test]
async fn only_who_trusts_the_authority_speaks_with_the_server() {
    let authority = Authority::new();
    let plane = plane(&authority).await;
    assert!(plane.app.url().starts_with("https://"));
    let trusted = authority.file(plane.home.path(), "ca.pem");
    let client = client(&plane, &trusted);
    assert_eq!(list(&client).await, Ok(0));
    let watched = client.watch_events(v1::WatchEventsRequest::default());
    let mut events = soon("a stream", watched).await.expect("a stream");
    let first = soon("an event", events.next()).await;
    assert!(first.expect("an event").is_some());

    let stranger = Authority::new().file(plane.home.path(), "other.pem");
    let error = list(&self::client(&plane, &stranger)).await.unwrap_err();
    assert_eq!(error.cause, Cause::Tls, "{error}");
    assert!(error.message.contains("--ca-file"), "{error}");

    let plain = plane.app.url().replace("https://", "http://");
    let error = list(&Client::builder(plain).build().expect("a client"))
        .await
        .unwrap_err();
    assert_eq!(error.cause, Cause::NotHttp, "{error}");
    assert!(error.message.contains("TLS"), "{error}");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let authority = Authority::new();
    let plane = Plane::with(|config, home| {
        let files = files(home);
        authority.issue("fleet.example", &files);
        config.server.tls = Some(files);
    })
    .await;
    let trusted = authority.file(plane.home.path(), "ca.pem");
    let error = list(&client(&plane, &trusted)).await.unwrap_err();
    assert_eq!(error.cause, Cause::Tls, "{error}");
    assert!(error.message.contains("another name"), "{error}");
}

#[tokio::test]
async fn tls_with_a_server_that_has_none_says_so() {
    let authority = Authority::new();
    let plane = Plane::start().await;
    let trusted = authority.file(plane.home.path(), "ca.pem");
    let secure = plane.app.url().replace("http://", "https://");
    let client = Client::builder(secure).ca_file(Some(trusted)).build();
    let error = list(&client.expect("a client")).await.unwrap_err();
    assert_eq!(error.cause, Cause::Tls, "{error}");
    assert!(error.message.contains("does not speak TLS"), "{error}");
}

#[tokio::test]
async fn a_new_certificate_is_shown_without_a_restart_and_a_bad_one_is_not() {
    let (old, new) = (Authority::new(), Authority::new());
    let plane = plane(&old).await;
    let files = files(&plane.home);
    let trusts_old = old.file(plane.home.path(), "old.pem");
    let trusts_new = new.file(plane.home.path(), "new.pem");
    let open = client(&plane, &trusts_old);
    assert_eq!(list(&open).await, Ok(0));

    // Half of a change, and rubbish: the old one stays.
    let whole = std::fs::read(&files.cert_file).expect("the certificate");
    let key = std::fs::read(&files.key_file).expect("the key");
    let other = TlsConfig {
        cert_file: plane.home.path().join("cert-2.pem"),
        key_file: plane.home.path().join("key-2.pem"),
        ca_file: None,
    };
    new.issue("127.0.0.1", &other);
    let other_key = std::fs::read(&other.key_file).expect("the key");
    for (cert, key) in [
        (&whole[..], &other_key[..]),
        (&whole[..whole.len() / 2], &key[..]),
        (b"", &key[..]),
        (&whole[..], b"not a key"),
    ] {
        std::fs::write(&files.cert_file, cert).expect("it is written");
        std::fs::write(&files.key_file, key).expect("it is written");
        plane.pass(Duration::from_secs(3)).await;
        assert_eq!(list(&client(&plane, &trusts_old)).await, Ok(0));
    }

    new.issue("127.0.0.1", &files);
    plane
        .until("the new certificate", async || {
            list(&client(&plane, &trusts_new)).await.ok()
        })
        .await;
    let error = list(&client(&plane, &trusts_old)).await.unwrap_err();
    assert_eq!(error.cause, Cause::Tls, "{error}");
    // A connection that was open goes on.
    assert_eq!(list(&open).await, Ok(0));
}

#[tokio::test]
async fn a_caller_that_never_begins_is_cut_off() {
    let plane = plane(&Authority::new()).await;
    let mut silent = tokio::net::TcpStream::connect(plane.address)
        .await
        .expect("a connection");
    // The wait begins once the connection is accepted, which an answered question shows.
    plane.settle().await;
    plane
        .until("the end", async || {
            let mut byte = [0];
            let read = silent.read(&mut byte);
            tokio::select! {
                biased;
                read = read => Some(read.expect("an orderly end")),
                () = tokio::task::yield_now() => None,
            }
        })
        .await;
}

#[tokio::test]
async fn a_server_does_not_start_with_files_that_it_cannot_show() {
    let authority = Authority::new();
    let home = tempfile::tempdir().expect("a folder");
    let good = files(&home);
    authority.issue("127.0.0.1", &good);
    let other = TlsConfig {
        cert_file: home.path().join("c"),
        key_file: home.path().join("k"),
        ca_file: None,
    };
    authority.issue("127.0.0.1", &other);
    std::fs::write(home.path().join("empty"), "").expect("it is written");
    for (cert_file, key_file, words) in [
        ("none", "key.pem", &["none", "No such file"][..]),
        ("empty", "key.pem", &["empty", "no certificate"]),
        ("key.pem", "key.pem", &["key.pem", "no certificate"]),
        ("cert.pem", "cert.pem", &["cert.pem", "no private key"]),
        ("cert.pem", "k", &["is not that of the certificate"]),
    ] {
        let mut config = navarch_config::Config::default();
        config.server.address = "127.0.0.1:0".to_owned();
        config.server.auth.token = None;
        config.store.data_dir = home.path().join("data");
        config.server.tls = Some(TlsConfig {
            cert_file: home.path().join(cert_file),
            key_file: home.path().join(key_file),
            ca_file: None,
        });
        let options = Options {
            config,
            config_file: None,
            agent: navarch_providers::fake::AgentCommand {
                program: "/nonexistent/agent".into(),
                args: vec![],
            },
            insecure_no_auth: false,
            clock: VirtualClock::new().shared(),
            hangups: navarch_server::Hangups::listen(),
        };
        let error = App::start(options).await.map(|_| ()).unwrap_err();
        for word in ["server.tls: "].iter().chain(words) {
            let error = error.to_string();
            assert!(error.contains(word), "{word:?} is not in: {error}");
        }
        assert!(!home.path().join("data").exists());
    }
}
