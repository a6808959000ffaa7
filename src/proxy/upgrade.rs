//! Connections to upstreams for requests that ask to leave HTTP, WebSocket above all.
//!
//! Pingora takes note of two things in whichever order it finds them: that the body of such a request, which is empty, has ended, and
//! that the upstream has answered. When a quick upstream's `101` is found first, the end of the body is taken for the end of what the
//! client sends on the upgraded connection, and that is closed before its first message. Here the answer is always found second: after
//! each write, the first read has nothing yet, once.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_trait::async_trait;
use pingora::connectors::l4::Connect;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use pingora::{Error, ErrorType};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// Connects so that no answer is found before the end of its request.
#[derive(Debug, Clone, Copy)]
pub(super) struct InTurn;

#[async_trait]
impl Connect for InTurn {
    async fn connect(&self, address: &SocketAddr) -> pingora::Result<Stream> {
        let failed =
            |error| Error::because(ErrorType::ConnectError, "while connecting for an upgrade", error).into_up();
        let socket: Box<dyn VirtualSocket> = match address {
            SocketAddr::Inet(address) => {
                let stream = TcpStream::connect(address).await.map_err(failed)?;
                Box::new(TakingTurns { stream, wrote: false })
            }
            SocketAddr::Unix(address) => {
                let path = address.as_pathname().ok_or_else(|| failed(io::ErrorKind::AddrNotAvailable.into()))?;
                let stream = UnixStream::connect(path).await.map_err(failed)?;
                Box::new(TakingTurns { stream, wrote: false })
            }
        };
        Ok(Stream::from(VirtualSocketStream::new(socket)))
    }
}

/// A socket whose first read after a write has nothing yet.
#[derive(Debug)]
struct TakingTurns<S> {
    stream: S,
    wrote: bool,
}

/// What of its options can be set on a socket.
trait Options {
    fn no_delay(&self) -> io::Result<()>;
}

impl Options for TcpStream {
    fn no_delay(&self) -> io::Result<()> {
        self.set_nodelay(true)
    }
}

impl Options for UnixStream {
    fn no_delay(&self) -> io::Result<()> {
        Ok(())
    }
}

impl<S> VirtualSocket for TakingTurns<S>
where
    S: AsyncRead + AsyncWrite + Options + Unpin + Send + Sync + std::fmt::Debug,
{
    fn set_socket_option(&self, option: VirtualSockOpt) -> io::Result<()> {
        match option {
            VirtualSockOpt::NoDelay => self.stream.no_delay(),
            // Nothing else is configured.
            _ => Ok(()),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TakingTurns<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.wrote) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TakingTurns<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.wrote = true;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
