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

#[test]
fn what_was_read_first_never_replaces_what_was_read_later() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("portcullis.yaml");
    std::fs::write(&file, configuration(0)).unwrap();
    let config = config::load(&file, &ProcessEnvironment).unwrap();
    let (clock, metrics) = (Arc::new(SystemClock), Arc::new(metrics().unwrap()));
    let beginning = Beginning::of(&config);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let gate = runtime.block_on(offline::gate(config, clock.clone(), offline::LoadKeys::Files)).unwrap().gate;
    let gate = Arc::new(gate);
    let reloader = Reloader::new(Some(file.clone()), Arc::clone(&gate), metrics, clock, beginning);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !over.load(Ordering::Acquire) {
                    reloader.reload().unwrap();
                }
            });
        }
        for number in 1..=200 {
            let draft = folder.path().join("draft");
            std::fs::write(&draft, configuration(number)).unwrap();
            std::fs::rename(draft, &file).unwrap();
            reloader.reload().unwrap();
            let (begun, expected) = (Instant::now(), format!("number-{number}"));
            while begun.elapsed() < Duration::from_millis(2) {
                let found = gate.routes().first().map(|route| route.id.to_string());
                if found.as_ref() != Some(&expected) {
                    over.store(true, Ordering::Release);
                    assert_eq!(found, Some(expected));
                    break;
                }
            }
        }
        over.store(true, Ordering::Release);
    });
}
