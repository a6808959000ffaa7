//! Headers by which somebody between the client and the upstream says something about the request; from anybody else they mislead.

use super::header::fold_byte;

/// What such a header speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misleading {
    /// Which request it is: another method, URL, path or host. Nobody may say that after the request was judged.
    Request,
    /// The hop before: who connected, and how. A proxy in front of us may say that.
    Hop,
}

/// Folded as [`fold_header`](super::fold_header) does.
const OF_THE_REQUEST: [&str; 24] = [
    "proxy",
    "x-envoy-original-host",
    "x-envoy-original-method",
    "x-envoy-original-path",
    "x-forwarded-method",
    "x-forwarded-path",
    "x-forwarded-uri",
    "x-forwarded-url",
    "x-host",
    "x-http-host-override",
    "x-http-method",
    "x-http-method-override",
    "x-http-path-override",
    "x-method-override",
    "x-original-host",
    "x-original-method",
    "x-original-path",
    "x-original-uri",
    "x-original-url",
    "x-override-url",
    "x-rewrite-path",
    "x-rewrite-uri",
    "x-rewrite-url",
    "x-rewritten-url",
];

/// Folded likewise. What begins with [`FORWARDED`] and is not of the request is among them.
const OF_THE_HOP: [&str; 31] = [
    "ali-cdn-real-ip",
    "cdn-src-ip",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "cf-pseudo-ipv4",
    "client-ip",
    "cluster-client-ip",
    "fastly-client-ip",
    "fastly-ssl",
    "fly-client-ip",
    "forwarded",
    "forwarded-for",
    "front-end-https",
    "proxy-client-ip",
    "true-client-ip",
    "wl-proxy-client-ip",
    "wl-proxy-ssl",
    "x-arr-ssl",
    "x-azure-clientip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-envoy-external-address",
    "x-envoy-internal",
    "x-forwarded",
    "x-original-forwarded-for",
    "x-originating-ip",
    "x-real-ip",
    "x-remote-addr",
    "x-remote-ip",
    "x-scheme",
    "x-url-scheme",
];

const FORWARDED: &[u8] = b"x-forwarded-";

/// The bytes that a misleading name may begin with: most headers are told by theirs.
const FIRST: [bool; 256] = {
    let mut first = [false; 256];
    note_first(&OF_THE_REQUEST, &mut first);
    note_first(&OF_THE_HOP, &mut first);
    first
};

/// What the header `name`, in whatever spelling, speaks of beside the request itself; `None` for all others.
pub fn misleading(name: &str) -> Option<Misleading> {
    let is_suspicious = |byte: u8| FIRST.get(usize::from(fold_byte(byte))).is_some_and(|&is| is);
    if !name.bytes().next().is_some_and(is_suspicious) {
        return None;
    }
    let folded = || name.bytes().map(fold_byte);
    let is_in = |table: &[&str]| table.iter().any(|other| name.len() == other.len() && folded().eq(other.bytes()));
    if is_in(&OF_THE_REQUEST) {
        return Some(Misleading::Request);
    }
    let is_forwarded = folded().take(FORWARDED.len()).eq(FORWARDED.iter().copied());
    (is_forwarded || is_in(&OF_THE_HOP)).then_some(Misleading::Hop)
}

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which refuses what is out of bounds")]
const fn note_first(table: &[&str], first: &mut [bool; 256]) {
    let mut at = 0;
    while at < table.len() {
        first[table[at].as_bytes()[0] as usize] = true;
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::fold_header;

    #[test]
    fn every_name_of_the_tables_is_found_in_every_spelling() {
        for (table, of) in [(&OF_THE_REQUEST[..], Misleading::Request), (&OF_THE_HOP[..], Misleading::Hop)] {
            for name in table {
                assert_eq!(fold_header(name), *name, "the tables are folded");
                for spelling in
                    [(*name).to_owned(), name.to_uppercase(), name.replace('-', "_"), name.replace('-', ".")]
                {
                    assert_eq!(misleading(&spelling), Some(of), "{spelling}");
                }
            }
        }
        for name in ["X-Forwarded-Whatever", "x_forwarded_"] {
            assert_eq!(misleading(name), Some(Misleading::Hop), "{name}");
        }
    }

    #[test]
    fn others_are_not() {
        for name in ["", "x", "x-forwardedfor", "accept", "host", "proxy-authorization", "x-team", "é"] {
            assert_eq!(misleading(name), None, "{name}");
        }
    }
}
