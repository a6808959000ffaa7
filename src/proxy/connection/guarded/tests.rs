use tokio::io::{DuplexStream, duplex};

use prometheus::IntCounter;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const TIMEOUT: Duration = Duration::from_secs(10);

fn connection() -> (DuplexStream, GuardedStream) {
    let counter = || IntCounter::new("of_a_test", "of a test").unwrap();
    let meters =
        ConnectionMeters { refused: counter(), head_timeouts: counter(), malformed: counter(), tls: counter() };
    let (client, server) = duplex(1024);
    (client, GuardedStream::new(Box::new(server), TIMEOUT, meters))
}

/// Sends each piece once the one before was read.
async fn sent(client: &mut DuplexStream, server: &mut GuardedStream, pieces: &[&[u8]]) {
    for piece in pieces {
        client.write_all(piece).await.unwrap();
        let mut read = vec![0; piece.len()];
        server.read_exact(&mut read).await.unwrap();
        assert_eq!(read, *piece);
    }
}

#[tokio::test(start_paused = true)]
async fn an_http2_connection_that_begins_in_pieces_has_no_head_to_be_late_with() {
    let splits: [&[&[u8]]; 4] = [
        &[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
        &[b"P", b"RI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
        &[b"PRI * HT", b"TP/2", b".0", b"\r\n\r\nSM\r\n\r\n"],
        &[b"PRI * HTTP/2.", b"0\r\n"],
    ];
    for pieces in splits {
        let (mut client, mut server) = connection();
        sent(&mut client, &mut server, pieces).await;
        let silence = tokio::time::timeout(TIMEOUT * 6, server.read_u8()).await;
        assert!(silence.is_err(), "{pieces:?}: {silence:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_only_looks_like_one_is_late_like_any_other() {
    let splits: [&[&[u8]]; 4] =
        [&[b"P"], &[b"P", b"OST / HTTP/1.1\r\n"], &[b"PRI * HTTP/2", b".1"], &[b"GET ", b"PRI * HTTP/2.0"]];
    for pieces in splits {
        let (mut client, mut server) = connection();
        sent(&mut client, &mut server, pieces).await;
        let late = tokio::time::timeout(TIMEOUT * 6, server.read_u8()).await.unwrap();
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut, "{pieces:?}");
        let malformed = server.meters.malformed.clone();
        let (mut client, mut server) = connection();
        sent(&mut client, &mut server, pieces).await;
        let counted = server.meters.malformed.clone();
        drop(server);
        assert_eq!((malformed.get(), counted.get()), (0, 1), "{pieces:?}");
    }
}
