//! How far a connection is: what the hooks of the proxy tell the wrapper of its socket, and it them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::Waker;
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;
use pingora::protocols::http::ServerSession;
use pingora::protocols::{Digest, Stream};
use pingora::proxy::Session;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use crate::proxy::websocket::POLICY_VIOLATION;

/// The longest that a client has to take in the last frame of a connection that was cut.
const GOODBYE: Duration = Duration::from_secs(1);

/// How long it may take from the head of an HTTP/2 request to its work, in milliseconds: a head that is no request has none.
const ARRIVES_WITHIN: u64 = 1000;

/// The connection waits for nothing yet: it may be in the middle of a TLS handshake.
const NOT_YET: u64 = u64::MAX;

/// What the hooks tell the wrapper, and it them.
#[derive(Debug)]
pub(super) struct Progress {
    /// An odd number while an HTTP/1 request is being worked on, an even one between requests.
    pub(super) step: AtomicU32,
    /// HTTP/2 requests that are being worked on.
    streams: AtomicU32,
    /// Whether an HTTP/2 request has arrived since the last one was taken up.
    is_arriving: AtomicBool,
    /// Since when it waits for a request, if it does: milliseconds after `began`.
    since: AtomicU64,
    began: Instant,
    /// Whether it is to make room for another as soon as there is no request to be worked on.
    is_leaving: AtomicBool,
    /// Whether it leaves because everything ends, and not for another.
    is_ending: AtomicBool,
    /// Who waits for its room. Held by whoever changes the two above.
    heir: parking_lot::Mutex<Option<oneshot::Sender<bool>>>,
    /// Whoever waits for the next request.
    reader: AtomicWaker,
    /// Whether the answer that comes next switches to WebSocket.
    pub(super) is_switching: AtomicBool,
    /// Whether the exchange was cut: the wrapper will be dropped.
    pub(super) is_cut: AtomicBool,
    /// The stream of a WebSocket connection that was cut, where a last frame can be sent.
    pub(super) left: parking_lot::Mutex<Option<Stream>>,
}

impl Progress {
    /// Of a connection that was opened now. `began` is a moment before that, the same for all that are compared.
    pub(super) fn new(began: Instant) -> Self {
        Self {
            step: AtomicU32::new(0),
            streams: AtomicU32::new(0),
            is_arriving: AtomicBool::new(false),
            since: AtomicU64::new(NOT_YET),
            began,
            is_leaving: AtomicBool::new(false),
            is_ending: AtomicBool::new(false),
            heir: parking_lot::Mutex::default(),
            reader: AtomicWaker::new(),
            is_switching: AtomicBool::new(false),
            is_cut: AtomicBool::new(false),
            left: parking_lot::Mutex::default(),
        }
    }

    pub(super) fn is_between_requests(step: u32) -> bool {
        step.is_multiple_of(2)
    }

    /// Milliseconds.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(NOT_YET - 1)
    }

    /// A request, or the next part of its head, is waited for from now on.
    pub(super) fn waits(&self) {
        self.since.store(self.now(), Ordering::SeqCst);
    }

    /// A request has begun to come: who has waited so far waits anew, and makes no room for another.
    pub(super) fn begins(&self) {
        self.waits();
        self.stays();
    }

    /// The head of an HTTP/2 request is here, which is to be taken up in a moment.
    pub(super) fn arrives(&self) {
        self.is_arriving.store(true, Ordering::SeqCst);
        self.begins();
    }

    /// Since when nothing is being done for it; `None` while something is, or its room was promised to another.
    pub(super) fn idle_since(&self) -> Option<u64> {
        self.waiting_since().filter(|_| !self.is_leaving())
    }

    fn waiting_since(&self) -> Option<u64> {
        let is_at_work =
            !Self::is_between_requests(self.step.load(Ordering::SeqCst)) || self.streams.load(Ordering::SeqCst) > 0;
        let is_waiting = |since: &u64| !is_at_work && *since != NOT_YET && !self.is_arriving_since(*since);
        Some(self.since.load(Ordering::SeqCst)).filter(is_waiting)
    }

    fn is_arriving_since(&self, since: u64) -> bool {
        self.is_arriving.load(Ordering::SeqCst) && self.now().saturating_sub(since) < ARRIVES_WITHIN
    }

    /// Asks it to make room, where nothing was done for it since `since`. The answer is `true` once it has gone, and `false` as soon as a
    /// request comes first.
    pub(super) fn ask(&self, since: u64) -> Option<oneshot::Receiver<bool>> {
        let mut heir = self.heir.lock();
        if self.idle_since() != Some(since) {
            return None;
        }
        self.is_leaving.store(true, Ordering::SeqCst);
        // A request that came in between did not see that.
        if self.waiting_since() != Some(since) {
            self.is_leaving.store(false, Ordering::SeqCst);
            return None;
        }
        let (sender, answer) = oneshot::channel();
        *heir = Some(sender);
        drop(heir);
        self.reader.wake();
        Some(answer)
    }

    /// There is something to do for it: who waits for its room has to ask another.
    fn stays(&self) {
        if self.is_leaving() {
            let mut heir = self.heir.lock();
            self.is_leaving.store(self.is_ending(), Ordering::SeqCst);
            // Whoever does not wait any more needs no answer.
            let _ = heir.take().map(|heir| heir.send(false));
        }
    }

    /// It is closed. Whether somebody has its room now.
    pub(super) fn is_gone(&self) -> bool {
        self.heir.lock().take().is_some_and(|heir| heir.send(true).is_ok())
    }

    /// Has it go as soon as nothing is being done for it: everything ends.
    pub(super) fn end(&self) {
        let heir = self.heir.lock();
        self.is_ending.store(true, Ordering::SeqCst);
        self.is_leaving.store(true, Ordering::SeqCst);
        drop(heir);
        self.reader.wake();
    }

    /// Whether nobody needs its room.
    pub(super) fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::SeqCst)
    }

    /// Whether it is to go, for another or because everything ends.
    pub(super) fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::SeqCst)
    }

    /// Whether it is to go now. If not, `reader` hears when it is.
    pub(super) fn is_to_go(&self, reader: &Waker) -> bool {
        self.reader.register(reader);
        self.is_leaving() && self.streams.load(Ordering::Acquire) == 0
    }

    pub(super) fn head_complete(&self) {
        self.step.fetch_or(1, Ordering::SeqCst);
        // It may have been asked between the last byte and this.
        self.stays();
    }

    fn request_done(&self) {
        self.waits();
        let step = self.step.load(Ordering::Acquire);
        self.step.store((step | 1).wrapping_add(1), Ordering::Release);
    }

    fn of(digest: &Digest) -> Option<&Arc<Self>> {
        digest.proxy_digest.as_ref()?.user_data.as_ref()?.downcast_ref()
    }
}

/// A client's HTTP/1 connection, for whoever ends what goes on over it.
pub(in crate::proxy) struct Line(Arc<Progress>);

impl Line {
    /// The connection of `session`; `None` for HTTP/2, where others go on over it.
    pub(in crate::proxy) fn of(session: &ServerSession) -> Option<Self> {
        Progress::of(session.as_http1()?.digest()).map(Arc::clone).map(Self)
    }

    /// Notes that the exchange was cut, before it is dropped.
    pub(in crate::proxy) fn is_cut(&self) {
        self.0.is_cut.store(true, Ordering::Release);
    }

    /// After that: tells a WebSocket client why, where the last frame to it was whole. Everything else is closed already.
    pub(in crate::proxy) async fn say_goodbye(self) {
        let Some(mut stream) = self.0.left.lock().take() else { return };
        let goodbye = async {
            stream.write_all(&POLICY_VIOLATION).await?;
            stream.flush().await?;
            AsyncWriteExt::shutdown(&mut stream).await?;
            // What is left unread when a connection is closed resets it, and the frame is lost with that.
            let mut unread = [0; 4096];
            while stream.read(&mut unread).await? > 0 {}
            io::Result::Ok(())
        };
        // A client that does not want to hear it is gone all the same.
        let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    }
}

/// An HTTP/2 request that is being worked on, until this is dropped.
pub(in crate::proxy) struct AtWork(Arc<Progress>);

impl AtWork {
    /// That of `session`; `None` for HTTP/1, where the hooks tell.
    pub(in crate::proxy) fn of(session: &ServerSession) -> Option<Self> {
        let progress = Progress::of(session.as_http2()?.digest()?)?;
        progress.streams.fetch_add(1, Ordering::SeqCst);
        progress.is_arriving.store(false, Ordering::SeqCst);
        progress.stays();
        Some(Self(Arc::clone(progress)))
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.waits();
        self.0.streams.fetch_sub(1, Ordering::AcqRel);
        if self.0.is_leaving() {
            self.0.reader.wake();
        }
    }
}

/// Called by the proxy before it answers that the connection becomes a WebSocket.
pub fn switching_to_websocket(session: &Session) {
    if let Some(progress) = progress(session) {
        progress.is_switching.store(true, Ordering::Release);
    }
}

/// Called by the proxy when the head of a request is complete: its deadline no longer runs.
pub fn head_complete(session: &Session) {
    if let Some(progress) = progress(session) {
        progress.head_complete();
    }
}

/// Called by the proxy when a request has been answered: the next head may begin.
pub fn request_done(session: &Session) {
    if let Some(progress) = progress(session) {
        progress.request_done();
    }
}

fn progress(session: &Session) -> Option<&Progress> {
    // An HTTP/2 connection carries many requests at once and sets its own pace.
    Progress::of(session.as_downstream().as_http1()?.digest()).map(Arc::as_ref)
}
