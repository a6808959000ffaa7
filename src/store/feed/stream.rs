//! The gRPC method `portcullis.sync.v1.Sync/Follow` over axum.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use futures_util::{Stream, StreamExt, stream};
use tonic::server::Grpc;
use tonic::{Status, Streaming};
use tower::Service;

use super::access::Subscriber;
use super::follow::Follower;
use crate::store::Store;
use crate::wire::feed::{Down, JsonCodec, Up};

/// Bytes that a message of a sidecar may have: the ids of all organizations that a stream may name.
const LARGEST_MESSAGE: usize = 16 * 1024 * 1024;
/// The most streams at a time.
const MOST_STREAMS: usize = 20_000;

/// One stream, until either side ends it.
pub(super) async fn follow(State(store): State<Store>, subscriber: Subscriber, request: Request) -> Response {
    if store.0.tail.streams() >= MOST_STREAMS {
        return Status::unavailable("there are as many streams as are served").into_http();
    }
    let mut grpc = Grpc::new(JsonCodec::<Down, Up>::default()).max_decoding_message_size(LARGEST_MESSAGE);
    let response = grpc.streaming(Endpoint { store, subscriber }, request).await;
    response.map(Body::new)
}

struct Endpoint {
    store: Store,
    subscriber: Subscriber,
}

type Frames = Pin<Box<dyn Stream<Item = Result<Down, Status>> + Send>>;

impl Service<tonic::Request<Streaming<Up>>> for Endpoint {
    type Response = tonic::Response<Frames>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Status>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: tonic::Request<Streaming<Up>>) -> Self::Future {
        let follower = Follower::new(self.store.clone(), self.subscriber.clone(), request.into_inner());
        // Nothing is made before the sidecar has room for it: a slow one holds back itself and nobody else.
        let frames = stream::unfold(follower, async |mut follower| Some((follower.next().await?, follower)));
        Box::pin(async { Ok(tonic::Response::new(frames.boxed())) })
    }
}
