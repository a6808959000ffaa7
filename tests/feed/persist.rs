//! Facts on disk: what a sidecar decides on that is started while its store is away, and what it takes from nobody.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portcullis::app::SystemClock;
use portcullis::domain::{Clock, UnixSeconds};
use portcullis::live::Settings;
use tempfile::TempDir;

use crate::company::{Company, on_every_engine, settings};
use crate::line::{Line, Mode};
use crate::sidecar::{SYNC_KEY, Sidecar, eventually};
use crate::support::{Running, on_sqlite_with};

const HOUR: u64 = 60 * 60 * 1000;

/// The clocks of a machine that was started anew, slept, or was set, by so many milliseconds.
#[derive(Default)]
struct Machine {
    later: AtomicU64,
    wall: AtomicI64,
    boot: Mutex<Option<(String, Duration)>>,
}

impl Clock for Machine {
    fn now(&self) -> UnixSeconds {
        UnixSeconds(i64::try_from(self.unix_millis() / 1000).unwrap())
    }

    fn unix_millis(&self) -> u64 {
        let shift = self.wall.load(Ordering::Relaxed) + i64::try_from(self.later.load(Ordering::Relaxed)).unwrap();
        SystemClock.unix_millis().checked_add_signed(shift).unwrap()
    }

    fn boot(&self) -> Option<String> {
        self.boot.lock().unwrap().as_ref().map_or_else(|| SystemClock.boot(), |(boot, _)| Some(boot.clone()))
    }

    fn uptime(&self) -> Duration {
        let uptime = SystemClock.uptime() + Duration::from_millis(self.later.load(Ordering::Relaxed));
        uptime - self.boot.lock().unwrap().as_ref().map_or(Duration::ZERO, |(_, began)| *began)
    }
}

impl Machine {
    fn new() -> Arc<Self> {
        Arc::default()
    }

    /// So much later.
    fn after(millis: u64) -> Arc<Self> {
        let machine = Self::new();
        machine.later.store(millis, Ordering::Relaxed);
        machine
    }

    /// So much later, the machine having been started a moment ago.
    fn booted_after(millis: u64) -> Arc<Self> {
        let machine = Self::after(millis);
        let uptime = machine.uptime();
        *machine.boot.lock().unwrap() = Some(("another".to_owned(), uptime));
        machine
    }
}

/// A folder with the facts of a company whose member may edit, written by a sidecar that was stopped.
struct Saved {
    folder: TempDir,
    company: Company,
    assignment: String,
}

impl Saved {
    async fn of(store: &Running) -> Self {
        let company = Company::found(store, "Acme").await;
        let (assignment, seq) = company.let_in(store).await;
        let folder = tempfile::tempdir().unwrap();
        let saved = Self { folder, company, assignment };
        let sidecar = saved.sidecar(store.address);
        sidecar.is_fresh().await;
        sidecar.reaches(seq).await;
        assert_eq!(saved.may(&sidecar).await, Some(true));
        sidecar.stop().await;
        saved
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn file(&self) -> PathBuf {
        self.path().join("facts")
    }

    fn sidecar(&self, store: SocketAddr) -> Sidecar {
        self.sidecar_on(store, Machine::new())
    }

    fn sidecar_on(&self, store: SocketAddr, machine: Arc<dyn Clock>) -> Sidecar {
        Sidecar::start_as(store, SYNC_KEY, false, Settings::default(), machine, Some(self.path()))
    }

    async fn may(&self, sidecar: &Sidecar) -> Option<bool> {
        let Company { organization, membership, project } = &self.company;
        sidecar.may(organization, membership, "project:edit", project).await
    }

    /// Starts a sidecar that cannot reach its store; it must not have any facts.
    async fn is_refused(&self, key: &str, machine: Arc<dyn Clock>) {
        let folder = Some(self.path());
        let sidecar = Sidecar::start_as(nowhere(), key, false, Settings::default(), machine, folder);
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert_eq!((sidecar.world.revision(), sidecar.age()), (None, None));
        assert_eq!(self.may(&sidecar).await, None);
        sidecar.stop().await;
    }

    /// Starts a sidecar that cannot reach its store; it must decide as before. How old its facts are.
    async fn is_accepted(&self, machine: Arc<dyn Clock>) -> Duration {
        let sidecar = self.sidecar_on(nowhere(), machine);
        eventually(async || sidecar.world.revision().is_some()).await;
        assert_eq!(self.may(&sidecar).await, Some(true));
        assert!(!sidecar.world.is_proven_in_epoch(), "a disk proves nothing");
        let age = sidecar.age().unwrap();
        assert!(sidecar.world.revocations().freshness(Duration::ZERO).age.is_some());
        sidecar.stop().await;
        age
    }
}

/// An address where nobody listens.
fn nowhere() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn about(age: Duration, hours: u64) -> bool {
    let least = Duration::from_millis(hours * HOUR);
    age >= least && age < least + Duration::from_secs(60)
}

#[test]
fn without_its_store_a_sidecar_goes_on_where_it_stopped_and_its_facts_grow_older() {
    on_sqlite_with(settings, async |store| {
        store.usual_model("multiple").await;
        let saved = Saved::of(store).await;
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&saved.file()), 0o600);
        assert!(about(saved.is_accepted(Machine::new()).await, 0));
        assert!(about(saved.is_accepted(Machine::after(3 * HOUR)).await, 3), "by uptime");
        assert!(about(saved.is_accepted(Machine::booted_after(5 * HOUR)).await, 5), "by the wall clock");
        saved.is_refused(SYNC_KEY, Machine::after(24 * HOUR + 1000)).await;
        saved.is_refused(SYNC_KEY, Machine::booted_after(24 * HOUR + 1000)).await;
    });
}

/// As when the URL is changed from staging to production, and the key and the folder are the same.
#[test]
fn facts_of_another_store_are_refused() {
    on_sqlite_with(settings, async |store| {
        store.usual_model("multiple").await;
        let saved = Saved::of(store).await;
        let start = |url: &str| {
            let kept = Some(Sidecar::kept_in(saved.path(), SYNC_KEY, url));
            Sidecar::start_keeping(nowhere(), SYNC_KEY, false, Settings::default(), Machine::new(), kept)
        };
        let other = start("http://production.test");
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert_eq!((other.world.revision(), saved.may(&other).await), (None, None));
        other.stop().await;
        let same = start("http://store.test");
        eventually(async || same.world.revision().is_some()).await;
        assert_eq!(saved.may(&same).await, Some(true));
        same.stop().await;
    });
}

/// Fault row 56: whatever else lies there in its name.
#[test]
fn a_file_that_others_can_use_or_that_is_none_is_refused() {
    on_sqlite_with(settings, async |store| {
        store.usual_model("multiple").await;
        let saved = Saved::of(store).await;
        let permit = |mode| std::fs::set_permissions(saved.file(), std::fs::Permissions::from_mode(mode)).unwrap();
        for mode in [0o604, 0o602] {
            permit(mode);
            saved.is_refused(SYNC_KEY, Machine::new()).await;
        }
        permit(0o600);
        let elsewhere = saved.path().join("elsewhere");
        std::fs::rename(saved.file(), &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, saved.file()).unwrap();
        saved.is_refused(SYNC_KEY, Machine::new()).await;
        std::fs::remove_file(saved.file()).unwrap();
        let made = std::process::Command::new("mkfifo").args(["-m", "600"]).arg(saved.file()).status().unwrap();
        assert!(made.success());
        saved.is_refused(SYNC_KEY, Machine::new()).await;
        std::fs::remove_file(saved.file()).unwrap();
        std::fs::rename(&elsewhere, saved.file()).unwrap();
        saved.is_accepted(Machine::new()).await;
    });
}

#[test]
fn a_clock_that_is_set_back_gives_nothing_back() {
    on_sqlite_with(settings, async |store| {
        store.usual_model("multiple").await;
        let saved = Saved::of(store).await;
        let behind = Machine::booted_after(0);
        behind.wall.store(-60_000, Ordering::Relaxed);
        saved.is_refused(SYNC_KEY, behind).await;
        // While the machine runs nobody asks the wall clock.
        let set = Machine::after(2 * HOUR);
        set.wall.store(-60_000, Ordering::Relaxed);
        assert!(about(saved.is_accepted(set).await, 2));
    });
}

#[test]
fn a_file_that_is_not_exactly_what_was_written_is_refused() {
    on_sqlite_with(settings, async |store| {
        store.usual_model("multiple").await;
        let saved = Saved::of(store).await;
        let good = std::fs::read(saved.file()).unwrap();
        let refused = async |bytes: &[u8]| {
            std::fs::write(saved.file(), bytes).unwrap();
            saved.is_refused(SYNC_KEY, Machine::new()).await;
        };
        let places = [20, good.len() / 2, good.len() - 40, good.len() - 1];
        for place in places {
            let mut changed = good.clone();
            changed[place] ^= 0x01;
            refused(&changed).await;
        }
        for length in [0, 10, 31, good.len() / 2, good.len() - 1] {
            refused(&good[..length]).await;
        }
        // A whole organization less, and the seal as it was.
        let body = &good[..good.len() - 32];
        let last = body[..body.len() - 1].iter().rposition(|&byte| byte == b'\n').unwrap();
        refused(&[&good[..=last], &good[good.len() - 32..]].concat()).await;
        refused(&[&good[..], b"x"].concat()).await;
        let other = [b"portcullis-facts 2", &good[18..]].concat();
        refused(&other).await;
        std::fs::write(saved.file(), &good).unwrap();
        saved.is_refused("sync_other", Machine::new()).await;
        saved.is_accepted(Machine::new()).await;
    });
}

#[test]
fn two_sidecars_do_not_share_a_folder() {
    on_sqlite_with(settings, async |store| {
        store.usual_model("multiple").await;
        let saved = Saved::of(store).await;
        let first = saved.sidecar(store.address);
        first.is_fresh().await;
        let written = std::fs::read(saved.file()).unwrap();
        let second = saved.sidecar(nowhere());
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert_eq!(second.world.revision(), None, "it has no facts of its own");
        second.stop().await;
        let third = saved.sidecar(store.address);
        third.is_fresh().await;
        assert_eq!(saved.may(&third).await, Some(true), "and works without");
        third.stop().await;
        assert_eq!(std::fs::read(saved.file()).unwrap(), written);
        first.stop().await;
        saved.is_accepted(Machine::new()).await;
    });
}

#[test]
fn a_folder_is_had_once_the_sidecar_that_used_it_has_ended() {
    on_sqlite_with(settings, async |store| {
        store.usual_model("multiple").await;
        let saved = Saved::of(store).await;
        let first = saved.sidecar(store.address);
        first.is_fresh().await;
        // One that takes its place, and is there before that has ended.
        let machine = Machine::new();
        let second = saved.sidecar_on(store.address, Arc::clone(&machine) as Arc<dyn Clock>);
        second.is_fresh().await;
        assert_eq!(saved.may(&second).await, Some(true));
        first.stop().await;
        let written = std::fs::read(saved.file()).unwrap();
        let seq = saved.company.shut_out(store, &saved.assignment).await;
        second.reaches(seq).await;
        machine.later.store(6_000, Ordering::Relaxed);
        eventually(async || std::fs::read(saved.file()).unwrap() != written).await;
        second.stop().await;
        let third = saved.sidecar_on(nowhere(), Machine::after(10_000));
        eventually(async || third.world.revision().is_some()).await;
        assert_eq!(saved.may(&third).await, Some(false), "the second one has written what the first never knew");
        third.stop().await;
    });
}

#[test]
fn what_was_taken_away_meanwhile_is_refused_after_the_first_contact() {
    on_every_engine(async |store| {
        let saved = Saved::of(store).await;
        let seq = saved.company.shut_out(store, &saved.assignment).await;
        let path = format!("/user_management/organization_memberships/{}/deactivate", saved.company.membership);
        let revoked = store.put(&path, serde_json::json!({})).await;
        let revoked = (revoked.revision(), revoked.is(200)).0;
        let line = Line::to(store.address).await;
        line.set(Mode::Cut);
        let sidecar = saved.sidecar(line.address);
        eventually(async || sidecar.world.revision().is_some()).await;
        assert_eq!(saved.may(&sidecar).await, Some(true), "nobody told it");
        assert_eq!(sidecar.world.revocations().count(), 0);
        line.set(Mode::Open);
        sidecar.reaches(seq.max(revoked)).await;
        assert_eq!(saved.may(&sidecar).await, Some(false));
        assert_eq!(sidecar.world.revocations().count(), 1);
        eventually(async || sidecar.world.is_proven_in_epoch()).await;
        // It went on where it stood: nothing was read that it had.
        let text = sidecar.metrics.render();
        let read = |kind: &str| text.contains(&format!("portcullis_facts_updates_total{{kind=\"{kind}\""));
        assert!(!read("organization") && !read("complete") && read("changes"), "{text}");
        assert_eq!(sidecar.divergence(), 0);
        sidecar.stop().await;
        // And the revocation is on disk.
        let sidecar = saved.sidecar(nowhere());
        eventually(async || sidecar.world.revision().is_some()).await;
        assert_eq!(sidecar.world.revocations().count(), 1);
        assert_eq!(saved.may(&sidecar).await, Some(false));
        sidecar.stop().await;
    });
}

#[test]
fn facts_of_another_history_are_replaced_at_the_first_contact() {
    on_every_engine(async |store| {
        let saved = Saved::of(store).await;
        saved.company.shut_out(store, &saved.assignment).await;
        store.store.new_epoch().await.unwrap();
        let sidecar = saved.sidecar(store.address);
        eventually(async || sidecar.world.is_proven_in_epoch()).await;
        assert_eq!(saved.may(&sidecar).await, Some(false));
        sidecar.stop().await;
    });
}

#[test]
fn facts_are_written_soon_and_not_only_at_the_end() {
    on_sqlite_with(settings, async |store| {
        store.usual_model("multiple").await;
        let saved = Saved::of(store).await;
        let machine = Machine::new();
        let modified = || std::fs::metadata(saved.file()).unwrap().modified().unwrap();
        let before = modified();
        let sidecar = saved.sidecar_on(store.address, machine.clone());
        eventually(async || modified() != before).await;
        // What a write took counts for the pause after it: the clock stays as it is until that is over.
        let saves = async |count: u32| {
            let saved = format!("portcullis_facts_saves_total{{result=\"done\"}} {count}\n");
            eventually(async || sidecar.metrics.render().contains(&saved)).await;
        };
        saves(1).await;
        assert!(sidecar.world.is_proven_in_epoch());
        let seq = saved.company.shut_out(store, &saved.assignment).await;
        sidecar.reaches(seq).await;
        let text = async || {
            String::from_utf8_lossy(&std::fs::read(saved.file()).unwrap()).contains(&format!("\"seq\":{seq},"))
        };
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(!text().await, "not at once");
        machine.later.store(31_000, Ordering::Relaxed);
        eventually(text).await;
        saves(2).await;
        // Nothing happens, and the age on disk stays low all the same.
        let before = modified();
        machine.later.store(95_000, Ordering::Relaxed);
        eventually(async || modified() != before).await;
        sidecar.kill().await;
        assert!(std::fs::read(saved.file()).unwrap().starts_with(b"portcullis-facts 1\n"));
    });
}

#[test]
fn with_everything_in_memory_everything_comes_back_and_what_is_new_is_read() {
    on_every_engine(async |store| {
        let mut companies = vec![Company::found(store, "A").await, Company::found(store, "B").await];
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { max_memory: u64::MAX, ..Settings::default() };
        let start = |store| Sidecar::start_as(store, SYNC_KEY, true, settings, Machine::new(), Some(folder.path()));
        let sidecar = start(store.address);
        eventually(async || sidecar.world.organizations().len() == 2).await;
        sidecar.is_fresh().await;
        sidecar.stop().await;
        companies.push(Company::found(store, "C").await);
        let sidecar = start(store.address);
        eventually(async || sidecar.world.organizations().len() == 3).await;
        let text = sidecar.metrics.render();
        assert!(text.contains("portcullis_facts_updates_total{kind=\"organization\",result=\"applied\"} 1"), "{text}");
        sidecar.stop().await;
    });
}

#[test]
fn what_does_not_fit_is_left_on_disk() {
    on_sqlite_with(settings, async |store| {
        store.usual_model("multiple").await;
        let saved = Saved::of(store).await;
        let small = Settings { max_memory: 1024, ..Settings::default() };
        let sidecar = Sidecar::start_as(nowhere(), SYNC_KEY, false, small, Machine::new(), Some(saved.path()));
        eventually(async || sidecar.world.revision().is_some()).await;
        assert_eq!(sidecar.world.organizations(), []);
        sidecar.stop().await;
    });
}

/// The wall clock is set, forth and back, while a sidecar runs.
#[test]
fn a_wall_clock_that_jumps_makes_no_facts_older_or_newer() {
    on_sqlite_with(settings, async |store| {
        store.usual_model("multiple").await;
        let saved = Saved::of(store).await;
        let machine = Machine::new();
        let sidecar = saved.sidecar_on(store.address, machine.clone());
        sidecar.is_fresh().await;
        for hours in [1, -1, 24 * 365] {
            machine.wall.store(hours * i64::try_from(HOUR).unwrap(), Ordering::Relaxed);
            for _ in 0..20 {
                assert!(sidecar.age().unwrap() < Duration::from_secs(5), "{:?}", sidecar.age());
                assert_eq!(saved.may(&sidecar).await, Some(true));
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        sidecar.stop().await;
    });
}

#[test]
fn after_the_machine_slept_facts_are_old_until_the_store_is_heard_again() {
    on_sqlite_with(settings, async |store| {
        store.usual_model("multiple").await;
        let saved = Saved::of(store).await;
        let machine = Machine::new();
        let line = Line::to(store.address).await;
        let sidecar = saved.sidecar_on(line.address, machine.clone());
        sidecar.is_fresh().await;
        line.set(Mode::Silent);
        machine.later.store(HOUR / 6, Ordering::Relaxed);
        for _ in 0..50 {
            assert!(sidecar.age().unwrap() > Duration::from_secs(600), "{:?}", sidecar.age());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        line.set(Mode::Open);
        sidecar.is_fresh().await;
        sidecar.stop().await;
    });
}
