//! How far a connection is: what the hooks of the proxy tell the wrapper of its socket, and it them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::proxy::Session;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::proxy::websocket::POLICY_VIOLATION;

/// The longest that a client has to take in the last frame of a connection that was cut.
const GOODBYE: Duration = Duration::from_secs(1);

/// What the hooks tell the wrapper, and it them.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// An odd number while a request is being worked on, an even one between requests.
    pub(super) step: AtomicU32,
    /// Whether the answer that comes next switches to WebSocket.
    pub(super) is_switching: AtomicBool,
    /// Whether the exchange was cut: the wrapper will be dropped.
    pub(super) is_cut: AtomicBool,
    /// The stream of a WebSocket connection that was cut, where a last frame can be sent.
    pub(super) left: parking_lot::Mutex<Option<Stream>>,
}

impl Progress {
    pub(super) fn is_between_requests(step: u32) -> bool {
        step.is_multiple_of(2)
    }
}

/// A client's HTTP/1 connection, for whoever ends what goes on over it.
pub(in crate::proxy) struct Line(Arc<Progress>);

impl Line {
    /// The connection of `session`; `None` for HTTP/2, where others go on over it.
    pub(in crate::proxy) fn of(session: &ServerSession) -> Option<Self> {
        let digest = session.as_http1()?.digest().proxy_digest.as_ref()?;
        digest.user_data.as_ref()?.downcast_ref::<Arc<Progress>>().map(Arc::clone).map(Self)
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

/// Called by the proxy before it answers that the connection becomes a WebSocket.
pub fn switching_to_websocket(session: &Session) {
    if let Some(progress) = progress(session) {
        progress.is_switching.store(true, Ordering::Release);
    }
}

/// Called by the proxy when the head of a request is complete: its deadline no longer runs.
pub fn head_complete(session: &Session) {
    if let Some(progress) = progress(session) {
        progress.step.fetch_or(1, Ordering::AcqRel);
    }
}

/// Called by the proxy when a request has been answered: the next head may begin.
pub fn request_done(session: &Session) {
    if let Some(progress) = progress(session) {
        let step = progress.step.load(Ordering::Acquire);
        progress.step.store((step | 1).wrapping_add(1), Ordering::Release);
    }
}

fn progress(session: &Session) -> Option<&Progress> {
    // An HTTP/2 connection carries many requests at once and sets its own pace.
    let session = session.as_downstream().as_http1()?;
    session.digest().proxy_digest.as_ref()?.user_data.as_ref()?.downcast_ref::<Arc<Progress>>().map(Arc::as_ref)
}
