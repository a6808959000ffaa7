//! Stores and sidecars as processes of their own, killed when dropped.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

/// A running `portcullis`, and the file of what it logs.
pub struct Process(Child, PathBuf);

impl Process {
    /// Starts a store in `folder`, and waits until it is ready.
    pub fn store(folder: &Path, address: SocketAddr) -> Self {
        let configuration = json!({
            "version": 1,
            "listen": address,
            "database": format!("sqlite://{}/store.db", folder.display()),
            "api_keys": ["sk_bench"],
            "sync_keys": ["sync_bench"],
            "issuer": {
                "url": format!("http://{address}"),
                "client_id": "client_bench",
                "signing_key": folder.join("issuer.pem"),
                "token_lifetime": "1h",
            },
        });
        let process = Self::start("store", folder, &configuration);
        process.ready(address);
        process
    }

    /// Starts the command with this configuration.
    pub fn start(command: &str, folder: &Path, configuration: &serde_json::Value) -> Self {
        let file = folder.join(format!("{command}.yaml"));
        fs::write(&file, configuration.to_string()).unwrap();
        // Not to our own output: a sidecar without facts tells each request that it refuses.
        let log = folder.join(format!("{command}.log"));
        let child = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(["--log-level", "error", command, "--config"])
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self(child, log)
    }

    /// Waits until it says that it is.
    pub fn ready(&self, address: SocketAddr) {
        let begin = Instant::now();
        while status(address, "/ready", None) != Some(200) {
            assert!(begin.elapsed() < Duration::from_secs(60), "not ready after a minute: {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.1).unwrap()
    }

    /// Asks it to end, and waits for that.
    pub fn stop(mut self) {
        Command::new("kill").arg(self.id().to_string()).status().unwrap();
        self.0.wait().unwrap();
    }

    /// Processor time of all its threads since they began.
    pub fn processor_time(&self) -> Duration {
        let mut nanoseconds = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.id())).unwrap() {
            let Ok(line) = fs::read_to_string(task.unwrap().path().join("schedstat")) else { continue };
            nanoseconds += line.split_whitespace().next().unwrap().parse::<u64>().unwrap();
        }
        Duration::from_nanos(nanoseconds)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that is gone needs no ending.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The status of the answer to `GET path`; nothing when there is none.
pub fn status(address: SocketAddr, path: &str, token: Option<&str>) -> Option<u16> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let credential = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: app.example\r\nconnection: close\r\n{credential}\r\n").ok()?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).ok()?;
    std::str::from_utf8(&head[9..]).ok()?.parse().ok()
}

/// Bytes of memory that a process has.
pub fn resident(process: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// An address that was free a moment ago.
pub fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
