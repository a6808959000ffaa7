//! One process takes the place of another without a refused connection: the old one hands its sockets to the new one.
//!
//! ```text
//! new: keys and facts are loaded   waits at the meeting point
//! old: SIGQUIT                     comes there
//! both                             is the other one ours?
//! new                              says `ready`
//! old                              sends its sockets
//! new: binds what it lacks         says `taken`, accepts
//! old                              accepts no more, lets its connections end, ends
//! ```
//!
//! Whatever fails before `taken` leaves the old process as it was. The sockets are the same all the time, so who connects meanwhile waits
//! in a queue that both know. The order of events is Pingora's; the message is our own, as Pingora's leaves the old process without sockets
//! when the new one does not come, lets anybody come to the meeting point, and cuts long lists of addresses.

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use rustix::process::geteuid;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};

use crate::config::Upgrade;
use crate::socket::{Address, BindError, Socket};

/// What the new process says first. The number is that of this way to talk.
const READY: &[u8; 19] = b"portcullis 1 ready\n";
/// What it says last.
const TAKEN: &[u8; 19] = b"portcullis 1 taken\n";
/// What comes with the sockets, before their number.
const SOCKETS: &str = "portcullis 1 sockets ";
/// The longest that one waits for the other to say something.
const ANSWER: Duration = Duration::from_secs(5);
/// The time between two looks whether the other is there.
const LOOK: Duration = Duration::from_millis(50);
/// So many sockets go into one message (`SCM_MAX_FD` of Linux).
const MOST_SOCKETS: usize = 253;
/// The message that comes with them is shorter.
const LONGEST_MESSAGE: usize = 64;

/// Why one process did not take the place of the other.
#[derive(Debug, thiserror::Error)]
pub enum TakeoverError {
    /// The new process lacks keys or facts.
    #[error("not ready to take over within {}: {missing}", humantime::format_duration(*within))]
    Unready {
        /// What was waited.
        within: Duration,
        /// What it waits for.
        missing: String,
    },
    /// The folder of the meeting point could be entered by others.
    #[error("`{}` is no folder of ours that nobody else can enter (mode 700)", folder.display())]
    Exposed {
        /// The folder.
        folder: PathBuf,
    },
    /// A socket cannot be listened on: the meeting point, or one that the old process did not have.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Nobody came.
    #[error("nobody came to `{}` within {}", socket.display(), humantime::format_duration(*within))]
    Alone {
        /// The meeting point.
        socket: PathBuf,
        /// What was waited.
        within: Duration,
    },
    /// Somebody else was there.
    #[error("the process at the meeting point is not ours: user {user}")]
    Stranger {
        /// Its user.
        user: u32,
    },
    /// The other one is no sidecar, or one that talks in another way.
    #[error("the process at the meeting point says something else than `{expected}`")]
    Language {
        /// What it should say.
        expected: String,
    },
    /// There are too many sockets.
    #[error("{count} sockets are more than {MOST_SOCKETS}")]
    TooMany {
        /// How many there are.
        count: usize,
    },
    /// The system does not let us.
    #[error("the other process cannot be talked to")]
    Io(#[from] io::Error),
}

/// Gives `sockets` to the process that waits at the meeting point, or comes there soon. When this is over without an error, that process
/// accepts connections. It may be dropped at any time.
///
/// # Errors
/// [`TakeoverError`], and then nobody has taken over.
pub(super) async fn hand_over(upgrade: &Upgrade, sockets: &[Socket]) -> Result<(), TakeoverError> {
    if sockets.len() > MOST_SOCKETS {
        return Err(TakeoverError::TooMany { count: sockets.len() });
    }
    let mut other = timeout(upgrade.timeout, meet(&upgrade.socket)).await.map_err(|_| alone(upgrade))??;
    expect(&mut other, READY).await?;
    other.async_io(Interest::WRITABLE, || send(&other, sockets)).await?;
    expect(&mut other, TAKEN).await
}

/// Waits at the meeting point for a process to hand its sockets over, has them `taken`, and says so.
///
/// # Errors
/// [`TakeoverError`], and then the other process goes on.
pub(super) async fn take_over(
    upgrade: &Upgrade,
    taken: impl FnOnce(Vec<Socket>) -> Result<(), BindError>,
) -> Result<(), TakeoverError> {
    require_own_folder(&upgrade.socket)?;
    let Socket::Unix(socket) = Address::Unix(upgrade.socket.clone()).bind()? else {
        return Err(alone(upgrade));
    };
    let _place = Place(&upgrade.socket);
    let socket = UnixListener::from_std(socket)?;
    tracing::info!(socket = %upgrade.socket.display(), "ready to take over from the process that is sent SIGQUIT");
    let arrival = async {
        loop {
            let (mut other, _) = socket.accept().await?;
            match receive_from(&mut other).await {
                Ok(sockets) => return io::Result::Ok((other, sockets)),
                // Not the one that is waited for.
                Err(error) => tracing::warn!(%error, "nothing was taken over"),
            }
        }
    };
    let (mut other, sockets) = timeout(upgrade.timeout, arrival).await.map_err(|_| alone(upgrade))??;
    taken(sockets)?;
    // Connections are accepted already: the other process accepts no more when it hears this, or has gone.
    let _ = other.write_all(TAKEN).await;
    Ok(())
}

/// Whether others are kept away from the meeting point; its folder is made if there is none.
///
/// # Errors
/// [`TakeoverError::Exposed`], or what the system says.
pub(super) fn require_own_folder(socket: &Path) -> Result<(), TakeoverError> {
    let folder = socket.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let found = fs::symlink_metadata(folder)?;
    let is_ours = found.is_dir() && found.uid() == geteuid().as_raw() && found.mode() & 0o077 == 0;
    if is_ours { Ok(()) } else { Err(TakeoverError::Exposed { folder: folder.to_owned() }) }
}

/// The meeting point, which is taken away with this.
struct Place<'a>(&'a Path);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        // The next one takes it away if we cannot.
        let _ = fs::remove_file(self.0);
    }
}

fn alone(upgrade: &Upgrade) -> TakeoverError {
    TakeoverError::Alone { socket: upgrade.socket.clone(), within: upgrade.timeout }
}

/// The process at the meeting point, once there is one.
async fn meet(socket: &Path) -> Result<UnixStream, TakeoverError> {
    loop {
        require_own_folder(socket)?;
        match UnixStream::connect(socket).await {
            Ok(other) => return require_ours(&other).map(|()| other),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {}
            Err(error) => return Err(error.into()),
        }
        sleep(LOOK).await;
    }
}

/// What the process that has come hands over.
async fn receive_from(other: &mut UnixStream) -> Result<Vec<Socket>, TakeoverError> {
    require_ours(other)?;
    other.write_all(READY).await?;
    let received = other.async_io(Interest::READABLE, || receive(&*other));
    timeout(ANSWER, received).await.map_err(|_| io::Error::from(ErrorKind::TimedOut))??.ok_or_else(|| wrong(SOCKETS))
}

/// Whether the process at the other end belongs to the same user.
fn require_ours(other: &UnixStream) -> Result<(), TakeoverError> {
    let user = other.peer_cred()?.uid();
    if user == geteuid().as_raw() { Ok(()) } else { Err(TakeoverError::Stranger { user }) }
}

async fn expect(other: &mut UnixStream, word: &[u8; 19]) -> Result<(), TakeoverError> {
    let mut said = [0; 19];
    match timeout(ANSWER, other.read_exact(&mut said)).await {
        Err(_) => Err(io::Error::from(ErrorKind::TimedOut).into()),
        Ok(Err(error)) => Err(error.into()),
        Ok(Ok(_)) if said == *word => Ok(()),
        Ok(Ok(_)) => Err(wrong(&String::from_utf8_lossy(word))),
    }
}

fn wrong(expected: &str) -> TakeoverError {
    TakeoverError::Language { expected: expected.trim().to_owned() }
}

fn send(other: &UnixStream, sockets: &[Socket]) -> io::Result<()> {
    let message = format!("{SOCKETS}{}\n", sockets.len());
    let descriptors: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_SOCKETS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(ErrorKind::OutOfMemory.into());
    }
    let sent = sendmsg(other, &[IoSlice::new(message.as_bytes())], &mut control, SendFlags::NOSIGNAL)?;
    if sent == message.len() { Ok(()) } else { Err(ErrorKind::WriteZero.into()) }
}

/// The sockets of one message; `None` when it is another one.
fn receive(other: &UnixStream) -> io::Result<Option<Vec<Socket>>> {
    let mut message = [0; LONGEST_MESSAGE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_SOCKETS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(other, &mut [IoSliceMut::new(&mut message)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    // Whatever came is ours from here on, and closed if it is not wanted.
    let mut descriptors: Vec<OwnedFd> = Vec::new();
    for came in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = came {
            descriptors.extend(rights);
        }
    }
    let expected = format!("{SOCKETS}{}\n", descriptors.len());
    let is_whole = !received.flags.contains(ReturnFlags::CTRUNC);
    if !is_whole || message.get(..received.bytes) != Some(expected.as_bytes()) {
        return Ok(None);
    }
    descriptors.into_iter().map(Socket::adopt).collect::<io::Result<_>>().map(Some)
}

#[cfg(test)]
mod tests;
