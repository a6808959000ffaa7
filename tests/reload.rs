//! Another configuration while requests are served: when it is taken, that it is taken as a whole or not at all, and that a request is
//! served to its end by what it began with.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use serde_json::json;
use support::upstream::RecordingUpstream;
use support::{Builder, System, alice, ask_page, canary};

const ROUTES: &str = r#"
- {id: open, match: {path: /open}, public: true}
- {id: me, match: {path: /me}, authenticated: true}
- {id: move, match: {path: /move}, require: "project:view", resource: {type: project, id: "{body:/project}"}}
"#;

const NEW: &str = "- {id: new, match: {path: /new}, public: true}\n";
const ACCEPTED: &str = r#"portcullis_config_reloads_total{result="ok"}"#;
const REFUSED: &str = r#"portcullis_config_reloads_total{result="refused"}"#;

fn pause(milliseconds: u64) {
    let (_never, wait) = channel::<()>();
    let _ = wait.recv_timeout(Duration::from_millis(milliseconds));
}

fn text(system: &System) -> String {
    fs::read_to_string(system.config_file()).unwrap()
}

/// Writes the configuration and has it read.
#[track_caller]
fn reload(system: &System, text: &str) -> serde_json::Value {
    system.write("portcullis.yaml", text);
    let answer = system.admin_page("POST", "/reload", "");
    assert_eq!(answer.status, 200, "{}", answer.json());
    answer.json()["needs_restart"].clone()
}

/// Ends what goes on beside a test, also when the test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Only when told to.
fn quiet() -> Builder {
    System::with(ROUTES).and("reload: signal")
}

#[test]
fn a_swapped_link_of_a_mounted_volume_is_followed() {
    let system = System::with(ROUTES).start();
    let original = text(&system);
    let volume = |name: &str, text: &str| {
        fs::create_dir(system.folder().join(name)).unwrap();
        fs::write(system.folder().join(name).join("portcullis.yaml"), text).unwrap();
        symlink(name, system.folder().join("..data_tmp")).unwrap();
        fs::rename(system.folder().join("..data_tmp"), system.folder().join("..data")).unwrap();
    };
    volume("..2026_01", &original);
    symlink("..data/portcullis.yaml", system.folder().join("link")).unwrap();
    fs::rename(system.folder().join("link"), system.config_file()).unwrap();
    system.until("the link is read", |system| system.metric(ACCEPTED) == 1.0);
    volume("..2026_02", &format!("{original}{NEW}"));
    system.until("what it leads to is read", |system| system.metric(ACCEPTED) == 2.0);
    system.get("/new").passes();
    assert_eq!(system.metric(REFUSED), 0.0);
}

#[test]
fn a_refused_file_changes_nothing_and_everybody_is_told() {
    let system = System::with(ROUTES).start();
    let original = text(&system);
    assert_eq!(system.status_page("/ready").json(), json!({"ready": true, "reasons": []}));
    let broken = format!("{NEW}- {{id: open, match: {{path: /other}}, publik: true}}\n");
    system.write("portcullis.yaml", &format!("{original}{broken}"));
    system.until("it is refused", |system| system.metric(REFUSED) == 1.0);
    system.get("/new").is_refused(403, "no_route");
    system.get("/open").passes();
    system.get("/me").with(&alice().sign()).passes();
    assert_eq!(system.metric("portcullis_config_refused"), 1.0);
    let ready = system.status_page("/ready");
    assert_eq!((ready.status, ready.json()["ready"].as_bool()), (200, Some(true)));
    let said = ready.json()["configuration"].clone();
    assert!(said["refused"].as_str().unwrap().contains("unknown key `publik`"), "{said}");
    let since = said["since"].as_i64().unwrap();
    assert!(since > 1_700_000_000, "{said}");
    let is_named = |line: &str| line.contains("configuration not reloaded") && line.contains("unknown key `publik`");
    assert!(canary::events().lines().any(is_named), "{}", canary::events());
    // It is not read again and again, and the time stays that of the first refusal.
    system.clock.advance(60);
    pause(2500);
    assert_eq!(system.metric(REFUSED), 1.0);
    fs::remove_file(system.config_file()).unwrap();
    system.until("nothing is refused too", |system| system.metric(REFUSED) == 2.0);
    let said = system.status_page("/ready").json()["configuration"].clone();
    assert!(said["refused"].as_str().unwrap().contains("cannot read"), "{said}");
    assert_eq!(said["since"].as_i64(), Some(since));
    system.get("/open").passes();
    system.write("portcullis.yaml", &format!("{original}{NEW}"));
    system.until("a good one is taken", |system| system.metric(ACCEPTED) == 1.0);
    system.get("/new").passes();
    assert_eq!(system.metric("portcullis_config_refused"), 0.0);
    assert_eq!(system.status_page("/ready").json(), json!({"ready": true, "reasons": []}));
}

#[test]
fn a_file_is_watched_unless_somebody_says_otherwise() {
    let system = quiet().start();
    let original = text(&system);
    system.write("portcullis.yaml", &format!("{original}{NEW}"));
    pause(3500);
    assert_eq!((system.metric(ACCEPTED), system.metric(REFUSED)), (0.0, 0.0));
    system.get("/new").is_refused(403, "no_route");
    let watched = original.replace("reload: signal", "reload: watch");
    reload(&system, &watched);
    system.write("portcullis.yaml", &format!("{watched}{NEW}"));
    system.until("it is read", |system| system.metric(ACCEPTED) == 2.0);
    system.get("/new").passes();
}

#[test]
fn a_file_that_the_configuration_names_is_watched_too() {
    let folder = tempfile::tempdir().unwrap();
    let prefix = folder.path().join("prefix");
    secret(&prefix, "x-first\n");
    let system = System::with(ROUTES).and(&format!("header_prefix: \"${{file:{}}}\"", prefix.display())).start();
    assert_eq!(system.get("/open").passes().value("x-first-route").as_deref(), Some("open"));
    secret(&prefix, "x-second\n");
    system.until("it is read", |system| system.metric(ACCEPTED) == 1.0);
    let received = system.get("/open").passes();
    assert_eq!((received.value("x-first-route"), received.value("x-second-route").as_deref()), (None, Some("open")));
    fs::write(&prefix, "x y").unwrap();
    system.until("it is refused", |system| system.metric(REFUSED) == 1.0);
    secret(&prefix, "x-third");
    system.until("it is mended", |system| system.metric(ACCEPTED) == 2.0);
    assert_eq!(system.get("/open").passes().value("x-third-route").as_deref(), Some("open"));
}

/// Writes a file that its owner alone may read.
fn secret(path: &Path, content: &str) {
    use std::os::unix::fs::PermissionsExt;
    let draft = path.with_extension("draft");
    fs::write(&draft, content).unwrap();
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(draft, path).unwrap();
}

#[test]
fn a_secret_from_a_file_is_as_good_as_one_from_the_environment_and_is_not_told() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    secret(&token, "token-canary-0815\n");
    let admin = format!("{{address: \"127.0.0.1:0\", token: \"${{file:{}}}\"}}", token.display());
    let system = quiet().admin(&admin).start();
    let world = |shown: &str| ask_page(system.admin, "GET", "/world", &[("authorization", shown)], "").status;
    assert_eq!((world("Bearer token-canary-0815"), world("Bearer token-canary-0815\\n"), world("")), (200, 401, 401));
    let load = || {
        let loaded = portcullis::config::load(&system.config_file(), &portcullis::config::ProcessEnvironment);
        loaded.map(|config| format!("{config:?}")).map_err(|error| error.to_string())
    };
    assert!(!load().unwrap().contains("canary"), "{}", load().unwrap());
    for (content, mode, expected) in [
        ("token-canary-0815", 0o644, "has mode 0644, expected 0600, or 0640 where a group reads it"),
        (&"token-canary-0815".repeat(4000), 0o600, "has more than 65536 bytes"),
    ] {
        use std::os::unix::fs::PermissionsExt;
        fs::write(&token, content).unwrap();
        fs::set_permissions(&token, fs::Permissions::from_mode(mode)).unwrap();
        let said = load().unwrap_err();
        assert!(said.contains(expected) && said.contains("portcullis.yaml:") && !said.contains("canary"), "{said}");
    }
    fs::remove_file(&token).unwrap();
    assert!(load().unwrap_err().contains("cannot be read"), "{}", load().unwrap_err());
}

#[test]
fn a_request_that_waits_for_its_body_is_served_by_what_it_began_with() {
    let system = quiet().and("trusted_proxies: [\"127.0.0.1\"]").start();
    let other = RecordingUpstream::start();
    let (mut connection, mut older) = (system.connect(), system.connect());
    older.send(system.get("/open").bytes());
    assert_eq!(older.answer().map(|answer| answer.status), Some(200));
    system.upstream.take();
    let body = r#"{"project": "42"}"#;
    let ask = system.post("/move").with(&alice().sign()).field("x-real-ip", "192.0.2.1");
    let ask = ask.field("content-type", "application/json").field("content-length", &body.len().to_string());
    let head = ask.field("expect", "100-continue").bytes();
    connection.send(&head);
    // The body is asked for when everything else was judged.
    assert_eq!(connection.answer().map(|answer| answer.status), Some(100));
    let changed = text(&system)
        .replace(&system.upstream.address().to_string(), &other.address().to_string())
        .replace("[\"127.0.0.1\"]", "[]\nforward_token: false\nheader_prefix: x-new")
        .replace("id: move", "id: moved");
    assert_eq!(reload(&system, &changed), json!([]));
    connection.send(body);
    assert_eq!(connection.answer().map(|answer| answer.status), Some(200));
    let [received] = <[_; 1]>::try_from(system.upstream.take()).unwrap();
    assert_eq!(received.value("x-portcullis-route").as_deref(), Some("move"));
    assert_eq!(received.value("x-real-ip").as_deref(), Some("192.0.2.1"));
    assert!(received.value("authorization").is_some() && received.value("x-new-route").is_none());
    assert!(other.take().is_empty());
    // And the next one by what is in force then, on a connection of before too.
    older.send(system.post("/move").with(&alice().sign()).field("x-real-ip", "192.0.2.1").json(body).bytes());
    assert_eq!(older.answer().map(|answer| answer.status), Some(200));
    let [received] = <[_; 1]>::try_from(other.take()).unwrap();
    assert_eq!(received.value("x-new-route").as_deref(), Some("moved"));
    assert_eq!((received.value("x-real-ip"), received.value("authorization")), (None, None));
    assert!(received.value("x-portcullis-route").is_none() && system.upstream.take().is_empty());
}

/// An upstream that notes which connections it is asked on.
fn noting(ports: &Arc<Mutex<BTreeSet<u16>>>) -> RecordingUpstream {
    let ports = Arc::clone(ports);
    RecordingUpstream::answering(move |_, stream| {
        ports.lock().unwrap().insert(stream.peer_addr().unwrap().port());
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_ok()
    })
}

#[test]
fn an_upstream_keeps_its_connections_until_it_is_changed() {
    let ports = Arc::<Mutex<BTreeSet<u16>>>::default();
    let system = quiet().upstream(noting(&ports)).start();
    let connections = || {
        system.get("/open").passes();
        ports.lock().unwrap().len()
    };
    assert_eq!((connections(), connections()), (1, 1));
    let original = text(&system);
    reload(&system, &original.replace("id: open", "id: opened"));
    assert_eq!(connections(), 1, "nothing was changed about it");
    // What is trusted and for how long it is waited may be others: nothing that was begun under the old terms is used.
    reload(&system, &original.replace("read_timeout: 5s", "read_timeout: 6s"));
    assert_eq!((connections(), connections()), (2, 2));
}

#[test]
fn upstreams_come_and_go() {
    let (other, third) = (RecordingUpstream::start(), RecordingUpstream::start());
    let probed = TcpListener::bind("127.0.0.1:0").unwrap();
    let checks = Arc::new(AtomicUsize::new(0));
    let (count, probed_at) = (Arc::clone(&checks), probed.local_addr().unwrap());
    std::thread::spawn(move || {
        for _ in probed.incoming().flatten() {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let system = quiet().start();
    let original = text(&system);
    let port = third.address().port();
    let more = format!(
        "upstreams: {{other: {{servers: [\"{}\"]}}, named: {{servers: [\"localhost:{port}\"]}}, \
         checked: {{servers: [\"{probed_at}\"], health_check: {{interval: 50ms}}}}, app:",
        other.address()
    );
    let routes = "- {id: other, match: {path: /other}, public: true, upstream: other}\n\
                  - {id: named, match: {path: /named}, public: true, upstream: named}\n";
    let owned = original.replace("public: true}", "public: true, upstream: app}");
    let owned = owned.replace("authenticated: true}", "authenticated: true, upstream: app}");
    let owned = owned.replace("id: move,", "id: move, upstream: app,");
    let changed = format!("{}{routes}", owned.replace("upstreams: {app:", &more));
    assert_eq!(reload(&system, &changed), json!([]));
    // Its name was looked up before it was in force: the very first request finds it.
    assert_eq!(system.get("/named").send().answer.unwrap().status, 200);
    assert_eq!(third.take().len(), 1);
    assert_eq!(system.get("/other").send().answer.unwrap().status, 200);
    assert_eq!((other.take().len(), system.upstream.take().len()), (1, 0));
    system.get("/open").passes();
    system.until("its health is checked", |_| checks.load(Ordering::SeqCst) > 3);
    assert_eq!(reload(&system, &original), json!([]));
    system.get("/open").passes();
    system.get("/other").is_refused(403, "no_route");
    // Twenty checks would fall into a second.
    let stood_still = |_: &System| {
        let seen = checks.load(Ordering::SeqCst);
        pause(1000);
        checks.load(Ordering::SeqCst) == seen
    };
    system.until("the health of what is gone is no longer checked", stood_still);
}

#[test]
fn limits_are_replaced_too() {
    let system = quiet().start();
    let original = text(&system);
    let long = format!("/open?{}", "x".repeat(2000));
    system.get(&long).passes();
    let limited = original.replace("limits: {", "limits: {target: 1KiB, client_timeout: 1s, ");
    assert_eq!(reload(&system, &limited), json!([]));
    system.get(&long).is_refused(414, "target_too_long");
    let mut connection = system.connect();
    let begun = Instant::now();
    connection.send("POST /open HTTP/1.1\r\nhost: app.test\r\ncontent-length: 10\r\n\r\nx");
    assert_eq!(connection.answer().map(|answer| answer.status), Some(408));
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(reload(&system, &original), json!([]));
    system.upstream.take();
    system.get(&long).passes();
}

#[test]
fn limits_are_replaced_below_the_parser_too_and_on_connections_that_were_there_before() {
    let system = quiet().start();
    let original = text(&system);
    let mut kept = system.connect();
    let mut ask = |more: usize| {
        kept.send(format!("GET /open HTTP/1.1\r\nhost: app.test\r\nx-more: {}\r\n\r\n", "x".repeat(more)));
        kept.answer().map(|answer| answer.status)
    };
    assert_eq!(ask(1), Some(200));
    let wider = original.replace("limits: {", "limits: {head: 64KiB, max_body: 5B, ");
    assert_eq!(reload(&system, &wider), json!([]));
    assert_eq!(ask(40 * 1024), Some(200));
    assert_eq!(system.upstream.take().len(), 2);
    system.post("/open").body("0123456789").is_refused(413, "body_too_large");
    assert_eq!(reload(&system, &original), json!([]));
    assert_eq!(ask(40 * 1024), Some(431));
    assert!(system.upstream.take().is_empty());
    system.post("/open").body("0123456789").passes();
}

/// Takes any certificate for what it is.
#[derive(Debug)]
struct Any;

impl ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// The certificate that is shown at `address`.
fn shown_at(address: SocketAddr) -> Vec<u8> {
    let config = rustls::ClientConfig::builder().dangerous().with_custom_certificate_verifier(Arc::new(Any));
    let config = Arc::new(config.with_no_client_auth());
    let mut client = rustls::ClientConnection::new(config, "app.test".try_into().unwrap()).unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    while client.is_handshaking() {
        client.complete_io(&mut stream).unwrap();
    }
    client.peer_certificates().unwrap()[0].to_vec()
}

#[test]
fn a_renewed_certificate_is_shown_without_a_restart() {
    let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/store/support/tls");
    let certificate = |name: &str| CertificateDer::from_pem_file(made.join(name)).unwrap().to_vec();
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str| {
        for kind in ["pem", "key"] {
            fs::copy(made.join(format!("{name}.{kind}")), folder.path().join(format!("shown.{kind}"))).unwrap();
        }
    };
    put("server");
    let at = folder.path().join("shown");
    let (at, ca) = (at.display(), made.join("ca.pem"));
    let listen = format!("{{address: \"127.0.0.1:0\", tls: {{certificate: {at}.pem, key: {at}.key}}}}");
    let system = System::with(ROUTES).listen(&listen).start();
    assert_eq!(shown_at(system.address), certificate("server.pem"));
    put("client");
    system.until("it is read", |system| system.metric(ACCEPTED) == 1.0);
    assert_eq!(shown_at(system.address), certificate("client.pem"));
    // A certificate with the key of another changes nothing.
    fs::copy(made.join("server.pem"), folder.path().join("shown.pem")).unwrap();
    system.until("it is refused", |system| system.metric(REFUSED) == 1.0);
    assert_eq!(shown_at(system.address), certificate("client.pem"));
    put("client");
    system.until("it is mended", |system| system.metric(ACCEPTED) == 2.0);
    assert_eq!(system.status_page("/ready").json(), json!({"ready": true, "reasons": []}));
    // Who may connect is fixed.
    let original = text(&system);
    let limited = original.replace("shown.key", &format!("shown.key, client_ca: {}", ca.display()));
    assert_eq!(reload(&system, &limited), json!(["listen"]));
}

/// What tells two generations apart, in every part of the configuration that a request meets.
struct Generation {
    name: &'static str,
    upstream: RecordingUpstream,
    text: String,
}

#[test]
fn i27_two_generations_never_mix() {
    let system = quiet().start();
    let original = text(&system);
    let generation = |name: &'static str, more: &str| {
        let upstream = RecordingUpstream::start();
        let text = original
            .replace(&system.upstream.address().to_string(), &upstream.address().to_string())
            .replace("id: me,", &format!("id: {name},"))
            .replace("reload: signal", &format!("reload: signal\nheader_prefix: x-{name}\n{more}"));
        Generation { name, upstream, text }
    };
    let one =
        generation("one", "forward_token: true\ntrusted_proxies: [\"127.0.0.1\"]\nidentity_headers: [route, user]");
    let two = generation("two", "forward_token: false\ntrusted_proxies: []\nidentity_headers: [route, organization]");
    reload(&system, &one.text);
    let (over, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let token = alice().sign();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let bytes = system.get("/me").with(&token).field("x-real-ip", "192.0.2.1").bytes();
                let mut connection = system.connect();
                while !over.load(Ordering::SeqCst) {
                    connection.send(&bytes);
                    let answer = connection.answer().unwrap();
                    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
                    asked.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let _over = Over(&over);
        for round in 0..40 {
            reload(&system, if round % 2 == 0 { &two.text } else { &one.text });
            // Any point of a request may be met.
            pause(rand::random::<u64>() % 12);
        }
    });
    let mut seen = 0;
    for (own, other) in [(&one, &two), (&two, &one)] {
        let received = own.upstream.take();
        assert!(received.len() > 5, "{}: {} requests", own.name, received.len());
        seen += received.len();
        for request in received {
            let shown: BTreeSet<String> = request.fields().into_iter().map(|(name, _)| name).collect();
            assert_eq!(request.value(&format!("x-{}-route", own.name)).as_deref(), Some(own.name), "{shown:?}");
            assert!(!shown.iter().any(|name| name.starts_with(&format!("x-{}-", other.name))), "{shown:?}");
            let is_one = own.name == "one";
            for (field, expected) in [
                ("authorization", is_one),
                ("x-real-ip", is_one),
                ("x-one-user", is_one),
                ("x-two-organization", !is_one),
            ] {
                assert_eq!(shown.contains(field), expected, "{} {field}: {shown:?}", own.name);
            }
        }
    }
    assert_eq!(seen, asked.load(Ordering::SeqCst));
    assert!(system.upstream.take().is_empty());
}

#[test]
fn of_many_reloads_at_once_the_last_one_counts() {
    let system = System::with(ROUTES).start();
    let original = text(&system);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    let status = system.admin_page("POST", "/reload", "").status;
                    assert!(matches!(status, 200 | 422), "{status}");
                }
            });
        }
        let _over = Over(&over);
        for number in 1..=40 {
            let broken = if number % 3 == 0 { "- {id: broken}\n" } else { "" };
            let routes = format!("- {{id: n{number}, match: {{path: /n{number}}}, public: true}}\n{broken}");
            system.write("portcullis.yaml", &format!("{original}{routes}"));
            let status = system.admin_page("POST", "/reload", "").status;
            assert_eq!(status, if broken.is_empty() { 200 } else { 422 }, "{number}");
            system.get("/open").passes();
            let last = number - usize::from(!broken.is_empty());
            if last > 0 {
                system.get(&format!("/n{last}")).passes();
            }
        }
    });
    system.get("/n40").passes();
    assert_eq!(system.metric("portcullis_panics_total"), 0.0);
}
