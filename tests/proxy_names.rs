//! Upstreams by name (fault row 65): a name that moves is followed, one that is gone keeps its last address, one that never was is an upstream
//! that cannot be reached, and nobody else's requests wait for it. The program itself, with a table of names of its own.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and says what it skipped"
)]

mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::client::Connection;
use support::{nowhere, wait_until};

/// The names of this machine are those of `$1`, and nobody else is asked.
const WITH_NAMES: &str =
    "mount --bind \"$1\" /etc/hosts && mount --bind \"$2\" /etc/resolv.conf || exit 77; shift 2; exec \"$@\"";

/// Answers everything with its name.
fn server(listener: TcpListener, name: &'static str) {
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let (mut seen, mut chunk) = (Vec::new(), [0; 4096]);
                while let Ok(count @ 1..) = stream.read(&mut chunk) {
                    seen.extend_from_slice(&chunk[..count]);
                    if seen.ends_with(b"\r\n\r\n") {
                        seen.clear();
                        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len());
                        if stream.write_all(answer.as_bytes()).is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
}

/// Two servers on one port of two addresses.
fn servers() -> u16 {
    loop {
        let one = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = one.local_addr().unwrap().port();
        if let Ok(two) = TcpListener::bind(("127.0.0.2", port)) {
            server(one, "one");
            server(two, "two");
            return port;
        }
    }
}

struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a sidecar with the names in `folder/hosts`; its log is `folder/log`.
fn start(folder: &Path, configuration: &str) -> Program {
    std::fs::write(folder.join("portcullis.yaml"), configuration).unwrap();
    // Whoever asks there is told at once that nobody listens.
    std::fs::write(folder.join("resolv.conf"), "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n").unwrap();
    let mut command = Command::new("unshare");
    command.args(["-Urm", "sh", "-c", WITH_NAMES, "sh"]).arg(folder.join("hosts")).arg(folder.join("resolv.conf"));
    command.arg(env!("CARGO_BIN_EXE_portcullis")).args([
        "proxy",
        "--config",
        "portcullis.yaml",
        "--log-format",
        "json",
    ]);
    let log = File::create(folder.join("log")).unwrap();
    Program(command.current_dir(folder).stdout(Stdio::null()).stderr(log).spawn().unwrap())
}

/// Whether this machine lets us have names of our own. What is not there is reported, and a failure where `PORTCULLIS_NO_SKIPS` is set.
fn may_have_names() -> bool {
    let mut command = Command::new("unshare");
    command.args(["-Urm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).stderr(Stdio::null());
    let may = command.status().is_ok_and(|status| status.success());
    if !may {
        let why = "this machine lets nobody have mounts of their own";
        assert!(std::env::var_os("PORTCULLIS_NO_SKIPS").is_none(), "skipped: {why}");
        eprintln!("skipped: {why}");
    }
    may
}

/// The status and the body that `path` is answered with.
fn answer(address: SocketAddr, path: &str) -> (u16, String) {
    let mut connection = Connection::open(address);
    connection.send(format!("GET {path} HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n"));
    connection.answer().map_or((0, String::new()), |answer| (answer.status, String::from_utf8(answer.body).unwrap()))
}

#[test]
fn row_65_a_name_that_moves_is_followed_and_one_that_is_gone_is_where_it_was() {
    if !may_have_names() {
        return;
    }
    let (folder, port, address) = (tempfile::tempdir().unwrap(), servers(), nowhere());
    let names = |text: &str| std::fs::write(folder.path().join("hosts"), text).unwrap();
    names("127.0.0.1 app.internal\n");
    let configuration = format!(
        "version: 1\nlisten: [{{address: \"{address}\"}}]\ntokens: []\nfacts: {{source: none}}\nupstreams:\n\
         \x20 app: {{servers: [\"app.internal:{port}\"]}}\n\
         \x20 never: {{servers: [\"never.internal:{port}\"]}}\n\
         \x20 fixed: {{servers: [\"127.0.0.1:{port}\"]}}\nroutes:\n\
         \x20 - {{id: app, match: {{path: /app}}, public: true, upstream: app}}\n\
         \x20 - {{id: never, match: {{path: /never}}, public: true, upstream: never}}\n\
         \x20 - {{id: fixed, match: {{path: /fixed}}, public: true, upstream: fixed}}\n"
    );
    let _program = start(folder.path(), &configuration);
    let logged = |what: &str| std::fs::read_to_string(folder.path().join("log")).unwrap().matches(what).count();
    wait_until("it listens", || {
        assert_eq!(logged("configuration is refused"), 0);
        TcpStream::connect(address).is_ok()
    });
    wait_until("the name is found", || answer(address, "/app") == (200, "one".to_owned()));
    let (status, problem) = answer(address, "/never");
    assert!(status == 502 && problem.contains("upstream_unreachable"), "{status}: {problem}");
    assert_eq!(answer(address, "/fixed"), (200, "one".to_owned()), "a name that is not found is nobody else's trouble");

    names("127.0.0.2 app.internal\n");
    // Looked up every ten seconds.
    wait_until("it is followed", || answer(address, "/app").1 == "two");

    let before = logged("upstream name not found");
    names("127.0.0.3 other.internal\n");
    let begun = Instant::now();
    // Both names are missing now, so that a round of look-ups says so twice.
    while logged("app.internal") == 0 || logged("upstream name not found") < before + 2 {
        assert_eq!(answer(address, "/app"), (200, "two".to_owned()), "it is where it was");
        assert!(begun.elapsed() < Duration::from_secs(60), "it is not looked up any more");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(answer(address, "/app"), (200, "two".to_owned()), "it is where it was");
    // A name that comes into being is found.
    names(&format!("127.0.0.2 app.internal\n127.0.0.1 never.internal\n# {port}\n"));
    wait_until("it is found", || answer(address, "/never") == (200, "one".to_owned()));
}

/// Starts a store at this address, on the database in `folder`.
fn start_store(folder: &Path, address: SocketAddr) -> Program {
    let configuration = format!(
        "version: 1\nlisten: {address}\ndatabase: sqlite://./store.db\napi_keys: [sk_names]\nsync_keys: [sync_names]\n"
    );
    std::fs::write(folder.join("store.yaml"), configuration).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.args(["store", "--config", "store.yaml"]).current_dir(folder);
    let program = Program(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    wait_until("the store is ready", || TcpStream::connect(address).is_ok() && answer(address, "/ready").0 == 200);
    program
}

/// Writes something to the store.
fn found_organization(store: SocketAddr, name: &str) {
    let (mut connection, body) = (Connection::open(store), format!(r#"{{"name":"{name}"}}"#));
    connection.send(format!(
        "POST /organizations HTTP/1.1\r\nHost: store\r\nAuthorization: Bearer sk_names\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    ));
    assert_eq!(connection.answer().unwrap().status, 201);
}

#[test]
fn row_65_a_store_whose_name_moves_is_followed_to_where_it_is() {
    if !may_have_names() {
        return;
    }
    let (folder, address, status) = (tempfile::tempdir().unwrap(), nowhere(), nowhere());
    let one = nowhere();
    let two = SocketAddr::new([127, 0, 0, 2].into(), one.port());
    let names = |text: &str| std::fs::write(folder.path().join("hosts"), text).unwrap();
    names("127.0.0.1 store.internal\n");
    let configuration = format!(
        "version: 1\nlisten: [{{address: \"{address}\"}}]\nstatus: {{address: \"{status}\"}}\ntokens: []\n\
         facts: {{source: store, url: \"http://store.internal:{}\", insecure: true, key: sync_names, organizations: all}}\n\
         upstreams: {{app: {{servers: [\"{one}\"]}}}}\nroutes: [{{id: app, match: {{path: /app}}, public: true}}]\n",
        one.port()
    );
    let store = start_store(folder.path(), one);
    let _program = start(folder.path(), &configuration);
    let revision = || {
        let page = answer(status, "/metrics").1;
        let line = page.lines().find_map(|line| line.strip_prefix("portcullis_facts_revision "));
        line.map_or(0.0, |value| value.parse::<f64>().unwrap())
    };
    wait_until("it listens", || TcpStream::connect(status).is_ok());
    found_organization(one, "Acme");
    wait_until("the store is followed", || revision() > 0.0);

    let before = revision();
    drop(store);
    let _store = start_store(folder.path(), two);
    found_organization(two, "Initech");
    names("127.0.0.2 store.internal\n");
    wait_until("the name is followed", || revision() > before);
    assert_eq!(answer(status, "/ready").0, 200);
}
