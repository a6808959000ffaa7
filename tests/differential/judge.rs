//! The judge: however an upstream reads what was permitted, no rule for that asks for more.

use http::{HeaderMap, Method};
use percent_encoding::percent_decode_str;
use portcullis::rules::RouteTable;

use super::parsers::Reading;

/// What is wrong with this reading of a permitted request; empty when all is well.
pub fn faults(table: &RouteTable, reading: &Reading) -> Vec<String> {
    let Some(permitted) = table.route(&reading.route) else {
        return vec![format!("no rule is called {}", reading.route)];
    };
    let Ok(method) = reading.method.parse::<Method>() else { return vec![format!("method {}", reading.method)] };
    let mut faults = Vec::new();
    for path in reading.paths.iter().flat_map(|path| ways(path)) {
        let encoded = encode(&path);
        let Ok(canonical) = table.path(encoded.as_bytes()) else {
            faults.push(format!("{path} has no canonical form"));
            continue;
        };
        let found = table.find(&method, &reading.host, &canonical, &HeaderMap::new());
        let Ok(Some(found)) = found else {
            faults.push(format!("{method} {path} is covered by no rule, and was permitted by {}", permitted.id));
            continue;
        };
        if !permitted.implies(found.route()) {
            faults.push(format!(
                "{method} {path} is covered by {}, and was permitted by {}",
                found.route().id,
                permitted.id
            ));
        }
    }
    // One rule may stand for many resources: all ways have to lead to one.
    let mut resources: Vec<String> = reading.paths.iter().flat_map(|path| ways(path)).collect();
    resources.sort();
    resources.dedup();
    if resources.len() > 1 {
        faults.push(format!("it is read in several ways: {resources:?}"));
    }
    faults
}

/// What a path may become on its way through an application: decoded once more, backslashes and repetitions taken for slashes, parameters
/// and whatever follows a NUL cut off, dot segments removed.
fn ways(path: &str) -> Vec<String> {
    let decode = |path: &str| percent_decode_str(path).decode_utf8_lossy().into_owned();
    let once = decode(path);
    let mut ways = Vec::new();
    for path in [decode(&once), once] {
        let text = path.replace('\\', "/");
        let text = text.split('\0').next().unwrap_or_default();
        let mut segments: Vec<&str> = Vec::new();
        for segment in text.split('/') {
            match segment.split(';').next().unwrap_or_default() {
                "" | "." => {}
                ".." => drop(segments.pop()),
                other => segments.push(other),
            }
        }
        let end = if text.ends_with('/') && !segments.is_empty() { "/" } else { "" };
        ways.push(format!("/{}{end}", segments.join("/")));
    }
    ways
}

/// A decoded path as a client would write it.
fn encode(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,=:@".contains(&byte);
    path.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
