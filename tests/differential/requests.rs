//! Generated requests: the path, the method, the host and the framing of a good one, with something changed that somebody might read
//! otherwise.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::rules::Pair;

/// A request, byte for byte.
pub struct Request {
    pub bytes: Vec<u8>,
    /// What its body says, where that is beyond doubt.
    pub body: Option<String>,
    pub is_head: bool,
}

/// An endless row of requests, the same for the same seed.
pub struct Requests<'p> {
    chance: StdRng,
    pairs: &'p [Pair],
    token: String,
}

/// What is put into a path.
const PIECES: [&str; 58] = [
    "/../",
    "/..",
    "/./",
    "/.",
    "//",
    "///",
    "/%2e%2e/",
    "/.%2e/",
    "/%2E./",
    "/%2e/",
    "%2f",
    "%2F",
    "%5c",
    "%5C",
    "\\",
    "\\..\\",
    ";",
    ";x=y",
    "/..;/",
    "/;/",
    "%3b",
    "%00",
    "%0a",
    "%0d%0a",
    "%09",
    "%20",
    "%7f",
    "%23",
    "#",
    "#/../",
    "%3f",
    "?",
    "?/../",
    "%252e%252e",
    "%252f",
    "%25",
    "%2541",
    "%u002e",
    "%",
    "%2",
    "%zz",
    "%c0%ae",
    "%c0%af",
    "%e0%80%af",
    "%ef%bc%8f",
    "%c3%a9",
    "\u{e9}",
    "\u{ff0f}",
    "+",
    "*",
    ":",
    "@",
    "&",
    "~",
    "'",
    "a",
    ".json",
    "/",
];

/// How a folder is left, for some.
const UPWARDS: [&str; 16] = [
    "/..",
    "/..",
    "/%2e%2e",
    "/%2E%2E",
    "/.%2e",
    "/%2e.",
    "/./..",
    "/..;",
    "/..;x=y",
    "/..%00",
    "\\..",
    "%2f..",
    "%5c..",
    "/%252e%252e",
    "/..//..",
    "/%c0%ae%c0%ae",
];

/// Fields that somebody might act upon; `OTHER` stands for a path that asks for more.
const FIELDS: [&str; 34] = [
    "X-Original-URL: OTHER",
    "X-Rewrite-URL: OTHER",
    "X_Original_URL: OTHER",
    "X-Forwarded-Prefix: OTHER",
    "X-Forwarded-Host: www.test",
    "X-Forwarded-Uri: OTHER",
    "X-HTTP-Method-Override: DELETE",
    "X-Method-Override: DELETE",
    "X-HTTP-Method: DELETE",
    "X-Host: www.test",
    "Forwarded: host=www.test",
    "X-Portcullis-Route: closed-0",
    "X_Portcullis_Route: closed-0",
    "x.portcullis.route: closed-0",
    "X-Request-Id: forged",
    "X_Request_Id: forged",
    "Host : www.test",
    "Host: www.test",
    "X: a\r\n Host: www.test",
    "X: a\nHost: www.test",
    "X: a\rHost: www.test",
    "X\0: a",
    "X: a\0b",
    ":authority: www.test",
    "Connection: host",
    "Connection: x-portcullis-route",
    "Connection: close",
    "Connection: keep-alive, te",
    "Upgrade: h2c\r\nConnection: upgrade",
    "Expect: 100-continue",
    "TE: trailers, gzip",
    "Content-Type: application/json",
    "Cookie: a=b; session=x",
    "Accept: */*",
];

impl<'p> Requests<'p> {
    /// Requests about `pairs`, half of them with `token`.
    pub fn new(seed: u64, pairs: &'p [Pair], token: String) -> Self {
        Self { chance: StdRng::seed_from_u64(seed), pairs, token }
    }

    pub fn next(&mut self) -> Request {
        let pair = &self.pairs[self.chance.random_range(0..self.pairs.len())];
        let other = if self.one_in(2) { &pair.closed } else { &pair.open };
        let method = self.method();
        let path = self.path(pair);
        let mut host = self.host();
        let target = match self.chance.random_range(0..40) {
            0 => format!("http://{host}{path}"),
            1 => format!("HTTP://{}{path}", host.to_uppercase()),
            2 => format!("//www.test{path}"),
            3 => format!("http://www.test{path}"),
            4 => format!("http://{host}@www.test{path}"),
            _ => path,
        };
        if self.one_in(20) {
            host.push_str(["", ".", ":80", "@www.test", ",www.test", " ", "/"][self.chance.random_range(0..7)]);
        }
        let version =
            if self.one_in(30) { ["1.0", "1.2", "2.0", "1.1 ", "0.9"][self.chance.random_range(0..5)] } else { "1.1" };
        let mut head = format!("{method} {target} HTTP/{version}\r\nHost: {host}\r\n");
        for _ in 0..self.chance.random_range(0..3) {
            if self.one_in(3) {
                let field = FIELDS.choose(&mut self.chance).copied().unwrap_or_default();
                head.push_str(&format!("{}\r\n", field.replace("OTHER", other)));
            }
        }
        if self.one_in(2) {
            head.push_str(&format!("Authorization: Bearer {}\r\n", self.token));
        }
        let behind = format!("GET {} HTTP/1.1\r\nHost: {host}\r\n\r\n", pair.closed);
        let (fields, bytes, body) = self.framing(&behind);
        head.push_str(&fields);
        head.push_str("\r\n");
        if self.one_in(40) {
            head = head.replace("\r\n", "\n");
        }
        Request { bytes: [head.into_bytes(), bytes].concat(), body, is_head: method == "HEAD" }
    }

    fn one_in(&mut self, many: u32) -> bool {
        self.chance.random_ratio(1, many)
    }

    fn method(&mut self) -> &'static str {
        match self.chance.random_range(0..12) {
            0 => "POST",
            1 => "DELETE",
            2 => "HEAD",
            3 => ["OPTIONS", "PUT", "PATCH", "get", "GET\t", "QUERY", "PROPFIND"][self.chance.random_range(0..7)],
            _ => "GET",
        }
    }

    fn host(&mut self) -> String {
        let host = ["api.test", "api.test", "www.test", "app.test", "API.test", "api.test.", "api.test:8080"];
        host.choose(&mut self.chance).copied().unwrap_or_default().to_owned()
    }

    /// A path of the pair, a few times changed; or the way from the open one all the way up and down to the other.
    fn path(&mut self, pair: &Pair) -> String {
        if self.one_in(8) {
            let up = UPWARDS.choose(&mut self.chance).copied().unwrap_or_default();
            return format!("{}{}{}", pair.open, up.repeat(pair.open.matches('/').count()), pair.closed);
        }
        let mut path = if self.one_in(4) { pair.closed.clone() } else { pair.open.clone() };
        for _ in 0..[0, 0, 0, 1, 1, 3][self.chance.random_range(0..6)] {
            let places: Vec<usize> = path.char_indices().map(|(at, _)| at).chain([path.len()]).collect();
            let at = places[self.chance.random_range(0..places.len())];
            match self.chance.random_range(0..8) {
                0..3 => path.insert_str(at, PIECES.choose(&mut self.chance).copied().unwrap_or_default()),
                // A letter as an escape, once or twice.
                3..6 => {
                    let Some(letter) = path[at..].chars().next().filter(char::is_ascii_graphic) else { continue };
                    let code = u32::from(letter);
                    let escape = match self.chance.random_range(0..6) {
                        0 => format!("%25{code:02x}"),
                        1 | 2 => format!("%{code:02x}"),
                        _ => format!("%{code:02X}"),
                    };
                    path.replace_range(at..=at, &escape);
                }
                // On to the other path.
                6 => path.push_str(&format!(
                    "{}{}",
                    ["/..", "/../..", "?", "#", "/%2e%2e", "\\..", "/."][self.chance.random_range(0..7)],
                    pair.closed
                )),
                _ => {
                    let Some(letter) = path[at..].chars().next().filter(char::is_ascii_alphabetic) else { continue };
                    let turned = if letter.is_ascii_lowercase() {
                        letter.to_ascii_uppercase()
                    } else {
                        letter.to_ascii_lowercase()
                    };
                    path.replace_range(at..=at, &turned.to_string());
                }
            }
        }
        if self.one_in(8) {
            path.push_str(&format!("?next={}&x=%2e%2e//", pair.closed));
        }
        path
    }

    /// Fields that tell how long the body is, the body, and what it says where nobody can doubt it. `behind` is what somebody who takes
    /// it for shorter would read next.
    fn framing(&mut self, behind: &str) -> (String, Vec<u8>, Option<String>) {
        let text = if self.one_in(2) { behind.to_owned() } else { "hello=world".to_owned() };
        let length = text.len();
        let whole = format!("{length:x}\r\n{text}\r\n0\r\n\r\n");
        let (cut, rest) = text.split_at(length / 2);
        let halves = format!("{:X}\r\n{cut}\r\n0{:x}\r\n{rest}\r\n0\r\n\r\n", cut.len(), rest.len());
        let chunked = "Transfer-Encoding: chunked\r\n".to_owned();
        let sized = format!("Content-Length: {length}\r\n");
        let (fields, body, is_sure) = match self.chance.random_range(0..60) {
            0..3 => (sized, text.clone(), true),
            3..5 => (chunked, whole, true),
            5..7 => (chunked, halves, true),
            7 => (chunked, whole.replacen("\r\n", ";x=\"\r\n\"\r\n", 1), false),
            8 => (chunked, whole.replacen("\r\n", ";x=y\r\n", 1), true),
            9 => (
                chunked,
                whole.replace("0\r\n\r\n", "0\r\nX-Portcullis-User: forged\r\nContent-Length: 5\r\n\r\n"),
                true,
            ),
            10 => (chunked, whole.replacen("\r\n", "\n", 1), false),
            11 => (chunked, format!(" {whole}"), false),
            12 => (chunked, format!("0x{whole}"), false),
            13 => (chunked, format!("+{whole}"), false),
            14 => (chunked, format!("000000000000000000{whole}"), false),
            15 => (format!("{sized}{chunked}"), whole, false),
            16 => ("Transfer-Encoding: xchunked\r\n".to_owned(), whole, false),
            17 => ("Transfer-Encoding : chunked\r\n".to_owned(), whole, false),
            18 => ("Transfer-Encoding:\tchunked \r\n".to_owned(), whole, true),
            19 => (format!("{sized}Content-Length: 0\r\n"), text.clone(), false),
            20 => (format!("Content-Length: +{length}\r\n"), text.clone(), false),
            21 => (format!("Content-Length: {length}, {length}\r\n"), text.clone(), false),
            22 => ("Content-Length: 0\r\n".to_owned(), behind.to_owned(), false),
            23 => (String::new(), behind.to_owned(), false),
            _ => (String::new(), String::new(), true),
        };
        let said = if body.is_empty() { String::new() } else { text };
        (fields, body.into_bytes(), is_sure.then_some(said))
    }
}
