//! What a store writes about requests, and how it ends while one is under way.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::process::configure;
use crate::support::{KEY, on_sqlite};

#[test]
fn every_answer_has_the_id_of_its_request() {
    on_sqlite(async |store| {
        let given = |id| [("x-request-id", id)];
        let answer = store.send("GET", "/organizations", None, &given("mine-1")).await;
        assert_eq!(answer.headers["x-request-id"], "mine-1");
        let answer = store.send("GET", "/nothing", None, &given("mine-2")).await;
        assert_eq!((answer.status, &answer.headers["x-request-id"]), (404, &"mine-2".parse().unwrap()));
        let long = "x".repeat(129);
        let made = |answer: crate::support::Answer| answer.headers["x-request-id"].to_str().unwrap().to_owned();
        let (one, two) = (made(store.get("/live").await), made(store.send("GET", "/live", None, &given(&long)).await));
        assert!(one.starts_with("req_") && two.starts_with("req_") && one != two, "{one} {two}");
    });
}

/// SIGTERM while a body is still on its way: the request is answered, then the process ends; and the log has a line of it.
#[tokio::test]
async fn a_request_under_way_is_finished_and_logged() {
    let folder = tempfile::tempdir().unwrap();
    configure(folder.path(), "");
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.args(["store", "--config", "store.yaml"]).current_dir(folder.path()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut line = |what: &str| -> Value {
        let found = lines.find(|line| line.contains(what)).unwrap_or_else(|| panic!("no line with {what}"));
        assert!(!found.contains(KEY), "{found}");
        serde_json::from_str(&found).unwrap()
    };
    let listening = line("listening");
    let address = listening["address"].as_str().unwrap();
    let body = json!({"name": "Acme", "external_id": "secret-of-acme"}).to_string();
    let head = format!(
        "POST /organizations HTTP/1.1\r\nhost: store\r\nauthorization: Bearer {KEY}\r\nx-request-id: mine-3\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&body.as_bytes()[..5]).await.unwrap();
    // Answered on another connection after these bytes came: they are being read.
    let mut other = TcpStream::connect(address).await.unwrap();
    other.write_all(b"GET /live HTTP/1.1\r\nhost: store\r\nconnection: close\r\n\r\n").await.unwrap();
    other.read_to_end(&mut Vec::new()).await.unwrap();
    let told = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(told.success());
    line("stopping");
    stream.write_all(&body.as_bytes()[5..]).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    let logged = line("mine-3");
    let fields = ["operation", "method", "status", "key", "request_id", "message"].map(|name| logged[name].clone());
    let expected = [json!("createOrganization"), json!("POST"), json!(201), json!("api_key_1"), json!("mine-3")];
    assert_eq!(fields[..5], expected);
    assert_eq!(fields[5], "request");
    assert!(logged["revision"].as_str().is_some_and(|revision| revision.starts_with("r1.")), "{logged}");
    assert!(!logged.to_string().contains("secret-of-acme"), "{logged}");
    assert!(TcpStream::connect(address).await.is_err(), "nobody is let in any more");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
