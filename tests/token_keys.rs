//! Key sets under bad weather: loaded from a real server on the loopback interface, which answers whatever a test tells it to (fault
//! rows 1 to 8, bypass case D7). Time is moved by hand; nothing sleeps.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a test that fails should stop where it fails"
)]

mod token_support;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Body, Frame};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jsonwebtoken::Algorithm;
use portcullis::domain::TokenFault::{Signature, UnknownKey};
use portcullis::domain::{Clock, UnixSeconds};
use portcullis::token::{
    Cached, JwksUrl, JwtVerifier, KeySets, KeySource, Meters, Pace, Settings, TokenError, TokenVerifier,
};
use serde_json::{Map, Value, json};
use token_support::*;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

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
            Self::Drip => Response::new(Drip { begun: false }.boxed()),
        }
    }
}

/// A body of one byte that never ends.
struct Drip {
    begun: bool,
}

impl Body for Drip {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if std::mem::replace(&mut self.begun, true) {
            return Poll::Pending;
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"{")))))
    }
}

/// A clock that stands still until a test moves it.
#[derive(Default)]
struct Hand(AtomicU64);

impl Hand {
    fn move_by(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for Hand {
    fn now(&self) -> UnixSeconds {
        NOW
    }

    fn uptime(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::SeqCst))
    }
}

fn key(algorithm: Algorithm) -> &'static Signer {
    Signer::published(algorithm)
}

fn good(algorithm: Algorithm) -> Answer {
    Answer::Text(document([&key(algorithm).jwk]))
}

/// Key sets with one issuer whose keys are at `url`.
fn fetched_from(url: &str, deadline: Duration) -> (Arc<KeySets>, Meters) {
    let meters = Meters::unregistered();
    let issuer = settings(KeySource::Url(JwksUrl::new(url).unwrap()));
    let pace = Pace { deadline, ..Pace::default() };
    (Arc::new(KeySets::with_pace(&Settings { issuers: vec![issuer] }, meters.clone(), pace)), meters)
}

fn patient(url: &str) -> (Arc<KeySets>, Meters) {
    fetched_from(url, Duration::from_secs(60))
}

fn error(keys: &KeySets) -> String {
    keys.status()[0].error.clone().unwrap_or_default()
}

/// The key of `algorithm` with some members replaced; null takes one away.
fn altered(algorithm: Algorithm, changes: Value) -> Map<String, Value> {
    let mut jwk = key(algorithm).jwk.clone();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => jwk.remove(name),
            value => jwk.insert(name.clone(), value.clone()),
        };
    }
    jwk
}

#[tokio::test]
async fn row_1_without_any_keys_ever_the_answer_is_keys_unavailable_and_then_it_recovers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (keys, _) = patient(&format!("http://{address}/jwks"));
    let verifier = Cached::new(JwtVerifier::new(Arc::clone(&keys)), 1 << 20, Meters::unregistered());
    let token = key(Algorithm::RS256).token(&claims());

    keys.refresh().await.unwrap();
    assert!(!keys.ready());
    assert!(error(&keys).contains("cannot be reached"), "{}", error(&keys));
    let refused = verifier.verify(&token, NOW).unwrap_err();
    assert_eq!(refused, TokenError::KeysUnavailable { issuer: "authkit".into() });

    let _server = Server::on(TcpListener::bind(address).await.unwrap(), good(Algorithm::RS256));
    keys.refresh().await.unwrap();
    assert!(keys.ready());
    assert_eq!(error(&keys), "");
    verifier.verify(&token, NOW).unwrap();
}

#[tokio::test]
async fn row_5_and_8_whatever_the_server_says_the_last_good_set_stays() {
    let elsewhere = Server::start(good(Algorithm::ES256)).await;
    let server = Server::start(good(Algorithm::RS256)).await;
    let (keys, meters) = fetched_from(&server.url, Duration::from_millis(500));
    let verifier = JwtVerifier::new(Arc::clone(&keys));
    keys.refresh().await.unwrap();
    let generation = verifier.generation();
    let token = key(Algorithm::RS256).token(&claims());
    let many = |count: usize| {
        let jwks: Vec<_> = (0..count).map(|at| altered(Algorithm::EdDSA, json!({"kid": at.to_string()}))).collect();
        Answer::Text(document(&jwks))
    };
    let twice = [&key(Algorithm::RS256).jwk, &altered(Algorithm::ES256, json!({"kid": key(Algorithm::RS256).kid()}))];
    let rows = [
        (Answer::Text("<!doctype html><title>Sign in</title>".into()), "not strict JSON"),
        (Answer::Text(String::new()), "not strict JSON"),
        (Answer::Text("[]".into()), "not strict JSON"),
        (Answer::Text("{}".into()), "no array `keys`"),
        (Answer::Text(r#"{"keys":{}}"#.into()), "no array `keys`"),
        (Answer::Text(r#"{"keys":[]}"#.into()), "no key that may verify"),
        (Answer::Text(r#"{"keys":[1,null,"x"]}"#.into()), "no key that may verify; key number 1 is not an object"),
        (Answer::Text(format!("{}x", document([&key(Algorithm::ES256).jwk]))), "not strict JSON"),
        (Answer::Text(r#"{"keys":[],"keys":[]}"#.into()), "member `keys` is there twice"),
        (Answer::Padded(50 << 20, document([&key(Algorithm::ES256).jwk])), "more than 1048576 bytes"),
        (many(101), "101 keys, at most 100"),
        (many(10_000), "more than 1048576 bytes"),
        (Answer::Drip, "did not answer completely"),
        (Answer::Redirect(elsewhere.url.clone()), "answered 302 Found, expected 200; redirects are not followed"),
        (Answer::Status(StatusCode::INTERNAL_SERVER_ERROR), "answered 500"),
        (Answer::Status(StatusCode::NO_CONTENT), "answered 204"),
        (Answer::Status(StatusCode::NON_AUTHORITATIVE_INFORMATION), "answered 203"),
        (Answer::Text(document(twice)), "twice"),
    ];
    let failures = rows.len() as u64;
    for (answer, expected) in rows {
        server.say(answer);
        keys.refresh().await.unwrap();
        assert!(error(&keys).contains(expected), "expected {expected}, found {}", error(&keys));
        assert_eq!(verifier.generation(), generation, "{expected}");
        verifier.verify(&token, NOW).unwrap();
    }
    assert_eq!(elsewhere.asked(), 0, "a redirect was followed");
    server.say(many(100));
    keys.refresh().await.unwrap();
    assert_eq!((keys.status()[0].keys, keys.status()[0].error.clone()), (100, None));
    let counted = |result| meters.refreshed.with_label_values(&["authkit", result]).get();
    assert_eq!((counted("changed"), counted("unchanged"), counted("failed")), (2, 0, failures));
}

#[tokio::test]
async fn row_6_a_key_that_is_not_for_us_is_left_out_and_named() {
    let server = Server::start(good(Algorithm::RS256)).await;
    let (keys, _) = patient(&server.url);
    let rsa = |changes| altered(Algorithm::RS256, changes);
    let n = key(Algorithm::RS256).jwk["n"].as_str().unwrap();
    let even = format!("{}A", &n[..n.len() - 1]);
    let rows = [
        (json!({"kty": "oct", "kid": "x", "k": "c2VjcmV0", "alg": "HS256"}), "key `x` is symmetric"),
        (rsa(json!({"d": "AQAB"})).into(), "published with its private part"),
        (rsa(json!({"p": null, "q": "AQAB"})).into(), "published with its private part"),
        (altered(Algorithm::EdDSA, json!({"d": ""})).into(), "published with its private part"),
        (rsa(json!({"n": &n[..168]})).into(), "fewer than 2048 bits"),
        (rsa(json!({"n": format!("AAAAAAAA{}", &n[..336])})).into(), "fewer than 2048 bits"),
        (rsa(json!({"n": "_".repeat(1368)})).into(), "more than 8192 bits"),
        (rsa(json!({"n": even})).into(), "even modulus"),
        (rsa(json!({"n": ""})).into(), "fewer than 2048 bits"),
        (rsa(json!({"e": "AQ"})).into(), "exponent that is even, one, or longer"),
        (rsa(json!({"e": "AA"})).into(), "exponent that is even, one, or longer"),
        (rsa(json!({"e": "AQAA"})).into(), "exponent that is even, one, or longer"),
        (rsa(json!({"e": "BAAAAAE"})).into(), "exponent that is even, one, or longer"),
        (rsa(json!({"e": "AQAB="})).into(), "not canonical base64url"),
        (rsa(json!({"e": null})).into(), "type or curve that is not supported"),
        (rsa(json!({"use": "enc"})).into(), "not for signatures"),
        (rsa(json!({"key_ops": ["sign"]})).into(), "not for verifying"),
        (rsa(json!({"key_ops": []})).into(), "not for verifying"),
        (rsa(json!({"alg": "ES256"})).into(), "does not fit its type"),
        (rsa(json!({"alg": "HS256"})).into(), "`alg` that is not supported"),
        (rsa(json!({"alg": "PS512"})).into(), "`alg` that is not supported"),
        (rsa(json!({"alg": "RSA-OAEP"})).into(), "`alg` that is not supported"),
        (rsa(json!({"alg": 1})).into(), "not a JSON Web Key"),
        (rsa(json!({"alg": null})).into(), "has no `alg`, and the issuer's `algorithms` leave more than one"),
        (rsa(json!({"kty": "EC"})).into(), "type or curve that is not supported"),
        (altered(Algorithm::ES256, json!({"alg": "ES384"})).into(), "does not fit its type"),
        (altered(Algorithm::ES256, json!({"crv": "secp256k1"})).into(), "type or curve that is not supported"),
        (altered(Algorithm::ES256, json!({"crv": "P-521", "alg": null})).into(), "type or curve that is not supported"),
        (altered(Algorithm::ES256, json!({"x": key(Algorithm::ES256).jwk["y"]})).into(), "not a point of its curve"),
        (altered(Algorithm::EdDSA, json!({"x": "AAAA"})).into(), "not a point of its curve"),
        (altered(Algorithm::EdDSA, json!({"crv": "X25519"})).into(), "type or curve that is not supported"),
    ];
    for (jwk, expected) in rows {
        let Value::Object(jwk) = jwk else { unreachable!("rows are objects") };
        let expected: &str = expected;
        server.say(Answer::Text(document([&jwk])));
        keys.refresh().await.unwrap();
        assert!(error(&keys).contains(expected), "expected {expected}, found {}", error(&keys));
        let other = &key(Algorithm::PS256).jwk;
        server.say(Answer::Text(document([&jwk, other])));
        keys.refresh().await.unwrap();
        assert_eq!(keys.status()[0].keys, 1, "{expected}: the other key is used");
    }
}

#[tokio::test]
async fn keys_without_an_algorithm_take_the_only_one_there_can_be() {
    let bare = |algorithm| altered(algorithm, json!({"alg": null, "use": null}));
    let jwks = [Algorithm::RS256, Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA].map(bare);
    let server = Server::start(Answer::Text(document(&jwks))).await;
    let mut issuer = settings(KeySource::Url(JwksUrl::new(&server.url).unwrap()));
    issuer.algorithms.retain(|algorithm| *algorithm != Algorithm::PS256);
    let keys = Arc::new(KeySets::new(&Settings { issuers: vec![issuer] }, Meters::unregistered()));
    keys.refresh().await.unwrap();
    let verifier = JwtVerifier::new(keys);
    for algorithm in [Algorithm::RS256, Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA] {
        verifier.verify(&key(algorithm).token(&claims()), NOW).unwrap();
    }
}

#[tokio::test]
async fn row_7_a_key_that_is_taken_away_or_replaced_is_refused_also_from_the_cache() {
    let both = Answer::Text(document([&key(Algorithm::RS256).jwk, &key(Algorithm::ES256).jwk]));
    let server = Server::start(both.clone()).await;
    let (keys, _) = patient(&server.url);
    let meters = Meters::unregistered();
    let verifier = Cached::new(JwtVerifier::new(Arc::clone(&keys)), 1 << 20, meters.clone());
    let [rsa, elliptic] = [Algorithm::RS256, Algorithm::ES256].map(|algorithm| key(algorithm).token(&claims()));
    keys.refresh().await.unwrap();
    for _ in 0..3 {
        verifier.verify(&rsa, NOW).unwrap();
        verifier.verify(&elliptic, NOW).unwrap();
    }
    assert_eq!((meters.cache_hits.get(), meters.cache_misses.get()), (4, 2));

    let generation = verifier.generation();
    keys.refresh().await.unwrap();
    assert_eq!(verifier.generation(), generation, "the same set again changes nothing");
    verifier.verify(&rsa, NOW).unwrap();
    assert_eq!(meters.cache_misses.get(), 2);

    server.say(good(Algorithm::ES256));
    keys.refresh().await.unwrap();
    assert_eq!(refused(&verifier, &rsa), UnknownKey, "taken away");
    verifier.verify(&elliptic, NOW).unwrap();

    let thief = Signer::new(Algorithm::ES256);
    let mut replaced = thief.jwk.clone();
    replaced.insert("kid".into(), key(Algorithm::ES256).kid().into());
    server.say(Answer::Text(document([&replaced])));
    keys.refresh().await.unwrap();
    assert_eq!(refused(&verifier, &elliptic), Signature, "another key under the same id");

    server.say(both);
    keys.refresh().await.unwrap();
    verifier.verify(&rsa, NOW).unwrap();
}

#[tokio::test]
async fn row_3_and_4_a_flood_of_key_ids_causes_one_fetch_for_each_cool_down() {
    let server = Server::start(good(Algorithm::RS256)).await;
    let (keys, meters) = patient(&server.url);
    let clock = Arc::new(Hand::default());
    let (stop, stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    tasks.spawn(Arc::clone(&keys).run(Arc::clone(&clock) as Arc<dyn Clock>, stopped));
    loaded(&keys, 1).await;

    let verifier = JwtVerifier::new(Arc::clone(&keys));
    let token = key(Algorithm::RS256).token(&claims());
    for round in 0..4 {
        for at in 0..2000 {
            assert_eq!(refused(&verifier, &unknown(round, at)), UnknownKey);
            if at % 100 == 0 {
                verifier.verify(&token, NOW).unwrap();
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(server.asked(), 1 + round, "within the cool-down");
        clock.move_by(30);
        assert_eq!(refused(&verifier, &unknown(round, 2000)), UnknownKey);
        counted(&meters, "unchanged", 1 + round as u64).await;
        assert_eq!(server.asked(), 2 + round, "after the cool-down");
    }

    // The new key is found by the first token that carries it.
    server.say(Answer::Text(document([&key(Algorithm::RS256).jwk, &key(Algorithm::EdDSA).jwk])));
    clock.move_by(30);
    let rotated = key(Algorithm::EdDSA).token(&claims());
    assert_eq!(refused(&verifier, &rotated), UnknownKey, "answered at once");
    loaded(&keys, 2).await;
    verifier.verify(&rotated, NOW).unwrap();

    stop.send(true).unwrap();
    tasks.join_next().await.unwrap().unwrap().unwrap();
}

/// A token with a key id that nobody has; not signed, since nobody gets as far as that.
fn unknown(round: usize, at: usize) -> String {
    let header = json!({"alg": "RS256", "kid": format!("{round}/{at}")}).to_string();
    format!("{}.{}.AAAA", encode(header), encode(claims().to_string()))
}

/// Waits until this many loads ended with `result`.
async fn counted(meters: &Meters, result: &str, times: u64) {
    while meters.refreshed.with_label_values(&["authkit", result]).get() < times {
        tokio::task::yield_now().await;
    }
}

/// Waits until this many keys are in force.
async fn loaded(keys: &KeySets, count: usize) {
    while keys.status()[0].keys != count {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn keys_come_from_a_file_too_and_again_when_it_changes() {
    let folder = Folder::new();
    let path = folder.file("jwks.json", &document([&key(Algorithm::RS256).jwk]));
    let issuer = settings(KeySource::File(path.clone()));
    let keys = Arc::new(KeySets::new(&Settings { issuers: vec![issuer] }, Meters::unregistered()));
    let clock = Arc::new(Hand::default());
    let pace = Pace::default();
    let (_stop, stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    tasks.spawn(Arc::clone(&keys).run(Arc::clone(&clock) as Arc<dyn Clock>, stopped));
    loaded(&keys, 1).await;

    folder.file("jwks.json", &document([&key(Algorithm::RS256).jwk, &key(Algorithm::ES256).jwk]));
    clock.move_by(pace.file_every.as_secs());
    // Asking wakes the refresher, which otherwise waits by the real clock.
    let verifier = JwtVerifier::new(Arc::clone(&keys));
    assert_eq!(refused(&verifier, &key(Algorithm::ES256).token(&claims())), UnknownKey);
    loaded(&keys, 2).await;

    std::fs::remove_file(&path).unwrap();
    keys.refresh().await.unwrap();
    assert!(error(&keys).contains("cannot be read"), "{}", error(&keys));
    verifier.verify(&key(Algorithm::ES256).token(&claims()), NOW).unwrap();
    folder.file("jwks.json", &" ".repeat((1 << 20) + 1));
    keys.refresh().await.unwrap();
    assert!(error(&keys).contains("more than 1048576 bytes"), "{}", error(&keys));
}

#[tokio::test]
async fn two_issuers_keep_their_keys_to_themselves() {
    let folder = Folder::new();
    let rsa = folder.file("rsa.json", &document([&key(Algorithm::RS256).jwk]));
    let other = Signer::new(Algorithm::ES256);
    let elliptic = folder.file("elliptic.json", &document([&other.jwk, &key(Algorithm::ES256).jwk]));
    let mut first = settings(KeySource::File(rsa));
    let mut second = settings(KeySource::File(elliptic));
    first.from.push("cookie:session".parse().unwrap());
    second.name = "partner".into();
    second.issuers = vec!["https://partner.test".into(), "https://partner.test/".into()];
    let settings = Settings { issuers: vec![first, second] };
    assert_eq!(settings.problems(), Vec::<String>::new());
    assert_eq!(
        settings.sources().iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["header:authorization", "cookie:session"]
    );
    let keys = Arc::new(KeySets::new(&settings, Meters::unregistered()));
    keys.refresh().await.unwrap();
    let verifier = JwtVerifier::new(keys);
    let by_partner = |signer: &Signer| signer.token(&claims_with(json!({"iss": "https://partner.test/"})));
    assert_eq!(&*verifier.verify(&by_partner(&other), NOW).unwrap().issuer, "partner");
    assert_eq!(&*verifier.verify(&key(Algorithm::RS256).token(&claims()), NOW).unwrap().issuer, "authkit");
    assert_eq!(refused(&verifier, &other.token(&claims())), UnknownKey, "the partner in the name of the first");
    assert_eq!(refused(&verifier, &by_partner(key(Algorithm::RS256))), UnknownKey, "and the other way round");
}

#[tokio::test]
async fn a_reload_begins_with_the_keys_it_had() {
    let server = Server::start(good(Algorithm::RS256)).await;
    let (before, _) = patient(&server.url);
    before.refresh().await.unwrap();
    let (after, _) = patient(&server.url);
    after.inherit(&before);
    assert!(after.ready());
    let (elsewhere, _) = patient("http://127.0.0.1:1/other");
    elsewhere.inherit(&before);
    assert!(!elsewhere.ready());
}
