//! What is done with bytes from others, one function for each kind: it panics where a promise is broken. `tests/fuzz` and `fuzz/` call them.

#![allow(dead_code, reason = "each wrapper of cargo-fuzz calls one of them")]

pub mod facts;
mod hosted;
mod requests;
mod settings;
mod small;
mod store;
mod streams;
#[path = "../../support/mod.rs"]
mod support;
#[path = "../../token_support/mod.rs"]
mod token_support;
mod tokens;

pub use self::facts::{f07_feed, f08_rows, f09_disk};
pub use self::hosted::f13_events;
pub use self::requests::{f04_path, f05_headers};
pub use self::settings::f06_configuration;
pub use self::small::{f10_revision, f12_ids};
pub use self::store::f11_store;
pub use self::streams::{f14_http1, f15_http2};
pub use self::tokens::{f01_token, f02_key_set, f03_claims};

/// Words that make a difference to a target.
pub fn words(target: &str) -> &'static [&'static str] {
    match target {
        "f01_token" => &[".", "=", "eyJ", "-", "_", "+", "/"],
        "f02_key_set" => &[
            "\"kty\":",
            "\"oct\"",
            "\"RSA\"",
            "\"EC\"",
            "\"d\":",
            "\"alg\":\"none\"",
            "\"use\":\"enc\"",
            "\"kid\":\"a\"",
            "\"AQAB\"",
        ],
        "f03_claims" => &[
            "\"exp\":",
            "\"nbf\":",
            "\"aud\":",
            "\"iss\":",
            "\"sub\":",
            "\"nonce\":",
            "\"jti\":",
            "1800000000",
            "1800000250.5",
        ],
        "f04_path" => &["/open/", "/admin", "/files/", ";", "\\", "%5c", "%252e", "%c0%af", "?", "#"],
        "f05_headers" | "f14_http1" => &[
            "Content-Length: ",
            "Transfer-Encoding: chunked\r\n",
            "Connection: ",
            "Host: ",
            "X-Portcullis-User: eve\r\n",
            "X_Portcullis.User: eve\r\n",
            "X-Forwarded-For: 1.2.3.4\r\n",
            "X-Original-URL: /admin\r\n",
            "Upgrade: websocket\r\n",
            "Expect: 100-continue\r\n",
            "GET /admin HTTP/1.1\r\n",
            "GET /open/a HTTP/1.1\r\nHost: app.test\r\n\r\n",
            "HTTP/1.0",
            "0\r\n\r\n",
            "5\r\nhello\r\n",
            "\r\n\r\n",
            "x-request-id: 1\r\n",
            "/admin",
            "\t",
        ],
        "f06_configuration" => &[
            "routes:\n",
            "- ",
            ": ",
            "&a ",
            "*a",
            "<<: ",
            "!!str ",
            "|\n",
            "public: true",
            "require: ",
            "{path.x}",
            "\t",
            "---\n",
        ],
        "f07_feed" | "f08_rows" | "f09_disk" => &[
            "\"put\":",
            "\"delete\":",
            "\"parent\":\"r1\"",
            "\"resource\":",
            "\"org_1\"",
            "\"om_1\"",
            "\"g1\"",
            "\"r1\"",
            "\"r2\"",
            "\"changes\":[",
            "\"reset\":{",
            "\"seq\":",
            "\"role_1\"",
            "\"project:edit\"",
        ],
        "f10_revision" => &["r1.", "0000000000000001", ".", "+", "18446744073709551615"],
        "f11_store" => &[
            "limit=",
            "after=",
            "before=",
            "order=",
            "&",
            "?",
            "GET /organizations",
            "POST /authorization/permissions",
            "\"slug\":",
            "\"name\":",
            "PATCH ",
            "PUT ",
            "DELETE ",
            "/authorization/",
            "/user_management/",
        ],
        "f12_ids" => &["authz_resource_", "om_", "org_", "role_", ":", "workspace-admin on workspace:", " on "],
        "f13_events" => &[
            "\"data\":",
            "\"id\":",
            "\"event\":",
            "\"organization.deleted\"",
            "\"session.revoked\"",
            "\"after\":",
            "\"status\":\"inactive\"",
        ],
        "f15_http2" => &[
            "\0\0\0\u{4}\u{1}\0\0\0\0",
            "\0\0\u{4}\u{8}\0\0\0\0\u{1}",
            "\0\0\u{4}\u{3}\0\0\0\0\u{1}\0\0\0\u{8}",
            "/admin",
            "/open/a",
        ],
        _ => &[],
    }
}
