use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::super::{SystemClock, metrics, offline};
use super::*;

fn configuration(route: usize) -> String {
    format!(
        "version: 1\nlisten: [{{address: \"127.0.0.1:0\"}}]\nupstreams: {{app: {{servers: [\"127.0.0.1:1\"]}}}}\n\
         routes: [{{id: number-{route}, match: {{path: /}}, public: true}}]\n"
    )
}

/// A reloader of a file in a folder of its own, which says `number-0` at first.
struct Setup {
    folder: tempfile::TempDir,
    file: PathBuf,
    gate: Arc<Gate>,
    reloader: Reloader,
}

impl Setup {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("portcullis.yaml");
        fs::write(&file, configuration(0)).unwrap();
        let config = config::load(&file, &ProcessEnvironment).unwrap();
        let (clock, metrics) = (Arc::new(SystemClock), Arc::new(metrics().unwrap()));
        let beginning = Beginning::of(&config);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let gate = runtime.block_on(offline::gate(config, clock.clone(), offline::LoadKeys::Files)).unwrap().gate;
        let gate = Arc::new(gate);
        let reloader = Reloader::new(Some(file.clone()), Arc::clone(&gate), metrics, clock, beginning);
        Self { folder, file, gate, reloader }
    }

    /// Puts another file in the place of the one that is there.
    fn swap(&self, text: &str) {
        let draft = self.folder.path().join("draft");
        fs::write(&draft, text).unwrap();
        fs::rename(draft, &self.file).unwrap();
    }

    /// The id of the rule in force.
    fn in_force(&self) -> String {
        self.gate.routes().first().map(|route| route.id.to_string()).unwrap()
    }

    /// Looks once, and says how many reloads there have been by then: taken, refused.
    fn look(&self) -> (u32, u32) {
        self.reloader.look();
        let page = self.reloader.metrics.render();
        let count = |result: &str| {
            let series = format!("portcullis_config_reloads_total{{result=\"{result}\"}} ");
            let value = page.lines().find_map(|line| line.strip_prefix(&series));
            value.map_or(0, |value| value.parse().unwrap())
        };
        (count("ok"), count("refused"))
    }
}

#[test]
fn what_was_read_first_never_replaces_what_was_read_later() {
    let setup = Setup::new();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !over.load(Ordering::Acquire) {
                    setup.reloader.reload().unwrap();
                }
            });
        }
        for number in 1..=200 {
            setup.swap(&configuration(number));
            setup.reloader.reload().unwrap();
            let (begun, expected) = (Instant::now(), format!("number-{number}"));
            while begun.elapsed() < Duration::from_millis(2) {
                let found = setup.in_force();
                if found != expected {
                    over.store(true, Ordering::Release);
                    assert_eq!(found, expected);
                    break;
                }
            }
        }
        over.store(true, Ordering::Release);
    });
}

#[test]
fn a_file_that_is_being_written_is_left_alone_until_it_stands_still() {
    let setup = Setup::new();
    assert_eq!((setup.look(), setup.look()), ((0, 0), (0, 0)));
    let mut file = fs::File::create(&setup.file).unwrap();
    assert_eq!(setup.look(), (0, 0), "it is empty");
    file.write_all(configuration(1).as_bytes()).unwrap();
    // With each line it is a whole configuration.
    for _ in 0..5 {
        assert_eq!(setup.look(), (0, 0));
        assert_eq!(setup.in_force(), "number-0");
        file.write_all(b"# more to come\n").unwrap();
    }
    assert_eq!((setup.look(), setup.in_force()), ((0, 0), "number-0".to_owned()));
    assert_eq!((setup.look(), setup.in_force()), ((1, 0), "number-1".to_owned()));
    assert_eq!((setup.look(), setup.look()), ((1, 0), (1, 0)), "and not again");
}

#[test]
fn what_is_as_it_was_again_is_nothing_new() {
    let setup = Setup::new();
    // A link, which comes and goes while nothing changes about the file itself.
    let real = setup.folder.path().join("real");
    let link = || symlink(&real, &setup.file).unwrap();
    fs::rename(&setup.file, &real).unwrap();
    link();
    setup.reloader.reload().unwrap();
    for _ in 0..3 {
        fs::remove_file(&setup.file).unwrap();
        assert_eq!(setup.look(), (1, 0));
        link();
        assert_eq!(setup.look(), (1, 0));
    }
}

#[test]
fn a_file_that_is_gone_changes_nothing_and_is_taken_when_it_is_back() {
    let setup = Setup::new();
    fs::remove_file(&setup.file).unwrap();
    assert_eq!((setup.look(), setup.reloader.standing()), ((0, 0), None));
    assert_eq!(setup.look(), (0, 1));
    let said = setup.reloader.standing().unwrap_or_default();
    let why = "portcullis.yaml`: No such file";
    assert!(said["refused"].as_str().is_some_and(|said| said.contains(why)), "{said}");
    assert_eq!((setup.look(), setup.look()), ((0, 1), (0, 1)), "once is enough");
    assert_eq!(setup.in_force(), "number-0");
    setup.swap(&configuration(10));
    assert_eq!((setup.look(), setup.look()), ((0, 1), (1, 1)));
    assert_eq!((setup.in_force(), setup.reloader.standing()), ("number-10".to_owned(), None));
    // Gone and back between two looks.
    fs::remove_file(&setup.file).unwrap();
    setup.swap(&configuration(100));
    assert_eq!((setup.look(), setup.look()), ((1, 1), (2, 1)));
    assert_eq!(setup.in_force(), "number-100");
}
