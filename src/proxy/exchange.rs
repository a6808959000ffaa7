//! One request and its answer, as they go on after the permit: run, watched once they last, and ended when they are cut.
//!
//! A request is a task, or a part of one; ending it means dropping it, which closes an HTTP/1 connection and resets an HTTP/2 stream,
//! on both sides of the proxy. What was permitted is left by the hooks where the task finds it ([`permitted`]).

use std::cell::OnceCell;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method};
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora::proxy::{HttpProxy, ProxyHttp};
use pingora::server::ShutdownWatch;
use tokio::io::AsyncReadExt;
use tokio::sync::oneshot;
use tokio::time::{Sleep, timeout};

use super::connection::{AtWork, Line};
use super::streams::{Place, Streams};
use crate::gate::{Forward, MIN_REVISION, RequestView, Trace};

/// An exchange that lasts longer than this is watched. With the time between two looks it stays below a second until a change that
/// came right after the permit is acted upon.
const UNWATCHED: Duration = Duration::from_millis(500);

/// How long a connection waits for its next request.
const IDLE: Duration = Duration::from_secs(60);

/// How many bytes of a request are read at first: as many as Pingora would.
const FIRST_BYTES: usize = 4096;

/// How many streams of an HTTP/2 connection may be reset because of what the client did to them.
const MOST_RESETS: usize = 100;

tokio::task_local! {
    /// The exchange that this task is about, once it is permitted.
    static CURRENT: OnceCell<Arc<Exchange>>;
}

/// What is needed to decide a permitted request again, and to tell how it ended.
pub(super) struct Exchange {
    request: Request,
    /// What became known of it at its permit.
    pub(super) trace: Trace,
    pub(super) request_id: HeaderValue,
    pub(super) client: Option<SocketAddr>,
    pub(super) started: Instant,
    /// What the upstream has answered; 0 = nothing yet.
    answered: AtomicU16,
    /// Whether its end was told.
    is_told: AtomicBool,
}

/// A request that outlives the view of it.
pub(super) struct Request {
    method: Method,
    target: Box<[u8]>,
    /// What is forwarded in place of `target`, where that is something else.
    forwarded: Option<Box<[u8]>>,
    is_absolute: bool,
    host: Box<str>,
    headers: HeaderMap,
    is_upgrade: bool,
    /// The body, where a rule has read it: the values it had are the values it has.
    body: Option<Bytes>,
}

impl Request {
    /// Keeps what `view` shows, and what `forward` makes of it.
    pub(super) fn of(view: &RequestView<'_>, forward: &Forward, body: Option<Bytes>) -> Self {
        Self {
            method: view.method.clone(),
            target: view.target.into(),
            forwarded: forward.target().map(Into::into),
            is_absolute: view.is_absolute,
            host: view.host.into(),
            headers: view.headers.clone(),
            is_upgrade: view.is_upgrade,
            body,
        }
    }

    /// The request as the gate looks at it.
    pub(super) fn view(&self) -> RequestView<'_> {
        RequestView {
            method: &self.method,
            target: &self.target,
            is_absolute: self.is_absolute,
            host: &self.host,
            headers: &self.headers,
            is_upgrade: self.is_upgrade,
            body: self.body.as_deref(),
            is_confirmed: false,
        }
    }
}

impl Exchange {
    /// An exchange that was permitted just now.
    pub(super) fn new(
        mut request: Request,
        trace: Trace,
        request_id: HeaderValue,
        client: Option<SocketAddr>,
        started: Instant,
    ) -> Self {
        // It was about the moment of the request, and has been answered.
        request.headers.remove(MIN_REVISION);
        Self {
            request,
            trace,
            request_id,
            client,
            started,
            answered: AtomicU16::new(0),
            is_told: AtomicBool::new(false),
        }
    }

    pub(super) fn request(&self) -> RequestView<'_> {
        self.request.view()
    }

    /// The target that was forwarded.
    pub(super) fn forwarded(&self) -> &[u8] {
        self.request.forwarded.as_deref().unwrap_or(&self.request.target)
    }

    /// What the upstream has answered; 0 = nothing yet.
    pub(super) fn status(&self) -> u16 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Whether its end is to be told by whoever asks: who asks first. It may end by itself in the moment that it is cut.
    pub(super) fn tell(&self) -> bool {
        !self.is_told.swap(true, Ordering::Relaxed)
    }
}

/// Whether the end of the request that this task is about is to be told: it was not permitted, or nobody has told that it was cut.
pub(super) fn tell() -> bool {
    CURRENT.try_with(|current| current.get().is_none_or(|exchange| exchange.tell())).unwrap_or(true)
}

/// Leaves a permitted exchange where the task that runs it finds it. `false`: nobody would cut it, so it must not go on.
pub(super) fn permitted(exchange: Exchange) -> bool {
    CURRENT.try_with(|current| current.set(Arc::new(exchange)).is_ok()).unwrap_or(false)
}

/// Notes what the upstream answered.
pub(super) fn answered(status: u16) {
    // Without an exchange there is no permit, and no upstream that could answer.
    let _ = CURRENT.try_with(|current| {
        if let Some(exchange) = current.get() {
            exchange.answered.store(status, Ordering::Relaxed);
        }
    });
}

/// The proxy, every exchange of which can be cut.
///
/// What the proxy needs for one request is made ready when the first byte of it is here: connections that wait for one are many, and
/// have to be small.
pub(super) struct Supervised<P> {
    proxy: Arc<HttpProxy<P>>,
    streams: Arc<Streams>,
}

impl<P> Supervised<P> {
    pub(super) fn new(proxy: HttpProxy<P>, streams: Arc<Streams>) -> Self {
        Self { proxy: Arc::new(proxy), streams }
    }

    /// Waits for the first bytes of the next request on a connection that was used.
    async fn next(&self, used: ReusedHttpStream) -> Option<ReusedHttpStream> {
        let (mut stream, settings) = used.consume();
        let Some(mut settings) = settings else { return Some(ReusedHttpStream::new(stream, None)) };
        let mut begun = BytesMut::with_capacity(FIRST_BYTES);
        let read = timeout(IDLE, stream.read_buf(&mut begun)).await;
        // Closed, too late, or told to go.
        if !matches!(read, Ok(Ok(1..))) {
            return None;
        }
        settings.set_pipelined_prefix(begun);
        Some(ReusedHttpStream::new(stream, Some(settings)))
    }
}

#[async_trait]
impl<P> HttpServerApp for Supervised<P>
where
    P: ProxyHttp + Send + Sync + 'static,
    P::CTX: Send + Sync,
{
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let (line, _at_work) = (Line::of(&session), AtWork::of(&session));
        let work = HttpServerApp::process_new_http(&self.proxy, session, shutdown);
        let ended = CURRENT.scope(OnceCell::new(), run(work, &self.streams, line.as_ref())).await;
        if let Some(used) = ended {
            return self.next(used?).await;
        }
        if let Some(line) = line {
            line.say_goodbye().await;
        }
        None
    }

    fn h2_options(&self) -> Option<H2Options> {
        let mut options = default_h2_options();
        // Of those that the client brings about, with frames that do not fit.
        options.max_local_error_reset_streams(Some(MOST_RESETS));
        Some(options)
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        HttpServerApp::server_options(&*self.proxy)
    }

    async fn http_cleanup(&self) {
        self.proxy.http_cleanup().await;
    }
}

/// How closely an exchange is looked at.
enum Watch {
    /// There is none yet: the head of the request is still to come or to be judged.
    Unpermitted,
    /// It is young.
    Young(Pin<Box<Sleep>>),
    /// It lasts: whoever holds the place of it among [`Streams`] may cut it.
    Watched { cut: oneshot::Receiver<()>, _place: Place },
}

/// Runs `work` to its end, or until it is cut: then there is no result, and `work` is gone.
async fn run<T>(
    mut work: Pin<Box<dyn Future<Output = T> + Send + '_>>,
    streams: &Arc<Streams>,
    line: Option<&Line>,
) -> Option<T> {
    let mut watch = Watch::Unpermitted;
    poll_fn(move |context| {
        loop {
            match &mut watch {
                Watch::Watched { cut, .. } => {
                    // A sender that is gone without a word is no reason to go on.
                    if Pin::new(cut).poll(context).is_ready() {
                        if let Some(line) = line {
                            line.is_cut();
                        }
                        return Poll::Ready(None);
                    }
                    return work.as_mut().poll(context).map(Some);
                }
                Watch::Unpermitted => {
                    if let Poll::Ready(done) = work.as_mut().poll(context) {
                        return Poll::Ready(Some(done));
                    }
                    if CURRENT.with(|current| current.get().is_none()) {
                        return Poll::Pending;
                    }
                    let mut young = Box::pin(tokio::time::sleep(UNWATCHED));
                    let is_pending = young.as_mut().poll(context).is_pending();
                    watch = Watch::Young(young);
                    if is_pending {
                        return Poll::Pending;
                    }
                }
                Watch::Young(young) => {
                    if young.as_mut().poll(context).is_pending() {
                        return work.as_mut().poll(context).map(Some);
                    }
                    let Some(exchange) = CURRENT.with(|current| current.get().map(Arc::clone)) else {
                        return Poll::Ready(None);
                    };
                    let (place, cut) = streams.enter(exchange);
                    watch = Watch::Watched { cut, _place: place };
                }
            }
        }
    })
    .await
}
