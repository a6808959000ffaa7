//! Bypass cases C4, C5 and C6 with a real gateway interface behind the sidecar: Python's `wsgiref` folds names of header fields as CGI does, and
//! joins what becomes one. Whatever a client spells, the application is told one user, one route and one id, and none of them by the client.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;

use super::parsers::Parser;
use super::support::{Ask, System, alice};

const ROUTES: &str = r#"
- {id: open, match: {path: /open}, public: true}
- {id: me, match: {path: /me}, authenticated: true}
- {id: trial, match: {path: /trial}, require: "org:manage", mode: shadow}
"#;

/// What may stand between the words of a name.
const BETWEEN: [&str; 7] = ["-", "_", ".", "~", "!", "'", "+"];

const NAMES: [&str; 12] = [
    "x-portcullis-user",
    "x-portcullis-organization",
    "x-portcullis-membership",
    "x-portcullis-role",
    "x-portcullis-roles",
    "x-portcullis-permissions",
    "x-portcullis-route",
    "x-request-id",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-original-url",
];

#[test]
fn c4_c5_c6_a_wsgi_application_is_told_one_value_of_each_and_none_by_the_client() {
    let Some(parser) = Parser::start("wsgi") else { return };
    let system = System::with(ROUTES).upstream(parser.recorded()).start();
    let alice = alice().sign();
    let environment = |ask: &Ask<'_>| -> BTreeMap<String, String> {
        let answer = ask.send().answer.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        let told = percent_decode_str(answer.field("x-environment").unwrap()).decode_utf8().unwrap();
        let told: BTreeMap<String, String> = serde_json::from_str(&told).unwrap();
        assert_eq!(told["HTTP_X_REQUEST_ID"], answer.field("x-request-id").unwrap());
        told
    };
    for name in NAMES {
        for between in BETWEEN {
            for case in [str::to_lowercase, str::to_uppercase] {
                let spelt = case(&name.replace('-', between));
                let mixed = case(&name.replacen('-', between, 1));
                let forged = |ask: Ask<'_>| environment(&ask.field(&spelt, "forged").field(&mixed, "forged"));
                let open = forged(system.get("/open"));
                let me = forged(system.get("/me").with(&alice));
                let trial = forged(system.get("/trial"));
                for (told, route, user) in
                    [(&open, "open", None), (&me, "me", Some("user_alice")), (&trial, "trial", None)]
                {
                    assert!(!told.values().any(|value| value.contains("forged")), "{spelt}: {told:?}");
                    assert_eq!(told["HTTP_X_PORTCULLIS_ROUTE"], route, "{spelt}");
                    assert_eq!(told.get("HTTP_X_PORTCULLIS_USER").map(String::as_str), user, "{spelt}");
                    assert_eq!(told["HTTP_X_FORWARDED_FOR"], "127.0.0.1", "{spelt}");
                    assert_eq!(told["PATH_INFO"], format!("/{route}"), "{spelt}");
                }
            }
        }
    }
}
