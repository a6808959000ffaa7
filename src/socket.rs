//! Sockets that are listened on: bound before anything runs, handed from one process to the next, and named by where they are.
//!
//! [`accept`] takes connections from them, [`pages`] serves our own pages there.

pub mod accept;
pub mod pages;

use std::fmt;
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, fchmod};
use rustix::net::sockopt::socket_acceptconn;
use socket2::{Domain, Protocol, SockAddr, Type};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

/// Where a socket is listened on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A socket address; port 0 takes any free one.
    Tcp(SocketAddr),
    /// A Unix socket, for its owner only.
    Unix(PathBuf),
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on `{address}`")]
pub struct BindError {
    /// Where.
    pub address: String,
    /// Why not.
    #[source]
    pub source: io::Error,
}

/// A socket that is listened on. It does not block.
#[derive(Debug)]
pub enum Socket {
    /// On a socket address.
    Tcp(TcpListener),
    /// At a path.
    Unix(UnixListener),
}

impl Address {
    /// Listens there. What an earlier process left at the path of a Unix socket is replaced, if it is a socket that nobody listens on.
    ///
    /// # Errors
    /// [`BindError`] when it is no address of this machine, somebody else has it, or something else lies at the path.
    pub fn bind(&self) -> Result<Socket, BindError> {
        let bound = match self {
            Self::Tcp(address) => bind_tcp(*address).map(Socket::Tcp),
            Self::Unix(path) => vacate(path).and_then(|()| bind_unix(path)).map(Socket::Unix),
        };
        bound.map_err(|source| BindError { address: self.to_string(), source })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Socket {
    /// Takes a descriptor that came from elsewhere for what it is.
    ///
    /// # Errors
    /// When it is no socket, or one that is not listened on.
    pub fn adopt(descriptor: OwnedFd) -> io::Result<Self> {
        if !socket_acceptconn(&descriptor)? {
            return Err(io::Error::new(ErrorKind::InvalidInput, "the socket is not listened on"));
        }
        let socket = socket2::Socket::from(descriptor);
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        match (address.as_socket(), address.is_unix()) {
            (Some(_), _) => Ok(Self::Tcp(socket.into())),
            (None, true) => Ok(Self::Unix(socket.into())),
            (None, false) => Err(io::Error::new(ErrorKind::InvalidInput, "the socket is neither TCP nor Unix")),
        }
    }

    /// The same socket once more: it is listened on until the last one is dropped.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn share(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(listener) => listener.try_clone().map(Self::Tcp),
            Self::Unix(listener) => listener.try_clone().map(Self::Unix),
        }
    }

    /// Where it is, with the port that was taken.
    ///
    /// # Errors
    /// What the system says.
    pub fn address(&self) -> io::Result<Address> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Address::Tcp),
            Self::Unix(listener) => {
                let address = listener.local_addr()?;
                let path = address.as_pathname().ok_or(ErrorKind::AddrNotAvailable)?;
                Ok(Address::Unix(path.to_owned()))
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener) => listener.as_fd(),
        }
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// A Unix socket that nobody but its owner could ever connect to.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Linux makes the file with the mode of the socket. Where it does not, it has the right one a moment later.
    let _ = fchmod(&socket, Mode::RUSR | Mode::WUSR);
    socket.bind(&SockAddr::unix(path)?)?;
    if fs::symlink_metadata(path)?.permissions().mode() & 0o777 != 0o600 {
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
    }
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Takes away the socket that an earlier process left at `path`, and nothing else.
fn vacate(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(ErrorKind::AlreadyExists, "what is there is no socket"));
        }
        Ok(_) => {}
    }
    let visitor = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    visitor.set_nonblocking(true)?;
    match visitor.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        // Somebody listens who has no time for us.
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
        _ => Err(ErrorKind::AddrInUse.into()),
    }
}

#[cfg(test)]
mod tests;
