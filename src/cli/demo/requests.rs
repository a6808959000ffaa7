//! The demo's requests: what each shows, and what must come out.

use std::net::SocketAddr;

use bytes::Bytes;
use http::header;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use super::People;
use crate::cli::say;

/// A request to try.
pub(super) struct Request {
    /// What it shows.
    pub(super) title: &'static str,
    pub(super) method: &'static str,
    pub(super) target: &'static str,
    /// Whose token it carries.
    pub(super) membership: Option<&'static str>,
    /// Whether the token is tampered with.
    pub(super) forged: bool,
    pub(super) headers: &'static [(&'static str, &'static str)],
    pub(super) body: Option<&'static str>,
    pub(super) status: u16,
    /// The code of a denial; empty when it passes.
    pub(super) code: &'static str,
}

const PLAIN: Request = Request {
    title: "",
    method: "GET",
    target: "/",
    membership: None,
    forged: false,
    headers: &[],
    body: None,
    status: 200,
    code: "",
};

/// All of them, in an order that tells a story.
pub(super) const REQUESTS: &[Request] = &[
    Request { title: "a public route needs no token", target: "/healthz", ..PLAIN },
    Request {
        title: "identity headers cannot be forged: the upstream sees none of these",
        target: "/healthz",
        headers: &[("X-Portcullis-User", "user_erin"), ("x_portcullis_role", "admin")],
        ..PLAIN
    },
    Request { title: "every other route needs one", target: "/me", status: 401, code: "missing_token", ..PLAIN },
    Request { title: "Alice is who she says", target: "/me", membership: Some("om_alice"), ..PLAIN },
    Request {
        title: "a token that was tampered with",
        target: "/me",
        membership: Some("om_alice"),
        forged: true,
        status: 401,
        code: "bad_token",
        ..PLAIN
    },
    Request {
        title: "Erin is an admin: her token carries billing:view",
        target: "/billing",
        membership: Some("om_erin"),
        ..PLAIN
    },
    Request {
        title: "Carol has it through the group Finance",
        target: "/billing",
        membership: Some("om_carol"),
        ..PLAIN
    },
    Request {
        title: "Alice does not",
        target: "/billing",
        membership: Some("om_alice"),
        status: 403,
        code: "not_granted",
        ..PLAIN
    },
    Request {
        title: "Carol may pay, by the facts as they are now",
        method: "POST",
        target: "/billing/payments",
        membership: Some("om_carol"),
        ..PLAIN
    },
    Request {
        title: "Alice edits project 42: her group Engineering administers the workspace above it",
        method: "PATCH",
        target: "/projects/42",
        membership: Some("om_alice"),
        ..PLAIN
    },
    Request {
        title: "Alice sees project 99: she is its viewer",
        target: "/projects/99",
        membership: Some("om_alice"),
        ..PLAIN
    },
    Request {
        title: "and may not edit it",
        method: "PATCH",
        target: "/projects/99",
        membership: Some("om_alice"),
        status: 403,
        code: "not_granted",
        ..PLAIN
    },
    Request {
        title: "Bob may comment on 42: one of two permissions is enough",
        method: "POST",
        target: "/projects/42/comments",
        membership: Some("om_bob"),
        ..PLAIN
    },
    Request {
        title: "a role on one project says nothing about another",
        method: "PATCH",
        target: "/projects/43",
        membership: Some("om_bob"),
        status: 403,
        code: "not_granted",
        ..PLAIN
    },
    Request {
        title: "Frank sees Mobile by a role that only Acme has",
        target: "/projects/43",
        membership: Some("om_frank"),
        ..PLAIN
    },
    Request {
        title: "Grace reads files: her group Platform has the role editor there",
        target: "/workspaces/ws-platform/files/runbooks/restart.md",
        membership: Some("om_grace"),
        ..PLAIN
    },
    Request {
        title: "moving an app inside project 42",
        method: "POST",
        target: "/apps/gateway/move",
        membership: Some("om_bob"),
        headers: &[("content-type", "application/json")],
        body: Some(r#"{"target":{"project":"42"}}"#),
        ..PLAIN
    },
    Request {
        title: "moving it into a project where Bob may not add apps",
        method: "POST",
        target: "/apps/gateway/move",
        membership: Some("om_bob"),
        headers: &[("content-type", "application/json")],
        body: Some(r#"{"target":{"project":"43"}}"#),
        status: 403,
        code: "not_granted",
        ..PLAIN
    },
    Request {
        title: "Gina administers Globex, not Acme",
        target: "/orgs/org_acme/settings",
        membership: Some("om_gina"),
        status: 403,
        code: "wrong_organization",
        ..PLAIN
    },
    Request {
        title: "nothing of Acme exists for Gina",
        target: "/projects/43",
        membership: Some("om_gina"),
        status: 403,
        code: "not_granted",
        ..PLAIN
    },
    Request {
        title: "a concealed route is not even admitted to exist",
        target: "/projects/99/vault",
        membership: Some("om_alice"),
        status: 404,
        code: "not_found",
        ..PLAIN
    },
    Request {
        title: "a rule in shadow mode would refuse, and lets pass",
        target: "/reports",
        membership: Some("om_alice"),
        ..PLAIN
    },
    Request {
        title: "what no rule covers is refused",
        target: "/internal/debug",
        membership: Some("om_erin"),
        status: 403,
        code: "no_route",
        ..PLAIN
    },
    Request {
        title: "an ambiguous path is refused, never repaired",
        target: "/healthz/%2e%2e/billing",
        status: 400,
        code: "bad_path",
        ..PLAIN
    },
];

impl Request {
    /// The status, and the code of a denial.
    pub(super) fn expected(&self) -> String {
        if self.code.is_empty() { self.status.to_string() } else { format!("{} {}", self.status, self.code) }
    }

    /// The request as a shell command.
    pub(super) fn curl(&self, sidecar: SocketAddr) -> String {
        let mut command = "curl -s".to_owned();
        if self.method != "GET" {
            command.push_str(&format!(" -X {}", self.method));
        }
        if let Some(membership) = self.membership {
            let tampered = if self.forged { "x" } else { "" };
            command.push_str(&format!(" -H \"authorization: Bearer ${{{}}}{tampered}\"", variable(membership)));
        }
        for (name, value) in self.headers {
            command.push_str(&format!(" -H '{name}: {value}'"));
        }
        if let Some(body) = self.body {
            command.push_str(&format!(" -d '{body}'"));
        }
        format!("{command} --path-as-is 'http://{sidecar}{}'", self.target)
    }
}

/// The shell variable for a membership's token: `ALICE` for `om_alice`.
pub(super) fn variable(membership: &str) -> String {
    membership.trim_start_matches("om_").to_ascii_uppercase()
}

/// Makes every request, prints what came of it, and says how many answers were wrong.
pub(super) async fn check(sidecar: SocketAddr, people: &People) -> anyhow::Result<usize> {
    let client: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let mut failures = 0;
    for request in REQUESTS {
        let mut built =
            http::Request::builder().method(request.method).uri(format!("http://{sidecar}{}", request.target));
        if let Some(membership) = request.membership {
            let tampered = if request.forged { "x" } else { "" };
            built = built.header(header::AUTHORIZATION, format!("Bearer {}{tampered}", people.token(membership)?));
        }
        for (name, value) in request.headers {
            built = built.header(*name, *value);
        }
        let body = Full::new(Bytes::from_static(request.body.unwrap_or_default().as_bytes()));
        let response = client.request(built.body(body)?).await?;
        let status = response.status().as_u16();
        let answer: Value =
            serde_json::from_slice(&response.into_body().collect().await?.to_bytes()).unwrap_or_default();
        let code = answer.get("code").and_then(Value::as_str).unwrap_or_default();
        let forged = answer.pointer("/headers/x-portcullis-user").is_some() && request.membership.is_none();
        let good = status == request.status && code == request.code && !forged;
        failures += usize::from(!good);
        let mark = if good { "ok    " } else { "WRONG " };
        say(&format!(
            "{mark} {:<22} {:<5} {:<50} {}",
            format!("{status} {code}"),
            request.method,
            request.target,
            request.title
        ));
        if !good {
            say(&format!("       expected {}", request.expected()));
        }
    }
    say(&format!("{} requests, {failures} answered otherwise than expected", REQUESTS.len()));
    Ok(failures)
}
