//! Key sets under bad weather: loaded from a real server on the loopback interface, which answers whatever a test tells it to (fault
//! rows 1 to 8, bypass case D7). Time is moved by hand; nothing sleeps.

mod token_support;

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Frame;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jsonwebtoken::Algorithm;
use portcullis::domain::TokenFault::{Signature, UnknownKey};
use portcullis::domain::{Clock, UnixSeconds};
use portcullis::token::{
    Cached, JwksUrl, JwtVerifier, KeySets, KeySource, Meters, Pace, Settings, TokenError, TokenVerifier,
};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use token_support::*;

/// What the server says.
#[derive(Clone)]
enum Answer {
    Text(String),
    Status(StatusCode),
    Redirect(String),
    /// This many bytes of white space before a good document.
    Padded(usize, String),
    /// One byte, and then nothing more.
    Drip,
}

/// A server that says one thing at a time and counts how often it was asked.
struct Server {
    url: String,
    answer: Arc<Mutex<Answer>>,
    asked: watch::Receiver<usize>,
    _tasks: JoinSet<()>,
}

impl Server {
    async fn start(answer: Answer) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), answer)
    }

    fn on(listener: TcpListener, answer: Answer) -> Self {
        let url = format!("http://{}/jwks", listener.local_addr().unwrap());
        let answer = Arc::new(Mutex::new(answer));
        let (count, asked) = watch::channel(0);
        let mut tasks = JoinSet::new();
        let said = Arc::clone(&answer);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            let count = Arc::new(count);
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (said, count) = (Arc::clone(&said), Arc::clone(&count));
                connections.spawn(async move {
                    let service = service_fn(move |_| {
                        let answer = said.lock().unwrap().clone();
                        count.send_modify(|count| *count += 1);
                        async move { Ok::<_, Infallible>(answer.response()) }
                    });
                    // A client that goes away is what some tests are about.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { url, answer, asked, _tasks: tasks }
    }

    fn say(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    fn asked(&self) -> usize {
        *self.asked.borrow()
    }

    async fn asked_times(&mut self, times: usize) {
        self.asked.wait_for(|asked| *asked >= times).await.unwrap();
    }
}

impl Answer {
    fn response(self) -> Response<BoxBody<Bytes, Infallible>> {
        let full = |text: String| Full::new(Bytes::from(text)).boxed();
        let status = |status| Response::builder().status(status);
        match self {
            Self::Text(text) => Response::new(full(text)),
            Self::Status(code) => status(code).body(full(document([&key(Algorithm::RS256).jwk]))).unwrap(),
            Self::Redirect(to) => {
                status(StatusCode::FOUND).header(header::LOCATION, to).body(Empty::new().boxed()).unwrap()
            }
            Self::Padded(bytes, text) => Response::new(full(format!("{}{text}", " ".repeat(bytes)))),
            Self::Drip => {
                let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, Infallible>>(1);
                sender.try_send(Ok(Frame::data(Bytes::from_static(b"{")))).unwrap();
                Response::new(BodyExt::boxed(StreamBody::new(Drip { receiver, _open: sender })))
            }
        }
    }
}

/// A body that never ends, because it holds its own sender.
struct Drip {
    receiver: tokio::sync::mpsc::Receiver<Result<Frame<Bytes>, Infallible>>,
    _open: tokio::sync::mpsc::Sender<Result<Frame<Bytes>, Infallible>>,
}
