//! The recorder of `tests/support` can fail: it takes no bytes for a request that are none, and no request for permitted that is not.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;

use support::framing::{Read, read};
use support::permits::Permits;
use support::upstream::Record;

#[test]
fn the_reader_takes_nothing_but_what_is_written_by_the_book() {
    let head = |fields: &str| format!("POST /a HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let chunked = |body: &str| format!("{}{body}", head("Transfer-Encoding: chunked\r\n"));
    for (bytes, length) in [
        (head(""), 0),
        (format!("{}abcGET", head("Content-Length: 3\r\n")), 3),
        // A size whose data look like the end.
        (chunked("10\r\n0\r\n\r\n56789abcdef\r\n0\r\n\r\nGET"), 27),
    ] {
        let Ok(Read::Whole(received, used)) = read(bytes.as_bytes()) else { panic!("{bytes:?}") };
        assert_eq!((received.body.len(), used), (length, received.head.len() + length), "{bytes:?}");
    }
    for whole in [format!("{}abc", head("Content-Length: 3\r\n")), chunked("3\r\nabc\r\n0\r\n\r\n")] {
        for end in 0..whole.len() {
            let part = read(&whole.as_bytes()[..end]);
            let is_head = end >= whole.find("\r\n\r\n").unwrap() + 4;
            let expected =
                if is_head { matches!(part, Ok(Read::Begun(_))) } else { matches!(part, Ok(Read::HalfHead)) };
            assert!(expected, "{end} bytes: {part:?}");
        }
    }
    for wrong in [
        chunked("3;x=y\r\nabc\r\n0\r\n\r\n"),
        chunked("0x3\r\nabc\r\n0\r\n\r\n"),
        chunked(" 3\r\nabc\r\n0\r\n\r\n"),
        chunked("3\nabc\r\n0\r\n\r\n"),
        chunked("3\r\nabcd\r\n0\r\n\r\n"),
        chunked("0\r\nX-Trailer: y\r\n\r\n"),
        head("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"),
        head("Content-Length: 3\r\nContent-Length: 3\r\n"),
        head("Host: b\r\n"),
        head("X: a\nY: b\r\n"),
        head("X: a\rb\r\n"),
        head("X : a\r\n"),
        head(" X: a\r\n"),
        head("X: a\0\r\n"),
        "GET a HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "GET /a  HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "GET /a HTTP/1.0\r\nHost: a\r\n\r\n".to_owned(),
        "GET /a\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
    ] {
        assert!(read(wrong.as_bytes()).is_err(), "{wrong:?}");
    }
}

#[test]
fn what_nothing_permits_is_a_fault() {
    let line = |id: &str, more: &str| {
        format!(
            r#"{{"outcome":"allow","status":200,"route":"r","method":"GET","host":"a","path":"/p","request_id":"{id}"{more}}}"#
        )
    };
    let request = |id: &str, path: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: a\r\nx-request-id: {id}\r\nx-portcullis-user: u\r\n\r\n")
    };
    let user = r#","user":"u""#;
    let faults = |log: &str, connections: &[String]| {
        let records: Vec<_> = connections.iter().map(|bytes| Arc::new(Record::of(bytes.as_bytes().to_vec()))).collect();
        Permits::of(log).faults(&records).len()
    };
    assert_eq!(faults(&line("1", user), &[request("1", "/p")]), 0);
    assert_eq!(faults(&line("1", user), &[request("1", "/p"), request("1", "/p")]), 0, "tried again");
    for (log, connections, trick) in [
        (line("1", user), vec![request("2", "/p")], "another id"),
        (line("1", user), vec![request("1", "/q")], "another path"),
        (line("1", user).replace("GET", "POST"), vec![request("1", "/p")], "another method"),
        (line("1", user).replace(r#""host":"a""#, r#""host":"b""#), vec![request("1", "/p")], "another host"),
        (line("1", ""), vec![request("1", "/p")], "nobody"),
        (line("1", user).replace("allow", "deny"), vec![request("1", "/p")], "refused"),
        (line("1", user), vec![request("1", "/p").repeat(2)], "twice on one connection"),
        (line("1", user), vec![format!("{}GET /", request("1", "/p"))], "half a head behind it"),
        (line("1", user), vec![request("1", "/p").replace("Host", "Content-Length: 3\r\nHost")], "half a body"),
        (format!("{}\n{}", line("1", user), line("1", user)), vec![request("1", "/p")], "two lines"),
    ] {
        assert_eq!(faults(&log, &connections), 1, "{trick}");
    }
}
