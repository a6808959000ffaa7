//! Bypass case G1 beyond the known tricks: whatever JSON a rule takes a value from, Node and Python read the same value in it. What could be read in
//! two ways is refused.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::parsers::{Parser, Reading};
use super::requests::Request;
use super::support::{System, alice};

const RULES: &str = r#"
- {id: by-body, match: {path: /by-body}, require: "project:view", resource: {type: project, id: "{body:/target/id}"}}
"#;

/// Documents that are right, and those that readers of JSON are known to disagree about: each text is our own.
const DOCUMENTS: [&str; 64] = [
    r#"{"target":{"id":"42"}}"#,
    r#"{"target":{"id":42}}"#,
    r#" { "target" : { "id" : "42" } , "x" : [ 1 , -0 , 1e3 , true , null ] } "#,
    r#"{"x":{"target":{"id":"51"}},"target":{"id":"42"}}"#,
    r#"{"target":{"\u0069d":"42"}}"#,
    r#"{"target":{"id":"4\u0032"}}"#,
    r#"{"target":{"id":"42"},"target":{"id":"51"}}"#,
    r#"{"target":{"id":"51"},"target":{"id":"42"}}"#,
    r#"{"target":{"id":"42","id":"51"}}"#,
    r#"{"target":{"id":"51","\u0069d":"42"}}"#,
    r#"{"target":{"id":"42"},"t\u0061rget":{"id":"51"}}"#,
    r#"{"target":{"id":"42"},"__proto__":{"id":"51"}}"#,
    r#"{"target":{"__proto__":{"id":"51"},"id":"42"}}"#,
    r#"{"__proto__":{"target":{"id":"42"}}}"#,
    r#"{"target":{"__proto__":{"id":"42"}}}"#,
    r#"{"target":{"id":"42"},"a":1,"a":2}"#,
    r#"{"target":{"id":"42",}}"#,
    r#"{"target":{"id":"42"},}"#,
    r#"{,"target":{"id":"42"}}"#,
    r#"{"target":{"id":"42"}}}"#,
    r#"{"target":{"id":"42"}} {"target":{"id":"51"}}"#,
    r#"{"target":{"id":"42"}}#"#,
    r#"{"target":{"id":"42"} /* x */}"#,
    "{\"target\":{\"id\":\"42\"}} // x",
    "{\"target\":{\"id\":\"42\"}}\n\n",
    "\u{feff}{\"target\":{\"id\":\"42\"}}",
    "{\"target\":{\"id\":\"42\"}}\0",
    "\0{\"target\":{\"id\":\"42\"}}",
    "\u{b}{\"target\":{\"id\":\"42\"}}",
    "\u{c}{\"target\":{\"id\":\"42\"}}",
    "\u{a0}{\"target\":{\"id\":\"42\"}}",
    "\u{2028}{\"target\":{\"id\":\"42\"}}",
    "{\"target\":{\"id\":\"42\u{0}\"}}",
    "{\"target\":{\"id\":\"42\n\"}}",
    "{\"target\":{\"id\":\"42\t\"}}",
    "{\"target\":{\"id\":\"42\u{7f}\"}}",
    r#"{"target":{"id":"42\u0000"}}"#,
    r#"{"target":{"id":"\u00342"}}"#,
    r#"{"target":{"id":"\u{34}2"}}"#,
    r#"{"target":{"id":"\x342"}}"#,
    r#"{"target":{"id":"4\2"}}"#,
    r#"{"target":{"id":"4\/2"}}"#,
    r#"{"target":{"id":"42\ud800"}}"#,
    r#"{"target":{"id":"42\udc00\ud800"}}"#,
    r#"{"target":{"id":42.0}}"#,
    r#"{"target":{"id":4.2e1}}"#,
    r#"{"target":{"id":420e-1}}"#,
    r#"{"target":{"id":042}}"#,
    r#"{"target":{"id":+42}}"#,
    r#"{"target":{"id":0x2a}}"#,
    r#"{"target":{"id":42.}}"#,
    r#"{"target":{"id":-0}}"#,
    r#"{"target":{"id":NaN}}"#,
    r#"{"target":{"id":[42]}}"#,
    r#"{"target":{"id":["42"]}}"#,
    r#"{"target":{"id":true}}"#,
    r#"{"target":["id","42"]}"#,
    r#"[{"target":{"id":"42"}}]"#,
    r#"{'target':{'id':'42'}}"#,
    r#"{target:{id:"42"}}"#,
    r#"{"target.id":"42"}"#,
    r#"{"target/id":"42"}"#,
    r#"{"Target":{"id":"42"},"target":{"id":"42"}}"#,
    r#"{"target":{"id":"４２"}}"#,
];

/// What is put into them.
const PIECES: [&str; 30] = [
    "\"",
    "\\",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    " ",
    "\n",
    "\0",
    "\u{feff}",
    "\u{2028}",
    "\\u0034",
    "\\ud834",
    "\\n",
    "4",
    "2",
    "-",
    ".",
    "e1",
    "\"id\":\"51\",",
    ",\"id\":\"51\"",
    "\"target\":{\"id\":\"51\"},",
    ",\"target\":{\"id\":\"51\"}",
    "\"ID\":\"51\",",
    "/**/",
    "null",
    "NaN",
    "\u{e9}",
];

#[test]
fn g1_a_value_that_a_rule_takes_from_a_body_is_the_one_that_others_read() {
    let count = super::number("PORTCULLIS_REQUESTS").map_or(super::REQUESTS, |count| usize::try_from(count).unwrap());
    let token = alice().sign();
    for parser in ["node", "python"].into_iter().filter_map(Parser::start) {
        let system = System::with(RULES).upstream(parser.recorded()).start();
        let mut chance = StdRng::seed_from_u64(super::number("PORTCULLIS_REQUESTS_SEED").unwrap_or(1));
        let mut passed = 0;
        for turn in 0..count.max(DOCUMENTS.len()) {
            let mut body = DOCUMENTS.get(turn).copied().unwrap_or_else(|| DOCUMENTS[turn % 6]).to_owned();
            for _ in 0..(turn / DOCUMENTS.len()).min(2) {
                let places: Vec<usize> = body.char_indices().map(|(at, _)| at).collect();
                let at = *places.choose(&mut chance).unwrap();
                if chance.random_ratio(1, 3) {
                    body.remove(at);
                } else {
                    body.insert_str(at, PIECES.choose(&mut chance).unwrap());
                }
            }
            let head = format!(
                "POST /by-body HTTP/1.1\r\nHost: app.test\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let request = Request { bytes: head.into_bytes(), body: Some(body.clone()), is_head: false };
            let answer = super::answer(&system, &request).unwrap();
            let Some(reading) = Reading::of(&answer) else {
                assert!(matches!(answer.status, 400 | 403), "{}: {answer:?} to {body:?}", parser.name);
                continue;
            };
            passed += 1;
            assert_eq!(reading.value.as_deref(), Some("42"), "{} reads another value in {body:?}", parser.name);
        }
        eprintln!("{}: {passed} bodies were permitted", parser.name);
        assert!(passed >= 5 && passed < count, "{}: {passed}", parser.name);
    }
}
