use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::{Node, Place, Placed, Reference, Size, Span, parse};

fn document(text: &str) -> Node {
    parse("f.yaml", text, None).unwrap_or_else(|problems| panic!("{problems}"))
}

fn refused(text: &str) -> String {
    parse("f.yaml", text, None).unwrap_err().to_string()
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
struct Server {
    address: Placed<String>,
    port: u16,
    mode: Option<Mode>,
    #[serde(default)]
    limits: BTreeMap<String, u8>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
enum Mode {
    Plain,
    Secure { key: String },
}

#[test]
fn every_node_knows_its_place() {
    let node = document("a: 1\nb:\n  - x\n  - {c: yé, d: z}\n");
    let place = |line, column| Place::new("f.yaml".into(), line, column);
    assert_eq!(node.place(), &place(1, 1));
    let items = node.get("b").unwrap().items();
    assert_eq!(items[0].place(), &place(3, 5));
    let inner: Vec<_> = items[1].entries().collect();
    assert_eq!((inner[0].0, inner[0].1, inner[0].2.as_str()), ("c", &place(4, 6), Some("yé")));
    assert_eq!((inner[1].1, inner[1].2.place()), (&place(4, 13), &place(4, 16)));
}

#[test]
fn a_placed_value_is_captured_with_its_place() {
    let server: Server = document("port: 80\naddress: here\nmode: {secure: {key: k}}").read().unwrap();
    assert_eq!(server.address.value, "here");
    assert_eq!(server.address.place.to_string(), "f.yaml:2:10");
    assert_eq!(server.mode, Some(Mode::Secure { key: "k".to_owned() }));
    assert_eq!(document("{address: a, port: 1, mode: plain}").read::<Server>().unwrap().mode, Some(Mode::Plain));
}

#[test]
fn errors_carry_the_innermost_place() {
    let error = |text| document(text).read::<Server>().unwrap_err().to_string();
    for (text, expected) in [
        ("address: a\nprt: 1\n", "f.yaml:2:1: unknown key `prt`, expected one of `address`, `port`, `mode`, `limits`"),
        ("address: a\nport: many\n", "f.yaml:2:7: expected u16, found the text `many`"),
        ("address: a\nport: 70000\n", "f.yaml:2:7: expected u16, found the number `70000`"),
        ("address: [a]\nport: 1\n", "f.yaml:1:10: expected a string, found a list"),
        ("\naddress: a\n", "f.yaml:2:1: missing key `port`"),
        ("{address: a, port: 1, mode: fast}", "f.yaml:1:29: unknown value `fast`, expected one of `plain`, `secure`"),
        ("{address: a, port: 1, mode: {secure: {kye: a}}}", "f.yaml:1:39: unknown key `kye`, expected `key`"),
        ("{address: a, port: 1, mode: {secure: {}}}", "f.yaml:1:38: missing key `key`"),
        (
            "{address: a, port: 1, mode: {slow: 1}}",
            "f.yaml:1:30: unknown value `slow`, expected one of `plain`, `secure`",
        ),
        ("{address: a, port: 1, limits: {x: 300}}", "f.yaml:1:35: expected u8, found the number `300`"),
        ("[a, 1]", "f.yaml:1:1: expected a mapping, found a list"),
        ("text", "f.yaml:1:1: expected a mapping, found the text `text`"),
        ("", "f.yaml:1:1: expected a mapping, found nothing"),
    ] {
        assert_eq!(error(text), expected, "{text}");
    }
}

#[test]
fn a_type_that_judges_what_it_has_read_is_placed_too() {
    #[derive(Debug, Deserialize)]
    #[serde(try_from = "u8")]
    struct Even;

    impl TryFrom<u8> for Even {
        type Error = &'static str;

        fn try_from(number: u8) -> Result<Self, &'static str> {
            number.is_multiple_of(2).then_some(Self).ok_or("odd")
        }
    }

    #[derive(Debug, Deserialize)]
    struct Both {
        _list: Vec<Even>,
        _one: Option<Even>,
    }

    let problems = document("{_list: [2, 3], _one: 5}").read_all::<Both>().unwrap_err();
    assert_eq!(problems.to_string(), "f.yaml:1:13: odd\nf.yaml:1:23: odd");
}

#[test]
fn what_fits_is_there_beside_the_problems() {
    let (server, problems) = document("{address: a, port: 1, mood: 2, mode: x}").read_what_fits::<Server>();
    assert_eq!(server.map(|server| (server.port, server.mode)), Some((1, None)));
    assert_eq!(problems.0.len(), 2);
    assert_eq!(document("{port: 1, mood: 2}").read_what_fits::<Server>().0, None);
}

#[test]
fn all_problems_of_a_part_are_reported_together_and_none_twice() {
    let text = "address: [a]\nport: x\nmode: {secure: {kye: 1}}\nlimits: {a: 300, b: 2, c: -1}\nextra: 1\n";
    let problems = document(text).read_all::<Server>().unwrap_err();
    let lines: Vec<String> = problems.0.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "f.yaml:1:10: expected a string, found a list",
            "f.yaml:2:7: expected u16, found the text `x`",
            "f.yaml:3:16: missing key `key`",
            "f.yaml:3:17: unknown key `kye`, expected `key`",
            "f.yaml:4:13: expected u8, found the number `300`",
            "f.yaml:4:27: expected u8, found the number `-1`",
            "f.yaml:5:1: unknown key `extra`, expected one of `address`, `port`, `mode`, `limits`",
        ]
    );
    assert!(document("{address: a, port: 1}").read_all::<Server>().is_ok());
}

#[test]
fn duplicate_keys_are_refused_with_both_places() {
    assert_eq!(
        refused("a: 1\nb: {c: 1, c: 2}\na: 3\n"),
        "f.yaml:2:11: duplicate key `c`, already given at f.yaml:2:5\nf.yaml:3:1: duplicate key `a`, already given at f.yaml:1:1"
    );
}

#[test]
fn what_is_no_single_plain_document_is_refused_with_a_place() {
    for (text, place) in [
        ("a: [1, 2\n", "f.yaml:"),
        ("a: *nowhere\n", "f.yaml:1:4: "),
        ("a: 1\n---\nb: 2\n", "f.yaml:2:"),
        ("a: &x {b: 1}\nc: {<<: *x}\n", "f.yaml:2:5: "),
        ("? [a, b]\n: 1\n", "f.yaml:1:3: "),
        ("a: !secret b\n", "f.yaml:1:12: "),
    ] {
        let problem = refused(text);
        assert!(problem.starts_with(place) && !problem.contains('\n'), "{text:?}: {problem}");
    }
}

#[test]
fn aliases_are_expanded_within_bounds() {
    let node = document("a: &x {b: 1}\nc: *x\n");
    assert_eq!(node.get("c").unwrap().get("b").unwrap().place().to_string(), "f.yaml:1:11");
    let many = format!("a: &x {{b: 1}}\nc: [{}]\n", ["*x"; 1000].join(", "));
    assert_eq!(document(&many).get("c").unwrap().items().len(), 1000);
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..8 {
        let inner = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{inner}]\n"));
    }
    assert!(refused(&bomb).starts_with("f.yaml:"));
    assert!(refused(&"[".repeat(1000)).starts_with("f.yaml:1:"));
}

#[test]
fn variables_are_replaced_after_parsing_and_bring_no_structure() {
    let variables = |reference: Reference<'_>| match reference {
        Reference::Variable("NAME") => Ok("x, y: {z: 1} # \"\n- ${PORT}".to_owned()),
        Reference::Variable("PORT") => Ok("8080".to_owned()),
        Reference::File("a b/c:d") => Ok("${NAME}\n".to_owned()),
        other => Err(format!("{other:?}")),
    };
    let node = parse("f.yaml", "{a: \"<${NAME}>\", port: \"${PORT}\", c: '$${PORT} $PORT'}", Some(&variables)).unwrap();
    assert_eq!(node.get("a").unwrap().as_str(), Some("<x, y: {z: 1} # \"\n- ${PORT}>"));
    assert_eq!(node.get("c").unwrap().as_str(), Some("${PORT} $PORT"));
    assert_eq!(node.get("port").unwrap().read::<u16>(), Ok(8080));
    assert_eq!(node.get("port").unwrap().read::<String>(), Ok("8080".to_owned()));
    assert!(node.get("a").unwrap().read::<u16>().is_err());
    let node = parse("f.yaml", "<${file:a b/c:d}>", Some(&variables)).unwrap();
    assert_eq!(node.as_str(), Some("<${NAME}\n>"));
    assert_eq!(document("a: ${NAME}").get("a").unwrap().as_str(), Some("${NAME}"));
}

#[test]
fn missing_variables_are_all_named() {
    let missing = |reference: Reference<'_>| match reference {
        Reference::Variable(name) => Err(format!("variable `{name}` is not set")),
        Reference::File(path) => Err(format!("`{path}` is not there")),
    };
    let text = "a: ${ONE}${TWO}\nb: ${path.x}\nc: ${open\nd: ${file:e}${file:}\n";
    let problems = parse("f.yaml", text, Some(&missing)).unwrap_err();
    assert_eq!(
        problems.to_string(),
        "f.yaml:1:4: variable `ONE` is not set\nf.yaml:1:4: variable `TWO` is not set\n\
         f.yaml:2:4: `${path.x}` is not a reference to a variable; write `$${` for a literal `${`\n\
         f.yaml:3:4: `${` without a closing `}`; write `$${` for a literal `${`\n\
         f.yaml:4:4: `${file:}` is not a reference to a variable; write `$${` for a literal `${`\n\
         f.yaml:4:4: `e` is not there"
    );
}

#[test]
fn what_a_variable_put_in_is_never_repeated() {
    let secret = |_: Reference<'_>| Ok("hunter4711".to_owned());
    for text in [
        "{address: a, port: \"${KEY}\"}",
        "{address: a, port: 1, mode: \"${KEY}\"}",
        "{address: a, port: 1, limits: \"${KEY}\"}",
        "{address: a, port: 1, limits: {x: \"${KEY}\"}}",
        "\"${KEY}\"",
        "[\"${KEY}\"]",
    ] {
        let node = parse("f.yaml", text, Some(&secret)).unwrap();
        let said = node.read_all::<Server>().unwrap_err().to_string();
        assert!(!said.contains("4711"), "{text}: {said}");
        assert!(!format!("{node:?}").contains("4711"), "{node:?}");
    }
    let node = parse("f.yaml", "${KEY}", Some(&secret)).unwrap();
    let said = node.read::<Span>().unwrap_err().to_string();
    assert_eq!(said, "f.yaml:1:1: expected a duration such as `250ms`, `30s` or `5m`, found `…`");
}

#[test]
fn json_is_read_like_yaml() {
    let server: Server =
        document("{\n\t\"address\": \"a\\u00e9\",\n\t\"port\": 1,\n\t\"mode\": null\n}").read().unwrap();
    assert_eq!((server.address.value.as_str(), server.port, server.mode), ("aé", 1, None));
}

#[test]
fn scalars_are_yaml_1_2_and_not_guessed() {
    let node = document("[yes, no, on, 0755, 1_000, 1.10, '1', ~, true, -3]");
    let texts: Vec<_> = node.items().iter().map(Node::as_str).collect();
    assert_eq!(
        texts,
        [Some("yes"), Some("no"), Some("on"), Some("0755"), Some("1_000"), None, Some("1"), None, None, None]
    );
    assert!(node.items()[7].is_null());
    assert_eq!(node.items()[8].read(), Ok(true));
    assert_eq!(node.items()[9].read(), Ok(-3));
    assert!(document("").is_null());
}

#[test]
fn durations_and_sizes_are_read_with_their_units() {
    for (text, milliseconds) in [("250ms", 250), ("30s", 30_000), ("5m", 300_000), ("1h 30m", 5_400_000)] {
        assert_eq!(document(text).read(), Ok(Span(Duration::from_millis(milliseconds))), "{text}");
    }
    for (text, bytes) in [("64KiB", 65_536), ("512MiB", 1 << 29), ("1 GiB", 1 << 30), ("10B", 10), ("10", 10)] {
        assert_eq!(document(text).read(), Ok(Size(bytes)), "{text}");
    }
    for bad in ["30", "s", "-1s", "[1s]", "99999999999999999999s"] {
        assert!(document(bad).read::<Span>().is_err(), "{bad}");
    }
    for bad in ["64KB", "64k", "-1", "1.5MiB", "KiB", "99999999999TiB", "+1KiB"] {
        assert!(document(bad).read::<Size>().is_err(), "{bad}");
    }
    assert_eq!(Size(65_536).to_string(), "64KiB");
    assert_eq!(Size(1_500).to_string(), "1500B");
    assert_eq!(Span(Duration::from_secs(90)).to_string(), "1m 30s");
}
