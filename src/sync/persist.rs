//! The last good facts on disk, so that a sidecar that is started while its store is away has something to decide on.
//!
//! One file in a folder of its own, for one sidecar at a time:
//!
//! ```text
//! portcullis-facts 1          the format
//! {"epoch":…,"seq":…, …}      the position, when it was written, how old it was, the catalog, the revocations
//! {"id":"org_…","facts":…}    an organization a line
//! …
//! 32 bytes                    HMAC-SHA256 over all of the above, with a key made from the sync key
//! ```
//!
//! A file is taken as a whole or not at all. Its age goes on counting while nobody runs: by uptime while the machine stays up, else by
//! the wall clock.

mod seal;

use std::fmt;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, Read, Seek, Take, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};

use self::seal::{SEAL_BYTES, Seal, SealKey, Sealed};
use super::feed::Position;
use crate::domain::record::{CatalogRows, OrganizationRows};
use crate::domain::{Clock, Epoch, Freshness, OrganizationId, Revision};
use crate::live::{Copy, InstallError, Remains, World};
use crate::wire::Revocation;

/// The first line, without the number of the format.
const WORD: &str = "portcullis-facts ";
/// The format that is written here, and the only one that is read.
const FORMAT: &str = "1";
/// The first line of any format is not longer than this.
const LONGEST_FIRST_LINE: u64 = 64;
/// So much is read or written at a time.
const BUFFER: usize = 64 * 1024;

/// Where facts are kept, and what they are sealed with.
#[derive(Clone)]
pub struct Settings {
    /// The folder; made when it is not there.
    pub folder: PathBuf,
    /// The sync key.
    pub key: String,
    /// The URL of the store: another store's facts are none, even if it takes the same key.
    pub store: String,
}

/// Puts in force what the folder has, as a sidecar does that starts: how many organizations. `None` when there is no file.
///
/// # Errors
/// [`PersistError`], and nothing is in force that was not before.
pub fn restore(settings: &Settings, world: &World, clock: &dyn Clock) -> Result<Option<usize>, PersistError> {
    let loaded = Disk::open(settings)?.load(world, clock)?;
    Ok(loaded.map(|(_, organizations)| organizations.len()))
}

/// A folder that is ours while this exists.
pub(super) struct Disk {
    folder: PathBuf,
    key: SealKey,
    /// Locked. Closing it unlocks it.
    _lock: File,
}

/// Why facts are not written to disk, or not taken from there.
#[derive(Debug, thiserror::Error)]
pub enum PersistError {
    /// Another process holds the lock.
    #[error("another sidecar uses this folder")]
    Taken,
    /// Folder or file cannot be used.
    #[error("the file system does not let us")]
    Io(#[from] io::Error),
    /// Something else lies there.
    #[error("the file is not one of facts")]
    Foreign,
    /// Others could have written it.
    #[error("the file belongs to somebody else, can be used by others, or is no plain file")]
    Exposed,
    /// Another version wrote it.
    #[error("the file has format `{found}`, expected `{FORMAT}`")]
    Format {
        /// The number in the file.
        found: String,
    },
    /// It is not what was written.
    #[error("the checksum does not fit: the file was cut off, changed, or written with another sync key")]
    Seal,
    /// It is what was written, and makes no sense.
    #[error("a line of the file cannot be read")]
    Line(#[from] serde_json::Error),
    /// A clock was set back.
    #[error("the file was written later than it is now, by the clock of this machine")]
    Future,
    /// Nobody may decide on it any more.
    #[error("the facts are {} s old, which is more than {} s", age.as_secs(), Freshness::LONGEST_SERVED.as_secs())]
    TooOld {
        /// How old they are.
        age: Duration,
    },
    /// They cannot come into force.
    #[error("the facts contradict each other")]
    Install(#[from] InstallError),
}

/// The second line.
#[derive(Serialize, Deserialize)]
struct Head {
    epoch: Epoch,
    seq: u64,
    chain: String,
    written: Stamp,
    /// How long before that the facts were proven to be the newest, in milliseconds.
    age_ms: u64,
    catalog: CatalogRows,
    revocations: Vec<Revocation>,
}

/// A moment, by both clocks of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    /// What tells this run of the machine from others.
    boot: Option<String>,
    uptime_ms: u64,
    unix_ms: u64,
}

/// Any further line.
#[derive(Serialize, Deserialize)]
struct Line {
    id: OrganizationId,
    facts: OrganizationRows,
}

impl Disk {
    /// Takes possession of the folder.
    pub(super) fn open(settings: &Settings) -> Result<Self, PersistError> {
        let Settings { folder, key, store } = settings;
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let lock = writable().truncate(false).create(true).open(folder.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { folder: folder.clone(), key: SealKey::of(key, store), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(PersistError::Taken),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }

    /// Replaces the file by one with `copy`, at the end of which the log amounts to `chain`. Whenever the machine fails meanwhile, there
    /// is the one file or the other.
    pub(super) fn save(&self, copy: &Copy, chain: &str, clock: &dyn Clock) -> Result<(), PersistError> {
        let new = self.folder.join("facts.new");
        // One that was left behind may belong to anybody.
        fs::remove_file(&new).or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
        let file = writable().create_new(true).open(&new)?;
        let Revision { epoch, seq } = copy.revision;
        let (written, age_ms) = (Stamp::now(clock), millis(copy.age));
        let (catalog, revocations) = (copy.catalog.rows(), copy.revocations.clone());
        let head = Head { epoch, seq, chain: chain.to_owned(), written, age_ms, catalog, revocations };
        let mut lines = BufWriter::with_capacity(BUFFER, self.key.sealed(&file));
        writeln!(lines, "{WORD}{FORMAT}")?;
        write_line(&mut lines, &head)?;
        for (id, shard) in &copy.organizations {
            write_line(&mut lines, &Line { id: id.clone(), facts: shard.rows(&copy.catalog) })?;
        }
        let sealed = lines.into_inner().map_err(io::IntoInnerError::into_error)?;
        let seal = sealed.seal();
        sealed.into_inner().write_all(seal.bytes())?;
        file.sync_all()?;
        fs::rename(&new, self.folder.join("facts"))?;
        Ok(File::open(&self.folder)?.sync_all()?)
    }

    /// Puts in force what the file has: where that stands in the log, and with which organizations. `None` when there is no file.
    pub(super) fn load(
        &self,
        world: &World,
        clock: &dyn Clock,
    ) -> Result<Option<(Position, Vec<OrganizationId>)>, PersistError> {
        // Neither another file that a link leads to, nor a pipe that nobody writes to.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let opened =
            OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(self.folder.join("facts"));
        let mut file = match opened {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        require_ours(&file.metadata()?)?;
        check_format(&file)?;
        // Nothing is looked at before all of it is known to be ours; as it may be large, it is read once more instead of kept.
        let length = file.metadata()?.len().checked_sub(SEAL_BYTES).ok_or(PersistError::Seal)?;
        file.rewind()?;
        let mut whole = self.key.sealed((&file).take(length));
        io::copy(&mut whole, &mut io::sink())?;
        let (mut found, seal) = (Vec::new(), whole.seal());
        (&file).take(SEAL_BYTES).read_to_end(&mut found)?;
        if !seal.is(&found) {
            return Err(PersistError::Seal);
        }
        file.rewind()?;
        let lines = BufReader::with_capacity(BUFFER, self.key.sealed((&file).take(length)));
        let mut lines = Lines { lines, seal, has_ended: false };
        let _format = lines.next_line()?;
        let head: Head = serde_json::from_slice(&lines.next_line()?)?;
        let age = head.age(&Stamp::now(clock))?;
        let position = Position { epoch: head.epoch, seq: head.seq, chain: head.chain };
        let revision = Revision { epoch: head.epoch, seq: head.seq };
        let (catalog, revocations, uptime) = (head.catalog, head.revocations, clock.uptime());
        let restored = world.restore(Remains { revision, catalog, revocations, age, uptime }, lines)?;
        Ok(Some((position, restored)))
    }
}

impl Head {
    /// How old the facts are now.
    fn age(&self, now: &Stamp) -> Result<Duration, PersistError> {
        let since = now.since(&self.written).ok_or(PersistError::Future)?;
        let age = since.saturating_add(Duration::from_millis(self.age_ms));
        if age > Freshness::LONGEST_SERVED { Err(PersistError::TooOld { age }) } else { Ok(age) }
    }
}

impl Stamp {
    fn now(clock: &dyn Clock) -> Self {
        Self { boot: clock.boot(), uptime_ms: millis(clock.uptime()), unix_ms: clock.unix_millis() }
    }

    /// Time since `then`: by uptime, which nobody can set, unless the machine was started anew. `None` when `then` is yet to come.
    fn since(&self, then: &Self) -> Option<Duration> {
        let same_run = self.boot.is_some() && self.boot == then.boot;
        let (now, then) = if same_run { (self.uptime_ms, then.uptime_ms) } else { (self.unix_ms, then.unix_ms) };
        now.checked_sub(then).map(Duration::from_millis)
    }
}

/// The lines of a file whose seal is known. A file that has changed since is none.
struct Lines<'a> {
    lines: BufReader<Sealed<Take<&'a File>>>,
    seal: Seal,
    has_ended: bool,
}

impl Lines<'_> {
    /// The next line; empty at the end.
    fn next_line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        self.lines.read_until(b'\n', &mut line)?;
        Ok(line)
    }

    fn next_organization(&mut self) -> Result<Option<(OrganizationId, OrganizationRows)>, PersistError> {
        let line = self.next_line()?;
        if !line.is_empty() {
            let Line { id, facts } = serde_json::from_slice(&line)?;
            return Ok(Some((id, facts)));
        }
        self.has_ended = true;
        if self.lines.get_ref().seal().is(self.seal.bytes()) { Ok(None) } else { Err(PersistError::Seal) }
    }
}

impl Iterator for Lines<'_> {
    type Item = Result<(OrganizationId, OrganizationRows), PersistError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_ended { None } else { self.next_organization().transpose() }
    }
}

/// What the first line says. It is looked at before the seal, which another format may make in another way.
fn check_format(file: &File) -> Result<(), PersistError> {
    let mut line = Vec::new();
    BufReader::new(file.take(LONGEST_FIRST_LINE)).read_until(b'\n', &mut line)?;
    let line = String::from_utf8(line).map_err(|_| PersistError::Foreign)?;
    match line.strip_prefix(WORD).ok_or(PersistError::Foreign)?.trim_end() {
        FORMAT => Ok(()),
        found => Err(PersistError::Format { found: found.to_owned() }),
    }
}

/// A plain file of our own, for us and at most our group: a volume may be given to that as a whole when it is mounted.
fn require_ours(metadata: &Metadata) -> Result<(), PersistError> {
    let is_ours = metadata.is_file() && metadata.uid() == geteuid().as_raw() && metadata.mode() & 0o007 == 0;
    if is_ours { Ok(()) } else { Err(PersistError::Exposed) }
}

/// A file for its owner only.
fn writable() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

fn write_line(lines: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *lines, line)?;
    lines.write_all(b"\n")
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("folder", &self.folder).finish_non_exhaustive()
    }
}
