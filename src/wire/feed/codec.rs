//! gRPC messages that are JSON (`application/grpc`, as any gRPC stack frames them).

use std::marker::PhantomData;

use bytes::{Buf, BufMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// Writes `E`, reads `D`.
#[derive(Debug)]
pub struct JsonCodec<E, D>(PhantomData<(E, D)>);

/// One direction.
#[derive(Debug)]
pub struct Json<T>(PhantomData<T>);

impl<E, D> Default for JsonCodec<E, D> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<E, D> Codec for JsonCodec<E, D>
where
    E: Serialize + Send + 'static,
    D: DeserializeOwned + Send + 'static,
{
    type Encode = E;
    type Decode = D;
    type Encoder = Json<E>;
    type Decoder = Json<D>;

    fn encoder(&mut self) -> Json<E> {
        Json(PhantomData)
    }

    fn decoder(&mut self) -> Json<D> {
        Json(PhantomData)
    }
}

impl<T: Serialize> Encoder for Json<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        serde_json::to_writer(buffer.writer(), &item).map_err(|error| Status::internal(error.to_string()))
    }
}

impl<T: DeserializeOwned> Decoder for Json<T> {
    type Item = T;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<T>, Status> {
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        serde_json::from_slice(&bytes).map(Some).map_err(|error| Status::invalid_argument(error.to_string()))
    }
}
