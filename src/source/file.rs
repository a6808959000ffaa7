//! Facts in a file on this machine.
//!
//! The file and the model file it may name are looked at again and again: first at what the file system says about them, and when that
//! changed, at the content. Replacing by rename and swapping a symbolic link (as Kubernetes does) are seen as well as writing in place;
//! only a content that stays the same for a moment is read. A file is taken as a whole, or not at all.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws_lc_rs::digest::{SHA256, digest};
use tokio::fs::{self, File};
use tokio::io::AsyncReadExt;
use tokio::time::sleep;

use super::{Complete, Organizations, Source, SourceError, Update};
use crate::domain::record::OrganizationRows;
use crate::domain::{Epoch, OrganizationId, Revision};
use crate::files::Stamp;
use crate::wire::Facts;
use crate::yaml::{self, Node, Place, Problems};

/// The most bytes of a file that are read.
const MOST_BYTES: u64 = 64 * 1024 * 1024;
/// How long a content must stay the same.
const SETTLING: Duration = Duration::from_millis(20);
/// How often that is tried in one pull.
const SETTLING_TRIES: usize = 25;

/// A facts file.
///
/// Its revisions: the epoch is made of the first content that was accepted, the number counts accepted contents from 1.
#[derive(Debug)]
pub struct FileSource {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The last content that was read, good or bad.
    seen: Option<Seen>,
    /// The last content that was good.
    accepted: Option<(Content, Revision)>,
}

#[derive(Debug)]
struct Seen {
    /// The files it was read from.
    stamps: Vec<(PathBuf, Stamp)>,
    problems: Option<Problems>,
}

/// The first half of SHA-256 over the texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Content(u128);

/// One reading of all files.
struct Reading {
    stamps: Vec<(PathBuf, Stamp)>,
    content: Content,
    facts: Result<Facts, Problems>,
}

#[async_trait]
impl Source for FileSource {
    async fn pull(&self, known: Option<&Revision>) -> Result<Update, SourceError> {
        if self.is_untouched().await
            && let Some(update) = self.repeat(known)
        {
            return update;
        }
        let reading = self.read().await?;
        let mut state = self.state();
        let facts = match reading.facts {
            Ok(facts) => facts,
            Err(problems) => {
                state.seen = Some(Seen { stamps: reading.stamps, problems: Some(problems.clone()) });
                return Err(self.refused(problems));
            }
        };
        state.seen = Some(Seen { stamps: reading.stamps, problems: None });
        let revision = state.accept(reading.content);
        if known == Some(&revision) {
            return Ok(Update::Unchanged);
        }
        let organizations = Organizations::All(facts.organizations);
        Ok(Update::Complete(Complete { revision, catalog: facts.catalog, organizations }))
    }

    async fn fetch(&self, organization: &OrganizationId) -> Result<Option<OrganizationRows>, SourceError> {
        let facts = self.read().await?.facts.map_err(|problems| self.refused(problems))?;
        Ok(facts.organizations.into_iter().find_map(|(id, rows)| (id == *organization).then_some(rows)))
    }
}

impl FileSource {
    /// Facts in the file at `path`. Nothing is read yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the file system says of every file what it said at the last reading.
    async fn is_untouched(&self) -> bool {
        let stamps = self.state().seen.as_ref().map(|seen| seen.stamps.clone()).unwrap_or_default();
        for (path, before) in &stamps {
            if stamp(path).await.ok() != Some(*before) {
                return false;
            }
        }
        !stamps.is_empty()
    }

    /// The answer of the last reading, where it can be given without reading.
    fn repeat(&self, known: Option<&Revision>) -> Option<Result<Update, SourceError>> {
        let state = self.state();
        if let Some(problems) = &state.seen.as_ref()?.problems {
            return Some(Err(self.refused(problems.clone())));
        }
        let (_, revision) = state.accepted.as_ref()?;
        (known == Some(revision)).then_some(Ok(Update::Unchanged))
    }

    async fn read(&self) -> Result<Reading, SourceError> {
        for _ in 0..SETTLING_TRIES {
            let (text, before) = settled(&self.path).await?;
            let name = self.path.display().to_string();
            let node = match yaml::parse(&name, &text, None) {
                Ok(node) => node,
                Err(problems) => {
                    let stamps = vec![(self.path.clone(), before)];
                    return Ok(Reading { stamps, content: Content::of(&[&text]), facts: Err(problems) });
                }
            };
            let model = match node.get("model").and_then(Node::as_str) {
                Some(relative) => Some(self.model(relative).await?),
                None => None,
            };
            // A model that belongs to another version of the file is not read together with this one.
            if stamp(&self.path).await.ok() == Some(before) {
                return Ok(self.reading(&node, &text, before, model));
            }
        }
        Err(SourceError::Unsettled { origin: self.path.display().to_string() })
    }

    fn reading(&self, node: &Node, text: &str, stamp: Stamp, model: Option<(PathBuf, String, Stamp)>) -> Reading {
        let mut texts = vec![text];
        let mut stamps = vec![(self.path.clone(), stamp)];
        if let Some((path, text, stamp)) = &model {
            texts.push(text);
            stamps.push((path.clone(), *stamp));
        }
        let load = |_: &str| match &model {
            Some((path, text, _)) => yaml::parse(&path.display().to_string(), text, None),
            None => Err(node.problem("no model file was read").into()),
        };
        Reading { content: Content::of(&texts), facts: Facts::read(node, &load), stamps }
    }

    /// The model file, named relative to the facts file.
    async fn model(&self, relative: &str) -> Result<(PathBuf, String, Stamp), SourceError> {
        let path = self.path.parent().unwrap_or(Path::new("")).join(relative);
        let (text, stamp) = settled(&path).await?;
        Ok((path, text, stamp))
    }

    fn refused(&self, problems: Problems) -> SourceError {
        SourceError::Refused { origin: self.path.display().to_string(), problems }
    }
}

impl State {
    /// The revision of a good content: a new one, unless it is the content in force.
    fn accept(&mut self, content: Content) -> Revision {
        let revision = match self.accepted {
            Some((same, revision)) if same == content => revision,
            Some((_, Revision { epoch, seq })) => Revision { epoch, seq: seq + 1 },
            #[expect(clippy::cast_possible_truncation, reason = "half of a hash is a hash")]
            None => Revision { epoch: Epoch(content.0 as u64), seq: 1 },
        };
        self.accepted = Some((content, revision));
        revision
    }
}

impl Content {
    fn of(texts: &[&str]) -> Self {
        // A length before each text, so that a boundary between texts counts.
        let parts = texts.iter().flat_map(|text| [text.len().to_string(), "\n".to_owned(), (*text).to_owned()]);
        let hash = digest(&SHA256, parts.collect::<String>().as_bytes());
        Self(hash.as_ref().iter().take(16).fold(0, |sum, byte| sum << 8 | u128::from(*byte)))
    }
}

/// The text of a file once it stays the same for a moment, and the stamp it had then.
async fn settled(path: &Path) -> Result<(String, Stamp), SourceError> {
    let origin = || path.display().to_string();
    let mut before = None;
    for _ in 0..SETTLING_TRIES {
        let (bytes, stamp) = read(path).await?;
        if before.as_ref() == Some(&bytes) {
            let not_text = |_| SourceError::Refused {
                origin: origin(),
                problems: Place::new(origin().into(), 1, 1).problem("not UTF-8 text").into(),
            };
            return Ok((String::from_utf8(bytes).map_err(not_text)?, stamp));
        }
        before = Some(bytes);
        sleep(SETTLING).await;
    }
    Err(SourceError::Unsettled { origin: origin() })
}

async fn read(path: &Path) -> Result<(Vec<u8>, Stamp), SourceError> {
    let origin = || path.display().to_string();
    let unavailable = |source| SourceError::Unavailable { origin: origin(), source };
    let stamp = stamp(path).await.map_err(unavailable)?;
    let mut bytes = Vec::new();
    let file = File::open(path).await.map_err(unavailable)?;
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).await.map_err(unavailable)?;
    match u64::try_from(bytes.len()) {
        Ok(found) if found <= MOST_BYTES => Ok((bytes, stamp)),
        _ => Err(SourceError::TooLarge { origin: origin(), bytes: stamp.bytes(), limit: MOST_BYTES }),
    }
}

async fn stamp(path: &Path) -> io::Result<Stamp> {
    Stamp::of(&fs::metadata(path).await?)
}
