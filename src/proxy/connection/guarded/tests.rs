use tokio::io::{DuplexStream, duplex};

use prometheus::IntCounter;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use super::*;

const TIMEOUT: Duration = Duration::from_secs(10);

fn connection() -> (DuplexStream, GuardedStream) {
    let counter = || IntCounter::new("of_a_test", "of a test").unwrap();
    let meters = ConnectionMeters {
        refused: counter(),
        head_timeouts: counter(),
        heads_too_large: counter(),
        floods: counter(),
        made_room: counter(),
        malformed: counter(),
        tls: counter(),
    };
    let (client, server) = duplex(1024);
    let progress = Arc::new(Progress::new(std::time::Instant::now()));
    let bounds = Bounds { head_timeout: TIMEOUT, head_bytes: Arc::new(|| 2000) };
    (client, GuardedStream::new(Box::new(server), progress, bounds, meters))
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
        &[b"PRI * HTTP/2.", b"0\r\n\r\nSM\r\n\r\n", b"\0\0\0"],
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
    let splits: [&[&[u8]]; 5] = [
        &[b"P"],
        &[b"P", b"OST / HTTP/1.1\r\n"],
        &[b"PRI * HTTP/2", b".1"],
        &[b"GET ", b"PRI * HTTP/2.0"],
        &[b"PRI * HTTP/2.", b"0\r\n\r\nSM"],
    ];
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

#[tokio::test(start_paused = true)]
async fn a_head_without_end_is_refused_at_its_limit_and_what_still_comes_is_thrown_away() {
    let (mut client, mut server) = connection();
    sent(&mut client, &mut server, &[b"GET / HTTP/1.1\r\nx: ", &[b'a'; 900], &[b'a'; 1000]]).await;
    let flood = async move {
        let mut sent = 0;
        while client.write_all(&[b'a'; 100]).await.is_ok() {
            sent += 100;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        (sent, answer)
    };
    let refused = async move {
        let refused = server.read(&mut [0; 1000]).await.unwrap_err();
        assert!(server.read_u8().await.is_err());
        (refused.kind(), server.meters.heads_too_large.get())
    };
    let ((sent, answer), refused) = tokio::join!(flood, refused);
    assert_eq!(refused, (io::ErrorKind::InvalidData, 1));
    assert!((50_000..110_000).contains(&sent), "read on for a second: {sent}");
    assert_eq!(answer.as_bytes(), HEADERS_TOO_LARGE);
}

/// Asks an idle one to make room.
fn asked(progress: &Progress) -> oneshot::Receiver<bool> {
    progress.ask(progress.idle_since().unwrap()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn who_is_at_work_makes_no_room_and_goes_after_that_at_the_end() {
    let (mut client, mut server) = connection();
    sent(&mut client, &mut server, &[b"GET / HTTP/1.1\r\n\r\n"]).await;
    let progress = Arc::clone(&server.progress);
    let since = progress.idle_since().unwrap();
    progress.head_complete();
    assert!(progress.idle_since().is_none() && progress.ask(since).is_none() && !progress.is_leaving());
    progress.end();
    sent(&mut client, &mut server, &[b"body"]).await;
    progress.step.store(2, Ordering::Release);
    let gone = server.read_u8().await.unwrap_err();
    assert_eq!((gone.kind(), server.meters.made_room.get()), (io::ErrorKind::ConnectionAborted, 0));
}

#[tokio::test(start_paused = true)]
async fn who_is_idle_goes_when_asked_to() {
    let (_client, mut server) = connection();
    let progress = Arc::clone(&server.progress);
    let mut answer = None;
    let told = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        answer = Some(asked(&progress));
    };
    let (gone, ()) = tokio::join!(tokio::time::timeout(Duration::from_secs(2), server.read_u8()), told);
    let mut answer = answer.unwrap();
    assert_eq!(gone.unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    assert_eq!(server.meters.made_room.get(), 1);
    assert_eq!(answer.try_recv(), Err(oneshot::error::TryRecvError::Empty), "its place is not free yet");
    assert!(progress.is_gone());
    assert_eq!(answer.try_recv(), Ok(true));
}

#[tokio::test(start_paused = true)]
async fn who_gets_a_request_first_stays() {
    for first in [&b"G"[..], b"P", b"GET / HTTP/1.1\r\n\r\n", HTTP2_PREFACE] {
        let (mut client, mut server) = connection();
        let progress = Arc::clone(&server.progress);
        let mut answer = asked(&progress);
        sent(&mut client, &mut server, &[first]).await;
        assert_eq!((answer.try_recv(), progress.is_leaving()), (Ok(false), false));
        // Asked once more in the middle of a head, it goes: heads without end hold no place.
        let mut answer = asked(&progress);
        assert_eq!(server.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        assert!(answer.try_recv().is_err());
    }
    // The rest of a head was read already when it was asked.
    let (mut client, mut server) = connection();
    let progress = Arc::clone(&server.progress);
    sent(&mut client, &mut server, &[b"GET / HTTP/1.1\r\n\r\n"]).await;
    let mut answer = asked(&progress);
    progress.head_complete();
    assert_eq!((answer.try_recv(), progress.is_leaving()), (Ok(false), false));
    sent(&mut client, &mut server, &[b"body"]).await;
}

#[tokio::test(start_paused = true)]
async fn an_http2_connection_stays_for_a_request_and_not_for_a_ping() {
    let (mut client, mut server) = connection();
    let progress = Arc::clone(&server.progress);
    let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let headers = [0, 0, 1, 1, 5, 0, 0, 0, 1, 0x82];
    sent(&mut client, &mut server, &[HTTP2_PREFACE]).await;
    let mut answer = asked(&progress);
    sent(&mut client, &mut server, &[&ping]).await;
    assert!(answer.try_recv().is_err() && progress.is_leaving());
    sent(&mut client, &mut server, &[&headers]).await;
    assert_eq!((answer.try_recv(), progress.is_leaving()), (Ok(false), false));
}

/// Does what the HTTP/2 library does with `answer`, until the connection is over: reads what there is, and writes then.
async fn written(server: &mut GuardedStream, mut answer: &[u8]) -> io::ErrorKind {
    poll_fn(|context| {
        let mut byte = [0; 1];
        if let Poll::Ready(read) = Pin::new(&mut *server).poll_read(context, &mut ReadBuf::new(&mut byte)) {
            return Poll::Ready(read.unwrap_err().kind());
        }
        while !answer.is_empty() {
            let written = ready!(Pin::new(&mut *server).poll_write(context, answer)).unwrap();
            answer = &answer[written..];
        }
        ready!(Pin::new(&mut *server).poll_flush(context)).unwrap();
        Poll::Pending
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn an_http2_connection_that_is_to_go_has_its_answers_sent_first() {
    let answer = [&[0, 8, 0, 0, 1, 0, 0, 0, 1][..], &[b'a'; 2048]].concat();
    for is_for_another in [true, false] {
        let (mut client, mut server) = connection();
        sent(&mut client, &mut server, &[HTTP2_PREFACE]).await;
        let progress = Arc::clone(&server.progress);
        let _heir = is_for_another.then(|| asked(&progress));
        if !is_for_another {
            progress.end();
        }
        let begun = tokio::time::Instant::now();
        let mut read = Vec::new();
        let (gone, _) = tokio::join!(written(&mut server, &answer), client.read_to_end(&mut read));
        assert_eq!(gone, io::ErrorKind::ConnectionAborted);
        assert!(begun.elapsed() < LINGER);
        assert_eq!(read[..answer.len()], answer);
        assert_eq!(read[answer.len()..], [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, NO_ERROR]);
    }
    // A client that does not read keeps another waiting for a while. At the end nobody waits.
    let (mut client, mut server) = connection();
    sent(&mut client, &mut server, &[HTTP2_PREFACE]).await;
    let progress = Arc::clone(&server.progress);
    let (begun, _heir) = (tokio::time::Instant::now(), asked(&progress));
    assert_eq!(written(&mut server, &answer).await, io::ErrorKind::ConnectionAborted);
    assert!((LINGER..LINGER * 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    let (mut client, mut server) = connection();
    sent(&mut client, &mut server, &[HTTP2_PREFACE]).await;
    server.progress.end();
    tokio::time::timeout(LINGER * 60, written(&mut server, &answer)).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn an_http2_client_that_went_too_far_is_told_and_not_heard_any_more() {
    let (mut client, mut server) = connection();
    sent(&mut client, &mut server, &[HTTP2_PREFACE]).await;
    let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let flood = async move {
        let mut sent = 0;
        while client.write_all(&ping).await.is_ok() && sent < 10_000 {
            sent += 1;
            tokio::task::yield_now().await;
        }
        let mut told = Vec::new();
        client.read_to_end(&mut told).await.unwrap();
        told
    };
    let refused = async move {
        let mut taken = 0;
        loop {
            match server.read(&mut [0; 17]).await {
                Ok(bytes) => taken += bytes,
                Err(error) => break (error.kind(), taken, server.meters.floods.get()),
            }
        }
    };
    let (told, refused) = tokio::join!(flood, refused);
    let (kind, taken, floods) = refused;
    assert_eq!((kind, floods), (io::ErrorKind::InvalidData, 1));
    // A thousand, and what is earned meanwhile.
    assert!((17_000..25_000).contains(&taken), "{taken}");
    assert_eq!(told, [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ENHANCE_YOUR_CALM]);
}
