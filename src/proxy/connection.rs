//! One wrapper around the client's socket: what has to hold before Pingora's own hooks run, and after they are done.
//!
//! Pingora reads and parses a request before it calls any hook, with a time limit per read, so a client that sends one byte a
//! minute is never stopped. The wrapper sits below the parser and counts from the first byte of a head to its last.

mod conduct;
mod guarded;
mod head;
mod open;
mod progress;

use std::sync::Arc;
use std::time::Duration;

use pingora::apps::ServerApp;
use pingora::protocols::Stream;
use pingora::proxy::{HttpProxy, ProxyHttp};
use pingora::server::ShutdownWatch;
use prometheus::IntCounter;

use self::guarded::GuardedStream;
use super::exchange::Supervised;
use super::streams::Streams;

pub use self::guarded::Bounds;
pub use self::open::OpenConnections;
pub use self::progress::{head_complete, request_done, switching_to_websocket};

pub(super) use self::open::{Door, Place};
pub(super) use self::progress::{AtWork, Line};

/// What is behind our listeners: admits connections, wraps their streams, hands them to the proxy.
pub struct Entrance<P> {
    proxy: Arc<Supervised<P>>,
    open: Arc<OpenConnections>,
    bounds: Bounds,
    meters: ConnectionMeters,
}

/// Counters of what ends before a request reaches the proxy.
#[derive(Clone)]
pub struct ConnectionMeters {
    /// Connections refused because too many are open.
    pub refused: IntCounter,
    /// Connections closed because a request head took too long.
    pub head_timeouts: IntCounter,
    /// Connections closed because a request head was too large to be looked at.
    pub heads_too_large: IntCounter,
    /// HTTP/2 connections closed because of too many frames that cost work and bring none.
    pub floods: IntCounter,
    /// Idle connections closed so that another could come in.
    pub made_room: IntCounter,
    /// Connections that ended in the middle of a request head, or with one that the parser refused.
    pub malformed: IntCounter,
    /// Connections that ended before their TLS handshake did, or with one that took too long.
    pub tls: IntCounter,
}

impl<P> Entrance<P> {
    /// An entrance to `proxy` that holds clients to `bounds`, and has exchanges that last watched by `streams`.
    pub fn new(
        proxy: HttpProxy<P>,
        streams: Arc<Streams>,
        open: Arc<OpenConnections>,
        bounds: Bounds,
        meters: ConnectionMeters,
    ) -> Self {
        Self { proxy: Arc::new(Supervised::new(proxy, streams)), open, bounds, meters }
    }
}

impl<P> Entrance<P>
where
    P: ProxyHttp + Send + Sync + 'static,
    P::CTX: Send + Sync,
{
    /// Time to send a request head, and before that for the TLS handshake.
    pub(super) fn head_timeout(&self) -> Duration {
        self.bounds.head_timeout
    }

    /// The counters.
    pub(super) fn meters(&self) -> &ConnectionMeters {
        &self.meters
    }

    /// Another socket that connections are accepted from.
    pub(super) fn door(&self) -> Door {
        self.open.door()
    }

    /// Returns once another connection may be accepted.
    pub(super) async fn may_come(&self) {
        self.open.may_come().await;
    }

    /// A place for a connection that was accepted just now, which may be another's still; `None` when there is none, and then it is to
    /// be closed.
    pub(super) fn admit(&self) -> Option<Place> {
        let place = self.open.admit();
        if place.is_none() {
            self.meters.refused.inc();
        }
        place
    }

    /// Waits for the place of another, where that has to go first. `false`: nobody goes, and the connection is to be closed.
    pub(super) async fn has_room(&self, place: &mut Place) -> bool {
        let has_room = tokio::time::timeout(self.bounds.head_timeout, place.has_room()).await.unwrap_or(false);
        if !has_room {
            self.meters.refused.inc();
        }
        has_room
    }

    /// Serves a connection to its end. Once `stop` is true, each answer is the last one on its connection.
    pub(super) async fn welcome(&self, place: Place, stream: Stream, stop: &ShutdownWatch) {
        let mut guarded =
            GuardedStream::new(stream, Arc::clone(place.progress()), self.bounds.clone(), self.meters.clone());
        if guarded.begins().await {
            self.proxy.process_new(Box::new(guarded), stop).await;
        }
        drop(place);
    }
}
