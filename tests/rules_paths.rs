//! Tricks with paths: every one is refused for its own reason, or is the same path as its plain form.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use portcullis::rules::{BadPath, CanonicalPath, MAX_PATH_BYTES};
use proptest::prelude::*;

use BadPath::{
    Backslash, Byte, Control, DotSegment, DoubleEncoding, EmptySegment, EncodedSlash, MalformedEscape, NotAbsolute,
    NotUtf8, Semicolon, TooLong,
};

fn refused(raw: &[u8]) -> Option<BadPath> {
    CanonicalPath::parse(raw).err()
}

#[test]
fn every_trick_is_refused_for_its_reason() {
    let table: &[(&[u8], BadPath)] = &[
        // A1, A2, A5: dot segments, plain and encoded
        (b"/public/../admin", DotSegment),
        (b"/public/..", DotSegment),
        (b"/..", DotSegment),
        (b"/../admin", DotSegment),
        (b"/.", DotSegment),
        (b"/./admin", DotSegment),
        (b"/admin/.", DotSegment),
        (b"/admin/./", DotSegment),
        (b"/public/%2e%2e/admin", DotSegment),
        (b"/public/.%2e/admin", DotSegment),
        (b"/public/%2E./admin", DotSegment),
        (b"/public/%2e/admin", DotSegment),
        (b"/public/%2E%2e", DotSegment),
        (b"/public/..%3Fx/admin", DotSegment),
        (b"/public/%2e%2e%23/admin", DotSegment),
        (b"/public/..;/admin", Semicolon),
        (b"/public/..;x=y/admin", Semicolon),
        (b"/public/%2e%2e;/admin", Semicolon),
        (b"/public/..%3b/admin", Semicolon),
        (b"/%2E%2E%2F", DotSegment),
        (b"/public/..%2fadmin", DotSegment),
        (b"/public/..%5cadmin", Backslash),
        (b"/public/..\\admin", Backslash),
        (b"/public/..%00/admin", Control),
        (b"/public/..%c0%af../admin", NotUtf8),
        (b"/public/..%252fadmin", DoubleEncoding),
        // A3, A6: encoded slashes in either letter case
        (b"/admin%2f", EncodedSlash),
        (b"/admin%2F", EncodedSlash),
        (b"/a%2Fb%2fc", EncodedSlash),
        (b"%2Fadmin", NotAbsolute),
        (b"/%2Fadmin", EncodedSlash),
        // A4: empty segments
        (b"//admin/people", EmptySegment),
        (b"///admin", EmptySegment),
        (b"/admin//people", EmptySegment),
        (b"/admin//", EmptySegment),
        (b"//", EmptySegment),
        (b"//%61", EmptySegment),
        (b"/%61//", EmptySegment),
        (b"/;/admin", Semicolon),
        // A6, A14: backslashes
        (b"/admin\\people", Backslash),
        (b"\\admin", NotAbsolute),
        (b"/admin%5cpeople", Backslash),
        (b"/admin%5Cpeople", Backslash),
        // path parameters
        (b"/admin;jsessionid=1", Semicolon),
        (b"/admin;", Semicolon),
        (b"/admin%3B", Semicolon),
        (b"/admin%3bx=y/z", Semicolon),
        // control characters, raw and encoded
        (b"/admin\0", Control),
        (b"/admin%00", Control),
        (b"/admin%00.png", Control),
        (b"/admin\t", Control),
        (b"/admin\r\nx", Control),
        (b"/admin%0d%0aX:y", Control),
        (b"/admin%1f", Control),
        (b"/admin\x7f", Control),
        (b"/admin%7F", Control),
        (b"/admin%09", Control),
        // escapes of escapes
        (b"/%2561dmin", DoubleEncoding),
        (b"/%252e%252e/admin", DoubleEncoding),
        (b"/a%252Fb", DoubleEncoding),
        (b"/%25%36%31dmin", DoubleEncoding),
        (b"/%256%31", DoubleEncoding),
        (b"/%25%361", DoubleEncoding),
        (b"/%25252e", DoubleEncoding),
        // malformed escapes
        (b"/%", MalformedEscape),
        (b"/%4", MalformedEscape),
        (b"/%zz", MalformedEscape),
        (b"/%u002e%u002e", MalformedEscape),
        (b"/%2", MalformedEscape),
        (b"/% 2e", MalformedEscape),
        (b"/%+2", MalformedEscape),
        (b"/a%/b", MalformedEscape),
        (b"/%\xc0\xaf", MalformedEscape),
        // text that is not UTF-8: overlong forms, surrogates, lone bytes
        (b"/%c0%ae%c0%ae/admin", NotUtf8),
        (b"/%c0%2e/admin", NotUtf8),
        (b"/%e0%80%af", NotUtf8),
        (b"/%f0%80%80%af", NotUtf8),
        (b"/%c1%9c", NotUtf8),
        (b"/%ed%a0%80", NotUtf8),
        (b"/%f4%90%80%80", NotUtf8),
        (b"/%ff", NotUtf8),
        (b"/%c3/%a9", NotUtf8),
        (b"/%c3", NotUtf8),
        // raw bytes that have to be encoded
        (b"/caf\xc3\xa9", Byte(0xC3)),
        (b"/a b", Byte(b' ')),
        (b"/a\"b", Byte(b'"')),
        (b"/a<b", Byte(b'<')),
        (b"/a[b]", Byte(b'[')),
        (b"/a^b", Byte(b'^')),
        (b"/a`b", Byte(b'`')),
        (b"/{a}", Byte(b'{')),
        (b"/a|b", Byte(b'|')),
        (b"/admin#x", Byte(b'#')),
        (b"/admin?x", Byte(b'?')),
        (b"/%61#", Byte(b'#')),
        // what is no path at all
        (b"", NotAbsolute),
        (b"*", NotAbsolute),
        (b"admin", NotAbsolute),
        (b"http://host/admin", NotAbsolute),
        (b"user@host/admin", NotAbsolute),
        (b".", NotAbsolute),
        (b"?", NotAbsolute),
    ];
    for (raw, reason) in table {
        let shown = raw.escape_ascii();
        assert_eq!(refused(raw), Some(*reason), "{shown}");
        // Nothing is forgiven because other escapes stand in front of it.
        if let Some(rest) = raw.strip_prefix(b"/") {
            let behind = [b"/%61%3A/".as_slice(), rest].concat();
            assert!(refused(&behind).is_some(), "{shown} behind escapes");
        }
    }
    assert_eq!(refused(&[b"/".as_slice(), &[b'a'; MAX_PATH_BYTES]].concat()), Some(TooLong));
}

#[test]
fn allowing_encoded_slashes_allows_nothing_else() {
    for raw in ["/a%2f..", "/a%2f../b", "/..%2fa", "/a%2F%2e%2e%2Fb", "/%2e%2f", "/a%2f.%2fb"] {
        assert_eq!(CanonicalPath::parse_with_encoded_slashes(raw.as_bytes()), Err(DotSegment), "{raw}");
    }
    for (raw, reason) in
        [("/a%2f%5c", Backslash), ("/a%2f;", Semicolon), ("/a%252f", DoubleEncoding), ("/a%2f//", EmptySegment)]
    {
        assert_eq!(CanonicalPath::parse_with_encoded_slashes(raw.as_bytes()), Err(reason), "{raw}");
    }
}

#[test]
fn unusual_but_unambiguous_paths_pass() {
    for (raw, canonical) in [
        ("/", "/"),
        ("/a/", "/a/"),
        ("/...", "/..."),
        ("/.a/..b/c..", "/.a/..b/c.."),
        ("/%7Euser/%2Dx", "/~user/-x"),
        ("/a:b@c,d=e+f", "/a:b@c,d=e+f"),
        ("/100%25", "/100%25"),
        ("/100%25zz", "/100%25zz"),
        ("/a%20b%3f", "/a%20b%3F"),
        ("/%e2%82%ac", "/%E2%82%AC"),
        ("/%EF%BC%8F", "/%EF%BC%8F"),
    ] {
        assert_eq!(CanonicalPath::parse(raw.as_bytes()).unwrap().as_str(), canonical);
    }
}

/// Bytes that matter to a parser of paths, more often than others.
fn raw_path() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => "[a-c./]".prop_map(String::into_bytes),
        3 => "%[0-9a-fA-F]{2}".prop_map(String::into_bytes),
        2 => prop::sample::select(vec!["%2e", "%2E", "%2f", "%2F", "%5c", "%25", "%3b", "%41", "%c3%a9", "..", "//", ";", "%"])
            .prop_map(|text| text.as_bytes().to_vec()),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| [b"/".to_vec(), pieces.concat()].concat())
}

fn decoded(text: &str) -> Vec<u8> {
    percent_encoding::percent_decode_str(text).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn the_canonical_form_is_its_own_canonical_form(raw in raw_path()) {
        if let Ok(path) = CanonicalPath::parse_with_encoded_slashes(&raw) {
            let again = CanonicalPath::parse_with_encoded_slashes(path.as_str().as_bytes());
            prop_assert_eq!(again.as_ref(), Ok(&path));
            prop_assert_eq!(CanonicalPath::parse(&raw).is_ok(), !path.encoded_slash());
        }
    }

    #[test]
    fn the_canonical_form_means_the_same_as_the_raw_one(raw in raw_path()) {
        if let Ok(path) = CanonicalPath::parse(&raw) {
            let raw = std::str::from_utf8(&raw).unwrap();
            prop_assert_eq!(decoded(raw), decoded(path.as_str()));
            prop_assert_eq!(raw.split('/').count(), path.as_str().split('/').count());
        }
    }

    #[test]
    fn the_segments_are_the_canonical_text(raw in raw_path()) {
        if let Ok(path) = CanonicalPath::parse(&raw) {
            let joined: String = path.segments().map(|segment| format!("/{segment}")).collect();
            let slash = if path.trailing_slash() || path.is_empty() { "/" } else { "" };
            prop_assert_eq!(joined + slash, path.as_str());
            for index in 0..path.len() {
                prop_assert_eq!(path.decoded(index).as_bytes().to_vec(), decoded(path.segment(index)));
            }
        }
    }

    #[test]
    fn no_accepted_path_hides_anything(raw in raw_path()) {
        if let Ok(path) = CanonicalPath::parse(&raw) {
            prop_assert!(path.as_str().is_ascii() && path.as_str().starts_with('/'));
            for index in 0..path.len() {
                let text = path.decoded(index);
                prop_assert!(!text.is_empty() && text != "." && text != "..");
                prop_assert!(!text.contains(['/', '\\', '\0', ';']) && !text.contains(char::REPLACEMENT_CHARACTER));
                // Decoding once more changes nothing: nobody sees another path by decoding twice.
                prop_assert_eq!(decoded(&text), text.as_bytes());
            }
        }
    }
}
