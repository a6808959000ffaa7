//! What the demo ends or begins with: a role is taken away in the store, and the next requests show how long that took to count.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, header};
use http_body_util::Empty;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::json;

use super::seed::Ids;
use crate::app::SystemClock;
use crate::cli::say;
use crate::cli::store_client::StoreClient;
use crate::domain::Clock;

/// What Alice may do through her group.
const TARGET: &str = "/projects/42";
/// The sample's name for the group, and for its role.
const GROUP: &str = "group_engineering";
const ROLE: &str = "workspace-admin";
/// The longest that it may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Lets a request pass, takes the group's role away, and repeats the request until it is refused. Gives the role back. Says whether it went
/// as it should.
pub(super) async fn show(sidecar: SocketAddr, token: &str, store: &StoreClient, ids: &Ids) -> anyhow::Result<bool> {
    let client: Client<HttpConnector, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let ask = async || {
        let request = http::Request::builder()
            .method(Method::PATCH)
            .uri(format!("http://{sidecar}{TARGET}"))
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .body(Empty::new())?;
        anyhow::Ok(client.request(request).await?.status().as_u16())
    };
    say("\nWhat is taken away in the store counts no more, though the token is still valid:\n");
    let before = ask().await?;
    say(&format!("{before}  PATCH {TARGET} as Alice, through the role {ROLE} of her group"));
    let group = ids.of(GROUP)?;
    let path = format!("/authorization/groups/{group}/role_assignments");
    let assignment = ids.of(&format!("{GROUP} {ROLE}"))?;
    store.expect(Method::DELETE, &format!("{path}/{assignment}"), None).await?;
    say(&format!("204  DELETE {path}/{assignment}"));
    let began = SystemClock.uptime();
    let elapsed = || SystemClock.uptime().saturating_sub(began);
    let mut requests = 0;
    let after = loop {
        let status = ask().await?;
        requests += 1;
        if status != 200 || elapsed() > PATIENCE {
            break status;
        }
    };
    let took = elapsed().as_secs_f64() * 1000.0;
    say(&format!("{after}  PATCH {TARGET} as Alice, {:.1} ms later (request {requests})", took));
    let body = json!({"role_slug": ROLE, "resource_type_slug": "workspace", "resource_external_id": "ws-engineering"});
    store.expect(Method::POST, &path, Some(&body)).await?;
    while after == 403 && ask().await? != 200 && elapsed() < PATIENCE {}
    Ok((before, after) == (200, 403))
}
