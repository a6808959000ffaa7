use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;
use crate::domain::record::OrganizationRows;
use crate::domain::{Epoch, OrganizationId, Revision, UnixSeconds};
use crate::live::{self, LoadError, Lookup};
use crate::telemetry::Build;
use crate::wire::Facts;
use crate::yaml::{self, Place, Problems};

const SECOND: Duration = Duration::from_secs(1);

/// The clock of the paused runtime.
struct RuntimeClock(Instant);

impl Clock for RuntimeClock {
    fn now(&self) -> UnixSeconds {
        UnixSeconds(0)
    }
    fn uptime(&self) -> Duration {
        self.0.elapsed()
    }
}

/// What a scripted source does when it is asked.
enum Answer {
    Facts(u64),
    OnDemand(u64),
    Unchanged,
    Late(Duration),
    Never,
    Unavailable,
    Refused,
    Panic,
}

/// Follows a script; at its end, nothing has changed any more.
struct Script {
    answers: Mutex<VecDeque<Answer>>,
    asked: AtomicUsize,
}

fn complete(seq: u64, on_demand: bool) -> Update {
    let text = "{version: 1, model: {}, organizations: [{id: org_1}]}";
    let facts = Facts::read(&yaml::parse("f", text, None).unwrap(), &|_| panic!()).unwrap();
    let organizations = if on_demand { Organizations::OnDemand } else { Organizations::All(facts.organizations) };
    Update::Complete(Complete { revision: Revision { epoch: Epoch(1), seq }, catalog: facts.catalog, organizations })
}

#[async_trait]
impl Source for Script {
    async fn pull(&self, _: Option<&Revision>) -> Result<Update, SourceError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let answer = self.answers.lock().unwrap().pop_front().unwrap_or(Answer::Unchanged);
        let origin = "script".to_owned();
        match answer {
            Answer::Facts(seq) => Ok(complete(seq, false)),
            Answer::OnDemand(seq) => Ok(complete(seq, true)),
            Answer::Unchanged => Ok(Update::Unchanged),
            Answer::Late(by) => {
                sleep(by).await;
                Ok(Update::Unchanged)
            }
            Answer::Never => std::future::pending().await,
            Answer::Unavailable => {
                Err(SourceError::Unavailable { origin, source: std::io::ErrorKind::ConnectionRefused.into() })
            }
            Answer::Refused => {
                let problems = Problems::from(Place::new("f".into(), 1, 1).problem("bad"));
                Err(SourceError::Refused { origin, problems })
            }
            Answer::Panic => panic!("on purpose"),
        }
    }

    async fn fetch(&self, organization: &OrganizationId) -> Result<Option<OrganizationRows>, SourceError> {
        Ok((organization.as_str() == "org_1").then(OrganizationRows::default))
    }
}

struct Running {
    world: Arc<World>,
    clock: Arc<RuntimeClock>,
    script: Arc<Script>,
    metrics: Arc<Metrics>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

#[expect(clippy::disallowed_methods, reason = "the test awaits or drops the task")]
fn run(settings: Settings, answers: impl IntoIterator<Item = Answer>) -> Running {
    let clock = Arc::new(RuntimeClock(Instant::now()));
    let metrics = Arc::new(Metrics::new(Build { version: "", revision: "" }).unwrap());
    let script = Arc::new(Script { answers: Mutex::new(answers.into_iter().collect()), asked: AtomicUsize::new(0) });
    let (world, orders) =
        World::new(live::Settings::default(), clock.clone(), metrics.clone(), Box::new(|_: &OrganizationId| {}));
    let world = Arc::new(world);
    let (stop, stopped) = watch::channel(false);
    let follow =
        Loop { world: world.clone(), source: script.clone(), clock: clock.clone(), metrics: metrics.clone(), settings };
    let task = tokio::spawn(follow.run(orders, stopped));
    Running { world, clock, script, metrics, stop, task }
}

impl Running {
    /// Age of the facts in milliseconds, when the clock stands at `at`.
    async fn age_at(&self, at: Duration) -> Option<u128> {
        tokio::time::sleep_until(self.clock.0 + at).await;
        Some(self.world.freshness(self.clock.uptime()).age?.as_millis())
    }

    fn counted(&self, result: &str) -> bool {
        self.metrics
            .render()
            .contains(&format!("portcullis_facts_updates_total{{kind=\"complete\",result=\"{result}\"}}"))
    }
}

#[tokio::test(start_paused = true)]
async fn facts_come_into_force_and_every_unchanged_answer_keeps_them_fresh() {
    let running = run(Settings::LOCAL, [Answer::Facts(1)]);
    assert_eq!(running.age_at(SECOND / 2).await, Some(500));
    assert_eq!(running.world.revision().unwrap().seq, 1);
    assert_eq!(running.age_at(SECOND * 60 + SECOND / 4).await, Some(250));
    assert!(running.counted("applied") && running.counted("unchanged"));
}

#[tokio::test(start_paused = true)]
async fn freshness_counts_from_the_question_not_from_the_answer() {
    let running = run(Settings::LOCAL, [Answer::Facts(1), Answer::Late(SECOND * 4), Answer::Never]);
    assert_eq!(running.age_at(SECOND * 4).await, Some(4000), "the answer has not come");
    assert_eq!(running.age_at(SECOND * 5 + SECOND / 10).await, Some(4100), "asked at one second");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_does_not_answer_proves_nothing() {
    let running = run(Settings::LOCAL, [Answer::Facts(1), Answer::Never]);
    assert_eq!(running.age_at(SECOND * 3600).await, Some(3_600_000));
    assert_eq!(running.world.revision().unwrap().seq, 1, "the last good facts stay");
}

#[tokio::test(start_paused = true)]
async fn refused_facts_leave_the_last_good_ones_to_grow_old() {
    let refused = std::iter::repeat_with(|| Answer::Refused).take(10_000);
    let running = run(Settings::LOCAL, [Answer::Facts(1)].into_iter().chain(refused));
    assert_eq!(running.age_at(SECOND * 300).await, Some(300_000));
    assert_eq!(running.world.revision().unwrap().seq, 1);
    assert!(running.counted("refused"));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_went_back_in_time_is_not_followed() {
    let running = run(Settings::LOCAL, [Answer::Facts(5), Answer::Facts(4), Answer::Never]);
    assert_eq!(running.age_at(SECOND * 10).await, Some(10_000));
    assert_eq!(running.world.revision().unwrap().seq, 5);
    assert!(running.counted("refused"));
}

#[tokio::test(start_paused = true)]
async fn waits_after_errors_grow_and_are_bounded() {
    let unavailable = std::iter::repeat_with(|| Answer::Unavailable).take(100_000);
    let running = run(Settings::REMOTE, unavailable);
    assert_eq!(running.age_at(SECOND * 36_000).await, None);
    // Ten hours at one question in half of 30 seconds on average, give or take.
    let asked = running.script.asked.load(Ordering::Relaxed);
    assert!((2000..3000).contains(&asked), "{asked}");
    assert!(running.counted("failed"));
}

#[tokio::test(start_paused = true)]
async fn the_pace_returns_when_the_source_does() {
    let unavailable = std::iter::repeat_with(|| Answer::Unavailable).take(8);
    let running = run(Settings::REMOTE, unavailable.chain([Answer::Facts(1)]));
    assert!(running.age_at(SECOND * 300).await.unwrap() <= 1000);
    let before = running.script.asked.load(Ordering::Relaxed);
    let _ = running.age_at(SECOND * 400).await;
    assert_eq!(running.script.asked.load(Ordering::Relaxed) - before, 100);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_an_error_like_any_other() {
    let running = run(Settings::LOCAL, [Answer::Panic, Answer::Facts(1)]);
    assert!(running.age_at(SECOND * 5).await.unwrap() <= 1000);
    assert_eq!(running.world.revision().unwrap().seq, 1);
}

#[tokio::test(start_paused = true)]
async fn organizations_are_loaded_when_they_are_ordered() {
    let running = run(Settings::LOCAL, [Answer::OnDemand(1)]);
    let _ = running.age_at(SECOND).await;
    for (id, exists) in [("org_1", true), ("org_2", false)] {
        let id = id.parse().unwrap();
        assert_eq!(running.world.load(&id).await, Ok(()));
        match running.world.view(&id) {
            Lookup::Ready(view) => assert_eq!(view.shard().is_some(), exists),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_loop_ends_when_it_is_told_to() {
    let running = run(Settings::LOCAL, [Answer::Never]);
    running.stop.send(true).unwrap();
    running.task.await.unwrap();
    assert_eq!(running.world.load(&"org_1".parse().unwrap()).await, Err(LoadError::Failed));
    let running = run(Settings::LOCAL, [Answer::Never]);
    drop(running.stop);
    running.task.await.unwrap();
}
