//! F13: what a server that is not ours says has happened. Asked as the sidecar asks, over the loopback.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use portcullis::app::{self, SystemClock};
use portcullis::source::WorkosSource;
use portcullis::source::workos::{ApiKey, Ended, Hint, ServerUrl, Settings};

/// What the server answers to everything.
static ANSWER: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// A page of events: news of what it names, never more than it has events, and another one after it at most.
pub fn f13_events(bytes: &[u8]) {
    static SERVER: OnceLock<SocketAddr> = OnceLock::new();
    let address = SERVER.get_or_init(serve);
    bytes.clone_into(&mut ANSWER.lock().unwrap());
    let settings = Settings {
        url: ServerUrl::new(&format!("http://{address}"), true).unwrap(),
        key: ApiKey::new("sk_test".to_owned()),
        requests_per_second: u32::MAX,
        check_within: Duration::from_secs(1),
        resource_types: Vec::new(),
    };
    let source = WorkosSource::new(settings, Arc::new(SystemClock), Arc::new(app::metrics().unwrap())).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // The second page is the same, and about what has ended before.
    for page in 0..2 {
        let Ok(news) = runtime.block_on(source.news()) else { return };
        // What nobody looks at may have escapes that mean nothing.
        let Ok(said) = serde_json::from_slice::<serde_json::Value>(bytes) else { return };
        let events = said["data"].as_array().unwrap();
        assert!(news.hints.len() <= events.len() && news.ended.len() <= events.len() && events.len() <= 100);
        assert!(page == 0 || news.hints.is_empty(), "the past says nothing about facts: {:?}", news.hints);
        let is_said = |id: &str| events.iter().any(|event| names(&event["data"], id));
        for hint in &news.hints {
            match hint {
                Hint::Organization(id) => assert!(is_said(id.as_str()), "{id}"),
                Hint::Membership(id) => assert!(is_said(id.as_str()), "{id}"),
                Hint::Catalog | Hint::Everything => {}
            }
        }
        for (ended, _) in &news.ended {
            let id = match ended {
                Ended::Session(id) => id.as_str(),
                Ended::Membership { id, .. } => id.as_str(),
                Ended::User(id) => id.as_str(),
                Ended::Organization(id) => id.as_str(),
            };
            assert!(is_said(id), "{id}");
        }
    }
}

fn names(data: &serde_json::Value, id: &str) -> bool {
    data.as_object().is_some_and(|members| members.values().any(|value| value == id))
}

fn serve() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
    address
}

fn answer(mut stream: TcpStream) {
    let (mut asked, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        while !asked.windows(4).any(|end| end == b"\r\n\r\n") {
            match stream.read(&mut chunk) {
                Ok(0) | Err(_) => return,
                Ok(count) => asked.extend_from_slice(&chunk[..count]),
            }
        }
        asked.clear();
        let body = ANSWER.lock().unwrap().clone();
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
        if stream.write_all(&[head.as_bytes(), &body].concat()).is_err() {
            return;
        }
    }
}
