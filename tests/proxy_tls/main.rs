//! TLS on every side (fault row 66): clients and upstreams that cannot prove who they are are refused, and nothing is forwarded; neither are
//! keys believed that come from a server which cannot.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod certificates;
mod client;
#[path = "../support/mod.rs"]
mod support;
mod terminator;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use self::certificates::{Authority, Flaw, Pair};
use self::support::upstream::RecordingUpstream;
use self::support::{System, ask_page, nowhere, wait_until};
use self::terminator::Terminator;

const ROUTES: &str = r#"
- {id: open, match: {path: /open}, public: true}
- {id: me, match: {path: /me}, authenticated: true}
"#;

/// A certificate with this flaw, and what it is called; `None` = from another authority, or from nobody.
fn flawed(authority: &Authority, stranger: &Authority, name: &str, is_server: bool) -> Vec<(Pair, &'static str)> {
    let flaw = |flaw| authority.sign(name, is_server, flaw);
    let mut pairs = vec![
        (flaw(Flaw::Expired), "expired"),
        (flaw(Flaw::NotYet), "not yet valid"),
        (flaw(Flaw::OtherUse), "for the other side"),
        (stranger.sign(name, is_server, Flaw::None), "from another authority"),
        (Pair::self_signed(name, is_server), "from nobody"),
    ];
    if is_server {
        pairs.extend([
            (flaw(Flaw::OtherName), "for another name"),
            (flaw(Flaw::CommonName), "with its name in the subject alone"),
        ]);
    }
    pairs
}

#[test]
fn a_client_that_has_to_show_a_certificate_shows_a_good_one() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs, stranger) = (Authority::new("ours"), Authority::new("theirs"), Authority::new("theirs"));
    let (certificate, key) = ours.sign("localhost", true, Flaw::None).files(folder.path(), "server");
    let authority = theirs.file(folder.path(), "clients.pem");
    let listen = |more: &str| {
        format!(
            "{{address: \"127.0.0.1:0\", tls: {{certificate: \"{}\", key: \"{}\"{more}}}}}",
            certificate.display(),
            key.display()
        )
    };
    let system = System::with(ROUTES).listen(&listen(&format!(", client_ca: \"{}\"", authority.display()))).start();
    let good = theirs.sign("client", false, Flaw::None);
    for is_old in [false, true] {
        let answer = client::ask(system.address, &ours, Some(&good), is_old, "/open").unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let arrived = system.upstream.take();
        assert_eq!(arrived[0].value("x-forwarded-proto").as_deref(), Some("https"));
        let answer = client::ask(system.address, &ours, Some(&good), is_old, "/me").unwrap();
        assert!(answer.starts_with("HTTP/1.1 401"), "a certificate is no token: {answer}");
        let refused = client::ask(system.address, &ours, None, is_old, "/open");
        assert!(refused.is_err(), "without a certificate: {refused:?}");
        for (pair, trick) in flawed(&theirs, &stranger, "client", false) {
            let refused = client::ask(system.address, &ours, Some(&pair), is_old, "/open");
            assert!(refused.is_err(), "{trick}: {refused:?}");
        }
        // What is good for the listener's own certificate is not good for clients.
        let own = ours.sign("client", false, Flaw::None);
        assert!(client::ask(system.address, &ours, Some(&own), is_old, "/open").is_err());
    }
    // Whoever does not speak TLS is not heard.
    let mut plain = TcpStream::connect(system.address).unwrap();
    plain.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    plain.write_all(b"GET /open HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
    assert!(system.upstream.take().is_empty());

    // Where none is asked for, none is needed, and a bad one that is shown all the same proves nothing.
    let system = System::with(ROUTES).listen(&listen("")).start();
    for pair in [None, Some(&good), Some(&stranger.sign("client", false, Flaw::Expired))] {
        let answer = client::ask(system.address, &ours, pair, false, "/open").unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert_eq!(system.upstream.take().len(), 3);
}

#[test]
fn an_upstream_proves_its_name_or_gets_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, stranger) = (Authority::new("ours"), Authority::new("ours"));
    let ca = authority.file(folder.path(), "ca.pem");
    let before = |pair: &Pair, name: &str, more: &str| {
        let upstream = RecordingUpstream::start();
        let terminator = Terminator::start(pair, None, upstream.address());
        let servers = format!(
            "{{app: {{servers: [\"{}\"], connect_timeout: 2s, {more} tls: {{sni: \"{name}\", ca: \"{}\"}}}}}}",
            terminator.address,
            ca.display()
        );
        (System::with(ROUTES).upstream(upstream).upstreams(&servers).start(), terminator)
    };
    let good = authority.sign("app.internal", true, Flaw::None);
    let (system, terminator) = before(&good, "app.internal", "");
    assert_eq!(system.get("/open").passes().value("host").as_deref(), Some("app.test"));
    assert_eq!(terminator.connections(), 1);
    // The name that is asked for decides, not the host that the client says.
    let (system, terminator) = before(&good, "other.internal", "");
    system.get("/open").host("app.internal").is_refused(502, "upstream_unreachable");
    assert!(terminator.connections() > 0, "it was tried");
    for (pair, trick) in flawed(&authority, &stranger, "app.internal", true) {
        for more in ["", "retries: 2,"] {
            let (system, terminator) = before(&pair, "app.internal", more);
            let answer = system.get("/open").send().refused(502, "upstream_unreachable", trick);
            assert!(answer.field("x-request-id").is_some());
            assert!(terminator.connections() > 0, "{trick}: it was tried");
        }
    }
    // An upstream that speaks no TLS.
    let upstream = RecordingUpstream::serving(|mut wire| while let Ok(1..) = wire.read(&mut [0; 1024]) {});
    let plain = upstream.address();
    let servers = format!("{{app: {{servers: [\"{plain}\"], connect_timeout: 1s, tls: {{sni: app.internal}}}}}}");
    let system = System::with(ROUTES).upstreams(&servers).start();
    system.get("/open").is_refused(502, "upstream_unreachable");
}

/// An authority is to be named, or it is that of the system: not whatever the server says.
#[test]
fn without_an_authority_of_its_own_an_upstream_has_to_convince_the_system() {
    let authority = Authority::new("ours");
    let upstream = RecordingUpstream::start();
    let terminator = Terminator::start(&authority.sign("app.internal", true, Flaw::None), None, upstream.address());
    let servers =
        format!("{{app: {{servers: [\"{}\"], connect_timeout: 2s, tls: {{sni: app.internal}}}}}}", terminator.address);
    let system = System::with(ROUTES).upstream(upstream).upstreams(&servers).start();
    system.get("/open").is_refused(502, "upstream_unreachable");
    assert!(terminator.connections() > 0, "it was tried");
}

#[test]
fn an_upstream_that_asks_who_we_are_is_shown_our_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let ca = theirs.file(folder.path(), "ca.pem");
    let (certificate, key) = ours.sign("sidecar", false, Flaw::None).files(folder.path(), "sidecar");
    let server = theirs.sign("app.internal", true, Flaw::None);
    for (shown, status) in [(true, 200), (false, 502)] {
        let upstream = RecordingUpstream::start();
        let terminator = Terminator::start(&server, Some(&ours), upstream.address());
        let shows = format!(", certificate: \"{}\", key: \"{}\"", certificate.display(), key.display());
        let servers = format!(
            "{{app: {{servers: [\"{}\"], connect_timeout: 2s, tls: {{sni: app.internal, ca: \"{}\"{}}}}}}}",
            terminator.address,
            ca.display(),
            if shown { &shows } else { "" }
        );
        let system = System::with(ROUTES).upstream(upstream).upstreams(&servers).start();
        let outcome = system.get("/open").send();
        assert_eq!(outcome.answer.unwrap().status, status);
        assert_eq!(outcome.arrived.len(), usize::from(shown));
    }
}

/// The program itself, because the certificates of the system are read from the environment.
struct Program(Child);

impl Program {
    fn start(folder: &Path, roots: &Path) -> Self {
        let command = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(["proxy", "--config", "portcullis.yaml"])
            .current_dir(folder)
            .env("SSL_CERT_FILE", roots)
            .env_remove("SSL_CERT_DIR")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(command.unwrap())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn keys_come_from_a_server_that_proves_its_name_or_not_at_all() {
    let (authority, stranger) = (Authority::new("ours"), Authority::new("ours"));
    let keys = support::tokens::key_set();
    let is_ready = |pair: &Pair| {
        let folder = tempfile::tempdir().unwrap();
        let roots = authority.file(folder.path(), "roots.pem");
        let document = keys.clone();
        let server = RecordingUpstream::answering(move |_, stream| {
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                document.len()
            );
            stream.write_all(format!("{head}{document}").as_bytes()).is_ok()
        });
        let terminator = Terminator::start(pair, None, server.address());
        let status: SocketAddr = nowhere();
        let configuration = format!(
            "version: 1\nlisten: [{{address: \"127.0.0.1:0\"}}]\nstatus: {{address: \"{status}\"}}\n\
             upstreams: {{app: {{servers: [\"127.0.0.1:1\"]}}}}\n\
             tokens: [{{name: test, issuer: \"https://issuer.test\", audience: none, required_claims: [sid], algorithms: [ES256], \
             jwks: \"https://localhost:{}/keys\"}}]\nfacts: {{source: none}}\nroutes:\n  - {{id: me, match: {{path: /me}}, authenticated: true}}\n",
            terminator.address.port()
        );
        std::fs::write(folder.path().join("portcullis.yaml"), configuration).unwrap();
        let _program = Program::start(folder.path(), &roots);
        wait_until("the status page answers", || TcpStream::connect(status).is_ok());
        wait_until("the keys were asked for", || terminator.connections() > 0);
        let ready = || ask_page(status, "GET", "/ready", &[], "").status == 200;
        match server.received().is_empty() {
            // The handshake is over, and nothing was asked: it was refused, and stays so when it is tried again.
            true if terminator.connections() < 2 => {
                wait_until("it is ready, or tried again", || ready() || terminator.connections() > 1);
            }
            _ => wait_until("it is ready", ready),
        }
        let asked = !server.received().is_empty();
        assert_eq!(asked, ready(), "ready with keys only");
        asked
    };
    assert!(is_ready(&authority.sign("localhost", true, Flaw::None)));
    for (pair, trick) in flawed(&authority, &stranger, "localhost", true) {
        assert!(!is_ready(&pair), "{trick}");
    }
}
