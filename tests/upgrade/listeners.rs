//! What listeners promise: handshakes that count and end, and pages that cannot be flooded at the cost of the proxy.

use std::io::Read;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::load::{encrypted, upstream};
use crate::process::{PATIENCE, Place, Process, pause};

const LAST: &[u8] = b"GET /open/page HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

/// A page over TLS, on a connection that exists already.
async fn page(stream: TcpStream) -> String {
    stream.set_nonblocking(true).unwrap();
    let mut stream = encrypted(tokio::net::TcpStream::from_std(stream).unwrap()).await.unwrap();
    stream.write_all(LAST).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn metric(place: &Place, series: &str) -> f64 {
    let mut stream = TcpStream::connect(place.status).unwrap();
    std::io::Write::write_all(&mut stream, b"GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    let value = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.map_or(0.0, |value| value.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tls_handshake_takes_a_place_and_has_a_deadline() {
    let mut tasks = JoinSet::new();
    let place = Place::before(upstream(&mut tasks).await);
    place.configure("portcullis.yaml", |text| text.replace("limits: {", "limits: {connections: 2, head_timeout: 4s, "));
    let sidecar = place.start();
    let begun = Instant::now();
    let mut silent: Vec<_> = (0..2).map(|_| TcpStream::connect(place.tls).unwrap()).collect();
    let mut third = TcpStream::connect(place.tls).unwrap();
    third.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(matches!(third.read(&mut [0; 1]), Ok(0) | Err(_)));
    assert!(begun.elapsed() < Duration::from_millis(3900), "the places were free again: {:?}", begun.elapsed());
    for stream in &mut silent {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        assert!(matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)));
    }
    let ended = begun.elapsed();
    assert!(ended > Duration::from_millis(3900) && ended < Duration::from_secs(13), "{ended:?}");
    // A client sees the close before the place is free.
    while metric(&place, "portcullis_connections_open") > 0.0 {
        assert!(begun.elapsed() < PATIENCE, "their places are not free");
        pause();
    }
    assert!(page(TcpStream::connect(place.tls).unwrap()).await.starts_with("HTTP/1.1 200"));
    assert_eq!(metric(&place, r#"portcullis_refused_connections_total{reason="tls"}"#), 2.0);
    assert_eq!(metric(&place, r#"portcullis_refused_connections_total{reason="too_many"}"#), 1.0);
    drop(sidecar);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_that_was_begun_before_a_stop_is_finished_and_its_request_answered() {
    let mut tasks = JoinSet::new();
    let place = Place::before(upstream(&mut tasks).await);
    place.configure("portcullis.yaml", |text| text.replace("lame_duck: 1s", "lame_duck: 5s"));
    let sidecar = place.start();
    // Accepted, or about to be.
    let streams: Vec<_> = (0..16).map(|_| TcpStream::connect(place.tls).unwrap()).collect();
    sidecar.signal("TERM");
    sidecar.line_with("stopping: requests in flight may finish");
    let begun = Instant::now();
    while TcpStream::connect(place.tls).is_ok() {
        assert!(begun.elapsed() < PATIENCE, "connections are still accepted");
        pause();
    }
    for stream in streams {
        let answer = page(stream).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.to_lowercase().contains("connection: close"), "{answer}");
    }
    let (status, logged) = tokio::task::spawn_blocking(move || sidecar.ended()).await.unwrap();
    assert_eq!(status.code(), Some(0), "{logged}");
}

/// Waits until the number of open descriptors stands still.
fn settled(sidecar: &Process) -> usize {
    let mut last = (sidecar.descriptors(), Instant::now());
    while last.1.elapsed() < Duration::from_millis(500) {
        pause();
        let now = sidecar.descriptors();
        if now != last.0 {
            last = (now, Instant::now());
        }
    }
    last.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_the_status_pages_takes_few_descriptors_from_the_proxy() {
    let mut tasks = JoinSet::new();
    let place = Place::before(upstream(&mut tasks).await);
    let sidecar = place.start();
    let before = settled(&sidecar);
    let flood: Vec<_> = (0..400).map(|_| TcpStream::connect(place.status).unwrap()).collect();
    let taken = settled(&sidecar) - before;
    assert!(taken > 32 && taken <= 66, "{taken} descriptors for {} connections", flood.len());
    let mut stream = TcpStream::connect(place.plain).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    std::io::Write::write_all(&mut stream, LAST).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // Who sends nothing leaves after a while, and the next one is served.
    drop(flood);
    assert_eq!(metric(&place, "portcullis_panics_total"), 0.0);
}
