//! What clients notice of a stop: nothing, if they heed `connection: close`.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::load::{Kind, Tally, client, upstream};
use crate::process::{PATIENCE, Place};

/// Longer than `lame_duck` of the configuration, and shorter than `shutdown_timeout`.
const SOON: Duration = Duration::from_secs(8);

const PAGE: &[u8] = b"GET /open/page HTTP/1.1\r\nhost: a\r\n\r\n";

/// An answer with its body `page`.
fn answer(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"page") {
        let mut piece = [0; 1024];
        match stream.read(&mut piece) {
            Ok(count) if count > 0 => text.extend_from_slice(&piece[..count]),
            ended => panic!("{ended:?} after {}", String::from_utf8_lossy(&text)),
        }
    }
    String::from_utf8(text).unwrap()
}

fn connect(address: std::net::SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_59_a_stop_under_load_fails_no_request() {
    let mut tasks = JoinSet::new();
    let place = Place::before(upstream(&mut tasks).await);
    let sidecar = place.start();
    let tally = Arc::new(Tally::default());
    let mut clients = JoinSet::new();
    for (kind, address, count) in [
        (Kind::KeptAlive, place.plain, 8),
        (Kind::Http2, place.h2c, 2),
        (Kind::Tls, place.tls, 2),
        (Kind::Upload, place.plain, 2),
        (Kind::Download, place.plain, 2),
    ] {
        for _ in 0..count {
            clients.spawn(client(kind, address, Arc::clone(&tally)));
        }
    }
    let begun = Instant::now();
    while [Kind::Upload, Kind::Download, Kind::Tls].iter().any(|kind| tally.answered(*kind) == 0) {
        assert!(begun.elapsed() < PATIENCE, "{:?}", tally.failures());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before: Vec<u64> = Kind::ALL.map(|kind| tally.answered(kind)).to_vec();
    tally.server_may_end();
    sidecar.signal("TERM");
    let (status, logged) = tokio::task::spawn_blocking(move || sidecar.ended()).await.unwrap();
    tally.end();
    while clients.join_next().await.is_some() {}
    assert_eq!(tally.failures(), Vec::<String>::new(), "{logged}");
    assert_eq!(status.code(), Some(0), "{logged}");
    assert!(!logged.contains("connections open") && !logged.contains("panic"), "{logged}");
    // Those that lasted were finished after the signal.
    for kind in [Kind::Upload, Kind::Download] {
        assert!(tally.answered(kind) > before[kind as usize], "{kind:?}: {before:?}");
    }
    println!("answered before the signal {before:?}, in all {:?}", Kind::ALL.map(|kind| tally.answered(kind)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_get_a_last_answer_or_are_closed_after_a_while() {
    let mut tasks = JoinSet::new();
    let place = Place::before(upstream(&mut tasks).await);
    tokio::task::spawn_blocking(move || {
        let sidecar = place.start();
        let mut streams: Vec<_> = (0..3).map(|_| connect(place.plain)).collect();
        for stream in &mut streams {
            stream.write_all(PAGE).unwrap();
            assert!(!answer(stream).to_lowercase().contains("connection: close"));
        }
        // A client that has connected, and one that is in the middle of a request head.
        let mut fresh = connect(place.plain);
        let mut begun = connect(place.plain);
        begun.write_all(&PAGE[..20]).unwrap();
        let told = Instant::now();
        sidecar.signal("TERM");
        sidecar.line_with("stopping: requests in flight may finish");
        // One asks again, one does not.
        streams[0].write_all(PAGE).unwrap();
        assert!(answer(&mut streams[0]).to_lowercase().contains("connection: close"));
        assert_eq!(streams[0].read(&mut [0; 1]).unwrap(), 0);
        begun.write_all(&PAGE[20..]).unwrap();
        assert!(answer(&mut begun).to_lowercase().contains("connection: close"));
        fresh.write_all(PAGE).unwrap();
        assert!(answer(&mut fresh).to_lowercase().contains("connection: close"));
        streams[1].set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let silence = streams[1].read(&mut [0; 1]).unwrap_err();
        assert!(matches!(silence.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{silence}");
        assert_eq!(streams[2].read(&mut [0; 1]).unwrap(), 0, "closed without a reset");
        let closed = told.elapsed();
        assert!(closed > Duration::from_millis(900) && closed < SOON, "{closed:?}");
        drop(streams);
        let (status, logged) = sidecar.ended();
        assert_eq!(status.code(), Some(0), "{logged}");
        assert!(told.elapsed() < SOON, "{:?}", told.elapsed());
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_that_stops_is_not_ready_and_still_tells_about_itself() {
    let mut tasks = JoinSet::new();
    let place = Place::before(upstream(&mut tasks).await);
    tokio::task::spawn_blocking(move || {
        let sidecar = place.start();
        let mut held = connect(place.plain);
        held.write_all(PAGE).unwrap();
        answer(&mut held);
        sidecar.signal("TERM");
        sidecar.line_with("stopping: requests in flight may finish");
        let mut status = connect(place.status);
        status.write_all(b"GET /ready HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
        let mut ready = String::new();
        status.read_to_string(&mut ready).unwrap();
        assert!(ready.starts_with("HTTP/1.1 503") && ready.contains(r#"{"stopping":true}"#), "{ready}");
        drop(held);
        assert_eq!(sidecar.ended().0.code(), Some(0));
    })
    .await
    .unwrap();
}
