//! HTTP servers that others have written, each of which tells how it read a request.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::{Value, json};

use super::support::client::Answer;
use super::support::upstream::{RecordingUpstream, Wire};
use super::support::wait_until;

/// A server that runs as long as this lives.
pub struct Parser {
    pub name: &'static str,
    address: Address,
    child: Option<Child>,
    _folder: Option<tempfile::TempDir>,
}

#[derive(Clone)]
enum Address {
    Inet(SocketAddr),
    Unix(PathBuf),
}

/// How one of them read a request.
#[derive(Debug, Clone)]
pub struct Reading {
    pub id: String,
    /// The rule that permitted it, as the sidecar told.
    pub route: String,
    pub method: String,
    pub host: String,
    /// The path, as it is and as applications are given it.
    pub paths: Vec<String>,
    /// The body, where the server tells it.
    pub body: Option<String>,
    /// What an application would take from its body for `/target/id`.
    pub value: Option<String>,
}

impl Parser {
    /// The one of this name; `None`, reported, where it is not installed.
    pub fn start(name: &'static str) -> Option<Self> {
        let script = |file: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/differential").join(file);
        match name {
            "hyper" => Some(Self::hyper()),
            "node" if has("node", "--version") => {
                Some(Self::script(name, Command::new("node").arg(script("parse_node.mjs"))))
            }
            "python" if has("python3", "--version") => {
                Some(Self::script(name, Command::new("python3").arg(script("parse_python.py"))))
            }
            "wsgi" if has("python3", "--version") => {
                Some(Self::script(name, Command::new("python3").arg(script("parse_wsgi.py"))))
            }
            "nginx" if has("nginx", "-v") => Some(Self::nginx()),
            _ => {
                skipped(name);
                None
            }
        }
    }

    /// In this process.
    fn hyper() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    let connection = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service_fn(tell));
                    tokio::spawn(connection);
                }
            });
        });
        Self { name: "hyper", address: Address::Inet(address), child: None, _folder: None }
    }

    fn script(name: &'static str, command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        let port = port.trim().parse().unwrap_or_else(|error| panic!("{name} tells no port: {error}"));
        let address = Address::Inet(SocketAddr::from(([127, 0, 0, 1], port)));
        Self { name, address, child: Some(child), _folder: None }
    }

    /// With its own reading of paths: decoded, dots and repeated slashes removed.
    fn nginx() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display().to_string();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("    {kind}_temp_path {path}/{kind};\n"))
            .concat();
        let configuration = format!(
            "daemon off;\nmaster_process off;\npid {path}/pid;\nerror_log {path}/error.log;\nevents {{}}\nhttp {{\n\
             {temporary}    access_log off;\n    keepalive_requests 100000;\n    underscores_in_headers on;\n    server {{\n        \
             listen unix:{path}/socket;\n        location / {{\n            \
             add_header x-read-id $http_x_request_id always;\n            \
             add_header x-read-route $http_x_portcullis_route always;\n            \
             add_header x-read-method $request_method always;\n            \
             add_header x-read-host $host always;\n            add_header x-read-path \"<$uri>\" always;\n            \
             return 200 '';\n        }}\n    }}\n}}\n"
        );
        let file = folder.path().join("nginx.conf");
        std::fs::write(&file, configuration).unwrap();
        let socket = folder.path().join("socket");
        let mut command = Command::new(program("nginx"));
        command.args(["-e", &format!("{path}/error.log"), "-p", &path, "-c"]).arg(file).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        wait_until("nginx listens", || UnixStream::connect(&socket).is_ok());
        Self { name: "nginx", address: Address::Unix(socket), child: Some(child), _folder: Some(folder) }
    }

    /// The recording upstream in front of it: connection by connection, byte for byte.
    pub fn recorded(&self) -> RecordingUpstream {
        let address = self.address.clone();
        RecordingUpstream::serving(move |wire| match &address {
            Address::Inet(address) => {
                let stream = TcpStream::connect(address).unwrap();
                stream.set_nodelay(true).unwrap();
                let end = stream.try_clone().unwrap();
                relay(wire, stream.try_clone().unwrap(), stream, move || drop(end.shutdown(Shutdown::Write)));
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path).unwrap();
                let end = stream.try_clone().unwrap();
                relay(wire, stream.try_clone().unwrap(), stream, move || drop(end.shutdown(Shutdown::Write)));
            }
        })
    }
}

impl Drop for Parser {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Reading {
    /// What the server told in this answer; `None` when it told nothing.
    pub fn of(answer: &Answer) -> Option<Self> {
        let field = |name: &str| answer.field(&format!("x-read-{name}")).unwrap_or_default().to_owned();
        let Some(read) = answer.field("x-read") else {
            answer.field("x-read-id")?;
            // Spaces at its ends are part of a path, and not of a field.
            let path = field("path").strip_prefix('<')?.strip_suffix('>')?.to_owned();
            return Some(Self {
                id: field("id"),
                route: field("route"),
                method: field("method"),
                host: field("host"),
                paths: vec![path],
                body: None,
                value: None,
            });
        };
        let read: Value = serde_json::from_str(&percent_decode_str(read).decode_utf8().ok()?).ok()?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Some(Self {
            id: text(&read["id"]),
            route: text(&read["route"]),
            method: text(&read["method"]),
            host: text(&read["host"]),
            paths: read["paths"].as_array()?.iter().map(text).collect(),
            body: Some(text(&read["body"])),
            value: read["value"].as_str().map(str::to_owned),
        })
    }
}

async fn tell(request: hyper::Request<Incoming>) -> Result<hyper::Response<Empty<Bytes>>, hyper::Error> {
    let (parts, body) = request.into_parts();
    let field = |name: &str| parts.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let path = parts.uri.path();
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    let body: String = body.collect().await?.to_bytes().iter().map(|byte| char::from(*byte)).collect();
    let read = json!({
        "id": field("x-request-id"), "route": field("x-portcullis-route"), "method": parts.method.as_str(),
        "host": field("host"), "paths": [path, decoded], "body": body,
    });
    let read = utf8_percent_encode(&read.to_string(), NON_ALPHANUMERIC).to_string();
    Ok(hyper::Response::builder().header("x-read", read).body(Empty::new()).unwrap())
}

/// Carries bytes both ways until one side ends.
fn relay(mut wire: Wire, mut to: impl Write, mut from: impl Read + Send + 'static, end: impl FnOnce()) {
    let mut back = wire.writer();
    let answers = std::thread::spawn(move || {
        let mut chunk = [0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut chunk) {
            if back.write_all(&chunk[..count]).is_err() {
                break;
            }
        }
        let _ = back.shutdown(Shutdown::Both);
    });
    let mut chunk = [0; 16 * 1024];
    while let Ok(count @ 1..) = wire.read(&mut chunk) {
        if to.write_all(&chunk[..count]).is_err() {
            break;
        }
    }
    end();
    let _ = answers.join();
}

fn program(name: &str) -> PathBuf {
    let usual = Path::new("/usr/sbin").join(name);
    if usual.exists() { usual } else { name.into() }
}

fn has(name: &str, question: &str) -> bool {
    let asked = Command::new(program(name)).arg(question).stdout(Stdio::null()).stderr(Stdio::null()).status();
    asked.is_ok_and(|status| status.success())
}

/// Says that something was not compared, and why; a failure where `PORTCULLIS_NO_SKIPS` is set, as the gate does.
fn skipped(name: &str) {
    assert!(std::env::var_os("PORTCULLIS_NO_SKIPS").is_none(), "skipped: {name} is not installed");
    eprintln!("skipped: {name} is not installed");
}

/// How long an answer may take.
pub const PATIENCE: Duration = Duration::from_secs(5);
