//! Exchanges that last keep their permit only as long as the same request would get one: each test opens one, changes something, and
//! sees it cut, or sees it go on.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use portcullis::domain::{Clock, Epoch, Revision, UnixSeconds};
use portcullis::wire::{self, Revocation, RevocationKind};
use portcullis::yaml;
use support::client::Connection;
use support::upstream::RecordingUpstream;
use support::{Builder, COMPANY, System, TokenCase, alice, token, wait_until};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

const ROUTES: &str = r#"
- {id: open, match: {path: /open}, public: true}
- {id: brief, match: {path: /brief}, public: true, max_stream_age: 1s}
- {id: me, match: {path: /me}, authenticated: true}
- {id: heedless, match: {path: /heedless}, authenticated: true, revocations: ignore}
- {id: watched, match: {path: /watched}, authenticated: true, mode: shadow}
- {id: project, match: {path: "/projects/{project}"}, require: "project:view", resource: {type: project, id: "{path.project}"}}
- id: patient
  match: {path: "/patient/{project}"}
  require: "project:view"
  resource: {type: project, id: "{path.project}"}
  on_stale: serve
- {id: move, match: {path: /move}, require: "project:view", resource: {type: project, id: "{body:/project}"}}
- {id: socket, match: {methods: [GET], path: /socket}, authenticated: true}
"#;

const PATIENCE: Duration = Duration::from_secs(20);
/// From a change to its effect on what is open, for a machine that does other things too. A second is promised for one that does not.
const SOON: Duration = Duration::from_secs(3);

/// An upstream that answers with an event every 20 ms, for as long as it is listened to.
fn events() -> RecordingUpstream {
    RecordingUpstream::answering(|_, stream| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let (_never, wait) = channel::<()>();
        while stream.write_all(b"9\r\ndata: x\n\n\r\n").is_ok() {
            let _ = wait.recv_timeout(Duration::from_millis(20));
        }
        false
    })
}

fn with_events() -> Builder {
    System::with(ROUTES).upstream(events())
}

/// Server-sent events, being read.
struct Listening(Connection);

impl Listening {
    /// Opens it, and waits until it counts among those that last.
    #[track_caller]
    fn to(system: &System, ask: &support::Ask<'_>) -> Self {
        let before = system.metric("portcullis_streams_open");
        let mut connection = system.connect();
        connection.send(ask.bytes());
        let mut seen = String::new();
        while !seen.contains("data: x") {
            let some = connection.read_some();
            assert!(!some.is_empty(), "closed after {seen}");
            seen.push_str(&String::from_utf8_lossy(&some));
        }
        assert!(seen.starts_with("HTTP/1.1 200"), "{seen}");
        system.until("it lasts", |system| system.metric("portcullis_streams_open") > before);
        system.upstream.take();
        Self(connection)
    }

    /// Reads to the end, which has to come; how long that took. The answer must not look complete.
    #[track_caller]
    fn gets_cut(mut self) -> Duration {
        let begun = Instant::now();
        let mut last = Vec::new();
        loop {
            assert!(begun.elapsed() < SOON, "it goes on");
            match self.0.read_some() {
                some if some.is_empty() => break,
                some => last = some,
            }
        }
        assert!(!last.ends_with(b"0\r\n\r\n"), "it looks as if it were complete");
        begun.elapsed()
    }

    /// Whether events keep coming for so long.
    #[track_caller]
    fn goes_on(&mut self, time: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < time {
            assert!(!self.0.read_some().is_empty(), "it was cut");
        }
    }
}

/// What of `id` is revoked, for tokens issued until now.
fn revoke(system: &System, kind: RevocationKind, id: &str) {
    let now = system.clock.now();
    system.world.revocations().add([Revocation {
        kind,
        id: id.into(),
        not_before: now,
        expires: now.plus(3600),
        holder: None,
    }]);
}

fn somebody(session: &str) -> TokenCase {
    token().claim("sid", session)
}

fn company_without(line: &str) -> String {
    assert!(COMPANY.contains(line));
    COMPANY.replace(line, "")
}

/// Long enough that whatever is to be cut was cut.
const A_WHILE: Duration = Duration::from_millis(1500);

#[test]
fn server_sent_events_end_when_the_facts_no_longer_permit_them_and_others_go_on() {
    let system = with_events().start();
    let bob = token().user("user_bob").membership("om_bob").organization("org_acme").sign();
    let losing = Listening::to(&system, &system.get("/projects/99").with(&alice().sign()));
    let mut keeping = Listening::to(&system, &system.get("/projects/42").with(&bob));
    let mut open = Listening::to(&system, &system.get("/open"));
    assert_eq!(system.metric("portcullis_streams_open"), 3.0);
    let revision = system.metric("portcullis_facts_revision");
    system.write("facts.yaml", &company_without("      - om_alice project-viewer project:99\n"));
    system.until("the facts are in force", |system| system.metric("portcullis_facts_revision") > revision);
    println!("cut {:?} after the change was seen to be in force", losing.gets_cut());
    keeping.goes_on(A_WHILE);
    open.goes_on(Duration::from_millis(100));
    assert_eq!(system.metric(r#"portcullis_streams_cut_total{reason="not_granted"}"#), 1.0);
    assert_eq!(system.metric(r#"portcullis_requests_total{outcome="cut",reason="not_granted",route="project"}"#), 1.0);
    let logged = system.logged();
    let lines: Vec<&str> = logged.lines().filter(|line| line.contains(r#""outcome":"cut""#)).collect();
    assert_eq!(lines.len(), 1, "{logged}");
    for part in [r#""reason":"not_granted""#, r#""path":"/projects/99""#, r#""user":"user_alice""#, r#""status":200"#] {
        assert!(lines[0].contains(part), "{part}: {}", lines[0]);
    }
    drop((keeping, open));
    system.until("nobody is left", |system| system.metric("portcullis_streams_open") == 0.0);
}

#[test]
fn a_stream_ends_with_its_token() {
    let system = with_events().start();
    let mut lasting = Listening::to(&system, &system.get("/me").with(&alice().sign()));
    let ending = Listening::to(&system, &system.get("/me").with(&alice().lifetime(3).sign()));
    let mut connection = ending;
    // It may still be the second of its end.
    let begun = Instant::now();
    while !connection.0.read_some().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(3) + SOON, "it goes on");
    }
    lasting.goes_on(A_WHILE);
    assert_eq!(system.metric(r#"portcullis_streams_cut_total{reason="bad_token"}"#), 1.0);
    assert!(system.logged().contains(r#""fault":"expired""#));
    // What it takes is the time of day, not how long it lasted.
    let other = Listening::to(&system, &system.get("/me").with(&alice().lifetime(200).sign()));
    system.clock.advance(201);
    other.gets_cut();
    lasting.goes_on(A_WHILE);
}

#[test]
fn a_stream_ends_when_its_token_is_revoked_unless_the_route_does_not_heed_that() {
    let system = with_events().start();
    for (number, (kind, id)) in [
        (RevocationKind::Session, "session_7"),
        (RevocationKind::Membership, "om_alice"),
        (RevocationKind::User, "user_alice"),
        (RevocationKind::Organization, "org_acme"),
    ]
    .into_iter()
    .enumerate()
    {
        system.world.revocations().replace([]);
        system.until("nobody is left", |system| system.metric("portcullis_streams_open") == 0.0);
        let token = alice().claim("sid", "session_7").sign();
        let revoked = Listening::to(&system, &system.get("/me").with(&token));
        let mut heedless = Listening::to(&system, &system.get("/heedless").with(&token));
        let mut shadow = Listening::to(&system, &system.get("/watched").with(&token));
        let mut other = Listening::to(&system, &system.get("/me").with(&somebody("session_8").sign()));
        let at = Instant::now();
        revoke(&system, kind, id);
        revoked.gets_cut();
        println!("{kind:?}: cut after {:?}", at.elapsed());
        assert!(at.elapsed() < SOON, "{:?}", at.elapsed());
        for stream in [&mut heedless, &mut shadow, &mut other] {
            stream.goes_on(Duration::from_millis(600));
        }
        let cut = f64::from(u32::try_from(number).unwrap() + 1);
        assert_eq!(system.metric(r#"portcullis_streams_cut_total{reason="revoked"}"#), cut);
        system.get("/me").with(&token).is_refused(401, "revoked");
    }
}

#[test]
fn a_stream_ends_at_the_greatest_age_of_its_rule() {
    let system = with_events().start();
    let mut ageless = Listening::to(&system, &system.get("/open"));
    let begun = Instant::now();
    let mut brief = system.connect();
    brief.send(system.get("/brief").bytes());
    while !brief.read_some().is_empty() {
        assert!(begun.elapsed() < PATIENCE, "it goes on");
    }
    let lasted = begun.elapsed();
    assert!(lasted >= Duration::from_secs(1) && lasted < Duration::from_secs(1) + SOON, "{lasted:?}");
    ageless.goes_on(A_WHILE);
    assert_eq!(system.metric(r#"portcullis_streams_cut_total{reason="max_stream_age"}"#), 1.0);
    let route = r#"portcullis_requests_total{outcome="cut",reason="max_stream_age",route="brief"}"#;
    assert_eq!(system.metric(route), 1.0);
    system.upstream.take();
}

#[test]
fn a_stream_ends_when_its_facts_become_stale_unless_the_route_serves_those() {
    let system = with_events().start();
    let token = alice().lifetime(3600).sign();
    let strict = Listening::to(&system, &system.get("/projects/42").with(&token));
    let mut patient = Listening::to(&system, &system.get("/patient/42").with(&token));
    let mut inline = Listening::to(&system, &system.get("/me").with(&token));
    std::fs::remove_file(system.folder().join("facts.yaml")).unwrap();
    let failed = r#"portcullis_facts_updates_total{kind="complete",result="failed"}"#;
    system.until("the facts cannot be had", |system| system.metric(failed) > 0.0);
    patient.goes_on(A_WHILE);
    assert_eq!(system.metric("portcullis_streams_open"), 3.0);
    system.clock.advance(301);
    strict.gets_cut();
    patient.goes_on(A_WHILE);
    inline.goes_on(Duration::from_millis(100));
    assert_eq!(system.metric(r#"portcullis_streams_cut_total{reason="facts_stale"}"#), 1.0);
    system.clock.advance(3600 - 300);
    assert!(patient.gets_cut() < SOON);
}

/// Every request has one line in the decision log, which the end of each test looks at.
#[test]
fn of_a_client_that_leaves_while_it_is_cut_one_thing_is_told() {
    let system = with_events().start();
    let token = alice().lifetime(3600).sign();
    let opened = |_| {
        let mut connection = system.connect();
        connection.send(system.get("/me").with(&token).bytes());
        connection
    };
    let clients: Vec<_> = (0..200).map(opened).collect();
    system.until("all are watched", |system| system.metric("portcullis_streams_open") == 200.0);
    system.upstream.take();
    system.clock.advance(4000);
    for client in clients {
        drop(client);
        // Something that takes a moment, so that they leave one after the other.
        system.metric("portcullis_streams_open");
    }
    wait_until("all have ended", || system.metric("portcullis_streams_open") == 0.0);
}

#[test]
fn a_stream_ends_when_new_rules_no_longer_permit_it() {
    let system = with_events().start();
    let losing = Listening::to(&system, &system.get("/open"));
    let mut keeping = Listening::to(&system, &system.get("/me").with(&alice().sign()));
    let text = std::fs::read_to_string(system.config_file()).unwrap();
    system.write(
        "portcullis.yaml",
        &text.replace("match: {path: /open}, public: true", "match: {path: /open}, authenticated: true"),
    );
    assert_eq!(system.admin_page("POST", "/reload", "").status, 200);
    losing.gets_cut();
    keeping.goes_on(A_WHILE);
    assert_eq!(system.metric(r#"portcullis_streams_cut_total{reason="missing_token"}"#), 1.0);
}

#[test]
fn a_stream_ends_when_the_key_of_its_token_is_taken_away() {
    let system = with_events().start();
    let losing = Listening::to(&system, &system.get("/me").with(&alice().sign()));
    let other = alice().signed_with(portcullis::token::Algorithm::EdDSA).sign();
    let mut keeping = Listening::to(&system, &system.get("/me").with(&other));
    let keys = support::tokens::key_set_of([support::tokens::issuer(portcullis::token::Algorithm::EdDSA)]);
    system.write("jwks.json", &keys);
    wait_until("it is cut", || system.metric(r#"portcullis_streams_cut_total{reason="bad_token"}"#) == 1.0);
    losing.gets_cut();
    keeping.goes_on(A_WHILE);
}

#[test]
fn a_request_with_values_of_its_body_is_decided_again_with_those_it_had() {
    let system = with_events().start();
    let alice = alice().sign();
    let ask = |project: u32| system.post("/move").with(&alice).json(&format!(r#"{{"project": {project}}}"#));
    let losing = Listening::to(&system, &ask(99));
    let mut keeping = Listening::to(&system, &ask(42));
    let text = std::fs::read_to_string(system.folder().join("facts.yaml")).unwrap();
    system.write("facts.yaml", &text.replace("      - om_alice project-viewer project:99\n", ""));
    wait_until("it is cut", || system.metric(r#"portcullis_streams_cut_total{reason="not_granted"}"#) == 1.0);
    losing.gets_cut();
    keeping.goes_on(A_WHILE);
}

#[test]
fn what_is_short_is_not_watched() {
    let system = with_events().start();
    let mut stream = system.connect();
    stream.send(system.get("/projects/42").with(&alice().sign()).bytes());
    assert!(!stream.read_some().is_empty());
    assert_eq!(system.metric("portcullis_streams_open"), 0.0);
    system.until("it lasts", |system| system.metric("portcullis_streams_open") == 1.0);
    system.upstream.take();
}

#[test]
fn a_change_before_a_stream_counts_among_those_that_last_is_not_missed() {
    let system = with_events().start();
    let mut keeping = Listening::to(&system, &system.get("/me").with(&somebody("session_8").sign()));
    let mut stream = system.connect();
    stream.send(system.get("/me").with(&somebody("session_7").sign()).bytes());
    assert!(!stream.read_some().is_empty());
    revoke(&system, RevocationKind::Session, "session_7");
    Listening(stream).gets_cut();
    keeping.goes_on(Duration::from_millis(100));
    system.upstream.take();
}

#[test]
fn a_minimum_revision_was_about_the_beginning_of_a_stream() {
    let system = with_events().start();
    let revision = system.world.revision().unwrap();
    let ask = system.get("/projects/42").with(&alice().sign());
    let mut stream = Listening::to(&system, &ask.field("x-portcullis-min-revision", &revision.to_string()));
    // A history that nothing has proven yet: a new request with that header would have to wait.
    let company = yaml::parse("facts.yaml", COMPANY, None).unwrap();
    let facts = wire::Facts::read(&company, &|_| panic!("no model file")).unwrap();
    let other = Revision { epoch: Epoch(revision.epoch.0 ^ 1), seq: 1 };
    system.world.install_all(other, &facts.catalog, facts.organizations).unwrap();
    stream.goes_on(A_WHILE);
}

#[test]
fn a_panic_while_deciding_again_ends_the_stream() {
    let system = with_events().start();
    let stream = Listening::to(&system, &system.get("/open"));
    system.clock.broken(true);
    stream.gets_cut();
    system.clock.broken(false);
    assert_eq!(system.metric(r#"portcullis_streams_cut_total{reason="internal"}"#), 1.0);
    let mut next = Listening::to(&system, &system.get("/open"));
    next.goes_on(A_WHILE);
}

#[test]
fn an_upload_ends_when_its_token_is_revoked_on_both_sides() {
    let (told, upstream_end): (Sender<usize>, Receiver<usize>) = channel();
    let told = Mutex::new(told);
    let upstream = RecordingUpstream::serving(move |mut stream| {
        let (mut total, mut chunk) = (0, [0; 16 * 1024]);
        while let Ok(count @ 1..) = stream.read(&mut chunk) {
            total += count;
        }
        let _ = told.lock().unwrap().send(total);
    });
    let system = System::with(ROUTES).upstream(upstream).start();
    let mut stream = TcpStream::connect(system.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let token = alice().sign();
    let head =
        format!("POST /me HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nTransfer-Encoding: chunked\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut revoked_at = None;
    let begun = Instant::now();
    while stream.write_all(b"5\r\nhello\r\n").is_ok() {
        let closed = match stream.read(&mut [0; 512]) {
            Ok(count) => count == 0,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        };
        if closed {
            break;
        }
        if revoked_at.is_none() && system.metric("portcullis_streams_open") == 1.0 {
            revoke(&system, RevocationKind::Session, "session_1");
            revoked_at = Some(Instant::now());
        }
        assert!(begun.elapsed() < PATIENCE && revoked_at.is_none_or(|at: Instant| at.elapsed() < SOON), "it goes on");
    }
    assert!(revoked_at.is_some(), "it was cut before anything happened");
    assert!(upstream_end.recv_timeout(PATIENCE).unwrap() > head.len() / 2, "the upstream is told, too");
    assert_eq!(system.metric(r#"portcullis_streams_cut_total{reason="revoked"}"#), 1.0);
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// A WebSocket server that sends back what it is sent.
fn echo() -> RecordingUpstream {
    RecordingUpstream::serving(|wire| {
        let Ok(mut socket) = tokio_tungstenite::tungstenite::accept(wire) else { return };
        while let Ok(message) = socket.read() {
            if message.is_text() && socket.send(message).is_err() {
                return;
            }
        }
    })
}

fn handshake(token: &str) -> http::Request<()> {
    let request = http::Request::get("ws://app.test/socket")
        .header("host", "app.test")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("authorization", format!("Bearer {token}"));
    request.body(()).unwrap()
}

#[test]
fn a_websocket_client_is_told_1008_when_its_token_is_revoked_and_another_goes_on() {
    let system = System::with(ROUTES).upstream(echo()).start();
    block_on(async {
        let open = async |token: String| {
            let stream = tokio::net::TcpStream::connect(system.address).await.unwrap();
            tokio_tungstenite::client_async(handshake(&token), stream).await.unwrap().0
        };
        let mut losing = open(somebody("session_7").sign()).await;
        let mut keeping = open(somebody("session_8").sign()).await;
        for text in ["one", &"long".repeat(40_000), ""] {
            for socket in [&mut losing, &mut keeping] {
                socket.send(Message::text(text)).await.unwrap();
                assert_eq!(socket.next().await.unwrap().unwrap().to_text().unwrap(), text);
            }
        }
        system.until("both last", |system| system.metric("portcullis_streams_open") == 2.0);
        revoke(&system, RevocationKind::Session, "session_7");
        let end = async {
            loop {
                match losing.next().await {
                    Some(Ok(Message::Close(frame))) => return frame.map(|frame| frame.code),
                    Some(Ok(_)) => {}
                    other => panic!("closed without a word: {other:?}"),
                }
            }
        };
        let code = tokio::time::timeout(SOON, end).await.expect("it goes on");
        assert_eq!(code, Some(CloseCode::Policy));
        assert!(tokio::time::timeout(SOON, losing.next()).await.expect("it is closed").is_none());
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            keeping.send(Message::text("still here")).await.unwrap();
            assert_eq!(keeping.next().await.unwrap().unwrap().to_text().unwrap(), "still here");
        }
        keeping.close(None).await.unwrap();
    });
    assert_eq!(system.metric(r#"portcullis_streams_cut_total{reason="revoked"}"#), 1.0);
    assert!(system.logged().contains(r#""status":101"#));
}

#[test]
fn no_frame_is_put_into_the_middle_of_another() {
    let upstream = RecordingUpstream::answering(|_, stream| {
        let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        stream.write_all(answer.as_bytes()).unwrap();
        // A frame of ten bytes, of which three come.
        stream.write_all(b"\x82\x0aabc").unwrap();
        while let Ok(1..) = stream.read(&mut [0; 16]) {}
        false
    });
    let system = System::with(ROUTES).upstream(upstream).start();
    let ask = system.get("/socket").with(&alice().sign()).field("connection", "upgrade").field("upgrade", "websocket");
    let mut connection = system.connect();
    connection.send(ask.bytes());
    assert_eq!(connection.answer().unwrap().status, 101);
    system.until("it lasts", |system| system.metric("portcullis_streams_open") == 1.0);
    revoke(&system, RevocationKind::User, "user_alice");
    let (begun, mut received) = (Instant::now(), Vec::new());
    loop {
        let some = connection.read_some();
        if some.is_empty() {
            break;
        }
        received.extend(some);
    }
    assert!(begun.elapsed() < SOON, "it goes on");
    assert_eq!(received, b"\x82\x0aabc");
    system.upstream.take();
}

#[test]
fn an_http2_stream_is_reset_and_another_of_its_connection_goes_on() {
    let system = with_events().listen("{address: \"127.0.0.1:0\", h2c: true}").start();
    block_on(async {
        let stream = tokio::net::TcpStream::connect(system.address).await.unwrap();
        let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
        let exchange = async {
            let mut bodies = Vec::new();
            for session in ["session_7", "session_8"] {
                let request = http::Request::get("http://app.test/me")
                    .header("authorization", format!("Bearer {}", somebody(session).sign()))
                    .body(())
                    .unwrap();
                client = client.ready().await.unwrap();
                let answer = client.send_request(request, true).unwrap().0.await.unwrap();
                assert_eq!(answer.status(), 200);
                bodies.push(answer.into_body());
            }
            let mut keeping = bodies.pop().unwrap();
            let mut losing = bodies.pop().unwrap();
            system.until("both last", |system| system.metric("portcullis_streams_open") == 2.0);
            revoke(&system, RevocationKind::Session, "session_7");
            let end = async {
                loop {
                    match losing.data().await {
                        Some(Ok(chunk)) => drop(losing.flow_control().release_capacity(Bytes::len(&chunk))),
                        Some(Err(error)) => return error,
                        None => panic!("it looks as if it were complete"),
                    }
                }
            };
            let error = tokio::time::timeout(SOON, end).await.expect("it goes on");
            assert_eq!(error.reason(), Some(h2::Reason::CANCEL), "{error}");
            let begun = Instant::now();
            while begun.elapsed() < A_WHILE {
                let chunk = tokio::time::timeout(SOON, keeping.data()).await.expect("events").expect("more").unwrap();
                let _ = keeping.flow_control().release_capacity(chunk.len());
            }
        };
        tokio::select! {
            () = exchange => {}
            ended = connection => panic!("the connection ended: {ended:?}"),
        }
    });
    assert_eq!(system.metric(r#"portcullis_streams_cut_total{reason="revoked"}"#), 1.0);
    system.upstream.take();
}

#[test]
fn a_revoked_token_is_refused_on_every_route_that_needs_one_and_told_so() {
    let system = System::with(ROUTES).start();
    let token = alice().sign();
    let ask = |target: &str| system.get(target).with(&token);
    ask("/me").passes();
    revoke(&system, RevocationKind::Membership, "om_alice");
    for target in ["/me", "/projects/42", "/patient/42"] {
        let answer = ask(target).is_refused(401, "revoked");
        let challenge = r#"Bearer realm="portcullis", error="invalid_token", error_description="revoked""#;
        assert_eq!(answer.field("www-authenticate"), Some(challenge));
    }
    for target in ["/open", "/heedless", "/watched"] {
        ask(target).passes();
    }
    // Counted when a request has ended, which may be a moment after its answer.
    let counted = |series: &str| wait_until(series, || system.metric(series) == 1.0);
    counted(r#"portcullis_requests_total{outcome="deny",reason="revoked",route="me"}"#);
    counted(r#"portcullis_shadow_denied_total{reason="revoked",route="watched"}"#);
    assert_eq!(system.metric("portcullis_revocations"), 1.0);
    assert!(system.logged().contains("the membership of the token was revoked"));
    // Another membership, and a token of later: not what was revoked.
    system.get("/me").with(&alice().membership("om_other").sign()).passes();
    let now = system.clock.now();
    let earlier = UnixSeconds(now.0 - 3600);
    let entry = Revocation {
        kind: RevocationKind::Membership,
        id: "om_alice".into(),
        not_before: earlier,
        expires: now.plus(60),
        holder: None,
    };
    system.world.revocations().replace([entry]);
    ask("/me").passes();
}
