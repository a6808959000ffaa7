//! What arrived at the upstream, held against what the sidecar says it permitted (invariants I6, I7 and I8): every test that starts a
//! whole sidecar ends with this.

use std::collections::HashMap;

use percent_encoding::percent_decode_str;
use portcullis::rules::{CanonicalPath, split_target};
use serde_json::Value;

use super::framing::{self, Read, Received};
use super::upstream::Record;

/// What every forwarded head has, and no body of a test.
const ID: &[u8] = b"\r\nx-request-id: ";

/// The lines of a decision log by request id.
pub struct Permits(HashMap<String, Vec<Value>>);

impl Permits {
    /// Those of this log.
    pub fn of(log: &str) -> Self {
        let mut lines = HashMap::<String, Vec<Value>>::new();
        for line in log.lines() {
            let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            lines.entry(text(&line, "request_id").to_owned()).or_default().push(line);
        }
        Self(lines)
    }

    /// Whether every whole head that arrived has a line already: the log is written when a request has ended.
    pub fn tell_of(&self, records: &[impl AsRef<Record>]) -> bool {
        records.iter().all(|record| {
            let bytes = record.as_ref().bytes();
            let mut rest = bytes.as_slice();
            loop {
                let (received, used) = match framing::read(rest) {
                    Ok(Read::Whole(received, used)) => (received, used),
                    Ok(Read::Begun(received)) => (received, rest.len()),
                    Ok(Read::HalfHead) | Err(_) => return true,
                };
                let ids = received.values("x-request-id");
                match ids.first().and_then(|id| self.0.get(id)) {
                    None => return ids.is_empty(),
                    Some(lines) if lines.iter().any(|line| line["status"] == 101) => return true,
                    Some(_) => rest = &rest[used..],
                }
            }
        })
    }

    /// What is wrong with what arrived.
    pub fn faults(&self, records: &[impl AsRef<Record>]) -> Vec<String> {
        let (mut faults, mut seen) = (Vec::new(), HashMap::<String, Vec<(usize, Received)>>::new());
        for (number, record) in records.iter().enumerate() {
            let record = record.as_ref();
            let bytes = record.bytes();
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let (received, used) = match framing::read(rest) {
                    Ok(Read::Whole(received, used)) => (received, used),
                    Ok(Read::Begun(received)) => (received, rest.len()),
                    Ok(Read::HalfHead) if record.was_left() => break,
                    Ok(Read::HalfHead) => {
                        faults.push(format!("half a head arrived: {:?}", framing::printed(rest)));
                        break;
                    }
                    Err(why) => {
                        faults.push(format!("no request: {why}; in {:?}", framing::printed(rest)));
                        break;
                    }
                };
                let is_whole = matches!(framing::read(rest), Ok(Read::Whole(..)));
                match self.permit(&received) {
                    Ok(line) => {
                        let (outcome, status) = (text(line, "outcome"), line["status"].as_u64().unwrap_or_default());
                        // A body may break off when the upstream reads no more of it or has answered already, or the exchange ended before
                        // the body did; and then the connection serves nobody else.
                        let may_break = record.is_over() || matches!(outcome, "error" | "cut");
                        let is_mixed = received.body.windows(ID.len()).any(|window| window == ID);
                        if !is_whole && (!may_break || is_mixed) {
                            faults.push(format!("half a body arrived: {line}"));
                        }
                        seen.entry(text(line, "request_id").to_owned()).or_default().push((number, received));
                        if status == 101 {
                            break;
                        }
                    }
                    Err(why) => faults.push(format!("{why}: {:?}", framing::printed(&received.head))),
                }
                rest = &rest[used..];
            }
        }
        for (id, arrived) in seen {
            // Tried again on another connection, when the first one died: the same request.
            let is_same = arrived.windows(2).all(|two| two[0].0 != two[1].0 && two[0].1.head == two[1].1.head);
            if !is_same {
                faults.push(format!("{id} arrived {} times: {arrived:?}", arrived.len()));
            }
        }
        faults
    }

    /// The one line that permits this request: with its method, path, host and user.
    fn permit(&self, received: &Received) -> Result<&Value, String> {
        let [id] = <[String; 1]>::try_from(received.values("x-request-id")).map_err(|ids| format!("ids: {ids:?}"))?;
        let line = match self.0.get(&id).map(Vec::as_slice) {
            Some([line]) => line,
            Some(lines) => return Err(format!("{} lines: {lines:?}", lines.len())),
            None => return Err("nothing permitted it".to_owned()),
        };
        if !matches!(text(line, "outcome"), "allow" | "shadow" | "error" | "cut") || line["route"].is_null() {
            return Err(format!("it was not permitted: {line}"));
        }
        let target = received.target();
        let (path, _) = split_target(&target);
        let said = [
            ("method", received.method()),
            ("path", path.to_owned()),
            ("host", received.value("host").unwrap_or_default()),
        ];
        for (name, arrived) in said {
            let permitted = text(line, name);
            // Long values are cut in the log.
            let is_same = match permitted.strip_suffix('…') {
                Some(beginning) => arrived.starts_with(beginning),
                None => arrived == permitted,
            };
            if !is_same {
                return Err(format!("another {name} was permitted, {permitted}"));
            }
        }
        if let [user] = received.values("x-portcullis-user").as_slice() {
            let user = percent_decode_str(user).decode_utf8_lossy();
            if *user != *text(line, "user") {
                return Err(format!("somebody else was permitted: {line}"));
            }
        }
        // What was matched is what arrived, and would be matched again.
        match CanonicalPath::parse_with_encoded_slashes(path.as_bytes()) {
            Ok(canonical) if canonical.as_str() == path => Ok(line),
            other => Err(format!("not in canonical form: {other:?}")),
        }
    }
}

fn text<'v>(line: &'v Value, name: &str) -> &'v str {
    line[name].as_str().unwrap_or_default()
}
