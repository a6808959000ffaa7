//! A word in every secret that the tests make. Where it turns up, a secret was told: in a log line, an answer, a metric, a `Debug`.

use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Stands in every key, admin token, and token of the tests.
pub const CANARY: &str = "canary-4711";

/// Claim of every token of the tests.
pub const CLAIM: &str = "canary";

/// Panics when the canary stands in `text`, as it is or inside a token.
#[track_caller]
pub fn is_not_in(place: &str, text: impl AsRef<[u8]>) {
    let text = text.as_ref();
    let found = shapes().iter().find_map(|shape| position(text, shape));
    assert!(found.is_none(), "a secret stands in {place}: {}", around(text, found.unwrap_or_default()));
}

/// What the process has logged beside decisions, since it was first listened to.
pub fn events() -> String {
    String::from_utf8_lossy(&listening().0.lock().unwrap()).into_owned()
}

/// What of it nobody has asked for in this way before.
pub fn new_events() -> Vec<u8> {
    static SEEN: Mutex<usize> = Mutex::new(0);
    let (mut seen, all) = (SEEN.lock().unwrap(), listening().0.lock().unwrap());
    // What was about to be written then may have been half of it.
    let begin = seen.saturating_sub(1000);
    *seen = all.len();
    all[begin..].to_vec()
}

/// Begins to listen to what the process logs.
pub fn listen() {
    listening();
}

/// The canary as it is, and as it stands in the payload of a token: three ways, by where in a group of three bytes it begins.
fn shapes() -> &'static [Vec<u8>] {
    static SHAPES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    SHAPES.get_or_init(|| {
        let inside = |before: usize| {
            let encoded = URL_SAFE_NO_PAD.encode(format!("{}{CANARY}", "x".repeat(before)));
            // Letters at both ends depend on what stands beside it.
            encoded.as_bytes()[(before * 8).div_ceil(6)..(before + CANARY.len()) * 8 / 6].to_vec()
        };
        vec![CANARY.as_bytes().to_vec(), inside(0), inside(1), inside(2)]
    })
}

fn position(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

fn around(text: &[u8], at: usize) -> String {
    let end = text.len().min(at + 100);
    String::from_utf8_lossy(&text[at.saturating_sub(300)..end]).into_owned()
}

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Listening(Arc<Mutex<Vec<u8>>>);

fn listening() -> &'static Listening {
    static LISTENING: OnceLock<Listening> = OnceLock::new();
    LISTENING.get_or_init(|| {
        let listening = Listening::default();
        let filter = EnvFilter::new("info,portcullis=trace");
        let events = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false);
        // Where a test has set up logging by itself, it looks at its lines by itself.
        let _ = events.with_writer(listening.clone()).try_init();
        listening
    })
}

impl<'w> MakeWriter<'w> for Listening {
    type Writer = Self;

    fn make_writer(&'w self) -> Self {
        self.clone()
    }
}

impl Write for Listening {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
