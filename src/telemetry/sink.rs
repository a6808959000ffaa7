//! Where lines go: a bounded queue and one thread that writes. A request never waits for a pipe that nobody reads.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use prometheus::IntCounter;
use tracing_subscriber::fmt::MakeWriter;

/// How many bytes the writer gathers before it writes.
const BATCH_BYTES: usize = 64 * 1024;

/// A handle to the queue; clones share it. The thread ends when the last handle is gone and the queue is written.
#[derive(Clone, Debug)]
pub struct Sink {
    queue: SyncSender<Vec<u8>>,
    dropped: IntCounter,
    progress: Arc<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    accepted: AtomicU64,
    written: Mutex<u64>,
    moved: Condvar,
}

impl Sink {
    /// Starts the writer thread on `target`. At most `capacity` lines wait; further ones are dropped and counted in `dropped`.
    ///
    /// # Errors
    /// The system's, when it has no thread left.
    pub fn start(target: impl Write + Send + 'static, capacity: usize, dropped: IntCounter) -> io::Result<Self> {
        let (queue, lines) = sync_channel(capacity);
        let progress = Arc::new(Progress::default());
        let seen = Arc::clone(&progress);
        thread::Builder::new().name("log-writer".to_owned()).spawn(move || write_all(&lines, target, &seen))?;
        Ok(Self { queue, dropped, progress })
    }

    /// Hands over one line, its line feed included. Never waits.
    pub fn write(&self, line: Vec<u8>) {
        match self.queue.try_send(line) {
            Ok(()) => _ = self.progress.accepted.fetch_add(1, Ordering::Relaxed),
            Err(_) => self.dropped.inc(),
        }
    }

    /// Waits until what was handed over so far is written, at most `patience`. `false` when it is not.
    pub fn flush(&self, patience: Duration) -> bool {
        let accepted = self.progress.accepted.load(Ordering::Relaxed);
        let written = self.progress.written.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.progress.moved.wait_timeout_while(written, patience, |written| *written < accepted);
        let (written, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *written >= accepted
    }
}

/// The life of the writer thread. Errors of the target are not reported: there is nowhere left to report them.
fn write_all(lines: &Receiver<Vec<u8>>, mut target: impl Write, progress: &Progress) {
    let mut batch = Vec::with_capacity(BATCH_BYTES);
    while let Ok(first) = lines.recv() {
        let mut count = 1;
        batch.extend_from_slice(&first);
        while batch.len() < BATCH_BYTES
            && let Ok(line) = lines.try_recv()
        {
            batch.extend_from_slice(&line);
            count += 1;
        }
        let _ = target.write_all(&batch).and_then(|()| target.flush());
        batch.clear();
        *progress.written.lock().unwrap_or_else(PoisonError::into_inner) += count;
        progress.moved.notify_all();
    }
}

/// What `tracing` writes events to: one call, one line.
#[derive(Debug)]
pub struct EventWriter<'a>(&'a Sink);

impl Write for EventWriter<'_> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.0.write(event.to_vec());
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Sink {
    type Writer = EventWriter<'a>;

    fn make_writer(&'a self) -> EventWriter<'a> {
        EventWriter(self)
    }
}
