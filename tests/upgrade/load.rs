//! Clients that ask all the time, and note whatever goes wrong.

use std::collections::HashSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::{get, post};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::{Request, StatusCode, Uri, header};
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::process::certificate;
use crate::tokens::alice;

/// Pieces of a slow body, and the time between two.
const PIECES: usize = 40;
const BETWEEN: Duration = Duration::from_millis(50);
const PIECE: &[u8] = &[b'x'; 1024];
/// The time between two requests of one client.
const REST: Duration = Duration::from_millis(3);
/// No request takes longer.
const LONGEST: Duration = Duration::from_secs(20);

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A body that takes its time.
fn pieces() -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    tokio_stream::iter(0..PIECES).then(|_| async {
        tokio::time::sleep(BETWEEN).await;
        Ok(Bytes::from_static(PIECE))
    })
}

/// An application; the task ends with what owns it.
pub async fn upstream(tasks: &mut JoinSet<()>) -> SocketAddr {
    let app = Router::new()
        .route("/open/page", get(async || "page"))
        .route(
            "/me",
            get(async |uri: Uri| {
                arrived().lock().unwrap().insert(uri.query().unwrap_or_default().to_owned());
                "page"
            }),
        )
        .route("/open/upload", post(async |body: Bytes| body.len().to_string()))
        .route("/open/download", get(async || Body::from_stream(pieces())));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn(async move { axum::serve(listener, app).await.unwrap() });
    address
}

/// The queries of all requests that have come to an application.
fn arrived() -> &'static Mutex<HashSet<String>> {
    static ARRIVED: OnceLock<Mutex<HashSet<String>>> = OnceLock::new();
    ARRIVED.get_or_init(Mutex::default)
}

/// Whether the server has said that it takes no more requests on this connection.
fn is_goodbye(error: &hyper::Error) -> bool {
    let error = std::error::Error::source(error).and_then(|source| source.downcast_ref::<h2::Error>());
    error.is_some_and(|error| error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR))
}

/// What came of all requests.
#[derive(Default)]
pub struct Tally {
    answered: [AtomicU64; 7],
    failed: Mutex<Vec<String>>,
    over: AtomicBool,
    /// Whether a server that accepts nobody is one that has ended, as it was told to.
    may_end: AtomicBool,
}

/// How a client asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    KeptAlive,
    ByRequest,
    Http2,
    Tls,
    Upload,
    Download,
    Probe,
}

impl Kind {
    pub const ALL: [Self; 7] =
        [Self::KeptAlive, Self::ByRequest, Self::Http2, Self::Tls, Self::Upload, Self::Download, Self::Probe];
}

/// What became of one connection.
enum Ended {
    /// The server said that it was the last answer, or HTTP/2 said so.
    Told,
    /// Nobody accepts.
    Refused,
    /// Enough.
    Over,
}

impl Tally {
    pub fn answered(&self, kind: Kind) -> u64 {
        self.answered[kind as usize].load(Ordering::Relaxed)
    }

    /// All that went wrong.
    pub fn failures(&self) -> Vec<String> {
        self.failed.lock().unwrap().clone()
    }

    /// No more is to be asked.
    pub fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// From now on nobody has to be there.
    pub fn server_may_end(&self) {
        self.may_end.store(true, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn count(&self, kind: Kind) {
        self.answered[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn fail(&self, kind: Kind, what: impl std::fmt::Display) {
        self.failed.lock().unwrap().push(format!("{kind:?}: {what}"));
    }
}

/// One client: asks at `address` until it is over, or the server has ended as it may.
pub async fn client(kind: Kind, address: SocketAddr, tally: Arc<Tally>) {
    while !tally.is_over() {
        match connection(kind, address, &tally).await {
            Ok(Ended::Told | Ended::Over) => {}
            Ok(Ended::Refused) => return,
            Err(error) => tally.fail(kind, describe(&*error)),
        }
        tokio::time::sleep(REST).await;
    }
}

fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

async fn connection(kind: Kind, address: SocketAddr, tally: &Tally) -> Result<Ended, Failure> {
    let stream = match TcpStream::connect(address).await {
        Ok(stream) => stream,
        Err(error)
            if error.kind() == std::io::ErrorKind::ConnectionRefused && tally.may_end.load(Ordering::Relaxed) =>
        {
            return Ok(Ended::Refused);
        }
        Err(error) => return Err(error.into()),
    };
    stream.set_nodelay(true)?;
    match kind {
        Kind::Tls => http1(kind, encrypted(stream).await?, address, tally).await,
        Kind::Http2 => http2(stream, address, tally).await,
        _ => http1(kind, stream, address, tally).await,
    }
}

/// A stream over TLS to `stream`'s server.
pub async fn encrypted(stream: TcpStream) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Failure> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate("ca.pem"))?)?;
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = config.with_root_certificates(roots).with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("127.0.0.1")?, stream).await?)
}

fn request(kind: Kind, address: SocketAddr, uri: String) -> Request<Body> {
    let request = Request::builder().uri(uri);
    // HTTP/2 says it in another way.
    let request = if kind == Kind::Http2 { request } else { request.header(header::HOST, address.to_string()) };
    match kind {
        Kind::ByRequest | Kind::Probe => request.header(header::CONNECTION, "close").body(Body::empty()),
        Kind::KeptAlive | Kind::Http2 | Kind::Tls | Kind::Download => {
            request.header(header::AUTHORIZATION, format!("Bearer {}", token())).body(Body::empty())
        }
        Kind::Upload => request.method("POST").body(Body::from_stream(pieces())),
    }
    .unwrap()
}

fn token() -> &'static str {
    static TOKEN: OnceLock<String> = OnceLock::new();
    TOKEN.get_or_init(|| alice().lifetime(3600).sign())
}

/// What is asked, in turn, and what has to come.
fn target(kind: Kind, number: u64) -> (&'static str, Option<Vec<u8>>) {
    match kind {
        Kind::Upload => ("/open/upload", Some((PIECES * PIECE.len()).to_string().into_bytes())),
        Kind::Download => ("/open/download", Some(PIECE.repeat(PIECES))),
        Kind::Probe => (["/live", "/ready", "/metrics"][usize::try_from(number % 3).unwrap()], None),
        Kind::ByRequest => ("/open/page", Some(b"page".to_vec())),
        Kind::KeptAlive | Kind::Http2 | Kind::Tls => ("/me", Some(b"page".to_vec())),
    }
}

async fn judge(
    kind: Kind,
    response: http::Response<hyper::body::Incoming>,
    expected: Option<Vec<u8>>,
) -> Result<bool, Failure> {
    let (status, last) = (response.status(), response.headers().get(header::CONNECTION).cloned());
    let body = response.into_body().collect().await?.to_bytes();
    if status != StatusCode::OK || expected.is_some_and(|expected| expected != body) {
        return Err(format!(
            "{kind:?} was answered {status}: {} bytes, {:.200}",
            body.len(),
            String::from_utf8_lossy(&body)
        )
        .into());
    }
    Ok(last.is_some_and(|last| last.as_bytes().eq_ignore_ascii_case(b"close")))
}

async fn http1<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    kind: Kind,
    stream: S,
    address: SocketAddr,
    tally: &Tally,
) -> Result<Ended, Failure> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut driver = JoinSet::new();
    driver.spawn(async move { _ = connection.await });
    while !tally.is_over() {
        sender.ready().await?;
        let (path, expected) = target(kind, tally.answered(kind));
        let answer = sender.send_request(request(kind, address, path.to_owned()));
        let is_last = tokio::time::timeout(LONGEST, async { judge(kind, answer.await?, expected).await }).await??;
        tally.count(kind);
        if is_last || matches!(kind, Kind::ByRequest | Kind::Probe) {
            return Ok(Ended::Told);
        }
        tokio::time::sleep(REST).await;
    }
    Ok(Ended::Over)
}

async fn http2(stream: TcpStream, address: SocketAddr, tally: &Tally) -> Result<Ended, Failure> {
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await?;
    let mut driver = JoinSet::new();
    driver.spawn(async move { _ = connection.await });
    while !tally.is_over() {
        if sender.ready().await.is_err() {
            return Ok(Ended::Told);
        }
        let (path, expected) = target(Kind::Http2, 0);
        let query = rand::random::<u64>().to_string();
        let answer = sender.try_send_request(request(Kind::Http2, address, format!("http://{address}{path}?{query}")));
        let answer = match tokio::time::timeout(LONGEST, answer).await? {
            Ok(answer) => answer,
            Err(mut error) => match error.take_message() {
                // Never sent: the server has said goodbye meanwhile.
                Some(_) => return Ok(Ended::Told),
                // GOAWAY says what was not looked at, and may be sent again elsewhere (RFC 9113 §6.8): then nobody has looked at it.
                None => {
                    let (error, arrived) = (error.into_error(), arrived().lock().unwrap().contains(&query));
                    return if is_goodbye(&error) && !arrived { Ok(Ended::Told) } else { Err(error.into()) };
                }
            },
        };
        judge(Kind::Http2, answer, expected).await?;
        tally.count(Kind::Http2);
        tokio::time::sleep(REST).await;
    }
    Ok(Ended::Over)
}
