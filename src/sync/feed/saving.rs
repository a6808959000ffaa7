//! When the facts in force are written to disk: soon after they moved on, now and then while they do not, and at the end.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinSet, spawn_blocking};

use super::Position;
use crate::domain::{Clock, OrganizationId};
use crate::live::World;
use crate::sync::describe;
use crate::sync::persist::{Disk, PersistError, Settings};
use crate::telemetry::Metrics;

/// The shortest time between two writes.
const SHORTEST_PAUSE: Duration = Duration::from_secs(30);
/// A write that takes long is followed by a pause of so many times that.
const PAUSE_FACTOR: u32 = 20;
/// The longest such pause: a machine that slept during a write did not take so long for it.
const LONGEST_REST: Duration = Duration::from_secs(15 * 60);
/// A folder that another sidecar uses is asked for again after so long: the other may be one that this takes the place of.
const TRY_AGAIN: Duration = Duration::from_secs(5);
/// What did not move is written again when the age on disk has become so much higher than it is.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Writes the world to disk.
pub(super) struct Saving {
    settings: Settings,
    /// `None` while another sidecar uses the folder.
    disk: Option<Arc<Disk>>,
    /// The attempt to get the folder that goes on.
    opening: JoinSet<Result<Disk, PersistError>>,
    /// None begins before this uptime.
    open_not_before: Duration,
    world: Arc<World>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    /// The write that goes on.
    writing: JoinSet<(Result<(), PersistError>, Duration)>,
    /// Where what was on disk at start stands.
    restored: Option<Position>,
    /// What is on disk, or about to be, and the uptime then.
    saved: Option<(Position, Duration)>,
    /// No write begins before this uptime.
    not_before: Duration,
    last_error: Option<String>,
}

impl Saving {
    /// Takes possession of the folder, if it can be had, or can be had when another sidecar has ended.
    pub(super) async fn begin(
        settings: Settings,
        world: Arc<World>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Option<Self> {
        let wanted = settings.clone();
        let opened = spawn_blocking(move || Disk::open(&wanted)).await.ok()?;
        let folder = settings.folder.display();
        let disk = match opened {
            Ok(disk) => Some(Arc::new(disk)),
            Err(PersistError::Taken) => {
                tracing::warn!(%folder, "facts will not outlive this process while another sidecar uses the folder");
                None
            }
            Err(error) => {
                let error = describe(&error);
                tracing::warn!(%folder, error, "facts will not outlive this process");
                return None;
            }
        };
        let (opening, writing, open_not_before) = (JoinSet::new(), JoinSet::new(), clock.uptime() + TRY_AGAIN);
        Some(Self {
            settings,
            disk,
            opening,
            open_not_before,
            world,
            clock,
            metrics,
            writing,
            restored: None,
            saved: None,
            not_before: Duration::ZERO,
            last_error: None,
        })
    }

    /// Puts in force what is on disk. Says where that stands, and with which organizations.
    pub(super) async fn restore(&mut self) -> Option<(Position, Vec<OrganizationId>)> {
        let (disk, world, clock) = (self.disk.clone()?, Arc::clone(&self.world), Arc::clone(&self.clock));
        let loaded = spawn_blocking(move || disk.load(&world, clock.as_ref())).await.ok()?;
        match loaded {
            Ok(Some((position, organizations))) => {
                let age = self.world.freshness(self.clock.uptime()).age.unwrap_or_default();
                let (seq, count, age_seconds) = (position.seq, organizations.len(), age.as_secs());
                tracing::info!(seq, organizations = count, age_seconds, "facts from disk are in force");
                self.restored = Some(position.clone());
                Some((position, organizations))
            }
            Ok(None) => None,
            Err(error) => {
                let (folder, error) = (self.settings.folder.display(), describe(&error));
                tracing::error!(%folder, error, "facts on disk are refused; there are none until the store answers");
                None
            }
        }
    }

    /// Begins a write if one is due: what is in force stands at `position`.
    pub(super) fn turn(&mut self, position: &Position) {
        while let Some(written) = self.writing.try_join_next() {
            self.written(written.ok());
        }
        let uptime = self.clock.uptime();
        if self.disk.is_none() {
            self.open(uptime);
        }
        let is_due = self.saved.as_ref().is_none_or(|(saved, at)| saved != position || uptime >= *at + LONGEST_PAUSE);
        // Before the first proof it is as old as what is on disk.
        if self.disk.is_some()
            && is_due
            && self.world.is_proven_in_epoch()
            && uptime >= self.not_before
            && self.writing.is_empty()
        {
            self.write(position, uptime);
        }
    }

    /// Asks for the folder again if it is time to.
    fn open(&mut self, uptime: Duration) {
        while let Some(opened) = self.opening.try_join_next() {
            if let Ok(Ok(disk)) = opened {
                tracing::info!(folder = %self.settings.folder.display(), "facts outlive this process from now on");
                self.disk = Some(Arc::new(disk));
                return;
            }
        }
        if self.opening.is_empty() && uptime >= self.open_not_before {
            self.open_not_before = uptime + TRY_AGAIN;
            let settings = self.settings.clone();
            self.opening.spawn_blocking(move || Disk::open(&settings));
        }
    }

    /// Writes for the last time.
    pub(super) async fn end(mut self, position: Option<&Position>) {
        while let Some(written) = self.writing.join_next().await {
            self.written(written.ok());
        }
        let is_news =
            |position: &&Position| self.world.is_proven_in_epoch() || self.restored.as_ref() != Some(position);
        if let Some(position) = position.filter(is_news) {
            self.write(position, self.clock.uptime());
        }
        while let Some(written) = self.writing.join_next().await {
            self.written(written.ok());
        }
    }

    fn write(&mut self, position: &Position, uptime: Duration) {
        let Some(disk) = self.disk.clone() else { return };
        let Some(copy) = self.world.copy(uptime) else { return };
        // A transaction that was refused half-way.
        if (copy.revision.epoch, copy.revision.seq) != (position.epoch, position.seq) {
            return;
        }
        self.saved = Some((position.clone(), uptime));
        self.not_before = uptime + SHORTEST_PAUSE;
        let (clock, chain) = (Arc::clone(&self.clock), position.chain.clone());
        self.writing.spawn_blocking(move || {
            let result = disk.save(&copy, &chain, clock.as_ref());
            (result, clock.uptime().saturating_sub(uptime))
        });
    }

    /// Takes in what came of a write; `None` after a panic.
    fn written(&mut self, written: Option<(Result<(), PersistError>, Duration)>) {
        self.metrics.facts_saved(matches!(written, Some((Ok(()), _))));
        let text = match written {
            Some((Ok(()), took)) => {
                self.not_before = self.not_before.max(self.clock.uptime() + (took * PAUSE_FACTOR).min(LONGEST_REST));
                self.last_error = None;
                return;
            }
            Some((Err(error), _)) => describe(&error),
            None => "a panic, which is a fault of ours".to_owned(),
        };
        // Once more, after the pause.
        self.saved = None;
        if self.last_error.as_ref() != Some(&text) {
            let folder = self.settings.folder.display();
            tracing::error!(%folder, error = text, "facts cannot be written to disk");
            self.last_error = Some(text);
        }
    }
}
