//! Taking connections from a socket, whatever goes wrong with one of them.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// How long nothing is accepted after that failed for want of something, mostly of file descriptors. Connections wait meanwhile.
const PAUSE: Duration = Duration::from_millis(100);
/// One failure of so many in a row is logged.
const TOLD: u32 = 100;
/// So many are taken at the end: who comes later finds nobody.
const MOST_WAITING: usize = 8192;

/// What connections come from.
pub trait Source {
    /// A connection.
    type Connection;

    /// The next one.
    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<Self::Connection>>;

    /// What asks the system itself for the next one; `WouldBlock` when none has come.
    ///
    /// # Errors
    /// When there is no such socket any more.
    fn ask(self) -> io::Result<impl FnMut() -> io::Result<Self::Connection>>;
}

impl Source for TcpListener {
    type Connection = (TcpStream, SocketAddr);

    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<Self::Connection>> {
        Self::poll_accept(self, context)
    }

    fn ask(self) -> io::Result<impl FnMut() -> io::Result<Self::Connection>> {
        let listener = self.into_std()?;
        Ok(move || {
            let (stream, peer) = listener.accept()?;
            stream.set_nonblocking(true)?;
            Ok((TcpStream::from_std(stream)?, peer))
        })
    }
}

impl Source for UnixListener {
    type Connection = UnixStream;

    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<Self::Connection>> {
        Self::poll_accept(self, context).map_ok(|(stream, _)| stream)
    }

    fn ask(self) -> io::Result<impl FnMut() -> io::Result<Self::Connection>> {
        let listener = self.into_std()?;
        Ok(move || {
            let (stream, _) = listener.accept()?;
            stream.set_nonblocking(true)?;
            UnixStream::from_std(stream)
        })
    }
}

/// The one who accepts.
#[derive(Debug)]
pub struct Acceptor<S> {
    source: S,
    failures: u32,
}

impl<S: Source> Acceptor<S> {
    /// Accepts from `source`.
    pub fn new(source: S) -> Self {
        Self { source, failures: 0 }
    }

    /// The next connection. What fails is tried again: at once where only that connection was at fault, else after a pause, so that a
    /// process without file descriptors neither spins nor stands still. May be dropped at any time without losing a connection.
    pub async fn next(&mut self) -> S::Connection {
        loop {
            match poll_fn(|context| self.source.poll_accept(context)).await {
                Ok(connection) => {
                    self.failures = 0;
                    return connection;
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    if self.failures.is_multiple_of(TOLD) {
                        tracing::warn!(%error, "connections cannot be accepted; they wait");
                    }
                    self.failures = self.failures.wrapping_add(1);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Accepts no more, after `take` has had those that have come already: they would be reset when the socket is closed.
    pub fn close(self, mut take: impl FnMut(S::Connection)) {
        // The system is asked, and not the runtime, which hears of what has come a moment later.
        let Ok(mut ask) = self.source.ask() else { return };
        for _ in 0..MOST_WAITING {
            match ask() {
                Ok(connection) => take(connection),
                Err(error) if is_of_one_connection(&error) => {}
                Err(_) => return,
            }
        }
    }
}

/// Whether the connection is at fault, which is gone with that: the others can be accepted (accept(2), "Error handling").
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted, NetworkDown,
        NetworkUnreachable, PermissionDenied,
    };
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionRefused
            | ConnectionReset
            | HostUnreachable
            | Interrupted
            | NetworkDown
            | NetworkUnreachable
            | PermissionDenied
    )
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use parking_lot::Mutex;
    use tokio::time::Instant;

    use super::*;

    /// Connections and errors as they are listed: the system gives none of these errors on demand.
    struct Listed(Mutex<VecDeque<Result<u32, i32>>>);

    impl Source for Listed {
        type Connection = u32;

        fn poll_accept(&self, _: &mut Context<'_>) -> Poll<io::Result<u32>> {
            match self.0.lock().pop_front() {
                Some(Ok(connection)) => Poll::Ready(Ok(connection)),
                Some(Err(code)) => Poll::Ready(Err(io::Error::from_raw_os_error(code))),
                None => Poll::Pending,
            }
        }

        fn ask(self) -> io::Result<impl FnMut() -> io::Result<u32>> {
            Ok(move || match self.0.lock().pop_front() {
                Some(listed) => listed.map_err(io::Error::from_raw_os_error),
                None => Err(io::ErrorKind::WouldBlock.into()),
            })
        }
    }

    fn acceptor(list: impl IntoIterator<Item = Result<u32, i32>>) -> Acceptor<Listed> {
        Acceptor::new(Listed(Mutex::new(list.into_iter().collect())))
    }

    #[tokio::test(start_paused = true)]
    async fn without_descriptors_it_waits_a_little_and_goes_on() {
        let (emfile, enfile, econnaborted) = (24, 23, 103);
        let mut acceptor =
            acceptor([Err(econnaborted), Ok(1), Err(emfile), Err(emfile), Ok(2), Err(enfile), Ok(3), Ok(4)]);
        let begun = Instant::now();
        for (connection, pauses) in [(1, 0), (2, 2), (3, 3), (4, 3)] {
            assert_eq!(acceptor.next().await, connection);
            let waited = begun.elapsed();
            assert!(waited >= PAUSE * pauses && waited < PAUSE * (pauses + 1), "{connection}: {waited:?}");
        }
    }

    #[test]
    fn what_has_come_is_taken_before_the_socket_is_closed() {
        let mut taken = Vec::new();
        acceptor([Ok(1), Err(103), Ok(2)]).close(|connection| taken.push(connection));
        assert_eq!(taken, [1, 2]);
    }

    #[tokio::test]
    async fn who_has_connected_is_heard_after_the_end() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        let acceptor = Acceptor::new(TcpListener::from_std(socket).unwrap());
        let mut clients: Vec<_> = (0..20).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        let mut taken = Vec::new();
        acceptor.close(|(stream, _)| taken.push(stream));
        assert_eq!(taken.len(), clients.len());
        std::net::TcpStream::connect(address).unwrap_err();
        for client in &mut clients {
            std::io::Write::write_all(client, b"x").unwrap();
        }
        for stream in &taken {
            stream.readable().await.unwrap();
            assert_eq!(stream.try_read(&mut [0; 2]).unwrap(), 1);
        }
    }
}
