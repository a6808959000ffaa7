//! What only HTTP/2 can say: pseudo-header fields, names and values that HTTP/1.1 could not carry, lengths beside frames. Written frame by
//! frame, because no client library sends them. Whatever comes, the upstream reads the one request that was judged, or none.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use support::upstream::Received;
use support::{System, alice};

const ROUTES: &str = r#"
- {id: open, match: {path: /open}, public: true}
- {id: me, match: {path: /me}, authenticated: true}
"#;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

type Field<'f> = (&'f [u8], &'f [u8]);

/// One frame (RFC 9113 §4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A field section of literals that are neither indexed nor compressed (RFC 7541 §6.2.2).
fn section(fields: &[Field<'_>]) -> Vec<u8> {
    let text = |text: &[u8]| {
        let mut length = text.len();
        let mut coded = vec![u8::try_from(length.min(127)).unwrap()];
        if length >= 127 {
            length -= 127;
            while length >= 128 {
                coded.push(u8::try_from(length % 128).unwrap() | 128);
                length /= 128;
            }
            coded.push(u8::try_from(length).unwrap());
        }
        [&coded, text].concat()
    };
    fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

fn headers(flags: u8, fields: &[Field<'_>]) -> Vec<u8> {
    frame(HEADERS, flags, 1, &section(fields))
}

/// Sends these frames on a connection of their own; what the stream was answered, if anything, once it or the connection has ended.
fn answer(system: &System, frames: &[Vec<u8>]) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(system.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let _ = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    let _ = stream.write_all(&[&[frame(SETTINGS, 0, 0, &[])], frames].concat().concat());
    let (mut body, mut is_answered) = (Vec::new(), false);
    loop {
        let mut head = [0; 9];
        if stream.read_exact(&mut head).is_err() {
            break;
        }
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        if stream.read_exact(&mut payload).is_err() {
            break;
        }
        match head[3] {
            SETTINGS if head[4] & ACK == 0 => drop(stream.write_all(&frame(SETTINGS, ACK, 0, &[]))),
            HEADERS => is_answered = true,
            DATA => body.extend(payload),
            RST_STREAM | GOAWAY => break,
            _ => {}
        }
        if matches!(head[3], HEADERS | DATA) && head[4] & END_STREAM != 0 {
            break;
        }
    }
    is_answered.then_some(body)
}

/// A good request.
const GOOD: [Field<'static>; 4] =
    [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/open"), (b":authority", b"app.test")];

/// The good one, with `name` replaced by these.
fn with<'f>(name: &[u8], values: &[&'f [u8]]) -> Vec<Field<'f>> {
    let mut fields = Vec::new();
    for (known, value) in GOOD {
        match known == name {
            true => fields.extend(values.iter().map(|value| (known, *value))),
            false => fields.push((known, value)),
        }
    }
    fields
}

/// The good one, and these.
fn and<'f>(further: &[Field<'f>]) -> Vec<Field<'f>> {
    [&GOOD[..], further].concat()
}

fn system() -> System {
    System::with(ROUTES).listen("{address: \"127.0.0.1:0\", h2c: true}").start()
}

/// That the only thing that may arrive is the good request, with nothing of what was forged.
#[track_caller]
fn is_good(received: &[Received], trick: &str) {
    assert!(received.len() <= 1, "{trick}: {received:?}");
    for received in received {
        assert_eq!(received.request_line(), "GET /open HTTP/1.1", "{trick}");
        assert_eq!(received.value("host").as_deref(), Some("app.test"), "{trick}");
        let head = String::from_utf8_lossy(&received.head).to_lowercase();
        assert!(!head.contains("forged") && received.content().is_empty(), "{trick}: {received:?}");
    }
}

#[test]
fn a_good_request_arrives_and_so_does_the_next() {
    let system = system();
    let spread: Vec<Vec<u8>> = {
        let bytes = section(&GOOD);
        let mut frames = vec![frame(HEADERS, END_STREAM, 1, &bytes[..1])];
        frames.extend(bytes[1..].chunks(40).map(|part| frame(CONTINUATION, 0, 1, part)));
        frames.push(frame(CONTINUATION, END_HEADERS, 1, &[]));
        frames
    };
    for frames in [vec![headers(END_STREAM | END_HEADERS, &GOOD)], spread] {
        assert_eq!(answer(&system, &frames).as_deref(), Some(&b"ok"[..]));
        let arrived = system.upstream.take();
        assert_eq!(arrived.len(), 1);
        is_good(&arrived, "good");
    }
}

#[test]
fn pseudo_header_fields_say_one_thing_each() {
    let system = system();
    let long = vec![b'a'; 20_000];
    let slash = [b"/".as_slice(), &long].concat();
    let rows: Vec<(Vec<Field<'_>>, &str)> = vec![
        (with(b":path", &[b"/open", b"/me"]), "two paths"),
        (with(b":path", &[b"/open", b"/open"]), "one path twice"),
        (with(b":path", &[]), "no path"),
        (with(b":path", &[b""]), "an empty path"),
        (with(b":path", &[b"open"]), "no slash"),
        (with(b":path", &[b"*"]), "an asterisk"),
        (with(b":path", &[b"//open"]), "two slashes"),
        (with(b":path", &[b"/me/../open"]), "dots"),
        (with(b":path", &[b"/open HTTP/1.1"]), "a version in the path"),
        (with(b":path", &[b"/open HTTP/1.1\r\nX-Portcullis-User: forged"]), "fields in the path"),
        (with(b":path", &[b"/open\r\n"]), "a line end in the path"),
        (with(b":path", &[b"/open\0"]), "NUL in the path"),
        (with(b":path", &[b"/open\t"]), "a tab in the path"),
        (with(b":path", &[b"/open\\..\\me"]), "backslashes"),
        (with(b":path", &[b"/open;x"]), "a parameter"),
        (with(b":path", &[b"http://app.test/open"]), "a URL as path"),
        (with(b":path", &[b"http://other.test/open"]), "a URL of another host as path"),
        (with(b":path", &[b"/op\xe9n"]), "a byte beyond ASCII"),
        (with(b":path", &[&slash]), "a long path"),
        (with(b":method", &[b"GET", b"POST"]), "two methods"),
        (with(b":method", &[]), "no method"),
        (with(b":method", &[b""]), "an empty method"),
        (with(b":method", &[b"get"]), "a method in lower case"),
        (with(b":method", &[b"GET /me HTTP/1.1\r\nHost: a\r\n\r\nGET"]), "a request in the method"),
        (with(b":method", &[b"GET "]), "a space in the method"),
        (with(b":method", &[b"CONNECT"]), "CONNECT with a path"),
        (vec![(b":method", b"CONNECT"), (b":authority", b"app.test:80")], "CONNECT"),
        ([&with(b":method", &[b"CONNECT"])[..], &[(b":protocol", b"websocket")]].concat(), "extended CONNECT"),
        (with(b":authority", &[b"app.test", b"other.test"]), "two authorities"),
        (with(b":authority", &[b"user@app.test"]), "a user"),
        (with(b":authority", &[b"app.test\r\nX-Portcullis-User: forged"]), "fields in the authority"),
        (with(b":authority", &[b"app.test,other.test"]), "a list of authorities"),
        (with(b":authority", &[b"app.test/open"]), "a path in the authority"),
        (with(b":authority", &[b"app.test:80:80"]), "two ports"),
        (with(b":authority", &[b""]), "an empty authority"),
        (with(b":authority", &[]), "no authority, and no host"),
        (and(&[(b"host", b"other.test")]), "another host"),
        (and(&[(b"host", b"app.test"), (b"host", b"other.test")]), "two hosts"),
        (with(b":scheme", &[b"http", b"https"]), "two schemes"),
        (and(&[(b":foo", b"bar")]), "one that nobody knows"),
        (and(&[(b":status", b"200")]), "one of answers"),
        ([&[(b"x".as_slice(), b"y".as_slice())], &GOOD[..]].concat(), "after a field"),
    ];
    for (fields, trick) in &rows {
        answer(&system, &[headers(END_STREAM | END_HEADERS, fields)]);
        let arrived = system.upstream.take();
        assert!(arrived.is_empty(), "{trick}: {arrived:?}");
    }
    // These have one reading.
    for (fields, trick) in [
        (and(&[(b"host", b"app.test")]), "the same host"),
        // Cut off before anything is judged, and before it is forwarded.
        (with(b":path", &[b"/open#/me"]), "a fragment"),
        ([&with(b":authority", &[])[..], &[(b"host", b"app.test")]].concat(), "a host alone"),
    ] {
        assert!(answer(&system, &[headers(END_STREAM | END_HEADERS, &fields)]).is_some(), "{trick}");
        let arrived = system.upstream.take();
        is_good(&arrived, trick);
        assert_eq!(arrived.len(), 1, "{trick}");
    }
}

#[test]
fn no_field_becomes_two_on_its_way_to_http1() {
    let system = system();
    let good = alice().sign();
    let bearer = format!("Bearer {good}");
    // Refused, or the good request without them.
    let rows: [(&[Field<'_>], &str); 24] = [
        (&[(b"x", b"a\r\nx-portcullis-user: forged")], "a line end in a value"),
        (&[(b"x", b"a\nx-portcullis-user: forged")], "a line feed in a value"),
        (&[(b"x", b"a\r\n\r\nGET /me HTTP/1.1\r\nhost: forged\r\n\r\n")], "a request in a value"),
        (&[(b"x", b"forged\0")], "NUL in a value"),
        (&[(b"x: forged\r\ny", b"z")], "a field in a name"),
        (&[(b"x-portcullis-user: forged\r\nx", b"z")], "an identity in a name"),
        (&[(b"x forged", b"z")], "a space in a name"),
        (&[(b"x:forged", b"z")], "a colon in a name"),
        (&[(b"", b"forged")], "no name"),
        (&[(b"X-Forged", b"z")], "a name in upper case"),
        (&[(b"X-Portcullis-User", b"forged")], "an identity in upper case"),
        (&[(b"x-portcullis-user", b"forged"), (b"x_portcullis_user", b"forged")], "an identity"),
        (&[(b"x-request-id", b"forged")], "an id"),
        (&[(b"x-forwarded-for", b"forged"), (b"forwarded", b"for=forged")], "forwarding fields"),
        (&[(b"connection", b"x-portcullis-route"), (b"x", b"forged")], "a nominated field"),
        (&[(b"transfer-encoding", b"chunked"), (b"x", b"forged")], "a transfer coding"),
        (&[(b"upgrade", b"forged")], "an upgrade"),
        (&[(b"keep-alive", b"forged")], "keep-alive"),
        (&[(b"proxy-connection", b"forged")], "proxy-connection"),
        (&[(b"te", b"forged")], "te with something else than trailers"),
        (&[(b"http2-settings", b"forged")], "http2-settings"),
        (&[(b"content-length", b"5"), (b"x", b"forged")], "a length, and no body"),
        (&[(b"content-length", b"0"), (b"content-length", b"5"), (b"x", b"forged")], "two lengths"),
        (&[(b"content-length", b"+0"), (b"x", b"forged")], "a length with a sign"),
    ];
    for (further, trick) in rows {
        answer(&system, &[headers(END_STREAM | END_HEADERS, &and(further))]);
        is_good(&system.upstream.take(), trick);
    }
    let bearers: [Field<'_>; 2] = [(b"authorization", bearer.as_bytes()), (b"authorization", bearer.as_bytes())];
    let mut fields = with(b":path", &[b"/me"]);
    fields.extend(bearers);
    let said = answer(&system, &[headers(END_STREAM | END_HEADERS, &fields)]).unwrap();
    assert!(String::from_utf8_lossy(&said).contains("ambiguous_credentials"));
    // Crumbs of a cookie are one cookie (RFC 9113 §8.2.3), and two sessions in it are two credentials.
    let mut fields = with(b":path", &[b"/me"]);
    let crumb = format!("session={good}");
    fields.extend([(b"cookie".as_slice(), crumb.as_bytes()), (b"cookie", crumb.as_bytes())]);
    let said = answer(&system, &[headers(END_STREAM | END_HEADERS, &fields)]).unwrap();
    assert!(String::from_utf8_lossy(&said).contains("ambiguous_credentials"), "{}", String::from_utf8_lossy(&said));
    assert!(system.upstream.take().is_empty());
}

#[test]
fn f2_a_body_has_the_length_of_its_frames() {
    let system = system();
    let behind = b"GET /me HTTP/1.1\r\nHost: a\r\n\r\n";
    let post = |further: &[Field<'_>]| {
        let fields = [&with(b":method", &[b"POST"])[..], further].concat();
        headers(END_HEADERS, &fields)
    };
    let data = |flags: u8, bytes: &[u8]| frame(DATA, flags, 1, bytes);
    let trailers = |fields: &[Field<'_>]| headers(END_HEADERS | END_STREAM, fields);
    let (zero, five, hundred): (Field<'_>, Field<'_>, Field<'_>) =
        ((b"content-length", b"0"), (b"content-length", b"5"), (b"content-length", b"100"));
    for (frames, trick) in [
        (vec![post(&[zero]), data(END_STREAM, behind)], "more than nothing"),
        (vec![post(&[five]), data(END_STREAM, behind)], "more than was said"),
        (vec![post(&[five]), data(0, b"hello"), data(END_STREAM, behind)], "more than was said, later"),
        (vec![post(&[hundred]), data(END_STREAM, behind)], "less than was said"),
        (vec![post(&[(b"content-length", b"29, 29")]), data(END_STREAM, behind)], "a list"),
        (vec![post(&[(b"content-length", b"0x1d")]), data(END_STREAM, behind)], "hexadecimal"),
        (
            vec![post(&[(b"transfer-encoding", b"chunked")]), data(END_STREAM, b"0\r\n\r\nGET /me HTTP/1.1\r\n\r\n")],
            "chunked",
        ),
        (vec![post(&[]), post(&[]), data(END_STREAM, b"hello")], "two heads"),
        (vec![post(&[]), trailers(&[(b":path", b"/me")])], "a pseudo-header field behind the body"),
    ] {
        answer(&system, &frames);
        for received in system.upstream.take() {
            assert_eq!(received.request_line(), "POST /open HTTP/1.1", "{trick}");
            assert!(!received.body.windows(4).any(|four| four == b"GET "), "{trick}: {received:?}");
        }
    }
    // What has one length arrives with it, and without its trailers.
    for (frames, content, trick) in [
        (vec![post(&[five]), data(END_STREAM, b"hello")], &b"hello"[..], "a length"),
        (vec![post(&[]), data(0, b"hel"), data(0, b""), data(END_STREAM, b"lo")], b"hello", "frames alone"),
        (vec![post(&[]), data(END_STREAM, behind)], behind, "a request as body"),
        (
            vec![
                post(&[]),
                data(0, b"hello"),
                trailers(&[(b"x-portcullis-user", b"forged"), (b"content-length", b"9")]),
            ],
            b"hello",
            "trailers",
        ),
    ] {
        assert!(answer(&system, &frames).is_some(), "{trick}");
        let arrived = system.upstream.take();
        let [received] = arrived.as_slice() else { panic!("{trick}: {arrived:?}") };
        assert_eq!(received.content(), content, "{trick}");
        assert!(!String::from_utf8_lossy(&received.body).contains("forged"), "{trick}");
    }
}
