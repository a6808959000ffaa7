use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{oneshot, watch};

use super::*;
use crate::socket::Address;

const ASK: &[u8] = b"GET /page HTTP/1.1\r\nhost: a\r\n\r\n";

/// Pages on a free port, for so many at once; they are served until the sender is dropped.
fn serve(connections: usize, router: Router) -> (std::net::SocketAddr, oneshot::Sender<()>, JoinSet<io::Result<()>>) {
    let socket = Address::Tcp("127.0.0.1:0".parse().unwrap()).bind().unwrap();
    let Ok(Address::Tcp(address)) = socket.address() else { unreachable!("it is bound to a socket address") };
    let (stop, stopped) = oneshot::channel();
    let mut served = JoinSet::new();
    let pages = Pages { router, tls: None, connections };
    served.spawn(pages.serve(socket, async move { _ = stopped.await }));
    (address, stop, served)
}

fn page() -> Router {
    Router::new().route("/page", get(async || "here"))
}

/// Asks, and reads up to the end of the answer.
async fn ask(stream: &mut TcpStream) -> io::Result<String> {
    stream.write_all(ASK).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"here") {
        let mut piece = [0; 1024];
        let count = stream.read(&mut piece).await?;
        if count == 0 {
            break;
        }
        answer.extend_from_slice(&piece[..count]);
    }
    Ok(String::from_utf8(answer).unwrap())
}

#[tokio::test]
async fn no_more_are_served_than_there_is_room_for_and_the_others_wait() {
    let (address, _stop, _served) = serve(2, page());
    let mut inside = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert!(ask(&mut stream).await.unwrap().starts_with("HTTP/1.1 200"));
        inside.push(stream);
    }
    let mut outside = TcpStream::connect(address).await.unwrap();
    let waits = tokio::time::timeout(Duration::from_millis(300), ask(&mut outside)).await;
    assert!(waits.is_err(), "{waits:?}");
    drop(inside.pop());
    assert!(ask(&mut outside).await.unwrap().starts_with("HTTP/1.1 200"), "its first question was answered twice");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_nothing_or_half_a_head_leaves() {
    let (address, _stop, _served) = serve(4, page());
    for sent in ["", "P", "GET /page HTTP/1.1\r\nhost:"] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let ended = tokio::time::timeout(HEAD_TIMEOUT * 2, stream.read_to_string(&mut answer)).await;
        assert!(ended.is_ok(), "{sent:?}: {answer}");
        assert!(!answer.contains("200"), "{sent:?}: {answer}");
    }
    let mut stream = TcpStream::connect(address).await.unwrap();
    assert!(ask(&mut stream).await.unwrap().starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn what_was_asked_before_the_end_is_answered() {
    let (asked, mut has_asked) = watch::channel(0);
    let (go_on, may_go_on) = watch::channel(false);
    let slow = get(move || {
        let (asked, mut may_go_on) = (asked.clone(), may_go_on.clone());
        async move {
            asked.send_modify(|count| *count += 1);
            may_go_on.wait_for(|go| *go).await.unwrap();
            "here"
        }
    });
    let (address, stop, mut served) = serve(4, Router::new().route("/page", slow));
    let mut clients = JoinSet::new();
    let mut first = TcpStream::connect(address).await.unwrap();
    clients.spawn(async move { ask(&mut first).await.unwrap() });
    has_asked.wait_for(|count| *count == 1).await.unwrap();
    // Connected, and not accepted yet: this test and the server take turns on one thread.
    let second = std::net::TcpStream::connect(address).unwrap();
    drop(stop);
    second.set_nonblocking(true).unwrap();
    let mut second = TcpStream::from_std(second).unwrap();
    clients.spawn(async move { ask(&mut second).await.unwrap() });
    go_on.send(true).unwrap();
    let answers = clients.join_all().await;
    assert!(answers.iter().all(|answer| answer.starts_with("HTTP/1.1 200")), "{answers:?}");
    served.join_next().await.unwrap().unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}
