use http::HeaderValue;

use super::*;

fn sources(texts: &[&str]) -> Vec<CredentialSource> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn headers(lines: &[(&str, &[u8])]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_bytes(value).unwrap());
    }
    headers
}

/// What is found: a token, nothing, or an ambiguity.
#[derive(Debug, PartialEq)]
enum Found {
    Token(String, Place),
    Nothing,
    Ambiguous,
}

fn found(lines: &[(&str, &[u8])], places: &[&str]) -> Found {
    match find(&headers(lines), &sources(places)) {
        Ok(Some(credential)) => Found::Token(credential.token().to_owned(), credential.place()),
        Ok(None) => Found::Nothing,
        Err(_) => Found::Ambiguous,
    }
}

fn token(text: &str) -> Found {
    Found::Token(text.to_owned(), Place::Header)
}

#[test]
fn the_bearer_scheme_is_read_from_authorization() {
    type Row = (&'static [u8], Found);
    let table: [Row; 19] = [
        (b"Bearer a.b.c", token("a.b.c")),
        (b"bearer a.b.c", token("a.b.c")),
        (b"BEARER   a.b.c  ", token("a.b.c")),
        (b"  Bearer\ta.b.c", token("a.b.c")),
        (b"Bearer a b", token("")),
        (b"Bearer a,b", token("a,b")),
        (b"Bearer a, Bearer b", token("")),
        (b"Bearer a\xff", token("")),
        (b"Bearer a\tb", token("")),
        (b"Bearer a\xc2\xa0", token("")),
        (b"Bearer", Found::Nothing),
        (b"Bearer ", Found::Nothing),
        (b"Basic dXNlcjpwYXNz", Found::Nothing),
        (b"Bearera.b.c", Found::Nothing),
        (b"Bearer:a.b.c", Found::Nothing),
        (b"Bear", Found::Nothing),
        (b"a.b.c", Found::Nothing),
        (b"DPoP a.b.c", Found::Nothing),
        (b"", Found::Nothing),
    ];
    for (value, expected) in table {
        assert_eq!(found(&[("authorization", value)], &["header:authorization"]), expected, "{value:?}");
    }
    assert_eq!(found(&[], &["header:authorization"]), Found::Nothing);
}

#[test]
fn two_credentials_are_ambiguous_even_when_they_are_equal() {
    let both = ["header:authorization", "header:x-token", "cookie:session"];
    type Lines = &'static [(&'static str, &'static [u8])];
    let table: [Lines; 13] = [
        &[("x-token", b"a"), ("x.token", b"b")],
        &[("x~token", b"b")],
        &[("authorization", b"Bearer a"), ("authorization", b"Bearer a")],
        &[("authorization", b"Bearer a"), ("authorization", b"Basic b")],
        &[("authorization", b"Basic b"), ("authorization", b"Bearer a")],
        &[("authorization", b""), ("authorization", b"Bearer a")],
        &[("authorization", b"Bearer a"), ("cookie", b"session=a")],
        &[("authorization", b"Bearer a"), ("x-token", b"a")],
        &[("x-token", b"a"), ("x-token", b"a")],
        &[("x-token", b"a"), ("x_token", b"b")],
        &[("x_token", b"b")],
        &[("cookie", b"session=a; session=b")],
        &[("cookie", b"session=a; other=1"), ("cookie", b"session=")],
    ];
    for lines in table {
        assert_eq!(found(lines, &both), Found::Ambiguous, "{lines:?}");
    }
}

#[test]
fn places_that_are_not_configured_are_not_looked_at() {
    let lines: &[(&str, &[u8])] = &[("authorization", b"Bearer a"), ("cookie", b"session=b"), ("x_token", b"c")];
    assert_eq!(found(lines, &["header:authorization"]), token("a"));
    assert_eq!(found(lines, &["cookie:session"]), Found::Token("b".into(), Place::Cookie));
    assert_eq!(found(lines, &["cookie:Session"]), Found::Nothing, "names of cookies have a case");
}

#[test]
fn cookies_are_read_by_their_exact_name() {
    let cookie = |text: &str| found(&[("cookie", text.as_bytes())], &["cookie:session"]);
    let expect = |text: &str| Found::Token(text.to_owned(), Place::Cookie);
    assert_eq!(cookie("session=a.b.c"), expect("a.b.c"));
    assert_eq!(cookie("a=1; session=a.b.c;b=2"), expect("a.b.c"));
    assert_eq!(cookie("a=1;  session = a.b.c ;"), expect("a.b.c"));
    assert_eq!(cookie("session=a=b"), expect("a=b"));
    assert_eq!(cookie("xsession=a; session2=b; session"), Found::Nothing);
    assert_eq!(cookie("session="), Found::Nothing);
    assert_eq!(cookie("session=a b"), expect(""));
    let two_lines: &[(&str, &[u8])] = &[("cookie", b"a=1"), ("cookie", b"session=x")];
    assert_eq!(found(two_lines, &["cookie:session"]), expect("x"));
}

#[test]
fn debug_output_hides_the_token() {
    let headers = headers(&[("authorization", b"Bearer canary4711")]);
    let places = sources(&["header:authorization"]);
    let text = format!("{:?}", find(&headers, &places).unwrap().unwrap());
    assert!(text.contains("authorization") && !text.contains("canary4711"), "{text}");
}

#[test]
fn sources_are_read_back_as_written() {
    for good in ["header:authorization", "header:x-token", "cookie:session", "cookie:__Host-session"] {
        assert_eq!(good.parse::<CredentialSource>().unwrap().to_string(), good);
    }
    for bad in [
        "",
        "authorization",
        "header:",
        "header:a b",
        "cookie:",
        "cookie:a=b",
        "cookie:a;b",
        "header:cookie",
        "query:t",
    ] {
        assert!(bad.parse::<CredentialSource>().is_err(), "{bad}");
    }
}
