//! F4 and F5: paths and header fields of requests.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use percent_encoding::percent_decode;
use pingora::http::RequestHeader;
use portcullis::app::SystemClock;
use portcullis::app::offline::{self, LoadKeys};
use portcullis::config::{self, Environment};
use portcullis::gate::{Forward, Gate, RequestView, Trace, Verdict};
use portcullis::proxy::headers::{HeaderPolicy, IdentityHeader, Peer};
use portcullis::rules::{CanonicalPath, RouteTable};

const CONFIGURATION: &str = r#"
version: 1
listen: [{address: "127.0.0.1:0"}]
upstreams: {app: {servers: ["127.0.0.1:1"]}}
tokens: [{name: test, issuer: "https://issuer.test", audience: none, required_claims: [sid], jwks_file: jwks.json, algorithms: [RS256]}]
facts: {source: none}
routes:
  - {id: open, match: {path: "/open/{rest...}"}, public: true}
  - {id: one, match: {path: "/files/{name}"}, public: true, encoded_slash: allow}
  - {id: admin, match: {path: "/admin/{rest...}"}, authenticated: true}
  - {id: closed, match: {path: "/open/closed/{rest...}"}, authenticated: true}
  - {id: hosted, match: {path: "/{rest...}", hosts: ["*.app.test"], methods: [GET]}, authenticated: true}
"#;

struct NoVariables;

impl Environment for NoVariables {
    fn variable(&self, _: &str) -> Option<String> {
        None
    }
}

fn parsed() -> config::Sidecar {
    config::parse("fuzz.yaml", CONFIGURATION, Path::new("."), &NoVariables).unwrap_or_else(|error| panic!("{error}"))
}

/// A path: one canonical form, read by everybody alike, and the rule that stands for it.
pub fn f04_path(bytes: &[u8]) {
    static TABLE: OnceLock<RouteTable> = OnceLock::new();
    let table = TABLE.get_or_init(|| parsed().rules);
    let (which, raw) = bytes.split_first().map_or((0, bytes), |(first, rest)| (*first, rest));
    let method = [Method::GET, Method::POST, Method::OPTIONS, Method::HEAD][usize::from(which & 3)].clone();
    let host = ["app.test", "a.app.test:80", "app.test.", "[::1]"][usize::from(which >> 2 & 3)];
    let Ok(path) = table.path(raw) else { return };
    let text = path.as_str();
    let again = table.path(text.as_bytes()).unwrap();
    assert_eq!(again, path, "the canonical form of {text} is another");
    assert_eq!(CanonicalPath::parse(raw).is_ok(), !path.encoded_slash());
    // However often an upstream decodes, and whatever it does about dots and slashes, it sees the same segments; but for encoded slashes,
    // where a rule lets them pass.
    let decoded = percent_decode(raw).decode_utf8().unwrap().into_owned();
    let twice = percent_decode(decoded.as_bytes()).decode_utf8_lossy().into_owned();
    let normal = |text: &str| {
        let dots = |segment: &str| matches!(segment, "." | "..");
        let merges = text.contains("//") && !path.encoded_slash();
        !text.contains(['\\', '\0', ';']) && !merges && !text.split('/').any(dots)
    };
    assert!(normal(&decoded) && (normal(&twice) || twice == decoded), "{text} may be another path");
    let found = table.find(&method, host, &path, &HeaderMap::new());
    let once_more = table.find(&method, host, &again, &HeaderMap::new());
    let id = |found: Result<Option<portcullis::rules::RouteMatch<'_, '_>>, _>| {
        found.map(|found| found.map(|found| found.route().id.to_string()))
    };
    let (found, once_more) = (id(found), id(once_more));
    assert_eq!(found.as_ref().ok(), once_more.as_ref().ok());
    let Ok(Some(id)) = found else { return };
    // Something below the folder, not the folder.
    let below = |folder: &str| decoded.strip_prefix(folder).is_some_and(|rest| !rest.is_empty());
    match &*id {
        "open" => assert!(below("/open/") && !below("/open/closed/")),
        "one" => assert!(below("/files/")),
        "closed" => assert!(below("/open/closed/")),
        "admin" => assert!(below("/admin/")),
        "hosted" => assert_eq!(host, "a.app.test:80"),
        other => panic!("{other}"),
    }
    assert!(!path.encoded_slash() || id == "one", "an encoded slash where none is allowed");
}

fn forward() -> Forward {
    static GATE: OnceLock<Gate> = OnceLock::new();
    let gate = GATE.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let clock = Arc::new(SystemClock);
        runtime
            .block_on(offline::gate(parsed(), clock, LoadKeys::Files))
            .map_err(|error| error.to_string())
            .unwrap()
            .gate
    });
    let (method, headers) = (Method::GET, HeaderMap::new());
    let request = RequestView {
        method: &method,
        target: b"/open/a",
        is_absolute: false,
        host: "app.test",
        headers: &headers,
        is_upgrade: false,
        body: None,
        is_confirmed: false,
    };
    let verdict = gate.check(&request, &mut Trace::new(false)).now_or_never();
    let Some(Verdict::Forward(forward)) = verdict else { panic!("a public route") };
    forward
}

/// Some of what nobody but us, or a proxy before us, may say; as a CGI reads it.
const TOLD: [&str; 6] =
    ["x-request-id", "forwarded", "x-original-url", "x-rewrite-url", "x-http-method-override", "x-real-ip"];

/// Header fields, a line each: nothing that only we or the hop before may say gets through, in any spelling, and the rest does.
pub fn f05_headers(bytes: &[u8]) {
    let mut request = RequestHeader::build("GET", b"/open/a", None).unwrap();
    for line in bytes.split(|&byte| byte == b'\n').take(60) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii())) else { continue };
        let _ = request.append_header(name, value);
    }
    let sent = request.headers.clone();
    let policy = HeaderPolicy::new(HeaderPolicy::PREFIX, &IdentityHeader::DEFAULT, false).unwrap();
    let peer = Peer { address: Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7))), is_trusted: false, is_tls: false };
    policy.apply(&mut request, &forward(), peer, &HeaderValue::from_static("ours")).unwrap();
    let got = &request.headers;
    let one = |name: &str| {
        let mut values = got.get_all(name).iter();
        let value = values.next().map(|value| value.as_bytes().to_vec());
        assert!(values.next().is_none(), "{name} twice");
        value.unwrap_or_default()
    };
    assert_eq!(one("x-request-id"), b"ours");
    assert_eq!(one("x-forwarded-for"), b"192.0.2.7");
    assert_eq!(one("x-forwarded-proto"), b"http");
    assert_eq!(one("x-portcullis-route"), b"open");
    let ours = ["x-request-id", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-portcullis-route"];
    for (name, value) in got {
        // As a CGI reads it.
        let folded: String =
            name.as_str().chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).collect();
        let told =
            ["x-portcullis-", "x-forwarded-"].iter().any(|begin| folded.starts_with(begin)) || TOLD.contains(&&*folded);
        assert!(ours.contains(&name.as_str()) || !told, "{name}: {value:?}");
        assert!(name != "authorization", "the token goes on");
    }
    for name in ["accept", "user-agent", "cookie", "content-type", "host", "x-my-own"] {
        assert!(sent.get_all(name).iter().eq(got.get_all(name).iter()), "{name} was changed");
    }
}
