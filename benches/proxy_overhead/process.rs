//! The proxies as processes: started on a core of their own where the system allows it, ended when dropped, and asked
//! how much processor time they have used.

use std::ffi::OsStr;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::load;

/// The core of the proxies.
const PROXY_CORE: &str = "0";
/// The core of the client and the upstream.
const LOAD_CORE: &str = "1";

/// A running proxy.
pub struct Proxy {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Proxy {
    /// Starts `binary` under `wrapper`, a command line or nothing, pinned if that is possible; it is to listen on `address`.
    pub fn start(wrapper: &[String], binary: &Path, arguments: &[&str], address: SocketAddr) -> Result<Self> {
        let pinned = ["taskset", "-c", PROXY_CORE].map(OsStr::new);
        let mut line: Vec<&OsStr> = if can_pin() { pinned.into() } else { Vec::new() };
        line.extend(wrapper.iter().map(OsStr::new));
        line.push(binary.as_os_str());
        let child = Command::new(line[0])
            .args(&line[1..])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("`{}` does not start", binary.display()))?;
        Ok(Self { child, address })
    }

    /// Waits until `GET path` at `address` is answered with 200, for at most ten seconds.
    pub async fn ready(&mut self, address: SocketAddr, path: &str) -> Result<()> {
        for _ in 0..1000 {
            if let Ok(200) = load::ask_once(address, load::request(path, None)).await {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the proxy ended before it was ready: {status}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        bail!("{address}{path} is not ready after ten seconds")
    }

    /// The id of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Processor time of all its threads since they began.
    pub fn processor_time(&self) -> Result<Duration> {
        let mut nanoseconds = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            // "time on the processor, time in the queue, slices", in nanoseconds. A thread may end while we look.
            let Ok(line) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
            nanoseconds += line.split_whitespace().next().unwrap_or("0").parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanoseconds))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // A proxy that is already gone needs no ending.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Moves this process, client and upstream, to their core. Returns whether that was possible.
pub fn pin_this_process() -> bool {
    let pid = std::process::id().to_string();
    can_pin() && quietly("taskset", &["-a", "-c", "-p", LOAD_CORE, &pid])
}

fn can_pin() -> bool {
    quietly("taskset", &["-c", LOAD_CORE, "true"])
}

fn quietly(program: &str, arguments: &[&str]) -> bool {
    let command = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    command.is_ok_and(|status| status.success())
}

/// An address of the loopback that was free a moment ago.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
