//! One process takes the place of another.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::load::{Kind, Tally, client, upstream};
use crate::process::{PATIENCE, Place, Process, mode};

/// Longer than it takes to hand over.
const MOMENT: Duration = Duration::from_millis(1500);

fn upgrades() -> usize {
    std::env::var("PORTCULLIS_UPGRADES").map_or(1, |count| count.parse().unwrap())
}

/// Waits until `happened`.
async fn until(what: &str, happened: impl Fn() -> bool) {
    let begun = Instant::now();
    while !happened() {
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Whether a request is answered at the plain address.
fn answers(place: &Place) -> bool {
    let mut stream = TcpStream::connect(place.plain).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /open/page HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.starts_with("HTTP/1.1 200")
}

/// Asks the admin listener something.
fn admin(place: &Place) -> String {
    let mut stream = UnixStream::connect(place.file("admin.sock")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /routes HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_58_upgrades_under_load_fail_no_request() {
    let mut tasks = JoinSet::new();
    let place = Arc::new(Place::before(upstream(&mut tasks).await));
    let tally = Arc::new(Tally::default());
    let mut sidecar = place.start();
    let mut clients = JoinSet::new();
    for (kind, address, count) in [
        (Kind::KeptAlive, place.plain, 8),
        (Kind::ByRequest, place.plain, 4),
        (Kind::Http2, place.h2c, 1),
        (Kind::Tls, place.tls, 1),
        (Kind::Upload, place.plain, 1),
        (Kind::Download, place.plain, 1),
        (Kind::Probe, place.status, 1),
    ] {
        for _ in 0..count {
            clients.spawn(client(kind, address, Arc::clone(&tally)));
        }
    }
    let mut descriptors = Vec::new();
    for number in 1..=upgrades() {
        until("every client is answered", || Kind::ALL.iter().all(|kind| tally.answered(*kind) > 0)).await;
        let (old, begun) = (sidecar, Instant::now());
        let next = Arc::clone(&place);
        let (new, old_ended) = tokio::task::spawn_blocking(move || {
            let new = next.start_successor("portcullis.yaml");
            new.line_with("ready to take over from");
            old.signal("QUIT");
            new.line_with("\"took over\"");
            (new, old.ended())
        })
        .await
        .unwrap();
        let (status, logged) = old_ended;
        assert_eq!(status.code(), Some(0), "{logged}");
        assert!(!logged.contains("connections open") && !logged.contains("panic"), "{logged}");
        let before = Kind::ALL.map(|kind| tally.answered(kind));
        until("the new one answers everybody", || {
            Kind::ALL.iter().all(|kind| tally.answered(*kind) > before[*kind as usize])
        })
        .await;
        assert_eq!(tally.failures(), Vec::<String>::new(), "upgrade {number}: {logged}\n{}", new.logged());
        assert!(!place.meeting().exists(), "the meeting point is left");
        descriptors.push(new.descriptors());
        println!("upgrade {number}: {:?}, answered {:?}", begun.elapsed(), Kind::ALL.map(|kind| tally.answered(kind)));
        sidecar = new;
    }
    tally.end();
    while clients.join_next().await.is_some() {}
    assert_eq!(tally.failures(), Vec::<String>::new());
    assert!(admin(&place).starts_with("HTTP/1.1 200"));
    assert_eq!(mode(&place.file("admin.sock")), 0o600);
    // Not one more with each generation.
    let (least, most) = (descriptors.iter().min().unwrap(), descriptors.iter().max().unwrap());
    assert!(most - least < 40, "{descriptors:?}");
    drop(sidecar);
}

/// Runs `test` in front of an upstream, where it may block.
async fn beside_an_upstream(test: impl FnOnce(Place) + Send + 'static) {
    let mut tasks = JoinSet::new();
    let place = Place::before(upstream(&mut tasks).await);
    tokio::task::spawn_blocking(move || test(place)).await.unwrap();
}

/// That the old one goes on, and says what failed.
#[track_caller]
fn goes_on(place: &Place, old: &mut Process, failures: usize, why: &str) {
    let line = old.lines_with("nothing was handed over", failures);
    assert!(line.contains(why), "{line}");
    assert!(old.is_running() && answers(place));
    assert!(!old.logged().contains("stopping: "));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_meeting_point_the_signal_is_ignored() {
    beside_an_upstream(|place| {
        place.configure("portcullis.yaml", |text| {
            text.lines().filter(|line| !line.starts_with("upgrade:")).map(|line| format!("{line}\n")).collect()
        });
        let mut old = place.start();
        for count in 1..=2 {
            old.signal("QUIT");
            old.lines_with("SIGQUIT is ignored", count);
        }
        assert!(old.is_running() && answers(&place));
        let (status, logged) = place.start_successor("portcullis.yaml").ended();
        assert_eq!(status.code(), Some(2), "{logged}");
        assert!(logged.contains("`upgrade: {socket: PATH}`"), "{logged}");
        old.signal("TERM");
        assert_eq!(old.ended().0.code(), Some(0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_one_that_nobody_comes_to_or_whose_path_is_bad_stays() {
    beside_an_upstream(|place| {
        place.configure("portcullis.yaml", |text| text.replace("timeout: 20s", "timeout: 300ms"));
        let mut old = place.start();
        old.signal("QUIT");
        goes_on(&place, &mut old, 1, "nobody came");
        // Others could come there.
        fs::set_permissions(place.file("meet"), Permissions::from_mode(0o755)).unwrap();
        old.signal("QUIT");
        goes_on(&place, &mut old, 2, "nobody else can enter");
        fs::remove_dir(place.file("meet")).unwrap();
        fs::write(place.file("meet"), "").unwrap();
        old.signal("QUIT");
        goes_on(&place, &mut old, 3, "");
        assert!(metrics(&place).contains(r#"portcullis_upgrades_total{result="failed"} 3"#));
        old.signal("TERM");
        assert_eq!(old.ended().0.code(), Some(0));
    })
    .await;
}

fn metrics(place: &Place) -> String {
    let mut stream = TcpStream::connect(place.status).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    page
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_one_that_cannot_serve_leaves_the_old_one_alone() {
    beside_an_upstream(|place| {
        let mut old = place.start();
        // A configuration with a mistake.
        place.configure("broken.yaml", |text| text.replace("public: true", "publik: true"));
        let (status, logged) = place.start_successor("broken.yaml").ended();
        assert_eq!(status.code(), Some(2), "{logged}");
        // One whose keys cannot be loaded.
        place.configure("unready.yaml", |text| {
            text.replace("jwks_file: jwks.json", "jwks_file: nowhere.json").replace("timeout: 20s", "timeout: 1s")
        });
        let (status, logged) = place.start_successor("unready.yaml").ended();
        assert_eq!(status.code(), Some(1), "{logged}");
        assert!(logged.contains("not ready to take over within 1s") && logged.contains("nowhere.json"), "{logged}");
        assert!(!logged.contains("ready to take over from"), "{logged}");
        // One that wants an address which somebody else has: it says so once it has the others.
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        place.configure("taken.yaml", |text| {
            text.replace("listen:\n", &format!("listen:\n  - {{address: \"{address}\"}}\n"))
        });
        let new = place.start_successor("taken.yaml");
        new.line_with("ready to take over from");
        old.signal("QUIT");
        let (status, logged) = new.ended();
        assert_eq!(status.code(), Some(1), "{logged}");
        assert!(logged.contains(&format!("cannot listen on `{address}`")), "{logged}");
        goes_on(&place, &mut old, 1, "");
        // One that is killed at the worst moment it can be killed at from outside.
        let new = place.start_successor("portcullis.yaml");
        new.line_with("ready to take over from");
        new.signal("STOP");
        old.signal("QUIT");
        old.lines_with("handing over", 2);
        drop(new);
        goes_on(&place, &mut old, 2, "");
        // And a good one after all of that.
        let new = place.start_successor("portcullis.yaml");
        new.line_with("ready to take over from");
        old.signal("QUIT");
        new.line_with("\"took over\"");
        assert_eq!(old.ended().0.code(), Some(0));
        assert!(answers(&place));
        assert!(metrics(&place).contains(r#"portcullis_upgrades_total{result="taken_over"} 1"#));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_one_may_listen_elsewhere() {
    beside_an_upstream(|place| {
        let old = place.start();
        let another = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        place.configure("moved.yaml", |text| text.replace(&place.plain.to_string(), &another.to_string()));
        let new = place.start_successor("moved.yaml");
        new.line_with("ready to take over from");
        old.signal("QUIT");
        new.line_with("\"took over\"");
        assert_eq!(old.ended().0.code(), Some(0));
        TcpStream::connect(place.plain).unwrap_err();
        TcpStream::connect(another).unwrap();
        // Who waited for it longer than it was there is told to leave, and a signal that comes twice does no harm.
        new.signal("QUIT");
        new.line_with("handing over");
        new.signal("TERM");
        assert_eq!(new.ended().0.code(), Some(0));
    })
    .await;
}

/// Listens at the meeting point, as a process that is no sidecar; says `word` to whoever comes, and answers what it was sent. Sockets
/// travel with a message only, so who gets no message gets no sockets.
fn strange_process(place: &Place, word: &'static [u8]) -> std::thread::JoinHandle<Vec<u8>> {
    let listener = UnixListener::bind(place.meeting()).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.write_all(word);
        let mut said = Vec::new();
        stream.set_read_timeout(Some(MOMENT)).unwrap();
        let _ = stream.read_to_end(&mut said);
        said
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_no_sidecar_gets_nothing_at_the_meeting_point() {
    beside_an_upstream(|place| {
        let mut old = place.start();
        fs::create_dir_all(place.file("meet")).unwrap();
        fs::set_permissions(place.file("meet"), Permissions::from_mode(0o700)).unwrap();
        for (count, word) in [(1, &b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..]), (2, b"portcullis 2 ready\n")] {
            let stranger = strange_process(&place, word);
            old.signal("QUIT");
            goes_on(&place, &mut old, count, "says something else");
            assert!(stranger.join().unwrap().is_empty());
            fs::remove_file(place.meeting()).unwrap();
        }
        // Nor does it keep the right one from coming.
        let new = place.start_successor("portcullis.yaml");
        new.line_with("ready to take over from");
        let mut nuisance = UnixStream::connect(place.meeting()).unwrap();
        nuisance.write_all(b"portcullis 1 sockets 3\n").unwrap();
        new.line_with("nothing was taken over");
        old.signal("QUIT");
        new.line_with("\"took over\"");
        assert_eq!(old.ended().0.code(), Some(0));
        assert!(answers(&place));
    })
    .await;
}

/// Another user than the one who runs the tests.
const NOBODY: u32 = 65534;

/// Says that something was not tested, and why; a failure where `PORTCULLIS_NO_SKIPS` is set, as the gate does.
fn skipped(why: &str) {
    assert!(std::env::var_os("PORTCULLIS_NO_SKIPS").is_none(), "skipped: {why}");
    println!("skipped: {why}");
}

fn give(path: &Path, user: u32, bits: u32) {
    fs::set_permissions(path, Permissions::from_mode(bits)).unwrap();
    chown(path, Some(user), Some(user)).unwrap();
}

/// The old one runs as nobody; whoever waits at its meeting point is root, whom no folder keeps out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_user_gets_nothing_at_the_meeting_point() {
    if !rustix::process::geteuid().is_root() {
        return skipped("a process of another user can be started by root only");
    }
    beside_an_upstream(|place| {
        let folder = place.folder.path();
        fs::create_dir(place.file("meet")).unwrap();
        let program = place.file("portcullis");
        fs::copy(env!("CARGO_BIN_EXE_portcullis"), &program).unwrap();
        // Certificates may lie where nobody may look.
        for name in ["server.pem", "server.key"] {
            fs::copy(crate::process::certificate(name), place.file(name)).unwrap();
        }
        place.configure("portcullis.yaml", |text| {
            let folder = crate::process::certificate("server.pem").parent().unwrap().display().to_string();
            text.replace(&format!("{folder}/"), "")
        });
        for entry in fs::read_dir(folder).unwrap() {
            give(&entry.unwrap().path(), NOBODY, 0o700);
        }
        give(folder, NOBODY, 0o755);
        let mut command = Command::new(&program);
        command.args(["proxy", "--config", "portcullis.yaml", "--log-format", "json"]).current_dir(folder);
        command.uid(NOBODY).gid(NOBODY);
        let mut old = Process::of(command);
        old.line_with("\"listening\"");
        old.line_with("facts are in force");
        let stranger = strange_process(&place, b"portcullis 1 ready\n");
        fs::set_permissions(place.meeting(), Permissions::from_mode(0o777)).unwrap();
        old.signal("QUIT");
        goes_on(&place, &mut old, 1, "is not ours");
        assert!(stranger.join().unwrap().is_empty());
    })
    .await;
}
